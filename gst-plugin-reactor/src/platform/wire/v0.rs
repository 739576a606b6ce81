// SPDX-License-Identifier: MIT

//! Version 0 of the wire: JSON in text messages. Pure functions.
//!
//! On `data` everything is in an envelope with a scope, `application` for the
//! model and `runtime` for the rest; on `control` there is only what is about
//! tracks. Commands have no id, no acknowledgement and no error.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    frame::{Channel, WireFrame, WireVersion, undecodable},
    message::{
        ClientMessage, FileRef, InboundMessage, MessageRole, ServerMessage, UploadReferences,
    },
    value,
};
use crate::platform::{Code, Error};

type Object = Map<String, Value>;

/// The envelope on `data`.
#[derive(Serialize)]
#[serde(tag = "scope", content = "data", rename_all = "lowercase")]
enum Envelope<'a> {
    Runtime(RuntimeMessage<'a>),
    Application {
        #[serde(rename = "type")]
        name: &'a str,
        data: &'a Object,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        uploads: &'a UploadReferences,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "camelCase")]
enum RuntimeMessage<'a> {
    Ping {},
    RequestSchema {},
    FileUploaded(&'a FileRef),
    RequestClip { duration_seconds: f64 },
    RequestRecording {},
}

/// A message on `control`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum TrackMessage<'a> {
    Request {
        method: &'static str,
        request_id: &'a str,
        data: TrackName<'a>,
    },
    Notification {
        event: &'static str,
        data: TrackName<'a>,
    },
}

#[derive(Serialize)]
struct TrackName<'a> {
    name: &'a str,
}

pub fn encode(message: &ClientMessage, request_id: &str) -> Result<WireFrame, Error> {
    let runtime = |message| json(&Envelope::Runtime(message));
    let notification = |event, name| {
        let data = TrackName { name };
        json(&TrackMessage::Notification { event, data })
    };
    match message {
        ClientMessage::Ping => runtime(RuntimeMessage::Ping {}),
        ClientMessage::RequestSchema => runtime(RuntimeMessage::RequestSchema {}),
        ClientMessage::FileUploaded(file) => runtime(RuntimeMessage::FileUploaded(file)),
        ClientMessage::RequestClip { seconds } => runtime(RuntimeMessage::RequestClip {
            duration_seconds: *seconds,
        }),
        ClientMessage::RequestRecording => runtime(RuntimeMessage::RequestRecording {}),
        ClientMessage::PublishTrack(name) => json(&TrackMessage::Request {
            method: "publish_track",
            request_id,
            data: TrackName { name },
        }),
        ClientMessage::UnpublishTrack(name) => notification("unpublish_track", name),
        ClientMessage::PauseTrack(name) => notification("pause_track", name),
        ClientMessage::ResumeTrack(name) => notification("resume_track", name),
        ClientMessage::ClientStats(_) => Err(Error::gpu(
            Code::VersionMismatch,
            "wire v0 has no message for statistics",
        )),
        ClientMessage::Command {
            name,
            data,
            uploads,
        } => json(&Envelope::Application {
            name,
            data,
            uploads,
        }),
    }
}

fn json(message: &impl Serialize) -> Result<WireFrame, Error> {
    let text = serde_json::to_string(message).map_err(|error| {
        let message = format!("a message cannot be written as JSON: {error}");
        Error::gpu(Code::Internal, message)
    })?;
    Ok(WireFrame::Text(text))
}

pub fn decode(channel: Channel, bytes: &[u8]) -> Result<InboundMessage, Error> {
    let broken = |why: &str| undecodable(WireVersion::V0, channel, bytes.len(), why);
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| {
        broken(&format!(
            "it is not JSON from line {} column {} on",
            error.line(),
            error.column()
        ))
    })?;
    value::narrow(&mut value);
    let Value::Object(mut object) = value else {
        return Err(broken("it is not a JSON object"));
    };
    let (role, request_id, message) = match channel {
        Channel::Control => {
            let id = Some(text(&mut object, "request_id")).filter(|id| !id.is_empty());
            let (role, message) = control(object);
            (role, id, message)
        }
        Channel::Data => {
            // The text of serde's errors quotes what it could not take.
            let (role, message) = data(object).map_err(|_| broken("a field has the wrong type"))?;
            (role, None, message)
        }
    };
    Ok(InboundMessage {
        version: WireVersion::V0,
        role,
        request_id,
        message,
    })
}

