// SPDX-License-Identifier: MIT

//! A program under test, with what it says in a file.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{installed, pipeline::wait_until};

/// How long a program that is no longer wanted has to leave.
const GRACE: Duration = Duration::from_secs(15);

/// Does not outlive its test. The log is removed when the test has passed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// GStreamer's tools find the plugin. `name` is for the log, and may be used
    /// again; `scratch` is the caller's `env!("CARGO_TARGET_TMPDIR")`.
    pub fn start(scratch: &str, name: &str, mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}.log", std::process::id());
        let log = Path::new(scratch).join(name);
        let output = File::create(&log).expect("a log");
        let child = installed::equip(&mut command, scratch)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            // As a shell starts what is typed.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log")).into_owned()
    }

    pub fn wait_for_output(&mut self, text: &str, limit: Duration) {
        wait_until(text, limit, || {
            let ended = self.child.try_wait().expect("wait");
            let output = self.output();
            assert!(ended.is_none(), "{ended:?}:\n{output}");
            output.contains(text)
        });
    }

    /// To it alone, as `kill` does.
    pub fn signal(&self, signal: i32) {
        self.send(self.child.id().cast_signed(), signal);
    }

    /// What Ctrl-C in a terminal does: to it and all that are in its group.
    pub fn interrupt_group(&self) {
        self.send(-self.child.id().cast_signed(), libc::SIGINT);
    }

    /// The process of this name that it has started.
    pub fn started(&self, name: &str) -> i32 {
        let output = Command::new("pgrep")
            .args(["--parent", &self.child.id().to_string(), name])
            .output()
            .expect("pgrep");
        let pids = String::from_utf8_lossy(&output.stdout);
        pids.trim().parse().expect("one process")
    }

    fn send(&self, pid: i32, signal: i32) {
        // SAFETY: plain numbers; the child is not reaped before drop, so the
        // number is its own, and its group's.
        #[allow(unsafe_code)]
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "kill");
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = self.ended(limit);
        status.unwrap_or_else(|| panic!("still running after {limit:?}:\n{}", self.output()))
    }

    fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn assert_succeeds(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{status}:\n{}", self.output());
        assert!(!self.output().contains("CRITICAL"), "{}", self.output());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A script takes what it started with it, but not if it is killed.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(libc::SIGTERM);
            self.ended(GRACE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}
