// SPDX-License-Identifier: MIT

//! URIs for players: `reactor://MODEL` names a model of the cloud,
//! `reactor+http://HOST:PORT` and `reactor+https://HOST:PORT` a local runtime. The
//! query sets properties: `?latency=20&on-gap=black`. Parsing is pure; a URI is set
//! by the application's thread.

use gst::{glib, prelude::*, subclass::prelude::*};
use percent_encoding::percent_decode_str;
use strsim::levenshtein;
use url::Url;

use super::{decode_chain::OutputFormat, imp::ReactorSrc};
use crate::{
    element::lock,
    platform::{commands::ModelCommand, url_policy},
};

const CLOUD: &str = "reactor";
const LOCAL_HTTP: &str = "reactor+http";
const LOCAL_HTTPS: &str = "reactor+https";
/// What a URI may begin with.
pub const PROTOCOLS: [&str; 3] = [CLOUD, LOCAL_HTTP, LOCAL_HTTPS];

/// The properties that take the name of a file instead of their value.
const FILE_PROPERTIES: [&str; 3] = ["commands", "arguments", "navigation"];
/// Parts of names of secrets, for a query that says what no property is called.
const SECRET_WORDS: [&str; 6] = ["key", "token", "secret", "password", "auth", "jwt"];
/// At most this many letters of a name may be wrong to be taken for another.
const MAX_DISTANCE: usize = 3;

/// The values of properties that a URI sets, as text.
type Assignments = Vec<(String, String)>;

/// The URI of an element, and the properties that it set.
#[derive(Default)]
pub struct SourceUri {
    uri: Option<String>,
    properties: Vec<String>,
}

/// What a URI says, in its order.
/// Fails with the reason, in which there is no value of the query.
fn parse(uri: &str) -> Result<Assignments, String> {
    let (protocol, rest) = uri.split_once("://").unwrap_or((uri, ""));
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut assignments = match protocol.to_ascii_lowercase().as_str() {
        CLOUD => parse_model(location)?,
        LOCAL_HTTP => parse_server("http", location)?,
        LOCAL_HTTPS => parse_server("https", location)?,
        _ => return Err(format!("a URI begins with one of {}", PROTOCOLS.join(", "))),
    };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err("each part of the query is NAME=VALUE, and & is written %26".into());
        };
        let name = decode(name)?;
        if assignments.iter().any(|(other, _)| *other == name) {
            return Err(format!("the URI says more than once what '{name}' is"));
        }
        let value = decode(value)?;
        refuse_untrusted(&name, &value)?;
        assignments.push((name, value));
    }
    Ok(assignments)
}

/// A URI may come from a link or a playlist: it names no file of this machine, which
/// the server that it names would get, and no server that would get the key or token
/// of the environment.
fn refuse_untrusted(name: &str, value: &str) -> Result<(), String> {
    let names_file = FILE_PROPERTIES.contains(&name) && value.trim_start().starts_with('@');
    let uploads_file = name == "commands"
        && ModelCommand::parse_list(value)
            .is_ok_and(|commands| commands.iter().any(|command| !command.files.is_empty()));
    if names_file || uploads_file {
        return Err(format!(
            "'{name}' in a URI names no file: set the property of the element"
        ));
    }
    if name == "api-url" && !Url::parse(value).is_ok_and(|url| url_policy::is_this_machine(&url)) {
        return Err(
            "'api-url' in a URI is an address of this machine: another server would get the key. \
             Set the property of the element"
                .into(),
        );
    }
    Ok(())
}

fn parse_model(location: &str) -> Result<Assignments, String> {
    let model = decode(location)?;
    let model = model.trim_matches('/');
    if model.is_empty() {
        return Err("the URI names no model: reactor://MODEL or reactor://MODEL@VERSION".into());
    }
    if model.contains(':') {
        let text = format!("reactor:// names a model; a local runtime is reactor+http://{model}");
        return Err(text);
    }
    Ok(vec![("model".into(), model.into())])
}

fn parse_server(scheme: &str, location: &str) -> Result<Assignments, String> {
    if location.contains('@') {
        let text = "a URI is shown by players and logs, so it takes no user name and no password";
        return Err(text.into());
    }
    let url = Url::parse(&format!("{scheme}://{location}"));
    let url = url.map_err(|error| format!("the address of the local runtime: {error}"))?;
    Ok(vec![
        ("local".into(), "true".into()),
        ("api-url".into(), url.as_str().trim_end_matches('/').into()),
    ])
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "the URI is not in UTF-8")?;
    // GLib's texts end there, and glib-rs panics on it.
    match decoded.contains('\0') {
        true => Err("the URI holds a zero byte (%00)".into()),
        false => Ok(decoded.into_owned()),
    }
}

