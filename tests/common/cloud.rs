// SPDX-License-Identifier: MIT

//! The stand-in coordinator in front of the real local runtime.

use std::time::Duration;

use reactor_coordinator::{Coordinator, CoordinatorSettings, LedgerEntry};

use crate::{pipeline::wait_until, server::Server};

/// An API key that the coordinator takes.
pub const KEY: &str = "rk_test";

/// A coordinator with this runtime behind it.
pub fn start_coordinator(server: &Server, settings: CoordinatorSettings) -> Coordinator {
    start_coordinator_before(server.url(), settings)
}

/// A coordinator with the runtime at this URL behind it.
pub fn start_coordinator_before(runtime: String, settings: CoordinatorSettings) -> Coordinator {
    Coordinator::start(CoordinatorSettings {
        runtime: Some(runtime),
        ..settings
    })
    .expect("a coordinator")
}

/// Waits until no session is open; returns all sessions that there were.
pub fn wait_closed(coordinator: &Coordinator, limit: Duration) -> Vec<LedgerEntry> {
    wait_until("the ledger is empty", limit, || {
        coordinator.open_sessions().is_empty()
    });
    coordinator.ledger()
}
