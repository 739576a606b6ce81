// SPDX-License-Identifier: MIT

//! The official client (`reactor-sdk`): commands to the model on a second connection, sessions with
//! a coordinator, downloads of clips.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use reactor_coordinator::Coordinator;
use serde_json::Value;

use crate::server::{Server, repository, serve_script};

/// Sends commands, each a name and JSON data, to the running session. Panics if the model refuses
/// one.
pub fn send_commands(server: &Server, commands: &[(&str, &str)]) {
    let output = Command::new(python())
        .arg(repository().join("tests/programs/command.py"))
        .arg(server.url())
        .args(commands.iter().flat_map(|(name, data)| [name, data]))
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands:?}: {error}");
}

/// Runs `tests/programs/cloud_client.py`; returns the JSON that it prints.
pub fn use_cloud(coordinator: &Coordinator, api_key: &str, flags: &[&str]) -> Value {
    let output = Command::new(python())
        .arg(repository().join("tests/programs/cloud_client.py"))
        .args([&coordinator.url(), api_key])
        .args(flags)
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Downloads a clip with `tests/programs/download.py`; returns the JSON that it prints.
pub fn download_clip(playlist_url: &str, file: &Path) -> Value {
    let output = Command::new(python())
        .arg(repository().join("tests/programs/download.py"))
        .arg(playlist_url)
        .arg(file)
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The Python interpreter of the environment with the official client.
pub fn python() -> PathBuf {
    let output = Command::new(serve_script())
        .args(["python", "--bench"])
        .output()
        .expect("the serve script runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "serve.sh setup --bench has to run first: {error}"
    );
    String::from_utf8(output.stdout)
        .expect("a path")
        .trim()
        .into()
}
