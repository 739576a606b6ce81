// SPDX-License-Identifier: MIT

//! One of the platform's own clients and an element of ours in one session, in both orders: whoever
//! comes and goes, the other one plays on.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    frames::{FrameReader, assert_nearly_contiguous},
    pipeline::{TestPipeline, status, wait_until},
    second_client::SecondClient,
    server::Server,
    slow,
    tick_messages::TickMessages,
};

/// A client starts an interpreter or a browser, on a machine that may be busy.
const STEP: Duration = Duration::from_secs(90);

/// How often a client joins and leaves.
fn rounds() -> usize {
    if slow() { 100 } else { 2 }
}

/// A source that plays, and the pictures that it receives.
fn play(server: &Server) -> (TestPipeline, FrameReader) {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false async=false",
        server.url()
    ));
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, TIMEOUT);
    (running, reader)
}

fn session_id(running: &TestPipeline) -> Option<String> {
    running.by_name("r").property("session-id")
}

#[test]
fn official_client_joins_and_leaves_while_source_plays() {
    let server = Server::playground();
    let (running, reader) = play(&server);
    let ticks = TickMessages::watch(&running.by_name("r"));
    let session = session_id(&running);
    let mut other = SecondClient::python(&server);
    for round in 0..rounds() {
        let joined = other.step("connect", STEP);
        assert_eq!(joined["session"].as_str(), session.as_deref(), "{round}");
        other.wait_for_shared_picture(&reader, TIMEOUT);
        wait_until("two clients", TIMEOUT, || ticks.next(TIMEOUT).clients == 2);
        other.step("leave", STEP);
        wait_until("one client", TIMEOUT, || ticks.next(TIMEOUT).clients == 1);
        assert_eq!(status(&running.by_name("r")), "ready", "{round}");
    }
    assert_eq!(session_id(&running), session);
    assert_nearly_contiguous(&reader.frames());
    running.assert_no_error();
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn source_joins_and_leaves_while_official_client_plays() {
    let server = Server::playground();
    let mut other = SecondClient::python(&server);
    let session = other.step("connect", STEP)["session"].clone();
    for round in 0..rounds() {
        let (running, reader) = play(&server);
        assert_eq!(session_id(&running).as_deref(), session.as_str(), "{round}");
        other.wait_for_shared_picture(&reader, TIMEOUT);
        running.assert_no_error();
        running.stop();
        assert_eq!(server.session_state(), "streaming", "{round}");
    }
    let seen = other.pictures().len();
    wait_until("it plays on", TIMEOUT, || {
        other.pictures().len() > seen + 30
    });
    let counters: Vec<_> = other
        .pictures()
        .iter()
        .map(|(counter, _)| *counter)
        .collect();
    assert!(counters.is_sorted(), "the model began anew");
    other.step("leave", STEP);
    server.wait_for_state("ready", TIMEOUT);
}

/// The browser shows the source's session, goes, comes back, and ends it.
#[test]
fn browser_client_and_source_show_one_session() {
    let server = Server::playground();
    let Some(mut other) = SecondClient::browser(&server) else {
        return eprintln!("no REACTOR_JS_CLIENT: tests/js-client.sh builds it");
    };
    let session = other.step("connect", STEP)["session"].clone();
    let (running, reader) = play(&server);
    assert_eq!(session_id(&running).as_deref(), session.as_str());
    other.wait_for_shared_picture(&reader, TIMEOUT);
    for round in 0..rounds() {
        other.step("leave", STEP);
        let seen = reader.len();
        reader.wait_for(seen + 30, TIMEOUT);
        let joined = other.step("reconnect", STEP);
        assert_eq!(joined["session"], session, "{round}");
        other.wait_for_shared_picture(&reader, TIMEOUT);
    }
    assert_nearly_contiguous(&reader.frames());
    running.stop();
    for round in 0..rounds() {
        let (running, reader) = play(&server);
        assert_eq!(session_id(&running).as_deref(), session.as_str(), "{round}");
        other.wait_for_shared_picture(&reader, TIMEOUT);
        running.assert_no_error();
        running.stop();
    }
    other.step("disconnect", STEP);
    server.wait_for_state("ready", TIMEOUT);
}
