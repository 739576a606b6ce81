// SPDX-License-Identifier: MIT

//! The properties that every live element shares.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use url::Url;

use super::machine::{Policy, WireChoice};
use crate::platform::{
    Code, Error,
    auth::{ApiCredentials, Jwt, TokenCache, TokenProvider, TokenScope},
    coordinator::{Coordinator, ModelName},
    endpoint::{Endpoint, parse_base},
    http::HttpClient,
    secret::Secret,
};

pub const DEFAULT_API_URL: &str = "https://api.reactor.inc";
pub const DEFAULT_LOCAL_URL: &str = "http://localhost:8080";
pub const DEFAULT_MAX_SDP_ATTEMPTS: u32 = 6;
/// Milliseconds. Enough for the jitter of an ordinary wired path.
pub const DEFAULT_LATENCY: u32 = 60;
/// To which it may grow: two requests for what is lost on a bad mobile path.
pub const DEFAULT_MAX_LATENCY: u32 = 400;
/// Below this the jitter buffer of GStreamer 1.22 drops frames even on
/// loopback when set to 0; 10 ms is fine.
pub const MIN_LATENCY: u32 = 10;
pub const DEFAULT_STALL_TIMEOUT: u32 = 5000;
pub const DEFAULT_CLOSE_TIMEOUT: u32 = 2000;

/// A snapshot of the properties; times in milliseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    pub local: bool,
    pub api_url: Option<String>,
    pub model: Option<String>,
    /// For the cloud: exchanged for tokens.
    pub api_key: Option<Secret>,
    /// For the cloud: a token of the user's, which may be replaced at any
    /// time.
    pub jwt: Jwt,
    /// The name under which the session is shared.
    pub session: Option<String>,
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    pub adopt_session_id: Option<String>,
    /// 0 for none.
    pub connection_id: u32,
    pub max_sdp_attempts: u32,
    /// 0 for no limit.
    pub waiting_timeout: u32,
    pub latency: u32,
    /// How far it may grow by itself; not at all if this is no more.
    pub max_latency: u32,
    /// 0 for no watchdog.
    pub stall_timeout: u32,
    pub close_timeout: u32,
    pub recoverable: bool,
    pub reconnect: bool,
    pub restart_session: bool,
    pub relay_only: bool,
    pub wire: WireChoice,
    /// JSON: which key or mouse event is which command.
    pub navigation: Option<String>,
    /// JSON: what to command as soon as the session is ready.
    pub commands: Option<String>,
    /// Check commands against the model's schema before they are sent.
    pub check_commands: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            local: false,
            api_url: None,
            model: None,
            api_key: None,
            jwt: Jwt::default(),
            session: None,
            arguments: None,
            adopt_session_id: None,
            connection_id: 0,
            max_sdp_attempts: DEFAULT_MAX_SDP_ATTEMPTS,
            waiting_timeout: 0,
            latency: DEFAULT_LATENCY,
            max_latency: DEFAULT_MAX_LATENCY,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            close_timeout: DEFAULT_CLOSE_TIMEOUT,
            recoverable: false,
            reconnect: true,
            restart_session: false,
            relay_only: false,
            wire: WireChoice::Auto,
            navigation: None,
            commands: None,
            check_commands: true,
        }
    }
}

impl Settings {
    /// Who is asked for the session. Makes no request.
    ///
    /// # Errors
    ///
    /// When something is missing, or makes no sense.
    pub(super) fn coordinator(&self) -> Result<Coordinator, Error> {
        if self.local {
            return Coordinator::local(self.server());
        }
        if self.api_key.is_none() && !self.jwt.is_set() {
            return Err(missing_credentials());
        }
        if self.model.is_none() && self.adopt_session_id.is_none() {
            return Err(Error::api(
                Code::InvalidSettings,
                "the cloud has many models; set model to the name of one",
            ));
        }
        let model = self.model.as_deref().map(ModelName::parse);
        Coordinator::cloud(self.server(), model, self.access())
    }

    /// A copy with this server, as far as one is given.
    #[must_use]
    pub fn with_server(&self, api_url: Option<String>, local: Option<bool>) -> Self {
        Self {
            api_url: api_url.or_else(|| self.api_url.clone()),
            local: local.unwrap_or(self.local),
            ..self.clone()
        }
    }

    /// What lets in at the cloud, for what belongs to no session of this
    /// process; nothing where the user gave nothing. A token of the user's is
    /// for the server of what the user gave with it, `address`; a key is for
    /// the API only.
    ///
    /// # Errors
    ///
    /// When the server's address makes no sense.
    pub fn bearer(&self, address: Option<&str>) -> Result<Option<TokenProvider>, Error> {
        if self.local || (self.api_key.is_none() && !self.jwt.is_set()) {
            return Ok(None);
        }
        let place = address.filter(|_| self.jwt.is_set());
        let origin = place.and_then(|address| Url::parse(address).ok()?.join("/").ok());
        let base = match origin {
            Some(origin) => origin,
            None => parse_base(self.server(), DEFAULT_API_URL)?,
        };
        let scope = TokenScope::Recordings;
        let bearer = TokenProvider::new(
            HttpClient::shared()?,
            base,
            self.access(),
            TokenCache::shared(),
            scope,
        );
        bearer.map(Some)
    }

