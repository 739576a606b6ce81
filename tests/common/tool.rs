// SPDX-License-Identifier: MIT

//! Commands to the model, sent by the official client on a second connection.

use std::{path::PathBuf, process::Command};

use crate::server::{Server, repository, serve_script};

/// Sends commands, each a name and JSON data, to the running session. Panics
/// if the model refuses one.
pub fn send(server: &Server, commands: &[(&str, &str)]) {
    let output = Command::new(python())
        .arg(repository().join("tests/tools/command.py"))
        .arg(server.url())
        .args(commands.iter().flat_map(|(name, data)| [name, data]))
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands:?}: {error}");
}

/// The interpreter that has the official client.
fn python() -> PathBuf {
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
