// SPDX-License-Identifier: MIT

//! The one error type of the platform: code, component, message, HTTP status
//! and `Retry-After`, and the one table of error codes. Made and read on any
//! thread. It names no GStreamer type and never holds a secret.

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
    /// The name as it appears in error details.
    pub fn as_str(self) -> &'static str {
        match self {
            Component::Api => "api",
            Component::Gpu => "gpu",
        }
    }
}

/// Where it failed, in the words of the platform's first clients, whose error
/// handlers know no finer code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The session could not be opened or connected.
    Connection,
    /// A connection that was ready is lost.
    GpuConnection,
    /// It could not be made anew.
    Reconnection,
    TrackPublish,
}

impl Failure {
    /// The name as it appears in error details.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Connection => "CONNECTION_FAILED",
            Failure::GpuConnection => "GPU_CONNECTION_ERROR",
            Failure::Reconnection => "RECONNECTION_FAILED",
            Failure::TrackPublish => "TRACK_PUBLISH_FAILED",
        }
    }
}

/// What an application can do about an error, in general: each class has one
/// domain and code of GStreamer's (`element/errors.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The credentials do not allow the call, or the peer is not the one announced.
    NotAuthorized,
    NotFound,
    /// Taken or overloaded: a later attempt may succeed.
    Busy,
    /// A property or a version has to be changed first.
    Settings,
    /// The server cannot be reached, or its response cannot be used.
    OpenRead,
    /// A transfer or a connection broke off after it had begun.
    Read,
    /// The media is of a form that cannot be used.
    Format,
    /// No codec that both sides have.
    CodecNotFound,
    MissingPlugin,
    NoSpaceLeft,
    /// A failure inside the element.
    Failed,
    /// A code of the model's own.
    Unclassified,
}

/// What the table says about a code, apart from its meaning.
struct CodeInfo {
    spelling: &'static str,
    class: ErrorClass,
    recoverable: bool,
}

