// SPDX-License-Identifier: MIT

//! IPv6, several interfaces, and a change from one to another: against the real local runtime.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    actions::reconnect,
    link_down::exclusive_network,
    network_interfaces::{Address, Interfaces},
    pipeline::wait_until,
    proxy::Proxy,
    server::Server,
};

use super::loopback::LoopbackSession;

/// Longer than a test: what is noticed is not that nothing arrives any more.
const STALL_TIMEOUT: &str = "stall-timeout=60000";

/// The loss of an address is noticed within this time.
const NOTICED: Duration = Duration::from_millis(1500);

impl LoopbackSession {
    /// The address is known when statistics are.
    fn wait_for_candidate_pair(&self) {
        wait_until("the candidate pair", TIMEOUT, || {
            let stats: gst::Structure = self.source().property("stats");
            let connection = stats.get::<gst::Structure>("connection");
            connection.is_ok_and(|connection| connection.has_field("local-candidate-type"))
        });
    }

    /// Waits until the connection is lost because of its address, and there is another.
    fn wait_for_other_address(&self) {
        let interrupted = self.running.wait_element("reactor-interrupted", TIMEOUT);
        let error = interrupted.get::<gst::Structure>("error").unwrap();
        let message = error.get::<String>("message").unwrap();
        assert!(message.contains("has left this machine"), "{message}");
        self.running.wait_element("reactor-resumed", TIMEOUT);
        self.wait_for_more();
    }
}

/// The connection moves from one interface to another, then to where there are both, of which each
/// goes away once.
#[test]
fn network_change_resumes_session_on_new_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let loopback = LoopbackSession::open(&proxy.url(), STALL_TIMEOUT);
    let Some(interfaces) = Interfaces::new() else {
        return;
    };
    let id = loopback.session_id();
    loopback.wait_for_candidate_pair();
    interfaces.add(Address::Second);
    interfaces.remove(Address::First);
    loopback.wait_for_other_address();
    interfaces.add(Address::First);
    reconnect(&loopback.source()).wait_ok(TIMEOUT);
    loopback.running.wait_element("reactor-resumed", TIMEOUT);

    // One of them is used by the connection, which is not known.
    let reconnects = || {
        let stats: gst::Structure = loopback.source().property("stats");
        stats.get::<u32>("reconnects").unwrap_or_default()
    };
    let before = reconnects();
    for gone in [Address::First, Address::Second] {
        loopback.wait_for_candidate_pair();
        interfaces.remove(gone);
        std::thread::sleep(NOTICED);
        loopback.wait_for_more();
        interfaces.add(gone);
    }
    assert!(reconnects() > before);
    assert_eq!(loopback.session_id(), id);
    loopback.assert_plays_without_error();
}

/// Signaling and media by IPv6 alone, then media by IPv4, then by IPv6 again, whose address takes a
/// second until it can be used.
#[test]
fn ipv6_carries_session_and_takes_over_from_ipv4() {
    let _exclusive = exclusive_network();
    let Some(interfaces) = Interfaces::new() else {
        return;
    };
    interfaces.add(Address::Ipv6);
    interfaces.remove(Address::First);
    wait_until("the address", TIMEOUT, || Address::Ipv6.is_usable());
    let server = Server::start_at("::1", &[]);
    let loopback = LoopbackSession::open_in_prepared_network(&server.url(), STALL_TIMEOUT);
    let id = loopback.session_id();
    for (added, removed) in [
        (Address::First, Address::Ipv6),
        (Address::Ipv6, Address::First),
    ] {
        loopback.wait_for_candidate_pair();
        interfaces.add(added);
        interfaces.remove(removed);
        loopback.wait_for_other_address();
    }
    assert_eq!(loopback.session_id(), id);
    loopback.assert_plays_without_error();
}
