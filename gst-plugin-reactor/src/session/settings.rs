// SPDX-License-Identifier: MIT

//! The properties that the elements share: one table with their defaults and
//! rules, and what follows from them for the server and the connection. Read
//! when an element joins a session; makes no request.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use gst::glib::{self, ParamFlags};
use serde_json::{Map, Value};
use url::Url;

use super::machine::{Policy, WireChoice};
use crate::{
    platform::{
        Code, Error,
        auth::{ApiCredentials, Jwt, TokenCache, TokenProvider, TokenScope},
        commands::describe_kind,
        coordinator::{Coordinator, ModelName, RunningSession},
        endpoint::{Endpoint, parse_base},
        http::HttpClient,
        json_text,
        secret::Secret,
        upload::DEFAULT_MAX_SIZE,
        wire::WireVersion,
    },
    property::{EnumField, Field, PLAYING, settings, text},
};

const DEFAULT_API_URL: &str = "https://api.reactor.inc";
const DEFAULT_LOCAL_URL: &str = "http://localhost:8080";
/// Milliseconds. Set to 0, the jitter buffer of GStreamer 1.22 drops frames
/// even on loopback; 10 ms is fine.
pub const MIN_LATENCY: u32 = 10;
/// Of a jitter buffer, in milliseconds.
const MAX_LATENCY: u32 = 10_000;

/// More often, the messages would be a load of their own.
const MIN_STATS_INTERVAL: Duration = Duration::from_millis(100);

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

impl EnumField for IceTransportPolicy {}

/// What to do about a session that a local runtime already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorLocalSession")]
pub enum LocalSession {
    #[default]
    #[enum_value(name = "Join: take part in it, and never end it", nick = "join")]
    Join,
    #[enum_value(name = "Restart: end it, and start another", nick = "restart")]
    Restart,
    #[enum_value(name = "Error: fail, and leave it alone", nick = "error")]
    Error,
}

impl EnumField for LocalSession {}

impl From<LocalSession> for RunningSession {
    fn from(choice: LocalSession) -> Self {
        match choice {
            LocalSession::Join => Self::Join,
            LocalSession::Restart => Self::Restart,
            LocalSession::Error => Self::Refuse,
        }
    }
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

impl EnumField for Wire {}

impl From<Wire> for WireChoice {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Auto => Self::Auto,
            Wire::V1 => Self::Only(WireVersion::V1),
            Wire::V0 => Self::Only(WireVersion::V0),
        }
    }
}

impl Field for Option<Secret> {
    fn set(&mut self, value: &glib::Value) {
        *self = text(value).map(Secret::new);
    }
}

impl Field for Jwt {
    fn set(&mut self, value: &glib::Value) {
        Self::set(self, text(value).as_deref());
    }
}

