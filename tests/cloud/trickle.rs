// SPDX-License-Identifier: MIT

//! Trickle ICE: the offer waits for no STUN or TURN server; the candidates follow it.

use gst::prelude::*;
use reactor_coordinator::{ApiRoute, Coordinator, CoordinatorSettings, Rule};
use reactor_tests::{
    TIMEOUT,
    cloud::start_coordinator,
    coturn::own_address,
    frames::FrameReader,
    pipeline::{status, wait_until},
    server::Server,
    silent_ice_servers::SilentIceServers,
    trend::median,
};
use serde_json::{Value, json};

use super::elements::{play, source};

const RUNS: usize = 3;
/// From the description of the session to ready. An offer that waits for the servers takes more
/// than 2 s.
const CONNECT_LIMIT: f64 = 1500.0;

pub fn bodies(coordinator: &Coordinator, route: ApiRoute) -> Vec<Value> {
    let requests = coordinator.requests(route);
    let bodies = requests
        .iter()
        .map(|r| serde_json::from_str(&r.body).unwrap());
    bodies.collect()
}

/// The candidates that the server received after the offers, with their m-sections.
pub fn trickled(coordinator: &Coordinator) -> Vec<Value> {
    let bodies = bodies(coordinator, ApiRoute::Candidates);
    let lists = bodies.iter().map(|body| body["candidates"].as_array());
    lists.flat_map(|list| list.unwrap().clone()).collect()
}

#[test]
fn silent_ice_servers_do_not_delay_connection() {
    let silent = SilentIceServers::bind(own_address());
    let server = Server::playground();
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let coordinator = start_coordinator(
            &server,
            CoordinatorSettings {
                ice_servers: Some(silent.list()),
                ..CoordinatorSettings::default()
            },
        );
        let running = source(&coordinator, "");
        play(&running);
        let stats: gst::Structure = running.by_name("r").property("stats");
        let at = |name| stats.get::<f64>(name).unwrap();
        took.push(at("ready-ms") - at("gpu-ms"));
        running.stop();

        let offers = bodies(&coordinator, ApiRoute::Offer);
        let [offer] = &offers[..] else {
            panic!("{offers:?}")
        };
        let offer = offer["sdp_offer"].as_str().unwrap();
        for candidate in trickled(&coordinator) {
            let text = candidate["candidate"].as_str().unwrap();
            assert!(text.starts_with("candidate:"), "{text}");
            assert!(!offer.contains(text), "{text} was in the offer");
            let mid = candidate["sdp_mid"].as_str().unwrap();
            assert!(offer.contains(&format!("a=mid:{mid}\r\n")), "{mid}");
            assert_eq!(candidate["sdp_mline_index"], 0);
        }
        let offered = offer.matches("a=candidate:").count();
        let trickled = trickled(&coordinator).len();
        assert!(offered + trickled > 0);
        eprintln!("{took:?} ms; candidates: {offered} in the offer, {trickled} after it");
    }
    let middle = median(&mut took).expect("runs");
    assert!(middle < CONNECT_LIMIT, "{took:?} ms");
    // They were asked: the list was used.
    assert!(silent.were_asked());
}

/// The server finds the client by the client's own packets.
#[test]
fn refused_candidates_are_a_warning() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let refusal = Rule::reply(404, "Connection not found");
    coordinator.rule(ApiRoute::Candidates, refusal);
    // No answer before the refusal: a connection that is up needs no more candidates.
    coordinator.rule(ApiRoute::Answer, Rule::reply(202, ""));
    let running = source(&coordinator, "");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => Some(format!("{warning:?}")),
        _ => None,
    });
    assert!(warning.contains("ice_candidates"), "{warning}");
    coordinator.rule(ApiRoute::Answer, Rule::Forward);
    reader.wait_for(20, TIMEOUT);
    assert_eq!(status(&running.by_name("r")), "ready");
    let bus = running.pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Error, gst::MessageType::Warning];
    assert!(bus.pop_filtered(&kinds).is_none(), "one warning is enough");
    running.stop();
}

#[test]
fn candidates_end_with_an_empty_list() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let running = source(&coordinator, "");
    play(&running);
    wait_until("the end of candidates", TIMEOUT, || {
        let bodies = bodies(&coordinator, ApiRoute::Candidates);
        bodies.iter().any(|body| body["is_final"] == true)
    });
    let all = bodies(&coordinator, ApiRoute::Candidates);
    let (end, rest) = all.split_last().unwrap();
    assert_eq!(end["candidates"], json!([]));
    assert!(rest.iter().all(|body| body["is_final"] == false));
    running.stop();
}
