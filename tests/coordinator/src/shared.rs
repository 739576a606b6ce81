// SPDX-License-Identifier: MIT

//! What the two servers and the GPU's keeper share.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use anyhow::Result;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::Notify;

use crate::{
    ledger::End,
    log::Seen,
    refusal::Refusal,
    routes::Route,
    rules::Script,
    sessions::{Running, Session, Sessions},
    settings::{Settings, Waiting},
    tokens::{KEY_HEADER, Mint},
    upstream::{Answer, Upstream},
};

#[derive(Debug)]
pub struct Shared {
    pub settings: Settings,
    /// Where the storage server really listens.
    pub storage: SocketAddr,
    pub mint: Mint,
    pub upstream: Option<Upstream>,
    pub sessions: Mutex<Sessions>,
    pub waiting: Mutex<Waiting>,
    pub script: Mutex<Script<Route>>,
    pub log: Mutex<Vec<Seen>>,
    /// The runtime has a session of ours.
    pub busy: AtomicBool,
    /// A session came, went or was asked for.
    pub changed: Notify,
}

impl Shared {
    pub fn new(settings: Settings, storage: SocketAddr) -> Result<Self> {
        Ok(Self {
            storage,
            mint: Mint::new(&settings)?,
            upstream: settings.runtime.as_deref().map(Upstream::new).transpose()?,
            sessions: Mutex::default(),
            waiting: settings.waiting.into(),
            script: Mutex::default(),
            log: Mutex::default(),
            busy: AtomicBool::new(false),
            changed: Notify::new(),
            settings,
        })
    }

    /// Does something with a session that the request's token reaches.
    pub fn with_session<T>(
        &self,
        headers: &HeaderMap,
        id: &str,
        act: impl FnOnce(&mut Session) -> T,
    ) -> Result<T, Refusal> {
        let claims = self.mint.check(headers)?;
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(id);
        let session = session.ok_or_else(|| Refusal::not_found("no such session"))?;
        let reached =
            session.account == claims.sub && claims.reaches(id, session.model(), &session.creator);
        if !reached {
            return Err(Refusal::forbidden("the token does not reach this session"));
        }
        Ok(act(session))
    }

    /// Where a session runs: what needs its GPU asks this. 400 is what clients
    /// take for a lost session; what a waiting one answers is a guess.
    pub fn running(&self, headers: &HeaderMap, id: &str) -> Result<Running, Refusal> {
        self.with_session(headers, id, |session| match session.running() {
            Some(running) => Ok(running.clone()),
            None if session.is_over() => Err(Refusal::bad_request("the session is over")),
            None => Err(Refusal::new(StatusCode::CONFLICT, "the session is waiting")),
        })?
    }

    pub fn finish(&self, id: &str, end: End) -> bool {
        let finished = lock(&self.sessions).finish(id, end);
        self.changed.notify_one();
        finished
    }

    /// Hands a request to the runtime, which needs no secrets.
    pub async fn ask(
        &self,
        method: axum::http::Method,
        path: &str,
        headers: &HeaderMap,
        body: axum::body::Bytes,
    ) -> Result<Answer, Refusal> {
        let gone = || Refusal::new(StatusCode::BAD_GATEWAY, "the runtime does not answer");
        let upstream = self.upstream.as_ref().ok_or_else(gone)?;
        let mut headers = headers.clone();
        headers.remove(header::AUTHORIZATION);
        headers.remove(KEY_HEADER);
        let asked = upstream.ask(method, path, &headers, body);
        asked.await.map_err(|_| gone())
    }
}

/// A test that panicked does not stop the server.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
