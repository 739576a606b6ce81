// SPDX-License-Identifier: MIT

//! A child process that sees other files than this one: another resolver, other certificates, a
//! disk that is full.

use std::{ffi::OsStr, process::Command};

use crate::link_down::in_own_namespace;

/// A program in a mount namespace of its own, in which a shell script has run before it. Nothing
/// that the script mounts is seen elsewhere.
///
/// `None` where mounting is not permitted.
pub fn command(script: &str, program: impl AsRef<OsStr>) -> Option<Command> {
    // As netns.sh has it: whoever may make network namespaces may make these.
    if !in_own_namespace() {
        eprintln!("not root: nothing can be mounted");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]);
    command.arg(format!("{script}\nexec \"$@\""));
    command.arg("sh").arg(program);
    Some(command)
}
