// SPDX-License-Identifier: MIT

//! The coordinator as a test has it.

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
    ledger::{End, Entry, State},
    log::Seen,
    routes::{self, Route},
    rules::Rule,
    settings::{Settings, Waiting},
    shared::{Shared, lock},
    socket::Socket,
    storage,
};

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Coordinator {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Coordinator {
    pub fn start(settings: Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("coordinator")
            .enable_all()
            .build()?;
        let api = bind(&runtime, settings.listen)?;
        let store = bind(&runtime, settings.storage)?;
        let address = api.local_addr()?;
        let shared = Arc::new(Shared::new(settings, store.local_addr()?)?);
        serve(&runtime, api, routes::api(&shared));
        serve(&runtime, store, storage::router(&shared));
        runtime.spawn(gpu::run(shared.clone()));
        Ok(Self {
            shared,
            runtime: Some(runtime),
            address,
        })
    }

    /// What a client takes for the API's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where presigned URLs lead.
    pub fn storage_url(&self) -> String {
        format!("http://{}", self.shared.storage)
    }

    /// What becomes of such requests from now on.
    pub fn rule(&self, route: Route, rule: Rule) {
        lock(&self.shared.script).rule(route, rule);
    }

    /// What becomes of the next so many, after those already announced.
    pub fn next(&self, route: Route, times: usize, rule: Rule) {
        lock(&self.shared.script).next(route, times, rule);
    }

    /// How long sessions wait from now on, those that wait already included.
    pub fn set_waiting(&self, waiting: Waiting) {
        *lock(&self.shared.waiting) = waiting;
        self.shared.changed.notify_one();
    }

    /// Ends a session in this state, as the platform may at any time. False if
    /// there is none, or it is over.
    pub fn end_session(&self, id: &str, state: State) -> bool {
        self.shared.finish(id, End::Terminated(state))
    }

    /// Ends all sessions and waits, at most so long, until the runtime has none
    /// of ours: it would keep the last one for its own window.
    pub fn end_all(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            for entry in self.open_sessions() {
                self.end_session(&entry.session_id, State::Closed);
            }
            if !self.shared.busy.load(Ordering::Acquire) || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every token of before is refused from now on.
    pub fn withdraw_tokens(&self) {
        self.shared.mint.withdraw_all();
    }

    /// Every session there ever was, in order.
    pub fn ledger(&self) -> Vec<Entry> {
        lock(&self.shared.sessions).ledger()
    }

    /// Those that are not over: what somebody pays for, or waits for.
    pub fn open_sessions(&self) -> Vec<Entry> {
        let mut ledger = self.ledger();
        ledger.retain(Entry::is_open);
        ledger
    }

    /// Every request there ever was, in order.
    pub fn log(&self) -> Vec<Seen> {
        lock(&self.shared.log).clone()
    }

    pub fn requests(&self, route: Route) -> Vec<Seen> {
        let mut log = self.log();
        log.retain(|seen| seen.route == route);
        log
    }

    pub fn count(&self, route: Route) -> usize {
        self.requests(route).len()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // Requests that hang are not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Also for a caller that is on a runtime of its own.
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
