// SPDX-License-Identifier: MIT

//! The session of a local runtime: start, join, describe, stop. Called from
//! tokio tasks; it sends no credential.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::descriptor::{Ownership, SessionDescriptor};
use crate::platform::{
    Code, Error,
    endpoint::Endpoint,
    http::{HttpClient, HttpRequest, HttpResponse, sanitize},
};

#[cfg(test)]
mod tests;

/// When to try again after a session that is being closed stood in the way.
const CLOSING_RETRY: Duration = Duration::from_millis(150);

/// The keys of `/start_session` that the runtime itself reads (3.10), and
/// reads at the top level only.
const START_KEYS: [&str; 4] = ["session_id", "starting_input", "steps", "generation"];

/// What to do about a session that the runtime has when one is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningSession {
    /// Join it.
    Join,
    /// End it and start another.
    Restart,
    /// Refuse to start one.
    Refuse,
}

/// A runtime that is its own coordinator, as started on a developer's machine.
/// It has at most one session.
#[derive(Debug, Clone)]
pub struct LocalRuntime {
    endpoint: Endpoint,
    running: RunningSession,
}

impl LocalRuntime {
    /// Takes the runtime's base URL, such as `http://127.0.0.1:8080`. Makes no
    /// request.
    pub fn new(http: HttpClient, base: &str, running: RunningSession) -> Result<Self, Error> {
        let endpoint = Endpoint::new(http, base)?;
        Ok(Self { endpoint, running })
    }

    /// Starts the runtime's session, or does about one that runs what
    /// [`RunningSession`] says.
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
    ) -> Result<(SessionDescriptor, Ownership), Error> {
        let mut body = Map::new();
        if let Some(arguments) = arguments {
            for (key, value) in arguments {
                if START_KEYS.contains(&key.as_str()) {
                    body.insert(key.clone(), value.clone());
                }
            }
            body.insert("extra_args".to_owned(), json!(arguments));
        }
        let body = Some(body.into());
        match self.call(Method::POST, "start_session", body).await {
            Ok(reply) => Ok((SessionDescriptor::from_reply(&reply)?, Ownership::Created)),
            Err(e) if e.code == Code::Conflict => self.join(e).await,
            Err(e) => Err(e),
        }
    }

    /// Handles a refusal to start.
    async fn join(&self, refusal: Error) -> Result<(SessionDescriptor, Ownership), Error> {
        let descriptor = self.describe().await?;
        if descriptor.is_live() {
            match self.running {
                RunningSession::Join => return Ok((descriptor, Ownership::Joined)),
                // It takes a moment; the next attempt finds none.
                RunningSession::Restart => self.stop().await?,
                RunningSession::Refuse => {
                    let message = format!(
                        "{} already has a session (local-session=error)",
                        self.endpoint.display_url()
                    );
                    let refusal = Error::api(Code::Conflict, message).with_status(409);
                    return Err(refusal.during("start_session"));
                }
            }
        }
        let retry = refusal.retry_after.unwrap_or(CLOSING_RETRY);
        Err(refusal.with_retry_after(Some(retry)))
    }

    /// The runtime's session, in whatever state it is: with none running, the
    /// runtime describes the one it could start.
    pub async fn describe(&self) -> Result<SessionDescriptor, Error> {
        let reply = self.call(Method::GET, "session", None).await?;
        SessionDescriptor::from_reply(&reply)
    }

    /// Joins the session of that id, which must be running.
    pub async fn adopt(&self, session_id: &str) -> Result<SessionDescriptor, Error> {
        let descriptor = self.describe().await?;
        let (code, message) = if descriptor.session_id != session_id {
            let message = format!(
                "{} has no session {}; its session is {}",
                self.endpoint.display_url(),
                sanitize(session_id),
                sanitize(&descriptor.session_id)
            );
            (Code::NotFound, message)
        } else if descriptor.is_live() {
            return Ok(descriptor);
        } else {
            let message = format!(
                "{} has no running session to join; its state is \"{}\"",
                self.endpoint.display_url(),
                sanitize(&descriptor.state)
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
        match self.call(Method::POST, "stop_session", None).await {
            Err(e) if matches!(e.http_status, Some(404 | 409)) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls an operation, which is also the path.
    async fn call(
        &self,
        method: Method,
        operation: &'static str,
        body: Option<Value>,
    ) -> Result<HttpResponse, Error> {
        let path = [operation];
        let call = HttpRequest::new(method, &path, operation, body);
        self.endpoint.send(call).await
    }
}