settings! {
    /// A snapshot of the properties that every element has; times in
    /// milliseconds. The first property that conflicts is the one that an
    /// error names.
    #[derive(Debug, Clone)]
    pub struct Settings {
        local: bool = false,
            "local", "Local",
            "Speak to a local runtime, which needs no key"
            => |own, other| other.local && !own.local;

        api_url: Option<String> = None,
            "api-url", "API URL",
            "Address of the platform. With local=true the local runtime's, http://localhost:8080 if not set",
            unset: Some(DEFAULT_API_URL)
            => |own, other| other.api_url.is_some() && own.server() != other.server();

        // What one element leaves open, the other decides.
        model: Option<String> = None,
            "model", "Model",
            "Name of the model to run, or name@version. A local runtime serves one only and needs none"
            => |own, other| own.model.is_some() && other.model.is_some() && own.model != other.model;

        /// For the cloud: exchanged for tokens.
        api_key: Option<Secret> = None,
            "api-key", "API key",
            "Key for the cloud, exchanged for tokens; REACTOR_API_KEY if neither this nor jwt is set",
            flags: ParamFlags::WRITABLE.union(gst::PARAM_FLAG_MUTABLE_READY), inherited: false
            => |own, other| other.api_key.is_some() && own.api_key != other.api_key;

        /// For the cloud: a token of the user's, which may be replaced at any
        /// time.
        jwt: Jwt = Jwt::default(),
            "jwt", "JWT",
            "Token for the cloud, wins over api-key; may be replaced at any time; REACTOR_JWT if not set",
            flags: ParamFlags::WRITABLE.union(gst::PARAM_FLAG_MUTABLE_PLAYING), inherited: false
            => |own, other| other.jwt.is_set() && own.jwt != other.jwt;

        /// The name under which the session is shared.
        session: Option<String> = None,
            "session", "Session",
            "Share the session with the elements of this process that give the same name. \
            Without a name, those of one pipeline share it";

        arguments: Option<String> = None,
            "arguments", "Arguments",
            "Arguments for the model, sent when the session is created: a JSON5 object, \
            such as {steps:20}, or @FILE",
            of_session: true;

        commands: Option<String> = None,
            "commands", "Commands",
            "Commands to send, in order, as soon as the session is ready; set while it is, they are sent at once. \
            A JSON5 list, such as [{set_prompt:{prompt:'a forest'}},{start:{}}], one object, or @FILE. \
            An argument '@file:PATH' is a file to upload first",
            flags: PLAYING, inherited: false;

        check_commands: bool = true,
            "check-commands", "Check commands",
            "Check commands against the model's schema before they are sent",
            flags: PLAYING, inherited: false;

        max_upload_size: u64 = DEFAULT_MAX_SIZE,
            "max-upload-size", "Maximum upload size",
            "Refuse to upload a larger file, in bytes (0 = no limit)",
            flags: PLAYING, inherited: false;

        /// Per second of media.
        control_rate: u32 = 10,
            "control-rate", "Control rate",
            "How often parameters that follow a control binding are sent at most, per second of media",
            flags: PLAYING, range: (1, 100), inherited: false;

        navigation: Option<String> = None,
            "navigation", "Navigation",
            "Makes commands of the keys and the mouse of a video window: a JSON5 object, such as \
            {'key:w':{move:{direction:'forward'}},'mouse-move':{look:{x:'$x',y:'$y'}}}, or @FILE",
            inherited: false;

        // Enough for the jitter of an ordinary wired path.
        latency: u32 = 60,
            "latency", "Latency",
            "Jitter buffer, in ms; it grows up to max-latency where packets come too late",
            flags: PLAYING, range: (MIN_LATENCY, MAX_LATENCY);

        // Two requests for what is lost on a bad mobile path.
        max_latency: u32 = 400,
            "max-latency", "Maximum latency",
            "How far the jitter buffer may grow by itself, and how long lost video is waited for meanwhile, in ms \
            (no more than latency = neither)",
            range: (0, MAX_LATENCY),
            of_session: true;

        /// In bits per second; 0 for no limit.
        max_receive_bitrate: u32 = 0,
            "max-receive-bitrate", "Maximum receive bitrate",
            "What the model's video may take, all tracks together, in bit/s (0 = no limit). \
            Below 500000 while playing, and beyond what it was at the start, a change makes a new connection",
            flags: PLAYING;

        stall_timeout: u32 = 5000,
            "stall-timeout", "Stall timeout",
            "Nothing received for so long means that the connection is lost, in ms (0 = never)",
            of_session: true;

        waiting_timeout: u32 = 0,
            "waiting-timeout", "Waiting timeout",
            "How long to wait for a GPU, in ms (0 = no limit)",
            of_session: true;

        close_timeout: u32 = 2000,
            "close-timeout", "Close timeout",
            "How long going to NULL may wait for the session to be ended on the server, in ms";

        max_sdp_attempts: u32 = 6,
            "max-sdp-attempts", "SDP attempts",
            "How patiently to poll for the answer: windows of 200 ms, doubled each time up to 15 s (6 = 12.6 s)",
            range: (1, 100),
            of_session: true;

        reconnect: bool = true,
            "reconnect", "Reconnect",
            "Resume the session when the connection is lost, within the platform's 30 s",
            of_session: true;

        restart_session: bool = false,
            "restart-session", "Restart session",
            "Start another session when the lost one cannot be resumed",
            of_session: true;

        /// In seconds; 0 for no limit.
        max_session_duration: u32 = 0,
            "max-session-duration", "Maximum session duration",
            "End the session after this time with its GPU, in s (0 = no limit; of elements that share it the \
            least counts). A token that the key is exchanged for says so too, up to 86400";

        local_session: LocalSession = LocalSession::Join,
            "local-session", "Local session",
            "What to do about a session that the local runtime already has",
            of_session: true;

        recoverable: bool = false,
            "recoverable", "Recoverable",
            "Leave the session alive on the server when the element stops",
            of_session: true;

        adopt_session_id: Option<String> = None,
            "adopt-session-id", "Adopt session",
            "Join the session with this id, created by somebody else. It is not ended when the element stops"
            => |own, other| other.adopt_session_id.is_some() && own.adopt_session_id != other.adopt_session_id;

        /// 0 for none.
        connection_id: u32 = 0,
            "connection-id", "Connection id",
            "Connect under this id, registered by somebody else (0 = register one)",
            range: (0, u16::MAX as u32),
            of_session: true;

        report_stats: bool = true,
            "report-stats", "Report statistics",
            "Tell the platform every 5 s how well the session is received and sent (wire v1)";

        /// 0 for never.
        stats_interval: u32 = 0,
            "stats-interval", "Statistics interval",
            "How often to post stats as the element message reactor-stats, in ms (0 = never, at least 100)",
            flags: PLAYING, inherited: false;

        ice_transport_policy: IceTransportPolicy = IceTransportPolicy::All,
            "ice-transport-policy", "ICE transport policy",
            "Which ICE candidates to use",
            of_session: true;

        wire: Wire = Wire::Auto,
            "wire", "Wire",
            "Encoding of the data-channel messages; for tests and odd servers",
            of_session: true;
    }
}