    /// The server, for what belongs to no session of this process.
    ///
    /// # Errors
    ///
    /// When something is missing, or makes no sense.
    pub fn endpoint(&self) -> Result<Endpoint, Error> {
        match self.bearer(None)? {
            Some(bearer) => Ok(Endpoint::cloud(bearer)),
            None if self.local => Endpoint::new(HttpClient::shared()?, self.server()),
            None => Err(missing_credentials()),
        }
    }

    fn access(&self) -> ApiCredentials {
        ApiCredentials::new(self.api_key.as_ref().map(Secret::expose), self.jwt.clone())
    }

    /// What the environment says, where nothing else does.
    pub fn fill_from_environment(&mut self) {
        if self.local {
            return;
        }
        let read = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        if self.api_key.is_none() && !self.jwt.is_set() {
            self.jwt.set(read("REACTOR_JWT").as_deref());
            self.api_key = read("REACTOR_API_KEY").map(Secret::new);
        }
    }

    /// The server's address.
    pub(super) fn server(&self) -> &str {
        let url = self.api_url.as_deref();
        match self.local {
            // The default is the cloud's, which is nowhere near local.
            true => url
                .filter(|url| *url != DEFAULT_API_URL)
                .unwrap_or(DEFAULT_LOCAL_URL),
            false => url.unwrap_or(DEFAULT_API_URL),
        }
    }

    /// The name of a property in which two elements that share a session
    /// differ, and may not.
    pub(super) fn conflict(&self, other: &Self) -> Option<&'static str> {
        // What one of them leaves open, the other decides.
        let model = self.model.is_some() && other.model.is_some() && self.model != other.model;
        let adopted =
            other.adopt_session_id.is_some() && other.adopt_session_id != self.adopt_session_id;
        let unlike = [
            ("local", self.local != other.local && other.local),
            (
                "api-url",
                other.api_url.is_some() && self.server() != other.server(),
            ),
            ("model", model),
            (
                "api-key",
                other.api_key.is_some() && other.api_key != self.api_key,
            ),
            ("jwt", other.jwt.is_set() && other.jwt != self.jwt),
            ("adopt-session-id", adopted),
        ];
        unlike
            .into_iter()
            .find(|(_, differs)| *differs)
            .map(|(name, _)| name)
    }

    /// Takes over from an element of the same session what is left open here.
    pub fn follow(&mut self, other: Self) {
        fn fill<T: PartialEq>(own: &mut T, theirs: T, default: &T) {
            if own == default {
                *own = theirs;
            }
        }
        let default = Self::default();
        macro_rules! fill {
            ($($name:ident)*) => { $(fill(&mut self.$name, other.$name, &default.$name);)* };
        }
        fill!(local api_url api_key model arguments adopt_session_id connection_id);
        fill!(max_sdp_attempts waiting_timeout latency max_latency stall_timeout);
        fill!(close_timeout);
        if !self.jwt.is_set() {
            self.jwt = other.jwt;
        }
        fill!(recoverable reconnect restart_session relay_only wire);
    }

    /// Whether nothing says which server to speak to.
    pub fn names_no_server(&self) -> bool {
        !self.local
            && self.api_url.is_none()
            && self.adopt_session_id.is_none()
            && self.api_key.is_none()
            && !self.jwt.is_set()
    }

    pub fn close_limit(&self) -> Duration {
        Duration::from_millis(self.close_timeout.into())
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            waiting_limit: optional(self.waiting_timeout),
            sdp_attempts: self.max_sdp_attempts,
            stall_limit: optional(self.stall_timeout),
            close_limit: self.close_limit(),
            wire: self.wire,
            adopt: self.adopt_session_id.clone(),
            connection_id: (self.connection_id != 0).then_some(self.connection_id),
            recoverable: self.recoverable,
            reconnect: self.reconnect,
            restart: self.restart_session,
            seed: RandomState::new().hash_one(0),
            queues: !self.local,
            // On the same network host candidates do; a local runtime names
            // relays only where it was given some.
            ice_servers: !self.local || self.relay_only,
        }
    }
}

fn missing_credentials() -> Error {
    let text = "the cloud lets nobody in without api-key (or REACTOR_API_KEY) or jwt; \
                for a local runtime set local=true \
                (and api-url, if it is not at http://localhost:8080)";
    Error::api(Code::InvalidSettings, text)
}

fn optional(milliseconds: u32) -> Option<Duration> {
    (milliseconds != 0).then(|| Duration::from_millis(milliseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_the_other_decides() {
        let other = Settings {
            local: true,
            api_url: Some("http://127.0.0.1:1".into()),
            stall_timeout: 1000,
            latency: 10,
            reconnect: false,
            ..Settings::default()
        };
        let mut own = Settings {
            latency: 20,
            ..Settings::default()
        };
        own.follow(other);
        assert!(own.local && !own.reconnect);
        assert_eq!((own.stall_timeout, own.latency), (1000, 20));
        assert_eq!(own.api_url.as_deref(), Some("http://127.0.0.1:1"));
    }
}
