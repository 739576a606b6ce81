// SPDX-License-Identifier: MIT

//! The GObject face of [`Settings`]: the same on every live element.

use gst::{glib, prelude::*};

use crate::{
    platform::{secret::Secret, wire::WireVersion},
    session::{
        WireChoice,
        settings::{
            self, DEFAULT_CLOSE_TIMEOUT, DEFAULT_LATENCY, DEFAULT_MAX_LATENCY,
            DEFAULT_MAX_SDP_ATTEMPTS, DEFAULT_STALL_TIMEOUT, MIN_LATENCY, Settings,
        },
    },
};

/// Of a jitter buffer, in milliseconds.
const MAX_LATENCY: u32 = 10_000;

/// Which ICE candidates to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorIceTransportPolicy")]
pub enum IceTransportPolicy {
    #[default]
    #[enum_value(name = "All: direct paths and relays", nick = "all")]
    All,
    #[enum_value(name = "Relay: only through TURN servers", nick = "relay")]
    Relay,
}

/// Which encoding of the data-channel messages to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorWire")]
pub enum Wire {
    #[default]
    #[enum_value(
        name = "Auto: v1, or v0 if the server knows nothing else",
        nick = "auto"
    )]
    Auto,
    #[enum_value(name = "v1: protobuf", nick = "v1")]
    V1,
    #[enum_value(name = "v0: JSON", nick = "v0")]
    V0,
}

/// The shared properties' specifications.
pub fn specs() -> Vec<glib::ParamSpec> {
    let mut specs = where_to();
    specs.extend(how());
    specs
}

fn where_to() -> Vec<glib::ParamSpec> {
    vec![
        string("model", "Model", "Name of the model to run, or name@version. A local runtime serves one only and needs none"),
        glib::ParamSpecString::builder("api-url")
            .nick("API URL")
            .blurb("Address of the platform. With local=true the local runtime's, http://localhost:8080 if not set")
            .default_value(settings::DEFAULT_API_URL)
            .mutable_ready()
            .build(),
        secret("api-key", "API key", "Key for the cloud, exchanged for tokens; REACTOR_API_KEY if neither this nor jwt is set"),
        secret("jwt", "JWT", "Token for the cloud, wins over api-key; may be replaced at any time; REACTOR_JWT if not set"),
        glib::ParamSpecBoolean::builder("local")
            .nick("Local")
            .blurb("Speak to a local runtime, which needs no key")
            .mutable_ready()
            .build(),
        string("arguments", "Arguments", "JSON object with arguments for the model, sent when the session is created"),
        string("adopt-session-id", "Adopt session", "Join the session with this id, created by somebody else. It is not ended when the element stops"),
        string(
            "session",
            "Session",
            "Share the session with the elements of this process that give the same name. \
             Without a name, those of one pipeline share it",
        ),
        glib::ParamSpecUInt::builder("connection-id")
            .nick("Connection id")
            .blurb("Connect under this id, registered by somebody else (0 = register one)")
            .maximum(u16::MAX.into())
            .mutable_ready()
            .build(),
    ]
}

fn how() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecUInt::builder("max-sdp-attempts")
            .nick("SDP attempts")
            .blurb("How patiently to poll for the answer: windows of 200 ms, doubled each time up to 15 s (6 = 12.6 s)")
            .minimum(1)
            .maximum(100)
            .default_value(DEFAULT_MAX_SDP_ATTEMPTS)
            .mutable_ready()
            .build(),
        milliseconds("waiting-timeout", "Waiting timeout", "How long to wait for a GPU, in ms (0 = no limit)", 0),
        milliseconds("stall-timeout", "Stall timeout", "Nothing received for so long means that the connection is lost, in ms (0 = never)", DEFAULT_STALL_TIMEOUT),
        milliseconds("close-timeout", "Close timeout", "How long going to NULL may wait for the session to be ended on the server, in ms", DEFAULT_CLOSE_TIMEOUT),
        glib::ParamSpecUInt::builder("latency")
            .nick("Latency")
            .blurb("Jitter buffer, in ms; it grows up to max-latency where packets come too late")
            .minimum(MIN_LATENCY)
            .maximum(MAX_LATENCY)
            .default_value(DEFAULT_LATENCY)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-latency")
            .nick("Maximum latency")
            .blurb("How far the jitter buffer may grow by itself, in ms (no more than latency = not at all)")
            .maximum(MAX_LATENCY)
            .default_value(DEFAULT_MAX_LATENCY)
            .mutable_ready()
            .build(),
        string(
            "commands",
            "Commands",
            "JSON list of commands to send, in order, as soon as the session is ready, such as \
             [{\"set_prompt\":{\"prompt\":\"a forest\"}}]. An argument \"@file:PATH\" is uploaded first",
        ),
        string(
            "navigation",
            "Navigation",
            "JSON object that makes commands of the keys and the mouse of a video window, such as \
             {\"key:w\":{\"move\":{\"direction\":\"forward\"}},\"mouse-move\":{\"look\":{\"x\":\"$x\",\"y\":\"$y\"}}}",
        ),
        glib::ParamSpecBoolean::builder("check-commands")
            .nick("Check commands")
            .blurb("Check commands against the model's schema before they are sent")
            .default_value(true)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("recoverable")
            .nick("Recoverable")
            .blurb("Leave the session alive on the server when the element stops")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("reconnect")
            .nick("Reconnect")
            .blurb("Resume the session when the connection is lost, within the platform's 30 s")
            .default_value(true)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("restart-session")
            .nick("Restart session")
            .blurb("Start another session when the lost one cannot be resumed")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<IceTransportPolicy>("ice-transport-policy")
            .nick("ICE transport policy")
            .blurb("Which ICE candidates to use")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Wire>("wire")
            .nick("Wire")
            .blurb("Encoding of the data-channel messages; for tests and odd servers")
            .mutable_ready()
            .build(),
    ]
}

