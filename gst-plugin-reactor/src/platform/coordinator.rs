// SPDX-License-Identifier: MIT

//! Sessions of a local runtime: start, join, watch, stop.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Code, Error,
    http::{API_HEADERS, Call, Endpoint, Http, Reply, clean},
    signaling::Signaling,
    track::Track,
    upload::Uploads,
};

#[cfg(test)]
mod tests;

/// When to try again after a session that is being closed stood in the way.
const CLOSING_RETRY: Duration = Duration::from_millis(150);

/// The keys of `/start_session` that the runtime itself reads (3.10), and
/// reads at the top level only.
const START_KEYS: [&str; 4] = ["session_id", "starting_input", "steps", "generation"];

/// What a session's model offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// In the server's order. A track of an unknown kind or direction is left
    /// out here, but is in `raw`.
    pub tracks: Vec<Track>,
    /// All of it, as received.
    pub raw: Value,
}

/// A session as the server describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// A local runtime of version 3 always says the nil UUID.
    pub session_id: String,
    /// In the server's words; see [`Descriptor::is_live`].
    pub state: String,
    pub model_name: Option<String>,
    pub server_version: Option<String>,
    pub capabilities: Option<Capabilities>,
    /// Protocol and version.
    pub selected_transport: Option<(String, String)>,
    /// All of it, as received.
    pub raw: Value,
}

impl Descriptor {
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

    /// Whether a local runtime went down with its model.
    pub fn has_crashed(&self) -> bool {
        self.state == "terminated"
    }

    /// Whether a local runtime's session runs: only then does it take
    /// signaling calls.
    pub fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "waiting" | "streaming" | "orphaned")
    }

    fn from_reply(reply: &Reply) -> Result<Self, Error> {
        let descriptor = Self::from_value(reply.json()?).map_err(|e| reply.unexpected(&e))?;
        match &descriptor.selected_transport {
            Some((protocol, _)) if protocol != "webrtc" => {
                let message = format!(
                    "the session uses the transport \"{}\"; only webrtc is supported",
                    clean(protocol)
                );
                Err(Error::api(Code::VersionMismatch, message).during("session"))
            }
            _ => Ok(descriptor),
        }
    }

    fn from_value(raw: Value) -> Result<Self, String> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let required = |name: &str| {
            text(raw.get(name))
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("the session description has no \"{name}\""))
        };
        let session_id = required("session_id")?;
        let state = required("state")?;
        let capabilities = match raw.get("capabilities") {
            None | Some(Value::Null) => None,
            Some(value) => Some(Capabilities::from_value(value)?),
        };
        let selected_transport = match raw.get("selected_transport") {
            None | Some(Value::Null) => None,
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
            capabilities,
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
        Ok(Self {
            tracks,
            raw: raw.clone(),
        })
    }
}

/// Whether this client started a session, and so has to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    Created,
    Joined,
}

/// A runtime that is its own coordinator, as started on a developer's machine.
/// It has at most one session.
#[derive(Debug, Clone)]
pub struct LocalRuntime {
    endpoint: Endpoint,
}

impl LocalRuntime {
    /// Takes the runtime's base URL, such as `http://127.0.0.1:8080`. Makes no
    /// request.
    pub fn new(base: &str) -> Result<Self, Error> {
        Self::with_http(Http::shared()?, base)
    }

    /// The same with a client of the caller's.
    pub fn with_http(http: Http, base: &str) -> Result<Self, Error> {
        let endpoint = Endpoint::new(http, base)?;
        Ok(Self { endpoint })
    }

    /// Starts the runtime's session, or joins the one that runs.
    ///
    /// `arguments` goes out as `extra_args`, as the official clients send it.
    /// The runtime (3.10) reads its own keys at the top level only, so those
    /// are repeated there.
    ///
    /// A session that is being closed is a [`Code::Conflict`] with a short
    /// `retry_after`; a model that still loads is a [`Code::ServerError`] with
    /// the `retry_after` of the server's.
    pub async fn start(
        &self,
        arguments: Option<&Map<String, Value>>,
    ) -> Result<(Descriptor, Ownership), Error> {
        let mut body = Map::new();
        if let Some(arguments) = arguments {
            for (key, value) in arguments {
                if START_KEYS.contains(&key.as_str()) {
                    body.insert(key.clone(), value.clone());
                }
            }
            body.insert("extra_args".to_owned(), json!(arguments));
        }
        let reply = self
            .call(
                Method::POST,
                "start_session",
                "start_session",
                Some(body.into()),
            )
            .await;
        match reply {
            Ok(reply) => Ok((Descriptor::from_reply(&reply)?, Ownership::Created)),
            Err(e) if e.code == Code::Conflict => self.join(e).await,
            Err(e) => Err(e),
        }
    }

    /// What to make of a refusal to start: a live session is joined.
    async fn join(&self, refusal: Error) -> Result<(Descriptor, Ownership), Error> {
        let descriptor = self.describe().await?;
        if descriptor.is_live() {
            return Ok((descriptor, Ownership::Joined));
        }
        let retry = refusal.retry_after.unwrap_or(CLOSING_RETRY);
        Err(refusal.with_retry_after(Some(retry)))
    }

    /// The runtime's session, in whatever state it is: with none running, the
    /// runtime describes the one it could start.
    pub async fn describe(&self) -> Result<Descriptor, Error> {
        let reply = self.call(Method::GET, "session", "session", None).await?;
        Descriptor::from_reply(&reply)
    }

    /// Joins the session of that id, which must be running.
    pub async fn adopt(&self, session_id: &str) -> Result<Descriptor, Error> {
        let descriptor = self.describe().await?;
        let (code, message) = if descriptor.session_id != session_id {
            let message = format!(
                "{} has no session {}; its session is {}",
                self.endpoint.shown(),
                clean(session_id),
                clean(&descriptor.session_id)
            );
            (Code::NotFound, message)
        } else if descriptor.is_live() {
            return Ok(descriptor);
        } else {
            let message = format!(
                "{} has no running session to join; its state is \"{}\"",
                self.endpoint.shown(),
                clean(&descriptor.state)
            );
            match descriptor.is_terminal() || descriptor.state == "closing" {
                true => (Code::SessionTerminal, message),
                false => (Code::NotFound, message),
            }
        };
        Err(Error::api(code, message).during("session"))
    }

    /// Ends the session. That there is none to end is a success.
    pub async fn stop(&self) -> Result<(), Error> {
        match self
            .call(Method::POST, "stop_session", "stop_session", None)
            .await
        {
            Err(e) if matches!(e.http_status, Some(404 | 409)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The calls that upload files to a session.
    pub fn uploads(&self, session_id: &str) -> Uploads {
        Uploads::new(self.endpoint.clone(), session_id)
    }

    /// The signaling calls of a session.
    pub fn signaling(&self, session_id: &str) -> Signaling {
        Signaling::new(self.endpoint.clone(), session_id)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        operation: &'static str,
        body: Option<Value>,
    ) -> Result<Reply, Error> {
        let call = Call {
            method,
            path: &[path],
            operation,
            headers: &API_HEADERS,
            body,
        };
        self.endpoint.send(call).await
    }
}
