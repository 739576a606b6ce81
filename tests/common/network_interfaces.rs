// SPDX-License-Identifier: MIT

//! Network interfaces that come and go, in the namespace of `tests/netns.sh`.

use std::process::Command;

use crate::link_down::in_own_namespace;

/// The first interface, that of `netns.sh`.
const FIRST: [&str; 2] = ["10.77.0.1/24", "reactor0"];
const SECOND: [&str; 2] = ["10.78.0.1/24", "reactor2"];

/// A second interface beside that of `netns.sh`, without an address; dropping it restores the
/// network of before.
#[derive(Debug)]
pub struct Interfaces(());

impl Interfaces {
    /// `None` outside of the namespace, where the network is not ours. The caller holds
    /// [`crate::link_down::exclusive_network`].
    pub fn new() -> Option<Self> {
        if !in_own_namespace() {
            eprintln!("skipped: this is not the network of tests/netns.sh");
            return None;
        }
        let interfaces = Self(());
        ip("link add reactor2 type veth peer name reactor3");
        ip("link set reactor2 up");
        ip("link set reactor3 up");
        Some(interfaces)
    }

    pub fn add_first(&self) {
        change("add", FIRST);
    }

    pub fn remove_first(&self) {
        change("del", FIRST);
    }

    pub fn add_second(&self) {
        change("add", SECOND);
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        run("link del reactor2");
        run(&format!("address replace {} dev {}", FIRST[0], FIRST[1]));
    }
}

fn change(what: &str, [address, interface]: [&str; 2]) {
    ip(&format!("address {what} {address} dev {interface}"));
}

fn ip(arguments: &str) {
    assert!(run(arguments), "ip {arguments}");
}

fn run(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status();
    status.is_ok_and(|status| status.success())
}
