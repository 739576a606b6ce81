// SPDX-License-Identifier: MIT

//! `tc`, which shapes the traffic of the loopback interface in the namespace of `tests/netns.sh`.

use std::process::Command;

/// Runs `tc ARGUMENTS`; returns whether it succeeded.
pub(crate) fn tc(arguments: &str) -> bool {
    let status = Command::new("tc")
        .args(arguments.split_whitespace())
        .status();
    status.is_ok_and(|status| status.success())
}