impl Settings {
    /// The coordinator of the session.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidSettings`] when a setting is missing or invalid.
    pub(super) fn coordinator(&self) -> Result<Coordinator, Error> {
        if self.local {
            return Coordinator::local(self.server(), self.local_session.into());
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
        let duration = self.session_limit();
        Coordinator::cloud(self.server(), model, duration, self.credentials())
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

    /// The tokens for recordings of the cloud that belong to no session of this
    /// process; `None` without credentials. The user's `jwt` is for the server
    /// of `address`, which the user gave with it; an API key is for the API only.
    ///
    /// # Errors
    ///
    /// When the server's address is invalid.
    pub fn token_provider(&self, address: Option<&str>) -> Result<Option<TokenProvider>, Error> {
        if self.local || (self.api_key.is_none() && !self.jwt.is_set()) {
            return Ok(None);
        }
        let address = address.filter(|_| self.jwt.is_set());
        let origin = address.and_then(|address| Url::parse(address).ok()?.join("/").ok());
        let base = match origin {
            Some(origin) => origin,
            None => parse_base(self.server(), DEFAULT_API_URL)?,
        };
        let (http, cache) = (HttpClient::shared()?, TokenCache::shared());
        let scope = TokenScope::Recordings;
        TokenProvider::new(http, base, self.credentials(), cache, scope).map(Some)
    }

    /// The server of recordings that belong to no session of this process.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidSettings`] when a setting is missing or invalid.
    pub fn endpoint(&self) -> Result<Endpoint, Error> {
        match self.token_provider(None)? {
            Some(tokens) => Ok(Endpoint::cloud(tokens)),
            None if self.local => Endpoint::new(HttpClient::shared()?, self.server()),
            None => Err(missing_credentials()),
        }
    }

    /// The property `arguments`.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidSettings`] when it is not an object in JSON5.
    pub fn parse_arguments(&self) -> Result<Option<Map<String, Value>>, Error> {
        let Some(text) = &self.arguments else {
            return Ok(None);
        };
        let arguments = json_text::parse(text, "the property arguments");
        let invalid = |error: Error| error.into_invalid_settings().during("arguments");
        match arguments.map_err(invalid)?.into_value() {
            Value::Object(arguments) => Ok(Some(arguments)),
            other => {
                let kind = describe_kind(&other);
                let text = format!("the property arguments is {kind}; expected an object");
                Err(Error::api(Code::InvalidSettings, text))
            }
        }
    }

    /// Reads the files that the properties name which hold JSON5: `@FILE`.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidSettings`] when one cannot be read.
    pub fn read_files(&mut self) -> Result<(), Error> {
        for (text, what) in [
            (&mut self.arguments, "the property arguments"),
            (&mut self.commands, "the property commands"),
            (&mut self.navigation, "the property navigation"),
        ] {
            let read = |text| json_text::resolve_file(text, what);
            *text = text
                .take()
                .map(read)
                .transpose()
                .map_err(Error::into_invalid_settings)?;
        }
        Ok(())
    }

    fn credentials(&self) -> ApiCredentials {
        ApiCredentials::new(self.api_key.as_ref().map(Secret::expose), self.jwt.clone())
    }

    /// Takes `REACTOR_JWT` and `REACTOR_API_KEY` from the environment, for the
    /// cloud, unless the settings have credentials.
    pub fn fill_from_environment(&mut self) {
        self.fill_from(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    }

    fn fill_from(&mut self, read: impl Fn(&str) -> Option<String>) {
        if !self.local && self.api_key.is_none() && !self.jwt.is_set() {
            // Clones are one token: that of the environment must not become the
            // element's own, which the next session would have too.
            self.jwt = Jwt::default();
            self.jwt.set(read("REACTOR_JWT").as_deref());
            self.api_key = read("REACTOR_API_KEY").map(Secret::new);
        }
    }

    /// The server's address.
    pub(super) fn server(&self) -> &str {
        let url = self.api_url.as_deref();
        match self.local {
            // The default is the cloud's address, never a local runtime's.
            true => url
                .filter(|url| *url != DEFAULT_API_URL)
                .unwrap_or(DEFAULT_LOCAL_URL),
            false => url.unwrap_or(DEFAULT_API_URL),
        }
    }

    /// The name of the first property in which an element with the `other`
    /// settings contradicts the session that these settings started.
    pub(super) fn conflict(&self, other: &Self) -> Option<&'static str> {
        let conflict = Self::PROPERTIES.iter().find(|p| (p.conflicts)(self, other));
        conflict.map(|property| property.info.name)
    }

    /// The properties in which the `other` settings differ from those that started the
    /// session, without any effect.
    pub(super) fn without_effect(&self, other: &Self) -> Vec<&'static str> {
        let properties = Self::PROPERTIES.iter().filter(|p| p.info.of_session);
        let differing = properties.filter(|p| (p.differs)(self, other));
        differing.map(|property| property.info.name).collect()
    }

    /// Takes the value of an element of the same session for each inherited
    /// property that has its default here.
    pub fn inherit(&mut self, other: &Self) {
        for property in Self::PROPERTIES.iter().filter(|p| p.info.inherited) {
            (property.inherit)(self, other);
        }
    }

    /// Whether no setting says which server to speak to.
    pub fn names_no_server(&self) -> bool {
        !self.local
            && self.api_url.is_none()
            && self.adopt_session_id.is_none()
            && self.api_key.is_none()
            && !self.jwt.is_set()
    }

    /// The name of the model that the local runtime should serve.
    fn model_of_runtime(&self) -> Option<String> {
        let model = self.model.as_deref().filter(|_| self.local)?;
        Some(ModelName::parse(model).name)
    }

    /// Whether only TURN relays may be used.
    pub(super) fn relay_only(&self) -> bool {
        self.ice_transport_policy == IceTransportPolicy::Relay
    }

    /// How often to post the statistics; zero for never.
    pub fn stats_interval(&self) -> Duration {
        match self.stats_interval {
            0 => Duration::ZERO,
            interval => Duration::from_millis(interval.into()).max(MIN_STATS_INTERVAL),
        }
    }

    /// How long READY -> NULL waits for the session to be closed.
    pub fn close_limit(&self) -> Duration {
        Duration::from_millis(self.close_timeout.into())
    }

    /// How long the session may last.
    pub(super) fn session_limit(&self) -> Option<Duration> {
        optional_seconds(self.max_session_duration)
    }

    /// The state machine's part of the settings.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            waiting_limit: optional(self.waiting_timeout),
            sdp_attempts: self.max_sdp_attempts,
            stall_limit: optional(self.stall_timeout),
            close_limit: self.close_limit(),
            wire: self.wire.into(),
            adopt: self.adopt_session_id.clone(),
            connection_id: (self.connection_id != 0).then_some(self.connection_id),
            recoverable: self.recoverable,
            reconnect: self.reconnect,
            restart: self.restart_session,
            max_session_duration: self.session_limit(),
            has_arguments: self.arguments.is_some(),
            model_of_runtime: self.model_of_runtime(),
            seed: RandomState::new().hash_one(0),
            queues: !self.local,
            // On a local network host candidates are enough; a local runtime
            // names relays only if it was configured with some.
            ice_servers: !self.local || self.relay_only(),
            max_receive_bitrate: (self.max_receive_bitrate != 0)
                .then_some(self.max_receive_bitrate),
        }
    }
}

