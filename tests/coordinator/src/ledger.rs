// SPDX-License-Identifier: MIT

//! Who had which session, from when to when, and how it ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A session's state, in the platform's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Created,
    Pending,
    Waiting,
    Active,
    Inactive,
    Closed,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By `DELETE`.
    Deleted { reason: Option<String> },
    /// No connection came back within the resume window.
    Window,
    /// No connection ever came.
    Unclaimed,
    /// It lasted as long as it was allowed to.
    Expired,
    /// By order of the test, in this state.
    Terminated(State),
    /// By the runtime or the model, or the runtime refused to begin.
    Runtime(String),
}

impl End {
    /// What a client is told. Which of the two the platform uses for what is
    /// not known; here a session that somebody ended on purpose is closed.
    pub fn state(&self) -> State {
        match self {
            Self::Deleted { .. } | Self::Expired => State::Closed,
            Self::Window | Self::Unclaimed | Self::Runtime(_) => State::Inactive,
            Self::Terminated(state) => *state,
        }
    }

    /// What the runtime is to tell the clients that are still connected.
    pub(crate) fn notice(&self) -> Option<&str> {
        match self {
            Self::Deleted { reason } => reason.as_deref(),
            Self::Expired => Some("session expired"),
            Self::Terminated(_) => Some("session terminated"),
            Self::Window | Self::Unclaimed | Self::Runtime(_) => None,
        }
    }
}

/// One session in the ledger. Times are in milliseconds of Unix time.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub session_id: String,
    pub model: String,
    /// The digest of the API key.
    pub account: String,
    /// The id (`jti`) of the token that created it.
    pub token: String,
    /// What the client says of itself.
    pub client_info: Value,
    pub extra_args: Option<Value>,
    pub created_ms: u64,
    /// From when on it had the GPU, and cost money.
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub end: Option<End>,
}

impl Entry {
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }
}