/// Makes [`Code`] and its properties from one row per code: the meaning as a
/// doc comment, `Name = "SPELLING" => Class`, and `, recoverable` where the
/// platform's clients treat the code as worth another attempt. The rows of
/// `open` have no name: their spelling arrives in [`Code::Other`].
macro_rules! error_codes {
    (
        $($(#[doc = $meaning:literal])+ $name:ident = $spelling:literal => $class:ident $(, $recoverable:ident)?;)+
        open { $($(#[doc = $open_meaning:literal])+ $open:literal => $open_class:ident;)+ }
    ) => {
        /// What went wrong. The platform's list is open: a code without a name
        /// here (a model's own, for example) is carried in [`Code::Other`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $meaning])+ $name,)+
            /// A code of the platform's or of the model's own.
            Other(Cow<'static, str>),
        }

        impl Code {
            fn info(&self) -> CodeInfo {
                let (spelling, class, recoverable) = match self {
                    $(Code::$name => (
                        $spelling,
                        ErrorClass::$class,
                        error_codes!(@flag $($recoverable)?),
                    ),)+
                    Code::Other(code) => match code.as_ref() {
                        $($open => ($open, ErrorClass::$open_class, false),)+
                        _ => ("", ErrorClass::Unclassified, false),
                    },
                };
                CodeInfo { spelling, class, recoverable }
            }

            /// The table's codes in its order.
            #[cfg(test)]
            pub fn all() -> Vec<Self> {
                vec![$(Self::$name,)+ $(Self::Other(Cow::Borrowed($open))),+]
            }

            /// The meaning in one sentence, for a reference page. Empty for a
            /// code that is not in the table.
            #[cfg(test)]
            pub fn meaning(&self) -> &'static str {
                let text = match self {
                    $(Code::$name => concat!($($meaning),+),)+
                    Code::Other(code) => match code.as_ref() {
                        $($open => concat!($($open_meaning),+),)+
                        _ => "",
                    },
                };
                text.trim_start()
            }
        }
    };
    (@flag) => { false };
    (@flag recoverable) => { true };
}

error_codes! {
    /// The call does not fit the state of the session.
    InvalidState = "INVALID_STATE" => Failed;
    /// The peer went away; a session may still be there to resume.
    Disconnected = "DISCONNECTED" => Read, recoverable;
    /// No HTTP response: refused, unreachable, broken off.
    NetworkError = "NETWORK_ERROR" => OpenRead, recoverable;
    /// A bounded wait ran out.
    RequestTimeout = "REQUEST_TIMEOUT" => OpenRead, recoverable;
    /// The media engine failed.
    TransportError = "TRANSPORT_ERROR" => Read, recoverable;
    /// HTTP 401 or 403.
    Unauthorized = "UNAUTHORIZED" => NotAuthorized;
    /// HTTP 404 or 410.
    NotFound = "NOT_FOUND" => NotFound;
    /// HTTP 409.
    Conflict = "CONFLICT" => Busy;
    /// HTTP 429.
    RateLimited = "RATE_LIMITED" => Busy, recoverable;
    /// Any other HTTP 4xx, or an argument that the platform refuses.
    BadRequest = "BAD_REQUEST" => OpenRead;
    /// HTTP 5xx but 501.
    ServerError = "SERVER_ERROR" => OpenRead, recoverable;
    /// HTTP 426 or 501, or no common transport.
    VersionMismatch = "VERSION_MISMATCH" => Settings;
    /// A response that does not follow the protocol.
    DecodeFailed = "DECODE_FAILED" => OpenRead;
    /// No GPU became free within `waiting-timeout`.
    WaitedTooLong = "WAITING_TIMEOUT" => Busy;
    /// The session is over and cannot be joined.
    SessionTerminal = "SESSION_TERMINAL" => NotFound;
    /// A lost connection was not established again in time.
    ReconnectionFailed = "RECONNECTION_FAILED" => Read, recoverable;
    /// A data-channel message beyond the agreed size.
    MessageTooLarge = "MESSAGE_TOO_LARGE" => Read;
    /// The peer's DTLS certificate is not the one its answer announced.
    IdentityMismatch = "IDENTITY_MISMATCH" => NotAuthorized;
    /// The answer rejects or lacks a track that was asked for.
    TrackRejected = "TRACK_REJECTED" => CodecNotFound;
    /// A setting of the user's is missing or wrong.
    InvalidSettings = "INVALID_SETTINGS" => Settings;
    /// No GStreamer plugin that is installed here can do it.
    MissingPlugin = "MISSING_PLUGIN" => MissingPlugin;
    /// A recorded clip that is unknown, or no longer kept.
    ClipGone = "CLIP_GONE" => NotFound;
    /// A recorded clip that was not complete within `ready-timeout`.
    ClipNotReady = "CLIP_NOT_READY" => Busy;
    /// The playlist of a recorded clip could not be fetched.
    PlaylistFetchFailed = "PLAYLIST_FETCH_FAILED" => Read;
    /// A segment of a recorded clip could not be fetched, or is broken.
    ChunkFetchFailed = "CHUNK_FETCH_FAILED" => Read;
    /// No HLS playlist, or not the playlist of a clip that can be saved.
    InvalidPlaylist = "INVALID_PLAYLIST" => Format;
    /// A disk of this machine is full.
    NoSpace = "NO_SPACE" => NoSpaceLeft;
    /// This process may have no more threads, descriptors or memory for thread stacks.
    ResourceLimit = "RESOURCE_LIMIT" => Busy, recoverable;
    /// Media that cannot be brought into the form that is asked for.
    UnsupportedMedia = "UNSUPPORTED_MEDIA" => Format;
    /// Cancelled on this side.
    Aborted = "ABORTED" => Failed;
    /// A bug or an impossible situation on this side.
    Internal = "INTERNAL_ERROR" => Failed;
    open {
        /// This model is not recorded: the server has to be told to.
        "RECORDER_DISABLED" => Settings;
        /// The duration of a clip is not a positive number of seconds.
        "INVALID_DURATION" => Unclassified;
        /// The platform could not cut a clip, for example because nothing is recorded yet.
        "clip_failed" => Unclassified;
        /// A saved clip is shorter than was asked for (a warning).
        "CLIP_SHORTER" => Unclassified;
        /// The model's schema does not allow the command or one of its arguments.
        "invalid_command" => Unclassified;
        /// The oldest messages were dropped, since they come faster than they are taken; `count` in
        /// the details says how many (a warning).
        "MESSAGES_DROPPED" => Unclassified;
        /// None of the model's output tracks is linked (a warning).
        "NOTHING_LINKED" => Unclassified;
        /// Another connection publishes the input track.
        "publish_refused" => Unclassified;
        /// The session ran already: `arguments` were not sent (a warning).
        "ARGUMENTS_IGNORED" => Settings;
        /// The local runtime serves another model than `model` names (a warning).
        "MODEL_MISMATCH" => Settings;
        /// The platform's moderation objects to an input (a warning).
        "moderation" => Unclassified;
    }
}

impl Code {
    /// The code as the platform spells it.
    pub fn as_str(&self) -> &str {
        match self {
            Code::Other(code) => code,
            named => named.info().spelling,
        }
    }

    /// Whether the platform's clients treat the code as worth another attempt.
    pub fn recoverable(&self) -> bool {
        self.info().recoverable
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
/// The message says what happened and, where the user can do something, what.
/// It never holds a secret: callers format URLs without credentials and never
/// put a header or a token in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("[{}:{code}] {message}", component.as_str())]
pub struct Error {
    pub code: Code,
    pub component: Component,
    pub message: String,
    /// Nothing listens at the address.
    pub is_refused_connection: bool,
    /// The HTTP status behind it, if there was one.
    pub http_status: Option<u16>,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// The operation that failed: `start_session`, `sdp_params`, `send_command`...
    pub operation: Option<&'static str>,
    /// Where it failed, if that is known.
    pub failure: Option<Failure>,
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
            is_refused_connection: false,
            http_status: None,
            retry_after: None,
            operation: None,
            failure: None,
        }
    }

    /// Names the operation that failed; the last one given counts.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Turns it into the error of a wrong setting, with its message.
    #[must_use]
    pub fn into_invalid_settings(mut self) -> Self {
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

    /// Whether the platform's clients treat the error as worth another attempt.
    pub fn recoverable(&self) -> bool {
        self.code.recoverable()
    }

    /// The class of the code, but for a server error with `Retry-After`: a
    /// server that says when to come back is full, not broken.
    pub fn class(&self) -> ErrorClass {
        match self.code {
            Code::ServerError if self.retry_after.is_some() => ErrorClass::Busy,
            _ => self.code.info().class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_code_has_one_spelling_and_a_meaning() {
        let codes = Code::all();
        for (n, code) in codes.iter().enumerate() {
            let sentence = code.meaning().trim_end_matches('.');
            assert!(sentence.len() + 1 == code.meaning().len(), "{code}");
            assert!(code.as_str().len() > 4 && sentence.len() > 4, "{code}");
            assert!(codes[n + 1..].iter().all(|c| c.as_str() != code.as_str()));
        }
        assert!(!Code::Other("CONFLICT".into()).recoverable());
    }

    #[test]
    fn mapping_of_sdks_names_existing_codes() {
        let mapping = include_str!("../../../docs/sdk-mapping.md");
        let (_, section) = mapping.split_once("## Error codes").unwrap();
        let codes = Code::all();
        let mut count = 0;
        for row in section.lines().filter(|row| row.starts_with("| `")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            for code in cells[2].split('`').skip(1).step_by(2) {
                assert!(codes.iter().any(|c| c.as_str() == code), "{code}");
                count += 1;
            }
        }
        assert!(count > 30, "{count}");
    }
}
