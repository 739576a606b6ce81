// SPDX-License-Identifier: MIT

//! Outages that the platform's patience covers, several in a row, and those
//! that it does not: with the stand-in coordinator before the real runtime,
//! both as patient as the platform.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_coordinator::{Coordinator, End};
use reactor_tests::{
    blackout::{self, Blackout, turn},
    frames::Reader,
    outages::{self, KEY, Studio},
    pipeline::{Running, wait_until},
};

const SOON: Duration = Duration::from_secs(30);
/// More than the 5 s until it is noticed, and the platform's 30 s.
const TOO_LONG: Duration = Duration::from_secs(40);

/// The first of those that `reactor-blackouts` goes through by default.
#[test]
fn outages_in_a_row_are_survived() {
    let _turn = turn();
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let properties = format!("model=playground api-key={KEY}");
    let studio = Studio::open(&coordinator.url(), &properties);
    let drawn = outages::draw(1, 3, 1.0, 25.0);
    let mut reconnected = 0;
    for group in drawn.chunk_by(|outage, _| outage.next.is_some()) {
        let recovery = studio.survive(&server, group);
        let recovery = recovery.unwrap_or_else(|why| panic!("{group:?}: {why}"));
        reconnected += usize::from(recovery.reconnected);
    }
    assert!(reconnected > 0, "{drawn:?}");
    assert_eq!(coordinator.ledger().len(), 1);
    studio.running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

#[test]
fn an_outage_that_is_too_long_is_the_end() {
    let _turn = turn();
    if !blackout::is_of_the_network() {
        return eprintln!("left out: it takes a network that can go down (netns.sh)");
    }
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let running = play(&coordinator, "");
    let id = session_id(&running).unwrap();
    let begun = Instant::now();
    let blackout = Blackout::begin(&server);
    let failure = running.wait_error(TOO_LONG + SOON);
    assert_eq!(failure.code(), "RECONNECTION_FAILED");
    assert!(failure.error.matches(gst::ResourceError::Read));
    assert_eq!(failure.detail::<String>("session-id"), id);
    assert_eq!(failure.detail::<String>("component"), "gpu");
    // Another session may be had, with restart-session or by hand.
    assert!(failure.detail::<bool>("recoverable"));
    std::thread::sleep(TOO_LONG.saturating_sub(begun.elapsed()));
    drop(blackout);
    running.stop();
    // Nobody could end it: the platform does.
    wait_closed(&coordinator);
    let ledger = coordinator.ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0].end, Some(End::Window), "{ledger:?}");
}

#[test]
fn another_session_follows_one_that_is_lost() {
    let _turn = turn();
    if !blackout::is_of_the_network() {
        return eprintln!("left out: it takes a network that can go down (netns.sh)");
    }
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let commands = r#"commands=[{\"set_prompt\":{\"prompt\":\"again\"}}] restart-session=true"#;
    let running = play(&coordinator, commands);
    let reader = Reader::watch(&running.pad("i", "src"));
    running.wait_element("reactor-reply", SOON);
    let before = session_id(&running).unwrap();
    let blackout = Blackout::begin(&server);
    std::thread::sleep(TOO_LONG);
    drop(blackout);
    let resumed = running.wait_element("reactor-resumed", 2 * SOON);
    assert!(resumed.get::<bool>("restarted").unwrap());
    let reply = running.wait_element("reactor-reply", SOON);
    assert_eq!(
        reply.get::<&str>("command").unwrap(),
        "set_prompt",
        "{reply}"
    );
    assert!(!reply.has_field("error"), "{reply}");
    reader.clear();
    reader.wait_for(30, SOON);
    let after = session_id(&running).unwrap();
    assert_ne!(before, after);
    let open = coordinator.open_sessions();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].session_id, after);
    assert_eq!(coordinator.ledger()[0].end, Some(End::Window));
    running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

/// Plays until pictures come.
fn play(coordinator: &Coordinator, properties: &str) -> Running {
    let running = Running::parse(&format!(
        "reactorsrc name=r api-url={} model=playground api-key={KEY} {properties} \
         ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false async=false",
        coordinator.url()
    ));
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, SOON);
    running
}

fn session_id(running: &Running) -> Option<String> {
    running.by_name("r").property("session-id")
}

fn wait_closed(coordinator: &Coordinator) {
    wait_until("the ledger is empty", outages::WINDOW + SOON, || {
        coordinator.open_sessions().is_empty()
    });
}
