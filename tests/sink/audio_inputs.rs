// SPDX-License-Identifier: MIT

//! Raw and encoded audio, alone and with a camera.

use reactor_tests::{
    TIMEOUT,
    audio::{self, AudioRecorder},
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, wait_until},
    server::Server,
};

use crate::support::{CAMERA, MICROPHONE, codec, encoders, parse, sent};

fn play_until_microphone_is_audible(feed: &str) -> TestPipeline {
    let server = Server::playground();
    let url = server.url();
    let running = TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} \
         reactorsrc name=r local=true api-url={url} \
         r.audio_main_audio ! audioconvert ! audioresample ! {} \
         ! identity name=i ! fakesink sync=false",
        audio::CAPS
    ));
    let listener = AudioRecorder::watch(&running.pad("i", "src"));
    running.play();
    wait_until("the microphone's tone", TIMEOUT, || {
        let chunks = listener.chunks();
        let last = &chunks[chunks.len().saturating_sub(100)..];
        let samples: Vec<_> = last.iter().flat_map(|p| p.samples.clone()).collect();
        samples.len() >= audio::RATE as usize / 2 && audio::amplitude(&samples, 1000.0) > 0.1
    });
    let first = &listener.chunks()[..5];
    let first: Vec<_> = first.iter().flat_map(|p| p.samples.clone()).collect();
    assert!(audio::amplitude(&first, 1000.0) < 0.05, "heard before");
    assert_eq!(codec(&running, "audio_0"), "OPUS");
    running
}

#[test]
fn raw_audio_is_encoded_as_opus() {
    let running = play_until_microphone_is_audible(MICROPHONE);
    assert_eq!(encoders(&running).len(), 1);
}

#[test]
fn opus_input_passes_without_encoder() {
    let running = play_until_microphone_is_audible(&format!("{MICROPHONE} ! opusenc"));
    assert!(encoders(&running).is_empty());
}

#[test]
fn camera_and_microphone_feed_their_tracks() {
    let server = Server::playground();
    let running = parse(
        &server.url(),
        &format!("{MICROPHONE} ! s.audio_microphone {CAMERA}"),
        "",
    );
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    wait_until("sound", TIMEOUT, || sent(&running, "audio_microphone") > 25);
    let microphone = running.pad_stats("s", "audio_microphone");
    assert_eq!(microphone.get::<String>("track").unwrap(), "microphone");
    let camera = running.pad_stats("s", "video_0");
    assert_eq!(camera.get::<String>("track").unwrap(), "camera");
}
