// SPDX-License-Identifier: MIT

//! A session as the server describes it. Plain data; it makes no request.

use serde::Deserialize;
use serde_json::Value;

use crate::platform::{
    Code, Error,
    http::{HttpResponse, sanitize},
    json_text::has_zero_byte,
    track::Track,
};

/// Whether this client started a session, and so has to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    Created,
    Joined,
}

/// What a session's model offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// In the server's order. A track of an unknown kind or direction is left
    /// out here, but is in `raw`.
    pub tracks: Vec<Track>,
    /// How many frames per second the model nominally emits, if it says so. The
    /// local runtime 3.10.0 never does.
    pub emission_fps: Option<f64>,
    /// The whole document, as received.
    pub raw: Value,
}

/// A session as the server describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDescriptor {
    /// A local runtime of version 3 always says the nil UUID.
    pub session_id: String,
    /// As the server spells it; see [`SessionDescriptor::is_live`].
    pub state: String,
    pub model_name: Option<String>,
    pub server_version: Option<String>,
    pub capabilities: Option<Capabilities>,
    /// Protocol and version.
    pub selected_transport: Option<(String, String)>,
    /// The whole document, as received.
    pub raw: Value,
}

impl SessionDescriptor {
    /// Whether enough is known to connect: capabilities and a transport. The
    /// state plays no part in this.
    pub fn is_ready(&self) -> bool {
        self.capabilities.is_some() && self.selected_transport.is_some()
    }

    /// Whether the session is over for good.
    pub fn is_terminal(&self) -> bool {
        ["inactive", "closed", "terminated"]
            .iter()
            .any(|state| self.state.eq_ignore_ascii_case(state))
    }

    /// Whether the session is over: in the cloud's words (upper case), or in a
    /// local runtime's, which has another one soon.
    pub fn is_over(&self) -> bool {
        self.is_terminal() || matches!(self.state.as_str(), "created" | "ready" | "closing")
    }

    /// Whether some client is connected, by the server's word for the state.
    pub fn has_client(&self) -> bool {
        matches!(self.state.as_str(), "streaming" | "ACTIVE")
    }

    /// Whether a local runtime went down with its model.
    pub fn has_crashed(&self) -> bool {
        self.state == "terminated"
    }

    /// Whether the session runs: only then does it take signaling calls. A
    /// local runtime's states are in lower case, of the cloud's any but the
    /// last will do.
    pub fn is_live(&self) -> bool {
        match self.state.contains(|c: char| c.is_ascii_lowercase()) {
            true => matches!(self.state.as_str(), "waiting" | "streaming" | "orphaned"),
            false => self.is_ready() && !self.is_terminal(),
        }
    }

    pub(super) fn from_reply(reply: &HttpResponse) -> Result<Self, Error> {
        let descriptor = Self::from_value(reply.json()?).map_err(|e| reply.protocol_error(&e))?;
        match &descriptor.selected_transport {
            Some((protocol, _)) if protocol != "webrtc" => {
                let message = format!(
                    "the session uses the transport \"{}\"; only webrtc is supported",
                    sanitize(protocol)
                );
                Err(Error::api(Code::VersionMismatch, message).during("session"))
            }
            _ => Ok(descriptor),
        }
    }

    pub(in crate::platform) fn from_value(raw: Value) -> Result<Self, String> {
        if has_zero_byte(&raw) {
            return Err("the session description holds a zero byte".to_owned());
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let required = |name: &str| {
            text(raw.get(name))
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("the session description has no \"{name}\""))
        };
        let session_id = required("session_id")?;
        let state = required("state")?;
        let present = |name: &str| raw.get(name).filter(|value| !value.is_null());
        let capabilities = present("capabilities").map(Capabilities::from_value);
        let selected_transport = match present("selected_transport") {
            None => None,
            Some(value) => Some((
                text(value.get("protocol")).ok_or("the selected transport has no protocol")?,
                text(value.get("version")).unwrap_or_default(),
            )),
        };
        Ok(Self {
            session_id,
            state,
            model_name: text(raw.pointer("/model/name")),
            server_version: text(raw.pointer("/server_info/server_version")),
            capabilities: capabilities.transpose()?,
            selected_transport,
            raw,
        })
    }
}

impl Capabilities {
    fn from_value(raw: &Value) -> Result<Self, String> {
        let list = raw
            .get("tracks")
            .and_then(Value::as_array)
            .ok_or("the capabilities have no list of tracks")?;
        let mut tracks = Vec::new();
        for entry in list {
            let has_text = |name: &str| entry.get(name).is_some_and(Value::is_string);
            if !["name", "kind", "direction"].iter().all(|n| has_text(n)) {
                return Err("a track lacks its name, kind or direction".to_owned());
            }
            // What fails now is a kind or direction of a later version.
            tracks.extend(Track::deserialize(entry).ok());
        }
        let emission_fps = raw.get("emission_fps").and_then(Value::as_f64);
        Ok(Self {
            tracks,
            emission_fps: emission_fps.filter(|fps| *fps > 0.0),
            raw: raw.clone(),
        })
    }
}
