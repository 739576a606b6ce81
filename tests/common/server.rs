// SPDX-License-Identifier: MIT

//! A server of one test: the platform's local runtime with a model of `examples/models`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

pub use crate::server_process::{free_port, repository, serve_script};
use crate::{
    http, idle_servers,
    server_process::{Kind, ServerProcess},
};

/// A journal that says nothing for this time has been read.
const EVENTS_SILENCE: Duration = Duration::from_secs(1);

/// A server whose session has not ended after this time is not used again.
const END_LIMIT: Duration = Duration::from_secs(1);

const PLAIN: Kind = Kind {
    records: false,
    is_small: false,
};
const RECORDING: Kind = Kind {
    records: true,
    is_small: false,
};

#[derive(Debug)]
pub struct Server {
    /// `None` once it is another test's.
    process: Option<ServerProcess>,
    /// No test has changed its settings or sent it a signal.
    is_reusable: AtomicBool,
    pub port: u16,
}

impl Server {
    /// The playground with a picture of 320x180, without recordings. It may have served sessions of
    /// other tests; all have ended.
    pub fn playground() -> Self {
        Self::reusable(Kind {
            records: false,
            is_small: true,
        })
    }

    /// Likewise, with recordings: clips can be had of it.
    pub fn recording() -> Self {
        Self::reusable(Kind {
            records: true,
            is_small: true,
        })
    }

    /// With the playground's own size, without recordings.
    pub fn playground_640x360() -> Self {
        Self::reusable(PLAIN)
    }

    /// With the playground's own size and recordings: as one who types `serve.sh start` has it.
    pub fn recording_640x360() -> Self {
        Self::reusable(RECORDING)
    }

    fn reusable(kind: Kind) -> Self {
        let process = idle_servers::take(kind)
            .unwrap_or_else(|| ServerProcess::launch("127.0.0.1", kind, &[]));
        Self::new(process, true)
    }

    fn new(process: ServerProcess, is_reusable: bool) -> Self {
        Self {
            port: process.port,
            process: Some(process),
            is_reusable: AtomicBool::new(is_reusable),
        }
    }

    fn own(host: &str, kind: Kind, environment: &[(&str, &str)]) -> Self {
        Self::new(ServerProcess::launch(host, kind, environment), false)
    }

    /// A new process that serves the playground in its own size, without recordings, with these
    /// environment variables.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1", environment)
    }

    /// On this address of the machine.
    pub fn start_at(host: &str, environment: &[(&str, &str)]) -> Self {
        Self::own(host, PLAIN, environment)
    }

    /// Likewise, with recordings.
    pub fn start_recording(environment: &[(&str, &str)]) -> Self {
        Self::own("127.0.0.1", RECORDING, environment)
    }

    fn process(&self) -> &ServerProcess {
        self.process.as_ref().expect("a process until drop")
    }

    /// Its process, to change it: the next test gets another one.
    fn change(&mut self) -> &mut ServerProcess {
        *self.is_reusable.get_mut() = false;
        self.process.as_mut().expect("a process until drop")
    }

    /// Starts another server on the port of this one, which is dead. Does not wait until it is
    /// healthy: a client that is waiting for it may be quicker.
    pub fn start_again(&mut self) {
        self.change().start_again();
    }

    /// The next start serves this model of `tests/models`.
    pub fn serve_next(&mut self, model: &str) {
        self.change().serve_next(model);
    }

    pub fn kill(&mut self) {
        self.change().kill();
    }

    pub fn url(&self) -> String {
        self.process().url()
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Sends a signal to the server alone.
    pub fn signal(&self, signal: i32) {
        self.is_reusable.store(false, Ordering::Relaxed);
        self.process().signal(signal);
    }

    /// The session's state by `GET /session`.
    pub fn session_state(&self) -> String {
        self.process().session_state().expect("/session")
    }

    /// Waits until the session is in this state; panics after `limit`.
    pub fn wait_for_state(&self, state: &str, limit: Duration) {
        let now = self.process().state_within(state, limit).expect("/session");
        assert!(now == state, "the session is {now}, not {state}");
    }

    /// The facts in the server's journal (`GET /events`, server-sent events), which goes on. The server
    /// is one that the test has started: the journal of another has facts of other tests' sessions.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let is_reusable = self.is_reusable.load(Ordering::Relaxed);
        assert!(!is_reusable, "the journal needs a server of the test's own");
        let text = http::read_stream(&format!("{}/events?since=0", self.url()), EVENTS_SILENCE);
        let text = text.expect("/events");
        let facts = text.lines().filter_map(|line| line.strip_prefix("data:"));
        // The last line may not be complete.
        facts
            .filter_map(|fact| serde_json::from_str(fact).ok())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        if std::thread::panicking() || !*self.is_reusable.get_mut() {
            return;
        }
        // The session has ended, or ends soon.
        let state = process.state_within("ready", END_LIMIT);
        if state.is_ok_and(|state| state == "ready") {
            idle_servers::put(process);
        }
    }
}
