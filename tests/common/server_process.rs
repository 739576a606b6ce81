// SPDX-License-Identifier: MIT

//! The platform's local runtime serving a model of `examples/models`, as a child process.

use std::{
    fs::File,
    io::{Read, Seek},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{http, process::send_signal};

/// Generous: the machine may be busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many of the last lines of a server's log a failed test prints.
const LOG_LINES: usize = 60;

/// While one source plays this, a server takes 0.21 of a processor; the playground's default of
/// 640x360 takes 0.32 (without recordings, on an idle machine).
const SMALL: [(&str, &str); 2] = [("PLAYGROUND_WIDTH", "320"), ("PLAYGROUND_HEIGHT", "180")];

/// What servers differ in that tests share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Recordings take a quarter of a server's processor time.
    pub(crate) records: bool,
    /// The picture is [`SMALL`], not the playground's default of 640x360.
    pub(crate) is_small: bool,
}

/// Ends with its drop.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    command: Command,
    child: Child,
    pub(crate) kind: Kind,
    /// Without a name; `None` if the server logs to standard error.
    log: Option<File>,
    host: String,
    pub(crate) port: u16,
}

impl ServerProcess {
    pub(crate) fn launch(host: &str, kind: Kind, environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(serve_script());
        command
            .args(["run", "--host", host, "--port", &port.to_string()])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if kind.is_small {
            command.envs(SMALL);
        }
        if !kind.records {
            command.args(["--model", &test_model("unrecorded")]);
        }
        let mut log = None;
        if std::env::var_os("REACTOR_TEST_SERVER_LOG").is_none() {
            let file = tempfile::tempfile().expect("a temporary file");
            command.stderr(file.try_clone().expect("another descriptor of it"));
            log = Some(file);
        }
        let mut server = Self {
            child: command.spawn().expect("the serve script runs"),
            kind,
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
    pub(crate) fn start_again(&mut self) {
        self.child = self.command.spawn().expect("the serve script runs");
        self.raise_priority();
    }

    /// The next start serves this model of `tests/models`.
    pub(crate) fn serve_next(&mut self, model: &str) {
        self.command.args(["--model", &test_model(model)]);
    }

    pub(crate) fn kill(&mut self) {
        // SIGKILL ends a stopped process, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(Instant::now() < deadline, "the server does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn url(&self) -> String {
        match self.host.contains(':') {
            true => format!("http://[{}]:{}", self.host, self.port),
            false => format!("http://{}:{}", self.host, self.port),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        // The child is not reaped before drop.
        send_signal(self.pid().cast_signed(), signal);
    }

    /// The session's state by `GET /session`.
    pub(crate) fn session_state(&self) -> anyhow::Result<String> {
        let reply = http::get(&format!("{}/session", self.url()))?;
        let json: serde_json::Value = serde_json::from_str(&reply.body)?;
        Ok(json["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the session is in this state; returns the state that it is in after `limit`.
    pub(crate) fn state_within(&self, state: &str, limit: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let now = self.session_state()?;
            if now == state || Instant::now() >= deadline {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
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
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
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
