// SPDX-License-Identifier: MIT

//! A live input never blocks, whatever state the session is in.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    pipeline::{TestPipeline, count_buffers, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};

use crate::support::{CAMERA, assert_stops_soon, parse_sink, sent};

/// A camera with a preview of its own, and the number of pictures that the preview has shown.
fn with_preview(url: &str) -> (TestPipeline, impl Fn() -> usize + use<>) {
    let feed = format!("{CAMERA} ! tee name=tee ! queue ! fakesink name=p tee. ! queue");
    let running = parse_sink(url, &feed, "");
    let shown = count_buffers(&running.pad("p", "sink"));
    (running, shown)
}

/// Panics unless about 15 pictures a second are shown.
fn assert_keeps_pace(count: impl Fn() -> usize) {
    let before = count();
    std::thread::sleep(Duration::from_secs(2));
    let shown = count() - before;
    assert!((22..=40).contains(&shown), "{shown} pictures in 2 s");
}

#[test]
fn live_input_does_not_block_before_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let (running, shown) = with_preview(&proxy.url());
    let begun = Instant::now();
    running.play();
    wait_until("a picture", TIMEOUT, || shown() > 0);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_keeps_pace(&shown);
    for state in [gst::State::Paused, gst::State::Playing] {
        let begun = Instant::now();
        running.pipeline.set_state(state).expect("a state");
        assert!(begun.elapsed() < Duration::from_millis(500), "{state:?}");
    }
    assert_keeps_pace(&shown);
    assert_eq!(sent(&running, "video_0"), 0);
    assert_stops_soon(&running);
}

#[test]
fn live_input_does_not_block_on_frozen_server() {
    let server = Server::playground();
    let (running, shown) = with_preview(&server.url());
    running.play();
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    server.signal(libc::SIGSTOP);
    assert_keeps_pace(&shown);
    assert_stops_soon(&running);
}

#[test]
fn pause_stops_input_and_keeps_session() {
    let server = Server::playground();
    let camera = CAMERA.replace("video/x-raw", "capsfilter name=c caps=video/x-raw");
    let running = parse_sink(&server.url(), &camera, "");
    running.play();
    for _ in 0..2 {
        let before = sent(&running, "video_0");
        wait_until("pictures sent", TIMEOUT, || {
            sent(&running, "video_0") > before + 15
        });
        running.pipeline.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let paused = sent(&running, "video_0");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(sent(&running, "video_0"), paused);
        assert_eq!(server.session_state(), "streaming");
        running.play();
    }
    // The sink alone: the camera goes on, also in another size.
    running.by_name("s").set_state(gst::State::Paused).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let made = count_buffers(&running.pad("c", "src"));
    let caps = gst::Caps::builder("video/x-raw")
        .field("width", 640)
        .build();
    running.by_name("c").set_property("caps", caps);
    wait_until("more pictures", TIMEOUT, || made() > 15);
    assert_stops_soon(&running);
    server.wait_for_state("ready", TIMEOUT);
}
