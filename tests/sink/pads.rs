// SPDX-License-Identifier: MIT

//! Pads and tracks: unknown, too many, late, released and requested again.

use std::sync::mpsc;

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, wait_until},
    server::Server,
};

use crate::support::{CAMERA, MICROPHONE, encoders, parse, parse_sink, sent};

fn fails_with_not_found(feed: &str, expected: &[&str]) {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} {feed}",
        server.url()
    ));
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(
        failure.error.matches(gst::ResourceError::NotFound),
        "{failure:?}"
    );
    let text = failure.error.message().to_owned();
    for part in expected {
        assert!(text.contains(part), "{text}");
    }
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn pad_for_unknown_track_posts_not_found() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_nope"),
        &["'video_nope'", "video_camera"],
    );
}

#[test]
fn more_pads_than_tracks_post_not_found() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_camera {CAMERA} ! s."),
        &["'video_0'", "no video input"],
    );
}

#[test]
fn pad_requested_late_joins_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures", TIMEOUT, || sent(&running, "video_0") > 15);
    let microphone = format!("{MICROPHONE} ! identity");
    let microphone = gst::parse::bin_from_description(&microphone, true).unwrap();
    running.pipeline.add(&microphone).unwrap();
    microphone.link(&running.by_name("s")).unwrap();
    microphone.sync_state_with_parent().unwrap();
    wait_until("sound", TIMEOUT, || sent(&running, "audio_0") > 25);
    let before = sent(&running, "video_0");
    wait_until("more pictures", TIMEOUT, || {
        sent(&running, "video_0") > before + 15
    });
}

#[test]
fn released_pad_can_be_requested_again() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! identity name=e ! queue name=q ! s.video_camera {MICROPHONE}");
    let running = parse(&server.url(), &feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    let (sink, src) = (running.by_name("s"), running.pad("q", "src"));
    for _ in 0..3 {
        view.wait_for(Colour::Red, TIMEOUT);
        let block = src.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Ok
        });
        let pad = src.peer().expect("linked");
        src.unlink(&pad).unwrap();
        sink.release_request_pad(&pad);
        assert!(sink.static_pad("video_camera").is_none());
        let sounds = sent(&running, "audio_0");
        wait_until("sound", TIMEOUT, || sent(&running, "audio_0") > sounds + 25);
        let pad = sink.request_pad_simple("video_camera").expect("a pad");
        src.link(&pad).unwrap();
        src.remove_probe(block.unwrap());
        wait_until("pictures", TIMEOUT, || sent(&running, "video_camera") > 15);
        assert_eq!(encoders(&running).len(), 2);
    }
}

/// By a handler on the event thread, which learns of both only afterwards.
#[test]
fn pad_released_and_requested_in_one_go_sends() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! queue name=q ! s.video_camera {MICROPHONE}");
    let running = parse(&server.url(), &feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    let (sender, requested) = mpsc::channel();
    let (sink, src) = (running.by_name("s"), running.pad("q", "src"));
    sink.connect("message", false, move |values| {
        if values[1].get::<&str>().expect("a name") == "echoed" {
            let sink = values[0].get::<gst::Element>().expect("the sink");
            let block = src.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
                gst::PadProbeReturn::Ok
            });
            let pad = src.peer().expect("linked");
            src.unlink(&pad).unwrap();
            sink.release_request_pad(&pad);
            let pad = sink.request_pad_simple("video_camera").expect("a pad");
            src.link(&pad).unwrap();
            src.remove_probe(block.unwrap());
            sender.send(()).unwrap();
        }
        None
    });
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    sink.set_property("commands", r#"[{"echo":{"text":"x"}}]"#);
    requested.recv_timeout(TIMEOUT).expect("another pad");
    wait_until("pictures", TIMEOUT, || sent(&running, "video_camera") > 15);
    // The server shows them, and the property knows of it.
    view.clear();
    view.wait_for(Colour::Red, TIMEOUT);
    let tracks: gst::Structure = sink.property("tracks");
    let camera: gst::Structure = tracks.get("camera").unwrap();
    assert!(camera.get::<bool>("published").unwrap());
    assert_eq!(encoders(&running).len(), 2);
    running.assert_no_error();
}
