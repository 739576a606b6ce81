// SPDX-License-Identifier: MIT

//! A network that goes down without notice: packets are dropped, and no socket reports an error.
//!
//! In a network namespace of the tests' own (see `netns.sh`) the loopback interface, which carries
//! all traffic there, drops every packet: a token bucket passes no packet that is larger than the
//! bucket. On the machine's own network the server is frozen instead (SIGSTOP), which looks alike
//! to the client.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{server::Server, traffic_control::tc};

/// Serializes the tests of one process that take the whole network down, or that need it up and
/// idle: hold the guard for the duration of the test.
pub fn exclusive_network() -> MutexGuard<'static, ()> {
    static NETWORK: Mutex<()> = Mutex::new(());
    NETWORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the network itself goes down, and not only the server.
pub fn in_own_namespace() -> bool {
    std::env::var_os("REACTOR_TEST_NETNS").is_some()
}

/// The network is down until this is dropped.
#[derive(Debug)]
pub struct LinkDown<'a> {
    frozen: Option<&'a Server>,
}

impl<'a> LinkDown<'a> {
    /// The caller holds [`exclusive_network`].
    pub fn begin(server: &'a Server) -> Self {
        if in_own_namespace() {
            let bucket = "root tbf rate 8bit burst 1 limit 1";
            let drops = tc(&format!("qdisc replace dev lo {bucket}"));
            assert!(drops, "tc cannot make the network drop everything");
            return Self { frozen: None };
        }
        server.signal(libc::SIGSTOP);
        Self {
            frozen: Some(server),
        }
    }
}

impl Drop for LinkDown<'_> {
    fn drop(&mut self) {
        match self.frozen {
            Some(server) => server.signal(libc::SIGCONT),
            None => {
                tc("qdisc del dev lo root");
            }
        }
    }
}
