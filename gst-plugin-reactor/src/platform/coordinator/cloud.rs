// SPDX-License-Identifier: MIT

//! Sessions of the cloud: create, join, describe, end. Called from tokio tasks;
//! it keeps no state of a session but its token.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::descriptor::SessionDescriptor;
use crate::platform::{
    Code, Error,
    auth::{ApiCredentials, ClockReading, TokenCache, TokenProvider, TokenScope},
    endpoint::{Endpoint, parse_base},
    http::{HttpClient, HttpRequest, HttpResponse, sanitize},
};

#[cfg(test)]
mod tests;

const END: &str = "stop_session";

/// A model by name, and by version if it must be that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    pub name: String,
    pub version: Option<String>,
}

impl ModelName {
    /// `name` or `name@version`.
    pub fn parse(text: &str) -> Self {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) if !version.is_empty() => (name, Some(version.to_owned())),
            _ => (text, None),
        };
        let name = name.to_owned();
        Self { name, version }
    }
}

/// The API in front of the GPUs.
///
/// Every request carries a token. That which creates a session is good for
/// sessions of its model, all others for their session alone.
#[derive(Debug, Clone)]
pub struct Cloud {
    model: Option<ModelName>,
    /// For creating sessions.
    token_provider: TokenProvider,
}

impl Cloud {
    /// Takes the API's base URL, such as `https://api.reactor.inc`, the model of
    /// the sessions to be created, and how long they may run. Makes no request.
    ///
    /// Fails with [`Code::InvalidSettings`] if the URL is none, or neither
    /// encrypted nor this machine's own.
    pub fn new(
        http: HttpClient,
        base: &str,
        model: Option<ModelName>,
        max_session_duration: Option<Duration>,
        access: ApiCredentials,
        tokens: TokenCache,
    ) -> Result<Self, Error> {
        let base = parse_base(base, "https://api.reactor.inc")?;
        let name = model.as_ref().map(|model| model.name.clone());
        let scope = TokenScope::Model(name.unwrap_or_default(), None);
        let scope = scope.with_max_session_duration(max_session_duration);
        let token_provider = TokenProvider::new(http, base, access, tokens, scope)?;
        Ok(Self {
            model,
            token_provider,
        })
    }

    /// Creates a session, which then has to be ended. `arguments` is for the
    /// model.
    ///
    /// Fails with [`Code::InvalidSettings`] without a model, with
    /// [`Code::NotFound`] if there is none of that name, and with
    /// [`Code::RateLimited`] or [`Code::Conflict`] when there may be no more
    /// sessions at present.
    pub async fn create(
        &self,
        arguments: Option<&Map<String, Value>>,
    ) -> Result<SessionDescriptor, Error> {
        let operation = "start_session";
        let Some(model) = self.model.as_ref().filter(|m| !m.name.is_empty()) else {
            let message = "the cloud has many models; set model to the name of one";
            return Err(Error::api(Code::InvalidSettings, message).during(operation));
        };
        let body = Some(session_request(model, arguments));
        let call = HttpRequest::new(Method::POST, &["sessions"], operation, body);
        let reply = Endpoint::cloud(self.token_provider.clone())
            .send(call)
            .await?;
        self.accept_created(&reply).await
    }

    /// Reads the response to a creation. A session that cannot be used is ended:
    /// it exists, and costs.
    async fn accept_created(&self, reply: &HttpResponse) -> Result<SessionDescriptor, Error> {
        let answer = reply.json()?;
        let id = answer.get("session_id").and_then(Value::as_str);
        let Some(id) = id.filter(|id| is_path_segment(id)) else {
            return Err(reply.protocol_error("the answer has no session's id that can be used"));
        };
        if let Some(token) = reply.request_secret() {
            let session = self.tokens_for(id);
            let now = ClockReading::now();
            self.token_provider.share_token(token, &session, now);
        }
        match SessionDescriptor::from_reply(reply) {
            Ok(session) => require_running(session),
            Err(error) => {
                let _ = self.end(id).await;
                Err(error)
            }
        }
    }

    /// The session, in whatever state it is.
    pub async fn describe(&self, session_id: &str) -> Result<SessionDescriptor, Error> {
        let reply = self.call(Method::GET, session_id, "session").await?;
        SessionDescriptor::from_reply(&reply)
    }

    /// Joins the session of that id, which must not be over.
    pub async fn adopt(&self, session_id: &str) -> Result<SessionDescriptor, Error> {
        if !is_path_segment(session_id) {
            let message = format!("\"{session_id}\" is not the id of a session");
            return Err(Error::api(Code::InvalidSettings, message).during("session"));
        }
        require_running(self.describe(session_id).await?)
    }

    /// Ends the session. That there is none to end is a success.
    pub async fn end(&self, session_id: &str) -> Result<(), Error> {
        match self.call(Method::DELETE, session_id, END).await {
            Err(e) if e.code != Code::NotFound || e.operation != Some(END) => return Err(e),
            _ => self.tokens_for(session_id).forget(),
        }
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        session_id: &str,
        operation: &'static str,
    ) -> Result<HttpResponse, Error> {
        let path = ["sessions", session_id];
        let call = HttpRequest::new(method, &path, operation, None);
        self.endpoint(session_id).send(call).await
    }

    fn tokens_for(&self, session_id: &str) -> TokenProvider {
        self.token_provider
            .scoped(TokenScope::Session(session_id.to_owned()))
    }

    /// The calls about a session, which its token is for.
    pub(super) fn endpoint(&self, session_id: &str) -> Endpoint {
        Endpoint::cloud(self.tokens_for(session_id))
    }
}

fn require_running(session: SessionDescriptor) -> Result<SessionDescriptor, Error> {
    if !session.is_terminal() {
        return Ok(session);
    }
    let message = format!(
        "the session {} is over; its state is \"{}\"",
        sanitize(&session.session_id),
        sanitize(&session.state)
    );
    Err(Error::api(Code::SessionTerminal, message).during("session"))
}

/// Whether an id can be part of a URL's path.
fn is_path_segment(session_id: &str) -> bool {
    !matches!(session_id, "" | "." | "..")
}

/// The body of the request that creates a session.
fn session_request(model: &ModelName, arguments: Option<&Map<String, Value>>) -> Value {
    let mut body = json!({
        "model": {"name": model.name},
        "client_info": {
            "sdk_version": env!("CARGO_PKG_VERSION"),
            "sdk_type": "gstreamer",
        },
        "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
    });
    if let Some(version) = &model.version {
        body["model"]["version"] = json!(version);
    }
    if let Some(arguments) = arguments {
        body["extra_args"] = json!(arguments);
    }
    body
}
