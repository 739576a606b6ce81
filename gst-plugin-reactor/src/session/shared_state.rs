// SPDX-License-Identifier: MIT

//! The driver's state that elements may read: the open track senders, the
//! timings, the statistics, and whether the session is ending or closed. The driver's task
//! writes, any thread reads; no lock is held while anything else is done.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{bridge::TrackSenders, machine::Timings, statistics::ConnectionStatistics};
use crate::platform::lock;

#[derive(Debug, Default)]
pub(super) struct SharedState {
    pub(super) timings: Mutex<Timings>,
    /// Replaced about once a second.
    pub(super) statistics: Mutex<Arc<ConnectionStatistics>>,
    pub(super) track_senders: TrackSenders,
    /// Whether the server has transport-wide feedback for all received tracks;
    /// `None` before the answer, and if none is received.
    pub(super) has_receive_feedback: Mutex<Option<bool>>,
    /// Nothing more comes of the session. Not behind a lock: it is asked with locks held.
    ending: AtomicBool,
    closed: Mutex<bool>,
    /// Wakes the threads that wait for the end.
    closed_condvar: Condvar,
    /// Wakes the tasks that wait for the end.
    closed_notify: Notify,
}

impl SharedState {
    pub(super) fn set_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether the session is over: an element that joins needs another one.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(super) fn set_closed(&self) {
        *lock(&self.closed) = true;
        self.closed_condvar.notify_all();
        self.closed_notify.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        *lock(&self.closed)
    }

    pub(super) async fn closed(&self) {
        loop {
            let notified = self.closed_notify.notified();
            if self.is_closed() {
                return;
            }
            notified.await;
        }
    }

    /// Blocks until everything is closed, at most for `limit`; returns whether
    /// it is.
    pub(super) fn wait_closed(&self, limit: Duration) -> bool {
        let closed = lock(&self.closed);
        *closed.wait_while(&self.closed_condvar, limit, |closed| !*closed)
    }
}
