// SPDX-License-Identifier: MIT

//! The real gst-launch-1.0, and files that it writes.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::{installed, pipeline::wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Where a test's processes leave what they write; `directory` is the test's
/// `env!("CARGO_TARGET_TMPDIR")`, `test` goes into the names.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub directory: &'static str,
    pub test: &'static str,
}

impl Place {
    pub fn path(self, name: &str) -> PathBuf {
        let name = format!("{}-{}-{name}", self.test, std::process::id());
        Path::new(self.directory).join(name)
    }

    pub fn scrap(self, name: &str) -> Scrap {
        Scrap(self.path(name))
    }
}

/// A gst-launch-1.0 that does not outlive its test.
#[derive(Debug)]
pub struct Launch {
    child: Child,
    log: PathBuf,
}

impl Launch {
    /// `name` is for the log file.
    pub fn new(
        place: Place,
        name: &str,
        options: &[&str],
        pipeline: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = place.path(&format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new("gst-launch-1.0")
            .args(options)
            .args(pipeline.split_whitespace())
            .env("GST_PLUGIN_PATH", installed::plugin_path(place.directory))
            .env("GST_REGISTRY", installed::registry(place.directory))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("gst-launch-1.0");
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    pub fn wait_for_output(&self, text: &str) {
        wait_until(text, SOON, || self.output().contains(text));
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        // SAFETY: the pid is that of our child, which is not reaped before drop.
        #[allow(unsafe_code)]
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        assert_eq!(result, 0, "kill");
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "still running after {limit:?}:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn assert_succeeds(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{status}:\n{}", self.output());
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// A file that is removed when the test has passed.
#[derive(Debug)]
pub struct Scrap(pub PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