fn missing_credentials() -> Error {
    let text = "the cloud lets nobody in without api-key (or REACTOR_API_KEY) or jwt; \
                for a local runtime set local=true \
                (and api-url, if it is not at http://localhost:8080)";
    Error::api(Code::InvalidSettings, text)
}

/// `None` for 0.
fn optional_seconds(seconds: u32) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(seconds.into()))
}

/// `None` for 0.
fn optional(milliseconds: u32) -> Option<Duration> {
    (milliseconds != 0).then(|| Duration::from_millis(milliseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_environment_is_not_the_elements_own() {
        let own = Settings::default();
        let session = |token: Option<&'static str>| {
            let mut settings = own.clone();
            settings.fill_from(|name| token.filter(|_| name == "REACTOR_JWT").map(str::to_owned));
            settings
        };
        assert!(session(Some("first")).jwt.is_set());
        assert!(!own.jwt.is_set());
        assert_eq!(session(Some("second")).jwt, session(Some("second")).jwt);
        assert!(!session(None).jwt.is_set());
    }

    #[test]
    fn settings_with_defaults_inherit_those_of_other() {
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
        own.inherit(&other);
        assert!(own.local && !own.reconnect);
        assert_eq!((own.stall_timeout, own.latency), (1000, 20));
        assert_eq!(own.api_url.as_deref(), Some("http://127.0.0.1:1"));
    }
}
