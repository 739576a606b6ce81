// SPDX-License-Identifier: MIT

//! Outages within the platform's resume window, several in a row, and outages beyond it: with the
//! stand-in coordinator in front of the real runtime, both with the platform's window.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_coordinator::{Coordinator, SessionEnd};
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, wait_closed},
    frames::FrameReader,
    link_down::{LinkDown, exclusive_network, in_own_namespace},
    outages::{self, DuplexPipeline},
    pipeline::TestPipeline,
};

/// More than the 5 s until it is noticed and the platform's 30 s together.
const TOO_LONG: Duration = Duration::from_secs(40);

/// The first outages of a default run of `reactor-outages`.
#[test]
fn outages_in_a_row_are_survived() {
    let _exclusive = exclusive_network();
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let properties = format!("model=playground api-key={KEY}");
    let duplex = DuplexPipeline::open(&coordinator.url(), &properties);
    let drawn = outages::random_outages(1, 3, 1.0, 25.0);
    let mut reconnected = 0;
    for group in drawn.chunk_by(|outage, _| outage.next.is_some()) {
        let recovery = duplex.run_outages(&server, group);
        let recovery = recovery.unwrap_or_else(|why| panic!("{group:?}: {why}"));
        reconnected += usize::from(recovery.reconnected);
    }
    assert!(reconnected > 0, "{drawn:?}");
    assert_eq!(coordinator.ledger().len(), 1);
    duplex.running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

#[test]
fn outage_beyond_window_posts_reconnection_failed() {
    let _exclusive = exclusive_network();
    if !in_own_namespace() {
        return eprintln!("skipped: it takes a network that can go down (netns.sh)");
    }
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let running = play(&coordinator, "");
    let id = session_id(&running).unwrap();
    let begun = Instant::now();
    let link_down = LinkDown::begin(&server);
    let failure = running.wait_error(TOO_LONG + TIMEOUT);
    assert_eq!(failure.code(), "RECONNECTION_FAILED");
    assert!(failure.error.matches(gst::ResourceError::Read));
    assert_eq!(failure.detail::<String>("session-id"), id);
    assert_eq!(failure.detail::<String>("component"), "gpu");
    // Another session is possible, by restart-session or by the application.
    assert!(failure.detail::<bool>("recoverable"));
    std::thread::sleep(TOO_LONG.saturating_sub(begun.elapsed()));
    drop(link_down);
    running.stop();
    // No client could end it: the platform does.
    let ledger = wait_closed(&coordinator, outages::WINDOW + TIMEOUT);
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0].end, Some(SessionEnd::Window), "{ledger:?}");
}

#[test]
fn restart_session_replaces_lost_session() {
    let _exclusive = exclusive_network();
    if !in_own_namespace() {
        return eprintln!("skipped: it takes a network that can go down (netns.sh)");
    }
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let commands = r#"commands=[{\"set_prompt\":{\"prompt\":\"again\"}}] restart-session=true"#;
    let running = play(&coordinator, commands);
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.wait_element("reactor-reply", TIMEOUT);
    let before = session_id(&running).unwrap();
    let link_down = LinkDown::begin(&server);
    std::thread::sleep(TOO_LONG);
    drop(link_down);
    let resumed = running.wait_element("reactor-resumed", 2 * TIMEOUT);
    assert!(resumed.get::<bool>("restarted").unwrap());
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    assert_eq!(
        reply.get::<&str>("command").unwrap(),
        "set_prompt",
        "{reply}"
    );
    assert!(!reply.has_field("error"), "{reply}");
    reader.clear();
    reader.wait_for(30, TIMEOUT);
    let after = session_id(&running).unwrap();
    assert_ne!(before, after);
    let open = coordinator.open_sessions();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].session_id, after);
    assert_eq!(coordinator.ledger()[0].end, Some(SessionEnd::Window));
    running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

/// Plays until pictures arrive.
fn play(coordinator: &Coordinator, properties: &str) -> TestPipeline {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r api-url={} model=playground api-key={KEY} {properties} \
         ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false async=false",
        coordinator.url()
    ));
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, TIMEOUT);
    running
}

fn session_id(running: &TestPipeline) -> Option<String> {
    running.by_name("r").property("session-id")
}
