// SPDX-License-Identifier: MIT

//! reactorsink on networks with too little bandwidth, with Google's congestion control
//! (`rtpgccbwe`) and without it, by the receiver reports of the real local runtime.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use reactor_tests::{
    bandwidth_limit::BandwidthLimit,
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, wait_until},
    server::Server,
};

use crate::{TIMEOUT, lock_network_and_registry};

/// Noise, which no encoder compresses well.
const CAMERA: &str = "videotestsrc is-live=true pattern=snow \
                      ! video/x-raw,format=I420,width=160,height=90,framerate=30/1";
const MICROPHONE: &str = "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=1";

fn parse(server: &Server, feed: &str, properties: &str) -> TestPipeline {
    let url = server.url();
    TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties}"
    ))
}

/// 0 until there is an encoder.
fn bitrate(running: &TestPipeline) -> u32 {
    let bitrate = running.pad_stats("s", "video_0").get("bitrate");
    bitrate.unwrap_or_default()
}

/// The active controller.
fn source(running: &TestPipeline, pad: &str) -> Option<String> {
    running.pad_stats("s", pad).get("bitrate-from").ok()
}

fn wait_for_source(running: &TestPipeline, expected: &str) {
    wait_until(expected, TIMEOUT, || {
        source(running, "video_0").as_deref() == Some(expected)
    });
}

/// The encoder that the sink creates.
fn encoder(running: &TestPipeline) -> Arc<Mutex<Option<gst::Element>>> {
    let encoder = Arc::new(Mutex::new(None));
    let slot = encoder.clone();
    let sink = running.by_name("s");
    sink.connect("encoder-setup", false, move |values| {
        *slot.lock().unwrap() = Some(values[2].get::<gst::Element>().unwrap());
        None
    });
    encoder
}

#[test]
fn encoder_follows_bandwidth_estimate() {
    let _exclusive = lock_network_and_registry(true);
    let server = Server::playground_640x360();
    let properties = "video-encoder=vp8enc start-bitrate=300000 max-bitrate=600000";
    let running = parse(&server, CAMERA, properties);
    let encoder = encoder(&running);
    let target = || {
        let encoder = encoder.lock().unwrap();
        encoder.as_ref().unwrap().property::<i32>("target-bitrate")
    };
    // Also in a second session.
    for _ in 0..2 {
        running.play();
        wait_until("the start", TIMEOUT, || bitrate(&running) == 300_000);
        assert_eq!(target(), 300_000);
        wait_for_source(&running, "estimate");
        wait_until("some more", TIMEOUT, || {
            (300_001..600_000).contains(&bitrate(&running)) && target() > 300_000
        });
        wait_until("the limit", TIMEOUT, || target() == 600_000);
        assert_eq!(bitrate(&running), 600_000);
        assert_eq!(source(&running, "video_0").unwrap(), "estimate");
        running.stop();
    }
}

#[test]
fn audio_keeps_its_bitrate() {
    let _exclusive = lock_network_and_registry(true);
    let server = Server::playground_640x360();
    let feed = format!("{MICROPHONE} ! s.audio_microphone {CAMERA}");
    let running = parse(&server, &feed, "start-bitrate=300000 max-bitrate=400000");
    running.play();
    wait_until("the limit", TIMEOUT, || bitrate(&running) == 400_000);
    assert_eq!(source(&running, "video_0").unwrap(), "estimate");
    let microphone = running.pad_stats("s", "audio_microphone");
    assert_eq!(microphone.get::<u32>("bitrate").unwrap(), 64_000);
    assert_eq!(source(&running, "audio_microphone"), None);
    let sent = || {
        running
            .pad_stats("s", "audio_microphone")
            .get::<u64>("sent")
    };
    wait_until("sound", TIMEOUT, || sent().unwrap() > 50);
}

#[test]
fn paced_video_reaches_model() {
    let _exclusive = lock_network_and_registry(true);
    let server = Server::playground_640x360();
    let red = "videotestsrc is-live=true pattern=red \
               ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";
    let shown = "reactorsrc name=r r.video_main_video ! videoconvert \
                 ! video/x-raw,format=I420 ! identity name=i ! fakesink sync=false";
    let running = parse(&server, red, shown);
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    wait_for_source(&running, "estimate");
}

#[test]
fn encoder_upstream_keeps_its_bitrate() {
    let _exclusive = lock_network_and_registry(true);
    let server = Server::playground_640x360();
    let feed = format!("{CAMERA} ! vp8enc deadline=1 target-bitrate=300000 name=e");
    let running = parse(&server, &feed, "");
    running.play();
    let sent = || {
        running
            .pad_stats("s", "video_0")
            .get::<u64>("sent")
            .unwrap()
    };
    wait_until("pictures", TIMEOUT, || sent() > 90);
    assert_eq!(source(&running, "video_0"), None);
    let target = running.by_name("e").property::<i32>("target-bitrate");
    assert_eq!(target, 300_000);
}

/// The start bitrate is far too high for the limit; when the limit is removed, the bitrate grows.
fn assert_follows_bandwidth_limit(source_expected: &str) {
    const KBITS: u32 = 600;
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        CAMERA,
        "start-bitrate=2000000 max-bitrate=3000000 min-bitrate=100000",
    );
    running.play();
    wait_until("growth", TIMEOUT, || bitrate(&running) > 2_000_000);
    wait_for_source(&running, source_expected);
    let Some(limit) = BandwidthLimit::new(KBITS) else {
        return;
    };
    wait_until("what fits", TIMEOUT, || bitrate(&running) < KBITS * 1000);
    drop(limit);
    let before = bitrate(&running);
    wait_until("growth anew", TIMEOUT, || {
        bitrate(&running) > before.max(KBITS * 1000) / 10 * 11
    });
    assert_eq!(source(&running, "video_0").unwrap(), source_expected);
}

#[test]
fn estimate_follows_bandwidth_limit() {
    let _exclusive = lock_network_and_registry(true);
    assert_follows_bandwidth_limit("estimate");
}

#[test]
fn loss_based_control_follows_bandwidth_limit() {
    let _exclusive = lock_network_and_registry(false);
    assert_follows_bandwidth_limit("loss");
}
