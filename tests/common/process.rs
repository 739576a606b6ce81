// SPDX-License-Identifier: MIT

//! A program under test as a child process, with its output in a file.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{pipeline::wait_until, plugin_environment, scratch};

/// The time that a program has to end after SIGTERM when its test is over.
const GRACE: Duration = Duration::from_secs(15);

/// Does not outlive its test. The log is removed when the test has passed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that reads no input. GStreamer's tools find the plugin. `name` is a part
    /// of the log's name, and may be used again.
    pub fn start(name: &str, command: Command) -> Self {
        Self::spawn(name, command, Stdio::null())
    }

    /// Starts a program whose standard input stays open until [`Self::close_stdin`].
    pub fn start_with_stdin(name: &str, command: Command) -> Self {
        Self::spawn(name, command, Stdio::piped())
    }

    /// Starts the real gst-launch-1.0.
    pub fn gst_launch(
        name: &str,
        options: &[&str],
        pipeline: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("gst-launch-1.0");
        command
            .args(options)
            .args(pipeline.split_whitespace())
            .envs(environment.iter().copied());
        Self::start(name, command)
    }

    fn spawn(name: &str, mut command: Command, stdin: Stdio) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = scratch::path(&format!("{name}-{count}.log"));
        let output = File::create(&log).expect("a log");
        let child = plugin_environment::set(&mut command)
            .stdin(stdin)
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

    /// Standard output and standard error so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("the log")).into_owned()
    }

    /// What was added since the output had this length in bytes.
    pub fn output_since(&self, length: u64) -> Vec<u8> {
        let mut log = File::open(&self.log).expect("the log");
        let mut added = Vec::new();
        log.seek(SeekFrom::Start(length)).expect("a place in it");
        log.read_to_end(&mut added).expect("the log");
        added
    }

    pub fn wait_for_output(&mut self, text: &str, limit: Duration) {
        wait_until(text, limit, || {
            let ended = self.child.try_wait().expect("wait");
            let output = self.output();
            let is_there = output.contains(text);
            assert!(is_there || ended.is_none(), "{ended:?}:\n{output}");
            is_there
        });
    }

    /// Writes to the standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("the input is open");
        stdin.write_all(text.as_bytes()).unwrap();
    }

    /// Ends the standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Signals this process alone, as `kill` does.
    pub fn signal(&self, signal: i32) {
        send_signal(self.child.id().cast_signed(), signal);
    }

    /// What Ctrl-C in a terminal does: SIGINT to all processes of its group.
    pub fn interrupt_group(&self) {
        send_signal(-self.child.id().cast_signed(), libc::SIGINT);
    }

    /// The id of its child process of this name.
    pub fn child_pid(&self, name: &str) -> i32 {
        let output = Command::new("pgrep")
            .args(["--parent", &self.child.id().to_string(), name])
            .output()
            .expect("pgrep");
        let pids = String::from_utf8_lossy(&output.stdout);
        pids.trim().parse().expect("one process")
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = self.wait_ended(limit);
        status.unwrap_or_else(|| panic!("still running after {limit:?}:\n{}", self.output()))
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    pub fn ends_within(&mut self, limit: Duration) -> bool {
        self.wait_ended(limit).is_some()
    }

    fn wait_ended(&mut self, limit: Duration) -> Option<ExitStatus> {
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
        // A script ends its own children on SIGTERM, but cannot on SIGKILL.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(libc::SIGTERM);
            self.wait_ended(GRACE);
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

/// Sends a signal to a process that is not reaped before its handle is dropped, so that the id is
/// its own; a negative id is that of a process group.
pub fn send_signal(pid: i32, signal: i32) {
    // SAFETY: plain numbers.
    #[allow(unsafe_code)]
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "kill");
}

/// Runs a test again in a process of its own, for changes or handlers that hold for the whole
/// process. `test` is its path within the binary, as in `peer_servers::NAME`. Returns whether this
/// is that process; the other one has nothing left to do.
pub fn in_own_process(test: &str) -> bool {
    in_own_process_with(test, Vec::new)
}

/// The same, with an environment that is prepared in the first process only.
pub fn in_own_process_with(
    test: &str,
    environment: impl FnOnce() -> Vec<(&'static str, String)>,
) -> bool {
    const MARK: &str = "REACTOR_TEST_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .envs(environment())
        .output()
        .unwrap();
    let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
    assert!(status.success(), "{status}: {said}");
    // A wrong path would run no test, and succeed.
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test");
    assert!(ran, "there is no test {test}");
    false
}
