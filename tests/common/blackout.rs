// SPDX-License-Identifier: MIT

//! A network that goes down: nothing sent reaches anybody, and nobody is told.
//!
//! In a network namespace of the tests' own (see `netns.sh`) the loopback
//! interface, over which everything goes there, drops all packets: a token
//! bucket lets none pass that is larger than the bucket. Elsewhere the server
//! is frozen instead, which looks the same from outside.

use std::process::Command;

use crate::server::Server;

/// Ends when dropped.
#[derive(Debug)]
pub struct Blackout<'a> {
    frozen: Option<&'a Server>,
}

impl<'a> Blackout<'a> {
    /// Tests of one process share the network: they take turns.
    pub fn begin(server: &'a Server) -> Self {
        if std::env::var_os("REACTOR_TEST_NETNS").is_some() {
            let bucket = "root tbf rate 8bit burst 1 limit 1";
            let drops = tc(&format!("replace dev lo {bucket}"));
            assert!(drops, "tc cannot make the network drop everything");
            return Self { frozen: None };
        }
        server.signal(libc::SIGSTOP);
        Self {
            frozen: Some(server),
        }
    }
}

impl Drop for Blackout<'_> {
    fn drop(&mut self) {
        match self.frozen {
            Some(server) => server.signal(libc::SIGCONT),
            None => {
                tc("del dev lo root");
            }
        }
    }
}

fn tc(what: &str) -> bool {
    let arguments = what.split_whitespace();
    let status = Command::new("tc").arg("qdisc").args(arguments).status();
    status.is_ok_and(|status| status.success())
}
