// SPDX-License-Identifier: MIT

//! The coordinator as a test controls it.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::Router;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    gpu,
    ledger::{LedgerEntry, SessionEnd, SessionState},
    log::RecordedRequest,
    routes::{self, ApiRoute},
    rules::Rule,
    settings::{CoordinatorSettings, GpuWait},
    shared::{CoordinatorState, lock},
    socket::Socket,
    storage,
};

/// Serves until it is dropped. Owns the threads of its two HTTP servers.
#[derive(Debug)]
pub struct Coordinator {
    shared: Arc<CoordinatorState>,
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Coordinator {
    pub fn start(settings: CoordinatorSettings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("coordinator")
            .enable_all()
            .build()?;
        let api = bind(&runtime, settings.listen)?;
        let store = bind(&runtime, settings.storage)?;
        let address = api.local_addr()?;
        let shared = Arc::new(CoordinatorState::new(settings, store.local_addr()?)?);
        serve(&runtime, api, routes::api(&shared));
        serve(&runtime, store, storage::router(&shared));
        runtime.spawn(gpu::run(shared.clone()));
        Ok(Self {
            shared,
            runtime: Some(runtime),
            address,
        })
    }

    /// The base URL of the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of presigned URLs.
    pub fn storage_url(&self) -> String {
        format!("http://{}", self.shared.storage)
    }

    /// Applies to all requests of this route from now on.
    pub fn rule(&self, route: ApiRoute, rule: Rule) {
        lock(&self.shared.script).rule(route, rule);
    }

    /// Applies to the next `times` requests of this route, after those of earlier calls.
    pub fn next(&self, route: ApiRoute, times: usize, rule: Rule) {
        lock(&self.shared.script).next(route, times, rule);
    }

    /// How long sessions wait for the GPU from now on; holds for waiting sessions as well.
    pub fn set_waiting(&self, waiting: GpuWait) {
        *lock(&self.shared.waiting) = waiting;
        self.shared.changed.notify_one();
    }

    /// Ends a session in this state, as the platform may at any time. False if there is no such
    /// session, or it has ended.
    pub fn end_session(&self, id: &str, state: SessionState) -> bool {
        self.shared.finish(id, SessionEnd::Terminated(state))
    }

    /// Ends all sessions and waits until the runtime has released the last one, at most for
    /// `limit`: the runtime would keep it for its own window.
    pub fn end_all(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            for entry in self.open_sessions() {
                self.end_session(&entry.session_id, SessionState::Closed);
            }
            if !self.shared.busy.load(Ordering::Acquire) || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Refuses every token issued so far.
    pub fn withdraw_tokens(&self) {
        self.shared.mint.withdraw_all();
    }

    /// All sessions, in the order of their creation.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        lock(&self.shared.sessions).ledger()
    }

    /// The sessions that have not ended: they are paid for, or wait for the GPU.
    pub fn open_sessions(&self) -> Vec<LedgerEntry> {
        let mut ledger = self.ledger();
        ledger.retain(LedgerEntry::is_open);
        ledger
    }

    /// All requests, in order of arrival.
    pub fn log(&self) -> Vec<RecordedRequest> {
        lock(&self.shared.log).clone()
    }

    pub fn requests(&self, route: ApiRoute) -> Vec<RecordedRequest> {
        let mut log = self.log();
        log.retain(|seen| seen.route == route);
        log
    }

    pub fn count(&self, route: ApiRoute) -> usize {
        self.requests(route).len()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // Does not wait for requests that hang.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Works for a caller on a tokio runtime of its own as well.
fn bind(runtime: &Runtime, address: SocketAddr) -> Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address);
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    Ok(TcpListener::from_std(listener)?)
}

fn serve(runtime: &Runtime, listener: TcpListener, router: Router) {
    let service = router.into_make_service_with_connect_info::<Socket>();
    runtime.spawn(async move { axum::serve(listener, service).await });
}