/// Why a query must not have this name.
fn explain_name(name: &str, properties: &[glib::ParamSpec]) -> String {
    let lower = name.to_ascii_lowercase();
    if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
        return format!(
            "'{name}' in a URI would be shown by players and logs: give a key by REACTOR_API_KEY \
             or the property api-key, a token by REACTOR_JWT or the property jwt"
        );
    }
    let names = properties.iter().filter(|spec| is_settable(spec));
    let near = names
        .map(|spec| {
            (
                levenshtein(&lower.replace('_', "-"), spec.name()),
                spec.name(),
            )
        })
        .filter(|(distance, _)| *distance <= MAX_DISTANCE)
        .min();
    match near {
        Some((_, near)) => format!("there is no property '{name}'; did you mean '{near}'?"),
        None => format!("there is no property '{name}' that a URI can set"),
    }
}

/// A property that can be read is no secret.
fn is_settable(spec: &glib::ParamSpec) -> bool {
    spec.flags().contains(glib::ParamFlags::READWRITE)
}

/// The value of a property as a URI writes it.
fn parse_value(spec: &glib::ParamSpec, text: &str) -> Result<glib::Value, String> {
    let name = spec.name();
    if spec.value_type() == glib::Type::STRING {
        return Ok(text.to_value());
    }
    let range = spec.downcast_ref::<glib::ParamSpecUInt>();
    let range = range.map(|spec| (spec.minimum(), spec.maximum()));
    let invalid = || match spec.downcast_ref::<glib::ParamSpecEnum>() {
        Some(spec) => {
            let class = spec.enum_class();
            let nicks: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
            format!("'{name}' is one of {}", nicks.join(", "))
        }
        None => match range {
            Some((least, most)) => format!("'{name}' is a number from {least} to {most}"),
            None => format!("'{name}' has no such value"),
        },
    };
    let value = glib::Value::deserialize_with_pspec(text, spec).map_err(|_| invalid())?;
    let in_range = range.is_none_or(|(least, most)| {
        value
            .get::<u32>()
            .is_ok_and(|number| (least..=most).contains(&number))
    });
    in_range.then_some(value).ok_or_else(invalid)
}

impl ReactorSrc {
    /// The properties of this type, not those of bins and objects.
    fn own_properties(&self) -> Vec<glib::ParamSpec> {
        let element = self.obj();
        let all = element.list_properties().to_vec();
        let own = all.into_iter();
        own.filter(|spec| spec.owner_type() == element.type_())
            .collect()
    }

    /// Whether a player made this element for its URI. It makes a collection of the
    /// streams itself, by what it decodes.
    pub(super) fn is_player_source(&self) -> bool {
        lock(&self.uri).uri.is_some()
    }

    /// What a pad sends whose peer takes anything. A player decodes what comes from
    /// a URI, by the decoder that it chooses.
    pub(super) fn format_for_any(&self) -> OutputFormat {
        match self.is_player_source() {
            true => OutputFormat::Encoded,
            false => OutputFormat::Raw,
        }
    }

    /// Sets what the URI says, or nothing if a part of it is wrong; what an earlier
    /// URI has set and this one does not is reset.
    fn apply_uri(&self, uri: &str) -> Result<(), String> {
        let specs = self.own_properties();
        let mut values = Vec::new();
        for (name, text) in parse(uri)? {
            let spec = specs.iter().find(|spec| spec.name() == name);
            let spec = spec.filter(|spec| is_settable(spec));
            let spec = spec.ok_or_else(|| explain_name(&name, &specs))?;
            values.push((name, parse_value(spec, &text)?));
        }
        let element = self.obj();
        // The application is notified of each change, and may ask for the URI then.
        let before = std::mem::take(&mut lock(&self.uri).properties);
        let reset = |spec: &&glib::ParamSpec| before.iter().any(|name| name == spec.name());
        for spec in specs.iter().filter(reset) {
            element.set_property_from_value(spec.name(), spec.default_value());
        }
        for (name, value) in &values {
            element.set_property_from_value(name, value);
        }
        let mut state = lock(&self.uri);
        state.uri = Some(uri.to_owned());
        state.properties = values.into_iter().map(|(name, _)| name).collect();
        Ok(())
    }
}

