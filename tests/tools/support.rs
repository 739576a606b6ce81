// SPDX-License-Identifier: MIT

//! The scripts of `pipelines` as commands, and where they write.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use reactor_tests::{
    scratch,
    server::{Server, repository},
};

/// What gst-launch-1.0 prints once the model is there.
pub(crate) const CONNECTED: &str = "Connected to the model";

/// A script of `pipelines`, without the user's key.
pub(crate) fn script(name: &str) -> Command {
    let mut command = Command::new(repository().join("pipelines").join(name));
    command.env_remove("REACTOR_API_KEY");
    command.env_remove("REACTOR_JWT");
    command
}

/// A script with the local runtime as its model.
pub(crate) fn local_model(name: &str, server: &Server, options: &[&str]) -> Command {
    let mut command = script(name);
    command.args(["--local", "--api-url", &server.url()]);
    command.args(options);
    command
}

/// This with the script's argument.
pub(crate) fn local(name: &str, server: &Server, options: &[&str], target: &Path) -> Command {
    let mut command = local_model(name, server, options);
    command.arg(target);
    command
}

/// An empty directory that is removed when the test has passed. Its name contains characters that
/// are special to shells, gst-launch-1.0 and printf.
#[derive(Debug)]
pub(crate) struct TempDirectory(pub(crate) PathBuf);

impl TempDirectory {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name} {} \"it's\" 100%d \\ ! $x", std::process::id());
        let path = scratch::directory().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// All its files, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
