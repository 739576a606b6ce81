// SPDX-License-Identifier: MIT

//! Bodies of fuzz targets: texts and documents, of the server and of users.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use url::Url;

use super::{
    Code, Error,
    commands::ModelCommand,
    coordinator::SessionDescriptor,
    endpoint, json_text,
    navigation::{InputEvent, Navigation},
    schema::Schema,
    track,
    trailer::{self, FrameMetadata},
    url_policy::{self, Trust},
};

/// The commands of a schema that are tried: each takes time of its own.
const MAX_COMMANDS: usize = 8;

/// What an error of a text has to be: of this code, and fit to be shown.
fn check_error(error: &Error, code: &Code) {
    assert_eq!(error.code, *code, "{error}");
    assert!(!error.message.contains('\0'), "{error:?}");
}

/// An encoded frame with a trailer.
pub fn frame_trailer(data: &[u8]) {
    if let Some((end, metadata)) = trailer::split(data) {
        assert!(end < data.len());
        assert!(metadata.user_data.len() <= data.len() - end);
    }
    let metadata = FrameMetadata {
        frame_id: data.len() as u64,
        capture_time_us: data.first().copied().unwrap_or_default().into(),
        user_data: data.to_vec().into(),
    };
    if let Ok(trailer) = trailer::encode(&metadata) {
        let frame = [data, &trailer].concat();
        assert_eq!(trailer::split(&frame), Some((data.len(), metadata)));
    }
}

/// A session as the server describes it, with the capabilities.
pub fn capabilities(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let Ok(session) = SessionDescriptor::from_value(document) else {
        return;
    };
    assert!(!session.session_id.is_empty() && !session.state.is_empty());
    assert!(!json_text::has_zero_byte(&session.raw));
    // Both may be true of no state.
    assert!(!(session.is_live() && session.is_terminal()));
    let Some(capabilities) = session.capabilities else {
        return;
    };
    assert!(capabilities.emission_fps.is_none_or(|fps| fps > 0.0));
    if let Err(error) = track::check_tracks(&capabilities.tracks) {
        check_error(&error, &Code::DecodeFailed);
    }
}

/// A model's schema; `x-arguments` in it are what its commands are checked with.
pub fn schema(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let schema = match Schema::parse(&document) {
        Ok(schema) => schema,
        Err(error) => return check_error(&error, &Code::DecodeFailed),
    };
    let arguments = document.get("x-arguments").and_then(Value::as_object);
    let arguments = arguments.cloned().unwrap_or_default();
    let invalid = Code::Other("invalid_command".into());
    let none = BTreeMap::<String, ()>::new();
    for command in schema.commands().take(MAX_COMMANDS) {
        let _ = schema.summary(command);
        let parameters = schema.parameters(command).unwrap_or_default();
        let mut files = BTreeMap::new();
        let mut defaults = Map::new();
        for parameter in parameters.into_iter().take(MAX_COMMANDS) {
            if schema.takes_file(command, &parameter.name) {
                files.insert(parameter.name, ());
            } else if let Some(default) = parameter.default {
                defaults.insert(parameter.name, default);
            }
        }
        let results = [
            schema.check(command, &arguments, &none),
            schema.check(command, &defaults, &files),
        ];
        for error in results.into_iter().filter_map(Result::err) {
            check_error(&error, &invalid);
        }
    }
    check_error(&schema.unknown_command("nothing"), &invalid);
}

/// Commands, as a person types them and as a program writes them.
pub fn commands(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let is_cut = json_text::looks_cut(text);
    match ModelCommand::parse_list(text) {
        Err(error) => check_error(&error, &Code::BadRequest),
        Ok(commands) => {
            assert!(!is_cut || commands.is_empty());
            assert!(commands.iter().all(|command| !command.name.is_empty()));
        }
    }
    match ModelCommand::parse_literal_list(text) {
        Err(error) => check_error(&error, &Code::BadRequest),
        // What is JSON survives being written out and read again.
        Ok(commands) => {
            assert!(commands.iter().all(|command| command.files.is_empty()));
            let list: Vec<Value> = commands
                .iter()
                .map(|command| {
                    Map::from_iter([(command.name.clone(), command.data.clone().into())])
                })
                .map(Value::from)
                .collect();
            let text = Value::from(list).to_string();
            assert_eq!(ModelCommand::parse_literal_list(&text), Ok(commands));
        }
    }
}

/// Addresses: a base as a user writes it, and what a server names below it.
pub fn server_address(text: &str) {
    if let Err(error) = endpoint::parse_base(text, "http://example.com") {
        check_error(&error, &Code::InvalidSettings);
    }
    for base in ["https://api.example/v1/x", "http://127.0.0.1:8080/x"] {
        let Ok(base) = Url::parse(base) else {
            continue;
        };
        for trust in [Trust::Runtime, Trust::Server] {
            if let Ok(url) = url_policy::resolve(text, &base, &base, trust) {
                assert!(matches!(url.scheme(), "http" | "https"));
                assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }
}

/// A mapping of events, and after a zero byte the events: 8 bytes each.
pub fn navigation(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(str::from_utf8) else {
        return;
    };
    let mut navigation = match Navigation::parse(text) {
        Ok(navigation) => navigation,
        Err(error) => return check_error(&error, &Code::BadRequest),
    };
    let mut now = Duration::ZERO;
    for event in parts.next().unwrap_or_default().chunks_exact(8) {
        now += Duration::from_millis(u64::from(event[0]));
        let size = (u32::from(event[1]) * 8, u32::from(event[2]) * 8);
        let commands = navigation.commands(now, &input_event(event), size);
        let deadline = navigation.deadline();
        assert!(deadline.is_none_or(|at| at <= now + Duration::from_secs(1)));
        assert!(commands.iter().all(|command| command.files.is_empty()));
    }
    navigation.flush(now + Duration::from_secs(1));
    assert_eq!(navigation.deadline(), None);
}

fn input_event(bytes: &[u8]) -> InputEvent {
    // From far outside the picture to far outside, and what is no number.
    let number = |at: usize| match bytes[at] {
        255 => f64::NAN,
        254 => f64::INFINITY,
        byte => (f64::from(byte) - 64.0) / 64.0,
    };
    let (x, y, button) = (number(4), number(5), i32::from(bytes[6]) - 1);
    let key = char::from(bytes[4]).to_string();
    match bytes[3] % 6 {
        0 => InputEvent::KeyPress(key),
        1 => InputEvent::KeyRelease(key),
        2 => InputEvent::MouseMove { x, y },
        3 => InputEvent::MousePress { button, x, y },
        4 => InputEvent::MouseRelease { button, x, y },
        _ => InputEvent::Scroll {
            x,
            y,
            dx: number(6),
            dy: number(7),
        },
    }
}
