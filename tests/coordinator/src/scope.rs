// SPDX-License-Identifier: MIT

//! What a token may do: the `authorization_details` of `POST /tokens`.

use serde::{Deserialize, Serialize};

const MAX_SESSION_SECONDS: u64 = 24 * 3600;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    #[serde(rename = "type")]
    kind: String,
    resources: Resources,
    #[serde(default)]
    constraints: Constraints,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    models: Models,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions: Option<Bound>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Models {
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    bind: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_sessions: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_session_duration_seconds: Option<u64>,
}

impl Detail {
    /// Describes the first error, if there is one.
    pub fn complaint(&self) -> Option<String> {
        if self.kind != "session" {
            return Some(format!("no such type: {}", self.kind));
        }
        let models = &self.resources.models;
        match (&models.names, models.all) {
            (Some(names), None) if !names.is_empty() => {}
            (None, Some(true)) => {}
            _ => return Some("models: either match, with names, or all".into()),
        }
        if self.bound().is_some_and(<[String]>::is_empty) {
            return Some("sessions.bind: no ids".into());
        }
        let constraints = &self.constraints;
        if constraints.max_sessions == Some(0) {
            return Some("max_sessions: at least 1".into());
        }
        // Refused and not clamped, unlike the token's own lifetime.
        let seconds = constraints.max_session_duration_seconds;
        if seconds.is_some_and(|seconds| !(1..=MAX_SESSION_SECONDS).contains(&seconds)) {
            return Some(format!(
                "max_session_duration_seconds: 1 to {MAX_SESSION_SECONDS}"
            ));
        }
        None
    }

    /// The sessions that the token is bound to, if any.
    pub fn bound(&self) -> Option<&[String]> {
        let sessions = self.resources.sessions.as_ref();
        sessions.map(|sessions| sessions.bind.as_slice())
    }

    /// Whether it allows another session of this model after `created` sessions.
    pub fn allows_creation(&self, model: &str, created: usize) -> bool {
        let held = created + self.bound().map_or(0, <[String]>::len);
        match self.constraints.max_sessions {
            Some(most) if held >= most => return false,
            // The scope of a mere `bind`: all models, and no session of its own.
            None if self.bound().is_some() && self.resources.models.all.is_some() => return false,
            _ => {}
        }
        self.reaches_model(model)
    }

    pub fn reaches_model(&self, model: &str) -> bool {
        let names = &self.resources.models.names;
        names
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == model))
    }

    pub fn max_session_seconds(&self) -> Option<u64> {
        self.constraints.max_session_duration_seconds
    }
}
