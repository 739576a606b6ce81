// SPDX-License-Identifier: MIT

//! EOS of live inputs, and inputs that are not live, such as files.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, wait_for_status, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};

use crate::support::{CAMERA, assert_stops_soon, parse, parse_sink, sent};

#[test]
fn eos_of_live_input_ends_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    assert_stops_soon(&running);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn eos_before_session_is_passed_on() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let running = parse_sink(&proxy.url(), CAMERA, "");
    running.play();
    wait_until("pictures", TIMEOUT, || {
        running
            .pad_stats("s", "video_0")
            .get::<u64>("received")
            .unwrap()
            > 5
    });
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(Duration::from_secs(3));
    assert_stops_soon(&running);
}

/// Not live: like a file, it could be consumed at once.
const FILE: &str = "videotestsrc num-buffers=45 pattern=red \
                    ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";

#[test]
fn file_input_is_sent_whole_and_in_real_time() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(
        RuntimeRoute::StartSession,
        Rule::delay(Duration::from_secs(1)),
    );
    let beep = "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000";
    let feed = format!("{beep} ! s.audio_microphone {FILE}");
    let running = parse_sink(&proxy.url(), &feed, "");
    running.play();
    wait_until("a picture", TIMEOUT, || sent(&running, "video_0") > 0);
    let begun = Instant::now();
    running.wait_eos(TIMEOUT);
    let took = begun.elapsed().as_secs_f64();
    assert!((2.5..4.0).contains(&took), "{took} s");
    assert_eq!(sent(&running, "video_0"), 45);
    assert_eq!(
        running
            .pad_stats("s", "video_0")
            .get::<u64>("dropped")
            .unwrap(),
        0
    );
    assert!(sent(&running, "audio_microphone") >= 150);
}

#[test]
fn file_input_waiting_for_session_can_be_stopped() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let running = parse(&proxy.url(), FILE, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    for _ in 0..2 {
        running.play();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(sent(&running, "video_0"), 0);
        assert_stops_soon(&running);
    }
    // Afterwards it works as before.
    proxy.reset();
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
}

/// Runs an operation that must not take long.
fn assert_returns(what: &str, operation: impl FnOnce() + Send + 'static) {
    let (sender, returned) = mpsc::channel();
    std::thread::spawn(move || {
        operation();
        let _ = sender.send(());
    });
    let limit = Duration::from_secs(5);
    assert!(returned.recv_timeout(limit).is_ok(), "{what} hangs");
}

/// A pipeline's EOS waits for its sources, and these for whoever takes what they push.
#[test]
fn eos_does_not_wait_for_file_input_that_waits_for_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    // More pictures than the element's queue takes.
    let held = Duration::from_millis(500);
    for (factory, to_pipeline) in [
        ("reactorfilter", false),
        ("reactorsink", false),
        // Ctrl-C of gst-launch-1.0 -e.
        ("reactorsink", true),
    ] {
        let url = proxy.url();
        let file = FILE.replace("num-buffers=45", "");
        let running = TestPipeline::launch(&format!(
            "{file} ! {factory} name=e local=true api-url={url}"
        ));
        std::thread::sleep(held);
        let element = match to_pipeline {
            true => running.pipeline.clone().upcast(),
            false => running.by_name("e"),
        };
        assert_returns("EOS", move || {
            element.send_event(gst::event::Eos::new());
        });
        if to_pipeline {
            running.wait_eos(TIMEOUT);
        }
        assert_stops_soon(&running);
    }
}

#[test]
fn release_of_pad_does_not_wait_for_its_stream() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    // In PLAYING the session is waited for, in PAUSED the clock.
    for state in [gst::State::Playing, gst::State::Paused] {
        let running = parse_sink(&proxy.url(), FILE, "");
        running.pipeline.set_state(state).unwrap();
        let element = running.by_name("s");
        match state {
            gst::State::Playing => std::thread::sleep(Duration::from_millis(500)),
            _ => {
                wait_for_status(&element, "ready", TIMEOUT);
                std::thread::sleep(Duration::from_millis(500));
                assert_eq!(sent(&running, "video_0"), 0);
            }
        }
        assert_returns("release_request_pad", move || {
            let pad = element.static_pad("video_0").unwrap();
            let _ = pad.peer().unwrap().unlink(&pad);
            element.release_request_pad(&pad);
        });
        assert_stops_soon(&running);
        proxy.reset();
    }
}