fn string(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build()
}

/// Never to be read.
fn secret(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .write_only()
        .build()
}

fn milliseconds(name: &str, nick: &str, blurb: &str, default: u32) -> glib::ParamSpec {
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .default_value(default)
        .mutable_ready()
        .build()
}

/// Takes a value that GObject has checked against [`specs`].
///
/// # Errors
///
/// What is wrong with the text of a property that holds JSON. The property
/// keeps its value then.
pub fn set(settings: &mut Settings, name: &str, value: &glib::Value) -> Result<(), String> {
    match name {
        "model" => settings.model = text(value),
        "api-key" => settings.api_key = text(value).map(Secret::new),
        "jwt" => settings.jwt.set(text(value).as_deref()),
        "session" => settings.session = text(value),
        "api-url" => settings.api_url = text(value),
        "local" => settings.local = get(value),
        "arguments" => settings.arguments = json_object(text(value).as_deref())?,
        "adopt-session-id" => settings.adopt_session_id = text(value),
        "connection-id" => settings.connection_id = get(value),
        "max-sdp-attempts" => settings.max_sdp_attempts = get(value),
        "waiting-timeout" => settings.waiting_timeout = get(value),
        "stall-timeout" => settings.stall_timeout = get(value),
        "close-timeout" => settings.close_timeout = get(value),
        "latency" => settings.latency = get(value),
        "max-latency" => settings.max_latency = get(value),
        "recoverable" => settings.recoverable = get(value),
        "reconnect" => settings.reconnect = get(value),
        "restart-session" => settings.restart_session = get(value),
        "navigation" => settings.navigation = text(value),
        "commands" => settings.commands = text(value),
        "check-commands" => settings.check_commands = get(value),
        "ice-transport-policy" => {
            settings.relay_only = get::<IceTransportPolicy>(value) == IceTransportPolicy::Relay;
        }
        "wire" => {
            settings.wire = match get(value) {
                Wire::Auto => WireChoice::Auto,
                Wire::V1 => WireChoice::Only(WireVersion::V1),
                Wire::V0 => WireChoice::Only(WireVersion::V0),
            };
        }
        _ => {}
    }
    Ok(())
}

/// The value of one of [`specs`], or `None` for another property.
pub fn value(settings: &Settings, name: &str) -> Option<glib::Value> {
    Some(match name {
        "model" => settings.model.to_value(),
        "session" => settings.session.to_value(),
        "api-url" => settings
            .api_url
            .as_deref()
            .unwrap_or(settings::DEFAULT_API_URL)
            .to_value(),
        "local" => settings.local.to_value(),
        "arguments" => settings
            .arguments
            .as_ref()
            .map(|map| serde_json::Value::Object(map.clone()).to_string())
            .to_value(),
        "adopt-session-id" => settings.adopt_session_id.to_value(),
        "connection-id" => settings.connection_id.to_value(),
        "max-sdp-attempts" => settings.max_sdp_attempts.to_value(),
        "waiting-timeout" => settings.waiting_timeout.to_value(),
        "stall-timeout" => settings.stall_timeout.to_value(),
        "close-timeout" => settings.close_timeout.to_value(),
        "latency" => settings.latency.to_value(),
        "max-latency" => settings.max_latency.to_value(),
        "recoverable" => settings.recoverable.to_value(),
        "reconnect" => settings.reconnect.to_value(),
        "restart-session" => settings.restart_session.to_value(),
        "navigation" => settings.navigation.to_value(),
        "commands" => settings.commands.to_value(),
        "check-commands" => settings.check_commands.to_value(),
        "ice-transport-policy" => match settings.relay_only {
            true => IceTransportPolicy::Relay,
            false => IceTransportPolicy::All,
        }
        .to_value(),
        "wire" => match settings.wire {
            WireChoice::Auto => Wire::Auto,
            WireChoice::Only(WireVersion::V1) => Wire::V1,
            WireChoice::Only(WireVersion::V0) => Wire::V0,
        }
        .to_value(),
        _ => return None,
    })
}

fn get<'a, T: glib::value::FromValue<'a> + Default>(value: &'a glib::Value) -> T {
    // GObject has checked the type.
    value.get().unwrap_or_default()
}

/// Nothing for an empty text.
pub fn text(value: &glib::Value) -> Option<String> {
    get::<Option<String>>(value).filter(|text| !text.is_empty())
}

fn json_object(
    text: Option<&str>,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>, String> {
    match text.map(serde_json::from_str) {
        None => Ok(None),
        Some(Ok(serde_json::Value::Object(map))) => Ok(Some(map)),
        Some(Ok(_)) => Err("not a JSON object".into()),
        Some(Err(error)) => Err(format!("not JSON: {error}")),
    }
}
