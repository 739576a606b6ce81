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
    pipeline::{TestPipeline, wait_until},
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

#[test]
fn eos_does_not_wait_for_file_input_that_waits_for_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    for factory in ["reactorfilter", "reactorsink"] {
        let url = proxy.url();
        let running = TestPipeline::launch(&format!(
            "{FILE} ! {factory} name=e local=true api-url={url}"
        ));
        // More pictures than the element's queue takes.
        std::thread::sleep(Duration::from_millis(500));
        let (sender, sent) = mpsc::channel();
        let element = running.by_name("e");
        std::thread::spawn(move || sender.send(element.send_event(gst::event::Eos::new())));
        let limit = Duration::from_secs(5);
        sent.recv_timeout(limit).expect("send_event returns");
        assert_stops_soon(&running);
    }
}