impl URIHandlerImpl for ReactorSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &PROTOCOLS
    }

    fn uri(&self) -> Option<String> {
        lock(&self.uri).uri.clone()
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let text = "the URI can be set in NULL and READY only";
            return Err(glib::Error::new(gst::URIError::BadState, text));
        }
        let refused = |text: String| glib::Error::new(gst::URIError::BadUri, &text);
        self.apply_uri(uri).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notified_application_may_read_uri() {
        gst::init().unwrap();
        let element = glib::Object::new::<super::super::ReactorSrc>();
        element.connect_notify(None, |element, _| drop(element.uri()));
        element.set_uri("reactor://playground").unwrap();
        assert_eq!(element.uri().as_deref(), Some("reactor://playground"));
    }

    fn set(uri: &str) -> Result<super::super::ReactorSrc, String> {
        gst::init().unwrap();
        let element = glib::Object::new::<super::super::ReactorSrc>();
        let set = element.set_uri(uri);
        set.map(|()| element)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn uri_of_cloud_names_model_and_properties() {
        let element = set("reactor://reactor/helios@2?latency=20&on-gap=black").unwrap();
        assert_eq!(element.property::<String>("model"), "reactor/helios@2");
        assert_eq!(element.property::<u32>("latency"), 20);
        assert!(!element.property::<bool>("local"));
        let on_gap = element.property_value("on-gap");
        assert_eq!(
            glib::EnumValue::from_value(&on_gap).unwrap().1.nick(),
            "black"
        );
        assert_eq!(
            element.uri().unwrap(),
            "reactor://reactor/helios@2?latency=20&on-gap=black"
        );
        // What another one does not say is as it was.
        element.set_uri("reactor://other").unwrap();
        assert_eq!(element.property::<u32>("latency"), 60);
        assert_eq!(element.property::<String>("model"), "other");
    }

    #[test]
    fn uri_of_local_runtime_is_its_address() {
        for (uri, url) in [
            ("reactor+http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            (
                "reactor+https://gpu.example/run/",
                "https://gpu.example/run",
            ),
            ("REACTOR+HTTP://[::1]:80?reconnect=false", "http://[::1]"),
        ] {
            let element = set(uri).unwrap();
            assert!(element.property::<bool>("local"), "{uri}");
            assert_eq!(element.property::<String>("api-url"), url);
        }
        let commands = "reactor+http://h?commands=[{\"set_prompt\":{\"prompt\":\"a%20%26+b\"}}]";
        let element = set(commands).unwrap();
        let commands = element.property::<String>("commands");
        assert_eq!(commands, "[{\"set_prompt\":{\"prompt\":\"a &+b\"}}]");
    }

    #[test]
    fn wrong_uri_says_why_and_changes_nothing() {
        for (uri, why) in [
            ("reactor://", "names no model"),
            ("reactor://localhost:8080", "reactor+http://localhost:8080"),
            ("reactor+http://", "empty host"),
            ("reactor+http://h:99999", "port"),
            ("reactor+http://user:pass@h", "no password"),
            ("reactor://m?latenci=20", "did you mean 'latency'?"),
            ("reactor://m?on_gap=black", "did you mean 'on-gap'?"),
            ("reactor://m?nonsense=20", "no property 'nonsense'"),
            ("reactor://m?status=ready", "no property 'status'"),
            ("reactor://m?name=x", "no property 'name'"),
            ("reactor://m?latency", "NAME=VALUE"),
            ("reactor://m?latency=fast", "from 10 to 10000"),
            ("reactor://m?latency=1", "from 10 to 10000"),
            (
                "reactor://m?on-gap=white",
                "one of none, hold-last-frame, black, stall",
            ),
            ("reactor://m?model=n", "more than once"),
            ("reactor://%ff", "UTF-8"),
            ("reactor://%00", "zero byte"),
            ("reactor://m?commands=[%00]", "zero byte"),
            ("reactor+http://h?commands=@/etc/hostname", "names no file"),
            ("reactor+http://h?arguments=%20@a.json", "names no file"),
            ("reactor+http://h?navigation=@a.json", "names no file"),
            (
                "reactor+http://h?commands=[{x:{f:'@file:/etc/hostname'}}]",
                "names no file",
            ),
            (
                "reactor+http://h?commands={x:{f:'\\u0040file:/etc/hostname'}}",
                "names no file",
            ),
            ("reactor://m?api-url=https://h.example", "of this machine"),
            ("reactor://m?api-url=http://localhost.h", "of this machine"),
            ("reactor+http://h?api-url=https://h", "more than once"),
            ("reactor+http://h?local=false", "more than once"),
        ] {
            let error = set(uri).unwrap_err();
            assert!(error.contains(why), "{uri}: {error}");
        }
        for name in ["api-key", "jwt", "api_key", "token", "password"] {
            let error = set(&format!("reactor://m?{name}=rk_secret")).unwrap_err();
            assert!(error.contains("REACTOR_API_KEY"), "{error}");
            assert!(!error.contains("rk_secret"), "{error}");
        }
        let element = set("reactor://m?latency=30").unwrap();
        assert!(
            element
                .set_uri("reactor://n?latency=30&reconnect=perhaps")
                .is_err()
        );
        assert_eq!(element.property::<String>("model"), "m");
    }
}