/// Reads the control channel: responses to the claim of a track.
fn control(mut object: Object) -> (MessageRole, ServerMessage) {
    let role = match object.get("type").and_then(Value::as_str) {
        Some("request") => MessageRole::Request,
        Some("response") => MessageRole::Response,
        _ => MessageRole::Notification,
    };
    let publish = matches!(
        object.get("method").and_then(Value::as_str),
        None | Some("publish_track")
    );
    let message = match take(&mut object, "error") {
        _ if role != MessageRole::Response => ServerMessage::Unknown,
        Some(Value::Object(mut error)) => ServerMessage::Error {
            code: text(&mut error, "code"),
            message: text(&mut error, "message"),
        },
        Some(error) => ServerMessage::Error {
            code: String::new(),
            message: error.as_str().unwrap_or_default().to_owned(),
        },
        None if publish => ServerMessage::PublishGranted,
        None => ServerMessage::Unknown,
    };
    (role, message)
}

/// Reads the data channel.
fn data(mut object: Object) -> Result<(MessageRole, ServerMessage), serde_json::Error> {
    let Some(scope) = take(&mut object, "scope") else {
        return Ok((MessageRole::Notification, application(object)));
    };
    let message = match (scope.as_str(), take(&mut object, "data")) {
        (Some("application"), Some(Value::Object(body))) => application(body),
        (Some("runtime"), Some(Value::Object(body))) => runtime(body)?,
        _ => ServerMessage::Unknown,
    };
    let role = match message {
        ServerMessage::Schema(_)
        | ServerMessage::ClipReady(_)
        | ServerMessage::ClipFailed { .. } => MessageRole::Response,
        _ => MessageRole::Notification,
    };
    Ok((role, message))
}

/// A message of the model's. Old ones came without `data`, their fields beside
/// the type.
fn application(mut body: Object) -> ServerMessage {
    let Some(Value::String(name)) = take(&mut body, "type") else {
        return ServerMessage::Unknown;
    };
    let data = match body.remove("data") {
        Some(Value::Null) => Value::Object(Object::new()),
        Some(data) => data,
        None => Value::Object(body),
    };
    ServerMessage::Model { name, data }
}

/// A message of the runtime's.
fn runtime(mut body: Object) -> Result<ServerMessage, serde_json::Error> {
    let data = take(&mut body, "data").unwrap_or_else(|| Value::Object(Object::new()));
    Ok(match text(&mut body, "type").as_str() {
        "modelSchema" => ServerMessage::Schema(data),
        "clipReady" => ServerMessage::ClipReady(fields(data)?),
        "clipFailed" => ServerMessage::ClipFailed {
            reason: reason(data),
        },
        "moderation" => ServerMessage::Moderation(fields(data)?),
        "sessionEnded" => ServerMessage::SessionEnded {
            reason: reason(data),
        },
        _ => ServerMessage::Unknown,
    })
}

