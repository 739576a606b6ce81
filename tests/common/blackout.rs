// SPDX-License-Identifier: MIT

//! A network that goes down: nothing sent reaches anybody, and nobody is told.
//!
//! In a network namespace of the tests' own (see `netns.sh`) the loopback
//! interface, over which everything goes there, drops all packets: a token
//! bucket lets none pass that is larger than the bucket. Elsewhere the server
//! is frozen instead, which looks the same from outside.

use std::{
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::server::Server;

/// A blackout is one of the whole network: tests of one process whose network
/// goes down, or must not, take turns.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is the network that goes down, and not only the server.
pub fn is_of_the_network() -> bool {
    std::env::var_os("REACTOR_TEST_NETNS").is_some()
}

/// Ends when dropped.
#[derive(Debug)]
pub struct Blackout<'a> {
    frozen: Option<&'a Server>,
}

impl<'a> Blackout<'a> {
    /// See [`turn`].
    pub fn begin(server: &'a Server) -> Self {
        if is_of_the_network() {
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
