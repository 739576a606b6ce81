// SPDX-License-Identifier: MIT

//! The record of all sessions: account, times, and how each ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A session's state, as the platform names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SessionState {
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
pub enum SessionEnd {
    /// By `DELETE`.
    Deleted { reason: Option<String> },
    /// No connection came back within the resume window.
    Window,
    /// No connection ever came.
    Unclaimed,
    /// It reached its longest duration.
    Expired,
    /// The test ended it, in this state.
    Terminated(SessionState),
    /// The runtime or the model ended it, or the runtime refused to start it.
    Runtime(String),
}

impl SessionEnd {
    /// The state that a client is told. Which of the two the platform uses is not known; here a
    /// session that was ended on purpose is closed.
    pub fn state(&self) -> SessionState {
        match self {
            Self::Deleted { .. } | Self::Expired => SessionState::Closed,
            Self::Window | Self::Unclaimed | Self::Runtime(_) => SessionState::Inactive,
            Self::Terminated(state) => *state,
        }
    }

    /// The reason that the runtime sends to the clients that are still connected.
    pub(crate) fn notice(&self) -> Option<&str> {
        match self {
            Self::Deleted { reason } => reason.as_deref(),
            Self::Expired => Some("session expired"),
            Self::Terminated(_) => Some("session terminated"),
            Self::Window | Self::Unclaimed | Self::Runtime(_) => None,
        }
    }
}

/// One session in the ledger. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerEntry {
    pub session_id: String,
    pub model: String,
    /// The digest of the API key.
    pub account: String,
    /// The id (`jti`) of the token that created it.
    pub token: String,
    /// The client's description of itself.
    pub client_info: Value,
    pub extra_args: Option<Value>,
    pub created_ms: u64,
    /// When it got the GPU: from then on it is billed.
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub end: Option<SessionEnd>,
}

impl LedgerEntry {
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }
}