/// Reads the fields of a message. Null counts as absent.
fn fields<T: DeserializeOwned>(mut data: Value) -> Result<T, serde_json::Error> {
    if let Value::Object(object) = &mut data {
        object.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(data)
}

fn reason(data: Value) -> String {
    match data {
        Value::Object(mut data) => text(&mut data, "reason"),
        _ => String::new(),
    }
}

/// A member that is present and not null.
fn take(object: &mut Object, key: &str) -> Option<Value> {
    object.remove(key).filter(|value| !value.is_null())
}

/// A string, or an empty one if there is none.
fn text(object: &mut Object, key: &str) -> String {
    match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::message::tests::client_messages;
    use super::super::{Clip, Moderation, decode, encode};
    use super::*;

    /// What the server's own library makes of `client_messages`, but for the
    /// spaces.
    const CLIENT: [&str; 11] = [
        r#"{"scope":"runtime","data":{"type":"ping","data":{}}}"#,
        r#"{"scope":"runtime","data":{"type":"requestSchema","data":{}}}"#,
        r#"{"scope":"runtime","data":{"type":"fileUploaded","data":{"upload_id":"u-1","name":"a.png","mime_type":"image/png","size":300}}}"#,
        r#"{"scope":"runtime","data":{"type":"requestClip","data":{"duration_seconds":10.0}}}"#,
        r#"{"scope":"runtime","data":{"type":"requestRecording","data":{}}}"#,
        r#"{"type":"request","method":"publish_track","request_id":"ctrl_4","data":{"name":"webcam"}}"#,
        r#"{"type":"notification","event":"unpublish_track","data":{"name":"webcam"}}"#,
        r#"{"type":"notification","event":"pause_track","data":{"name":"main_video"}}"#,
        r#"{"type":"notification","event":"resume_track","data":{"name":"main_video"}}"#,
        r#"{"scope":"application","data":{"type":"set_image","data":{"strength":0.5},"uploads":{"image":{"upload_id":"u-1","name":"a.png","mime_type":"image/png","size":300}}}}"#,
        r#"{"scope":"application","data":{"type":"reset","data":{}}}"#,
    ];

    const SCHEMA: &str = r#"{"scope": "runtime", "data": {"type": "modelSchema", "data": {"paths": {}, "openapi": "3.1.0"}}}"#;
    const CLIP_READY: &str = r#"{"scope": "runtime", "data": {"type": "clipReady", "data": {"session_id": "r-1", "kind": "snap", "start_marker": 0.0, "end_marker": 2.0, "now_marker": 2.5, "predicted_ready_at_ms": 1795239741008, "playlist_url": "/clips?x=1"}}}"#;
    const CLIP_FAILED: &str = r#"{"scope": "runtime", "data": {"type": "clipFailed", "data": {"reason": "no media generated yet"}}}"#;
    const MODERATION: &str = r#"{"scope": "runtime", "data": {"type": "moderation", "data": {"action": "warn", "input_kind": "text", "command": "set_prompt", "categories": ["a", "b"], "message": "careful"}}}"#;
    const PUBLISHED: &str =
        r#"{"type": "response", "method": "publish_track", "request_id": "ctrl_4", "data": {}}"#;
    const REFUSED: &str = r#"{"type": "response", "method": "publish_track", "request_id": "ctrl_4", "error": {"code": "publish_refused", "message": "track already published"}}"#;
    const ENDED: &str =
        r#"{"scope": "runtime", "data": {"type": "sessionEnded", "data": {"reason": "bye now"}}}"#;
    const ALL: &str = r#"{"scope": "application", "data": {"type": "all", "data": {"b": true, "n": 125.0, "z": null, "l": [1.0, "a", {"k": 2.0}], "neg": -3.0, "o": {"p": 0.0}, "s": "\u00e9", "f": 1.5}}}"#;

    pub const SERVER: [&str; 8] = [
        SCHEMA,
        CLIP_READY,
        CLIP_FAILED,
        MODERATION,
        PUBLISHED,
        REFUSED,
        ENDED,
        ALL,
    ];

    fn read(channel: Channel, text: &str) -> (MessageRole, Option<String>, ServerMessage) {
        let inbound = decode(channel, &WireFrame::Text(text.to_owned())).unwrap();
        assert_eq!(inbound.version, WireVersion::V0);
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        assert_eq!(decode(channel, &WireFrame::Binary(bytes)).unwrap(), inbound);
        (inbound.role, inbound.request_id, inbound.message)
    }

    fn model(name: &str, data: Value) -> ServerMessage {
        let name = name.to_owned();
        ServerMessage::Model { name, data }
    }

    #[test]
    fn client_messages_match_server_json() {
        for ((id, message), golden) in client_messages().into_iter().zip(CLIENT) {
            let (channel, frame) = encode(WireVersion::V0, &message, id).unwrap();
            assert_eq!(frame, WireFrame::Text(golden.to_owned()));
            assert_eq!(channel == Channel::Control, golden.starts_with("{\"type"));
        }
    }

    #[test]
    fn clip_and_schema_responses_are_decoded() {
        let answer = |message| (MessageRole::Response, None, message);
        let schema = json!({"openapi": "3.1.0", "paths": {}});
        assert_eq!(
            read(Channel::Data, SCHEMA),
            answer(ServerMessage::Schema(schema))
        );
        let clip = Clip {
            session_id: "r-1".into(),
            kind: "snap".into(),
            start_marker: 0.0,
            end_marker: 2.0,
            now_marker: 2.5,
            predicted_ready_at_ms: 1_795_239_741_008,
            playlist_url: "/clips?x=1".into(),
        };
        assert_eq!(
            read(Channel::Data, CLIP_READY),
            answer(ServerMessage::ClipReady(clip))
        );
        let reason = "no media generated yet".to_owned();
        assert_eq!(
            read(Channel::Data, CLIP_FAILED),
            answer(ServerMessage::ClipFailed { reason })
        );
    }

    #[test]
    fn notifications_and_model_messages_are_decoded() {
        let notice = |message| (MessageRole::Notification, None, message);
        let moderation = Moderation {
            action: "warn".into(),
            input_kind: "text".into(),
            command: "set_prompt".into(),
            categories: vec!["a".into(), "b".into()],
            message: "careful".into(),
        };
        assert_eq!(
            read(Channel::Data, MODERATION),
            notice(ServerMessage::Moderation(moderation))
        );
        let reason = "bye now".to_owned();
        assert_eq!(
            read(Channel::Data, ENDED),
            notice(ServerMessage::SessionEnded { reason })
        );
        let all = json!({
            "n": 125, "f": 1.5, "neg": -3, "s": "é", "b": true, "z": null,
            "l": [1, "a", {"k": 2}], "o": {"p": 0},
        });
        assert_eq!(read(Channel::Data, ALL), notice(model("all", all)));
    }

    #[test]
    fn publish_responses_are_decoded() {
        let answer = |message| (MessageRole::Response, Some("ctrl_4".to_owned()), message);
        assert_eq!(
            read(Channel::Control, PUBLISHED),
            answer(ServerMessage::PublishGranted)
        );
        let refused = ServerMessage::Error {
            code: "publish_refused".into(),
            message: "track already published".into(),
        };
        assert_eq!(read(Channel::Control, REFUSED), answer(refused));
        let other = r#"{"type":"response","method":"x","request_id":"ctrl_4","data":{}}"#;
        assert_eq!(
            read(Channel::Control, other),
            answer(ServerMessage::Unknown)
        );
    }

    #[test]
    fn message_without_envelope_is_the_models() {
        let read = |text| read(Channel::Data, text).2;
        assert_eq!(
            read(r#"{"type":"tick","data":{"n":2.0}}"#),
            model("tick", json!({"n": 2}))
        );
        assert_eq!(
            read(r#"{"type":"tick","n":2}"#),
            model("tick", json!({"n": 2}))
        );
        assert_eq!(read(r#"{"type":"tick"}"#), model("tick", json!({})));
        assert_eq!(read(r#"{"n":2}"#), ServerMessage::Unknown);
        assert_eq!(read(r#"{"type":2}"#), ServerMessage::Unknown);
    }

    #[test]
    fn unknown_message_is_not_an_error() {
        for text in [
            "{}",
            r#"{"scope":"runtime","data":{"type":"later","data":{}}}"#,
            r#"{"scope":"runtime"}"#,
            r#"{"scope":"later","data":{"type":"x"}}"#,
            r#"{"scope":3,"data":{}}"#,
            r#"{"scope":"application","data":[]}"#,
        ] {
            for channel in [Channel::Control, Channel::Data] {
                assert_eq!(
                    read(channel, text),
                    (MessageRole::Notification, None, ServerMessage::Unknown)
                );
            }
        }
    }

    #[test]
    fn absent_fields_are_empty() {
        let text = r#"{"scope":"runtime","data":{"type":"moderation","data":{"action":"terminate","categories":null}}}"#;
        let ServerMessage::Moderation(verdict) = read(Channel::Data, text).2 else {
            panic!("not a moderation");
        };
        assert_eq!(verdict.action, "terminate");
        assert!(verdict.categories.is_empty() && verdict.message.is_empty());
        let text = r#"{"scope":"runtime","data":{"type":"clipFailed"}}"#;
        let reason = String::new();
        assert_eq!(
            read(Channel::Data, text).2,
            ServerMessage::ClipFailed { reason }
        );
    }
}
