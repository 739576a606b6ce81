// SPDX-License-Identifier: MIT

//! All sessions, including those that have ended.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    ledger::{LedgerEntry, SessionEnd, SessionState},
    settings::GpuWait,
    tokens,
};

const CLUSTER: &str = "local";

/// The body of `POST /sessions`. Unknown members are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct Create {
    pub model: Model,
    #[serde(default)]
    pub client_info: Value,
    pub supported_transports: Vec<Transport>,
    /// Older clients say `extra_configs`.
    #[serde(default, alias = "extra_configs")]
    pub extra_args: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Model {
    pub name: String,
    #[serde(default)]
    pub version: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Transport {
    pub protocol: String,
}

/// A session's counterpart on the runtime.
#[derive(Debug, Clone)]
pub struct Running {
    /// The id that the runtime gave it.
    pub runtime_id: String,
    pub capabilities: Value,
    pub selected_transport: Value,
    pub since: Instant,
    pub since_ms: u64,
}

#[derive(Debug)]
pub struct Session {
    pub id: String,
    pub wanted: Create,
    pub account: String,
    /// The id of the token that created it.
    pub creator: String,
    pub longest: Option<Duration>,
    created: Instant,
    created_ms: u64,
    /// How often a client was told to wait.
    answers: usize,
    running: Option<Running>,
    connections: HashSet<u64>,
    end: Option<(SessionEnd, u64)>,
}

impl Session {
    pub fn new(wanted: Create, account: &str, creator: &str, longest: Option<Duration>) -> Self {
        Self {
            // Lower case, which the runtime needs to name the recording so.
            id: Uuid::new_v4().to_string(),
            wanted,
            account: account.to_owned(),
            creator: creator.to_owned(),
            longest,
            created: Instant::now(),
            created_ms: now_ms(),
            answers: 0,
            running: None,
            connections: HashSet::new(),
            end: None,
        }
    }

    pub fn model(&self) -> &str {
        &self.wanted.model.name
    }

    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    pub fn end(&self) -> Option<&SessionEnd> {
        self.end.as_ref().map(|(end, _)| end)
    }

    /// Its counterpart on the runtime, unless it has ended.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref().filter(|_| self.end.is_none())
    }

    pub fn state(&self) -> SessionState {
        match (&self.end, &self.running, self.answers) {
            (Some((end, _)), ..) => end.state(),
            (None, Some(_), _) => SessionState::Active,
            (None, None, 0) => SessionState::Created,
            (None, None, 1) => SessionState::Pending,
            (None, None, _) => SessionState::Waiting,
        }
    }

    /// The reply to `GET /sessions/{id}`; counts the replies while the session waits.
    pub fn polled(&mut self) -> Value {
        if self.running.is_none() {
            self.answers += 1;
        }
        let mut json = self.slim();
        if let Some(running) = self.running() {
            json["selected_transport"] = running.selected_transport.clone();
            json["capabilities"] = running.capabilities.clone();
        }
        json
    }

    /// The description of a new session.
    pub fn slim(&self) -> Value {
        let mut model = Map::new();
        model.insert("name".into(), self.model().into());
        if let Some(version) = &self.wanted.model.version {
            model.insert("version".into(), version.as_str().into());
        }
        json!({
            "session_id": self.id,
            "state": self.state(),
            "cluster": CLUSTER,
            "model": model,
            "server_info": {"server_version": env!("CARGO_PKG_VERSION")},
        })
    }

    /// The reply to `GET /sessions/{id}/info`.
    pub fn info(&self) -> Value {
        json!({"session_id": self.id, "state": self.state(), "cluster": CLUSTER})
    }

    fn is_due(&self, waiting: GpuWait) -> bool {
        self.end.is_none()
            && self.running.is_none()
            && self.answers >= waiting.answers
            && self.created.elapsed() >= waiting.time
    }

    fn entry(&self) -> LedgerEntry {
        LedgerEntry {
            session_id: self.id.clone(),
            model: self.model().to_owned(),
            account: self.account.clone(),
            token: self.creator.clone(),
            client_info: self.wanted.client_info.clone(),
            extra_args: self.wanted.extra_args.clone(),
            created_ms: self.created_ms,
            started_ms: self.running.as_ref().map(|running| running.since_ms),
            ended_ms: self.end.as_ref().map(|(_, ms)| *ms),
            end: self.end().cloned(),
        }
    }
}

/// In the order in which they were created.
#[derive(Debug, Default)]
pub struct Sessions(Vec<Session>);

impl Sessions {
    pub fn add(&mut self, session: Session) {
        self.0.push(session);
    }

    pub fn get(&self, id: &str) -> Option<&Session> {
        self.0.iter().find(|session| session.id == id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Session> {
        self.0.iter_mut().find(|session| session.id == id)
    }

    /// The number of sessions that a token has created.
    pub fn created_by(&self, token: &str) -> usize {
        let by = |session: &&Session| session.creator == token;
        self.0.iter().filter(by).count()
    }

    /// The next session that may have the GPU, and the body of its start request.
    pub fn due(&self, waiting: GpuWait) -> Option<(String, Value)> {
        let session = self.0.iter().find(|session| session.is_due(waiting))?;
        let mut body = json!({"session_id": session.id});
        if let Some(arguments) = &session.wanted.extra_args {
            body["extra_args"] = arguments.clone();
        }
        Some((session.id.clone(), body))
    }

    pub fn grant(&mut self, id: &str, running: Running) {
        if let Some(session) = self.get_mut(id) {
            session.running = Some(running);
        }
    }

    pub fn register(&mut self, id: &str, connection: u64) {
        if let Some(session) = self.get_mut(id) {
            session.connections.insert(connection);
        }
    }

    pub fn has_connection(&self, id: &str, connection: u64) -> bool {
        let session = self.get(id);
        session.is_some_and(|session| session.connections.contains(&connection))
    }

    /// False if there is no such session, or it has ended.
    pub fn finish(&mut self, id: &str, end: SessionEnd) -> bool {
        match self.get_mut(id) {
            Some(session) if session.end.is_none() => {
                session.end = Some((end, now_ms()));
                true
            }
            _ => false,
        }
    }

    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.0.iter().map(Session::entry).collect()
    }
}

pub fn now_ms() -> u64 {
    u64::try_from(tokens::now().as_millis()).unwrap_or(u64::MAX)
}
