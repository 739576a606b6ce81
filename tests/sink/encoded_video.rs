// SPDX-License-Identifier: MIT

//! Video that is encoded upstream passes as it is, or is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    pipeline::TestPipeline,
    server::Server,
};

use crate::support::{CAMERA, codec, encoders, parse, parse_sink};

/// Counts the keyframe requests that an element receives.
fn count_key_units(running: &TestPipeline, element: &str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let pad = running.pad(element, "src");
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let event = info.event().expect("an event");
        if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        gst::PadProbeReturn::Ok
    });
    count
}

/// The encoder upstream makes no keyframe unless it is asked.
fn assert_passes_without_encoder(encoder: &str, name: &str) {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! {encoder} keyframe-max-dist=100000 deadline=1 name=e");
    let running = parse(&server.url(), &feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    let asked = count_key_units(&running, "e");
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    assert!(asked.load(Ordering::SeqCst) >= 1);
    assert_eq!(codec(&running, "video_0"), name);
    assert!(encoders(&running).is_empty());
}

#[test]
fn vp8_input_passes_without_encoder() {
    assert_passes_without_encoder("vp8enc cpu-used=8", "VP8");
}

#[test]
fn vp9_input_passes_without_encoder() {
    assert_passes_without_encoder("vp9enc cpu-used=8 lag-in-frames=0", "VP9");
}

#[test]
fn codec_refused_by_server_posts_error() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! x264enc tune=zerolatency ! video/x-h264,profile=baseline");
    let running = parse_sink(&server.url(), &feed, "");
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(failure.error.matches(gst::StreamError::CodecNotFound));
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}
