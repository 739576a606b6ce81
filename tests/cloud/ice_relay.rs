// SPDX-License-Identifier: MIT

//! Relays (TURN) that the cloud lists, over UDP and TCP, where only relays may be used.

use gst::prelude::*;
use reactor_coordinator::{ApiRoute, CoordinatorSettings};
use reactor_tests::{
    TIMEOUT, cloud::start_coordinator, coturn::Coturn, pipeline::wait_until, server::Server,
};

use super::{
    elements::{play, source},
    trickle::{bodies, trickled},
};

#[test]
fn relay_policy_uses_turn_over_udp_and_tcp() {
    let server = Server::playground();
    let relay = Coturn::start();
    for transport in ["udp", "tcp"] {
        let coordinator = start_coordinator(
            &server,
            CoordinatorSettings {
                ice_servers: Some(relay.list(transport)),
                ..CoordinatorSettings::default()
            },
        );
        let running = source(&coordinator, "ice-transport-policy=relay");
        play(&running);
        let connection = || {
            let stats: gst::Structure = running.by_name("r").property("stats");
            stats.get::<gst::Structure>("connection").ok()
        };
        wait_until("the candidate pair is known", TIMEOUT, || {
            connection().is_some_and(|connection| connection.has_field("relay"))
        });
        let connection = connection().unwrap();
        assert_eq!(connection.get("relay"), Ok(true), "{connection:?}");
        for (field, value) in [
            ("local-candidate-type", "relay"),
            ("protocol", "udp"),
            ("relay-protocol", transport),
        ] {
            assert_eq!(connection.get(field), Ok(value), "{connection:?}");
        }
        running.stop();

        // The server has no other way to this client.
        let mut candidates: Vec<String> = trickled(&coordinator)
            .iter()
            .map(|candidate| candidate["candidate"].as_str().unwrap().to_owned())
            .collect();
        let offers = bodies(&coordinator, ApiRoute::Offer);
        let offer = offers[0]["sdp_offer"].as_str().unwrap();
        let offered = offer.lines().filter_map(|line| line.strip_prefix("a="));
        candidates.extend(
            offered
                .filter(|a| a.starts_with("candidate:"))
                .map(str::to_owned),
        );
        assert!(!candidates.is_empty());
        for candidate in candidates {
            assert!(candidate.contains(" typ relay"), "{candidate}");
        }
    }
}
