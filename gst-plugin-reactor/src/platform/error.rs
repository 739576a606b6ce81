// SPDX-License-Identifier: MIT

//! The one error type of the platform: what went wrong, where, and whether
//! trying again makes sense.

use std::{borrow::Cow, fmt, time::Duration};

/// Which side of the platform reported the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The HTTP API in front of the GPUs (or the local runtime's).
    Api,
    /// The GPU that runs the model, reached over WebRTC.
    Gpu,
}

impl Component {
    pub fn as_str(self) -> &'static str {
        match self {
            Component::Api => "api",
            Component::Gpu => "gpu",
        }
    }
}

/// What went wrong. The platform's list is open: a code this client does not
/// know (a model's own, for example) is carried in [`Code::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// The call does not fit the state of the session.
    InvalidState,
    /// The peer went away; a session may still be there to resume.
    Disconnected,
    /// No HTTP reply: refused, unreachable, broken off.
    NetworkError,
    /// A bounded wait ran out.
    RequestTimeout,
    /// The media engine failed.
    TransportError,
    /// HTTP 401 or 403.
    Unauthorized,
    /// HTTP 404 or 410.
    NotFound,
    /// HTTP 409.
    Conflict,
    /// HTTP 429.
    RateLimited,
    /// Any other 4xx, or an argument the platform refuses.
    BadRequest,
    /// HTTP 5xx but 501.
    ServerError,
    /// HTTP 426 or 501, or no common transport.
    VersionMismatch,
    /// An answer that is not what the protocol says.
    DecodeFailed,
    /// No GPU became free in the time that the user gives.
    WaitedTooLong,
    /// The session is over and cannot be joined.
    SessionTerminal,
    /// A lost connection was not made anew in time.
    ReconnectionFailed,
    /// A data-channel message beyond the agreed size.
    MessageTooLarge,
    /// The peer's DTLS certificate is not the one its answer announced.
    IdentityMismatch,
    /// The answer rejects or lacks a track that was asked for.
    TrackRejected,
    /// A setting of the user's is missing or wrong.
    InvalidSettings,
    /// Nothing installed here can do it.
    MissingPlugin,
    /// A recorded clip that is unknown, or no longer kept.
    ClipGone,
    /// A recorded clip that was not complete in the time that it had.
    ClipNotReady,
    /// The playlist of a recorded clip could not be had.
    PlaylistFetchFailed,
    /// A piece of a recorded clip could not be had, or is broken.
    ChunkFetchFailed,
    /// A playlist that is none, or none of a clip that can be saved.
    InvalidPlaylist,
    /// A disk of this machine is full.
    NoSpace,
    /// Media that cannot be brought into the form that is asked for.
    UnsupportedMedia,
    /// Cancelled on this side.
    Aborted,
    /// A bug or an impossible situation on this side.
    Internal,
    /// A code of the platform's or of the model's own.
    Other(Cow<'static, str>),
}

impl Code {
    /// The code as the platform spells it.
    pub fn as_str(&self) -> &str {
        match self {
            Code::InvalidState => "INVALID_STATE",
            Code::Disconnected => "DISCONNECTED",
            Code::NetworkError => "NETWORK_ERROR",
            Code::RequestTimeout => "REQUEST_TIMEOUT",
            Code::TransportError => "TRANSPORT_ERROR",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::NotFound => "NOT_FOUND",
            Code::Conflict => "CONFLICT",
            Code::RateLimited => "RATE_LIMITED",
            Code::BadRequest => "BAD_REQUEST",
            Code::ServerError => "SERVER_ERROR",
            Code::VersionMismatch => "VERSION_MISMATCH",
            Code::DecodeFailed => "DECODE_FAILED",
            Code::WaitedTooLong => "WAITING_TIMEOUT",
            Code::SessionTerminal => "SESSION_TERMINAL",
            Code::ReconnectionFailed => "RECONNECTION_FAILED",
            Code::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Code::IdentityMismatch => "IDENTITY_MISMATCH",
            Code::TrackRejected => "TRACK_REJECTED",
            Code::InvalidSettings => "INVALID_SETTINGS",
            Code::MissingPlugin => "MISSING_PLUGIN",
            Code::ClipGone => "CLIP_GONE",
            Code::ClipNotReady => "CLIP_NOT_READY",
            Code::PlaylistFetchFailed => "PLAYLIST_FETCH_FAILED",
            Code::ChunkFetchFailed => "CHUNK_FETCH_FAILED",
            Code::InvalidPlaylist => "INVALID_PLAYLIST",
            Code::NoSpace => "NO_SPACE",
            Code::UnsupportedMedia => "UNSUPPORTED_MEDIA",
            Code::Aborted => "ABORTED",
            Code::Internal => "INTERNAL_ERROR",
            Code::Other(code) => code,
        }
    }

    /// Whether the platform's clients treat the code as worth another try.
    pub fn recoverable(&self) -> bool {
        matches!(
            self,
            Code::Disconnected
                | Code::NetworkError
                | Code::RequestTimeout
                | Code::TransportError
                | Code::ReconnectionFailed
                | Code::RateLimited
                | Code::ServerError
        )
    }

    /// The code for an HTTP status that is not a success.
    pub fn from_status(status: u16) -> Self {
        match status {
            401 | 403 => Code::Unauthorized,
            404 | 410 => Code::NotFound,
            409 => Code::Conflict,
            429 => Code::RateLimited,
            426 | 501 => Code::VersionMismatch,
            400..=499 => Code::BadRequest,
            500..=599 => Code::ServerError,
            // A redirect or an informational answer where a result was due.
            _ => Code::DecodeFailed,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure of the platform, ready to be shown to a user.
///
/// The message says what happened and, where there is something, what to do.
/// It never holds a secret: callers format URLs without credentials and never
/// put a header or a token in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("[{}:{code}] {message}", component.as_str())]
pub struct Error {
    pub code: Code,
    pub component: Component,
    pub message: String,
    /// The HTTP status behind it, if there was one.
    pub http_status: Option<u16>,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// What was being done: `start_session`, `sdp_params`, `send_command`...
    pub operation: Option<&'static str>,
}

impl Error {
    /// An error of the HTTP API.
    pub fn api(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Component::Api, message)
    }

    /// An error of the GPU side: the peer connection and what runs over it.
    pub fn gpu(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Component::Gpu, message)
    }

    fn new(code: Code, component: Component, message: impl Into<String>) -> Self {
        Self {
            code,
            component,
            message: message.into(),
            http_status: None,
            retry_after: None,
            operation: None,
        }
    }

    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// The same of something that the user has set.
    #[must_use]
    pub fn of_a_setting(mut self) -> Self {
        self.code = Code::InvalidSettings;
        self
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    pub fn recoverable(&self) -> bool {
        self.code.recoverable()
    }
}
