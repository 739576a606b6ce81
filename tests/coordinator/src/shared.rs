// SPDX-License-Identifier: MIT

//! The state that the two servers and the GPU task share.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use anyhow::Result;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::Notify;

use crate::{
    ledger::SessionEnd,
    log::RecordedRequest,
    refusal::ApiError,
    routes::ApiRoute,
    rules::Script,
    sessions::{Running, Session, Sessions},
    settings::{CoordinatorSettings, GpuWait},
    tokens::{KEY_HEADER, TokenIssuer},
    upstream::{Upstream, UpstreamReply},
};

#[derive(Debug)]
pub struct CoordinatorState {
    pub settings: CoordinatorSettings,
    /// The address that the storage server listens on.
    pub storage: SocketAddr,
    pub mint: TokenIssuer,
    pub upstream: Option<Upstream>,
    pub sessions: Mutex<Sessions>,
    pub waiting: Mutex<GpuWait>,
    pub script: Mutex<Script<ApiRoute>>,
    pub log: Mutex<Vec<RecordedRequest>>,
    /// The runtime runs a session of this coordinator.
    pub busy: AtomicBool,
    /// A session was created, ended or asked for.
    pub changed: Notify,
}

impl CoordinatorState {
    pub fn new(settings: CoordinatorSettings, storage: SocketAddr) -> Result<Self> {
        Ok(Self {
            storage,
            mint: TokenIssuer::new(&settings)?,
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

    /// Calls a function with a session that the request's token may access.
    pub fn with_session<T>(
        &self,
        headers: &HeaderMap,
        id: &str,
        act: impl FnOnce(&mut Session) -> T,
    ) -> Result<T, ApiError> {
        let claims = self.mint.check(headers)?;
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(id);
        let session = session.ok_or_else(|| ApiError::not_found("no such session"))?;
        let reached =
            session.account == claims.sub && claims.reaches(id, session.model(), &session.creator);
        if !reached {
            return Err(ApiError::forbidden("the token does not reach this session"));
        }
        Ok(act(session))
    }

    /// The session's counterpart on the runtime, for requests that need the GPU. 400 is what
    /// clients take for a lost session; the reply for a waiting session is a guess.
    pub fn running(&self, headers: &HeaderMap, id: &str) -> Result<Running, ApiError> {
        self.with_session(headers, id, |session| match session.running() {
            Some(running) => Ok(running.clone()),
            None if session.is_over() => Err(ApiError::bad_request("the session is over")),
            None => Err(ApiError::new(
                StatusCode::CONFLICT,
                "the session is waiting",
            )),
        })?
    }

    pub fn finish(&self, id: &str, end: SessionEnd) -> bool {
        let finished = lock(&self.sessions).finish(id, end);
        self.changed.notify_one();
        finished
    }

    /// Forwards a request to the runtime, without secrets.
    pub async fn ask(
        &self,
        method: axum::http::Method,
        path: &str,
        headers: &HeaderMap,
        body: axum::body::Bytes,
    ) -> Result<UpstreamReply, ApiError> {
        let gone = || ApiError::new(StatusCode::BAD_GATEWAY, "the runtime does not answer");
        let upstream = self.upstream.as_ref().ok_or_else(gone)?;
        let mut headers = headers.clone();
        headers.remove(header::AUTHORIZATION);
        headers.remove(KEY_HEADER);
        let asked = upstream.ask(method, path, &headers, body);
        asked.await.map_err(|_| gone())
    }
}

/// Ignores poisoning: a test that panicked does not stop the server.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
