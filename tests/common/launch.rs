// SPDX-License-Identifier: MIT

//! The real gst-launch-1.0, and files that it writes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::Process;

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

    /// Starts gst-launch-1.0; `name` is for its log.
    pub fn launch(
        self,
        name: &str,
        options: &[&str],
        pipeline: &str,
        environment: &[(&str, &str)],
    ) -> Process {
        let mut command = Command::new("gst-launch-1.0");
        command
            .args(options)
            .args(pipeline.split_whitespace())
            .envs(environment.iter().copied());
        Process::start(self.directory, &format!("{}-{name}", self.test), command)
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
