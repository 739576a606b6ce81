// SPDX-License-Identifier: MIT

//! The platform's local runtime serving a model of `examples/models`, as a child process of the
//! test.

use std::{
    fs::File,
    io::{Read, Seek},
    mem,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{http, idle_servers, process::send_signal};

/// Generous: the machine may be busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A journal that says nothing for this time has been read.
const EVENTS_SILENCE: Duration = Duration::from_secs(1);

/// A server whose session has not ended after this time is not used again.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How many of the last lines of a server's log a failed test prints.
const LOG_LINES: usize = 60;

#[derive(Debug)]
pub struct Server {
    command: Command,
    /// `None` once it is another test's.
    child: Option<Child>,
    /// No test has changed its settings or sent it a signal.
    is_reusable: AtomicBool,
    records: bool,
    /// Without a name; `None` if the server logs to standard error.
    log: Option<File>,
    host: String,
    pub port: u16,
}

impl Server {
    /// The playground with its default settings, but without recordings, which take a quarter of a
    /// server's processor time. It may have served sessions of other tests; all have ended.
    pub fn playground() -> Self {
        Self::reusable(false)
    }

    /// Likewise, with recordings: clips can be had of it.
    pub fn recording() -> Self {
        Self::reusable(true)
    }

    fn reusable(records: bool) -> Self {
        idle_servers::take(records).unwrap_or_else(|| {
            let mut server = Self::launch("127.0.0.1", records, &[]);
            *server.is_reusable.get_mut() = true;
            server
        })
    }

    /// A new process that serves the playground, without recordings, with these environment
    /// variables.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1", environment)
    }

    /// On this address of the machine.
    pub fn start_at(host: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch(host, false, environment)
    }

    /// Likewise, with recordings.
    pub fn start_recording(environment: &[(&str, &str)]) -> Self {
        Self::launch("127.0.0.1", true, environment)
    }

    fn launch(host: &str, records: bool, environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(serve_script());
        command
            .args(["run", "--host", host, "--port", &port.to_string()])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if !records {
            command.args(["--model", &test_model("unrecorded")]);
        }
        let mut log = None;
        if std::env::var_os("REACTOR_TEST_SERVER_LOG").is_none() {
            let file = tempfile::tempfile().expect("a temporary file");
            command.stderr(file.try_clone().expect("another descriptor of it"));
            log = Some(file);
        }
        let mut server = Self {
            child: Some(command.spawn().expect("the serve script runs")),
            is_reusable: AtomicBool::new(false),
            records,
            command,
            log,
            host: host.to_owned(),
            port,
        };
        server.raise_priority();
        server.wait_until_healthy();
        server
    }

    /// Starts another server on the port of this one, which is dead. Does not wait until it is
    /// healthy: a client that is waiting for it may be quicker.
    pub fn start_again(&mut self) {
        self.child = Some(self.command.spawn().expect("the serve script runs"));
        self.raise_priority();
    }

    /// The next start serves this model of `tests/models`.
    pub fn serve_next(&mut self, model: &str) {
        *self.is_reusable.get_mut() = false;
        self.command.args(["--model", &test_model(model)]);
    }

    pub(crate) fn records(&self) -> bool {
        self.records
    }

    pub fn kill(&mut self) {
        *self.is_reusable.get_mut() = false;
        if let Some(child) = &mut self.child {
            // SIGKILL ends a stopped process, too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A server that waits for a processor drops pictures before it encodes them, which is not what
    /// is tested. Where it is permitted, it gets priority over other processes, three times their
    /// share: with more, three servers leave two processors nothing for the clients.
    fn raise_priority(&self) {
        // SAFETY: plain numbers; a refusal changes nothing.
        #[allow(unsafe_code)]
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, self.pid(), -5) };
    }

    fn wait_until_healthy(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let health = http::get(&format!("{}/health", self.url()));
            if health.is_ok_and(|reply| reply.body.contains("\"available\"")) {
                return;
            }
            let child = self.child.as_mut().expect("a process");
            let ended = child.try_wait().expect("wait");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(Instant::now() < deadline, "the server does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn url(&self) -> String {
        match self.host.contains(':') {
            true => format!("http://[{}]:{}", self.host, self.port),
            false => format!("http://{}:{}", self.host, self.port),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a process").id()
    }

    /// Sends a signal to the server alone.
    pub fn signal(&self, signal: i32) {
        self.is_reusable.store(false, Ordering::Relaxed);
        // The child is not reaped before drop.
        send_signal(self.pid().cast_signed(), signal);
    }

    /// The session's state by `GET /session`.
    pub fn session_state(&self) -> String {
        self.try_session_state().expect("/session")
    }

    fn try_session_state(&self) -> anyhow::Result<String> {
        let reply = http::get(&format!("{}/session", self.url()))?;
        let json: serde_json::Value = serde_json::from_str(&reply.body)?;
        Ok(json["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Its session has ended, or ends soon, and nothing else was done to it.
    fn can_serve_another_test(&mut self) -> bool {
        if std::thread::panicking() || !*self.is_reusable.get_mut() {
            return false;
        }
        let state = self.state_within("ready", END_LIMIT);
        state.is_ok_and(|state| state == "ready")
    }

    /// This server, of which nothing is left here.
    fn take(&mut self) -> Self {
        Self {
            command: mem::replace(&mut self.command, Command::new("")),
            child: self.child.take(),
            is_reusable: AtomicBool::new(true),
            records: self.records,
            log: self.log.take(),
            host: mem::take(&mut self.host),
            port: self.port,
        }
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

    /// Prints the end of the log: why a test failed may be in it.
    fn print_log(&mut self) {
        let Some(log) = &mut self.log else {
            return;
        };
        let mut bytes = Vec::new();
        if log.rewind().is_ok() && log.read_to_end(&mut bytes).is_ok() {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            println!("the server's log ends:\n{}", last.join("\n"));
        }
    }

    /// Waits until the session is in this state; panics after `limit`.
    pub fn wait_for_state(&self, state: &str, limit: Duration) {
        let now = self.state_within(state, limit).expect("/session");
        assert!(now == state, "the session is {now}, not {state}");
    }

    /// Waits until the session is in this state; returns the state that it is in after `limit`.
    fn state_within(&self, state: &str, limit: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let now = self.try_session_state()?;
            if now == state || Instant::now() >= deadline {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() && self.can_serve_another_test() {
            return idle_servers::put(self.take());
        }
        self.kill();
        if std::thread::panicking() {
            self.print_log();
        }
    }
}

/// A model of `tests/models`, for the serve script.
fn test_model(name: &str) -> String {
    format!("../../tests/models/{name}")
}

/// The script that serves the models.
pub fn serve_script() -> PathBuf {
    std::env::var_os("REACTOR_SERVE").map_or_else(
        || repository().join("examples/models/serve.sh"),
        PathBuf::from,
    )
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("address").port()
}
