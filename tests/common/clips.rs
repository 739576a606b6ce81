// SPDX-License-Identifier: MIT

//! Clips of the playground, and checks of them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gst::prelude::*;

use crate::{TIMEOUT, audio, media, mp4, pipeline::TestPipeline, server::Server};

/// Tolerance of durations in seconds: no cut of video or audio is finer.
pub const GRAIN: f64 = 0.05;

/// Panics unless the file is an ordinary MP4 with all its pictures; returns its duration in seconds
/// and the counters of its pictures.
pub fn assert_complete_mp4(file: &Path) -> (f64, Vec<u32>) {
    let boxes = mp4::boxes(file);
    let place = |name: &str| boxes.iter().position(|b| b == name);
    assert!(place("moov") < place("mdat"), "{boxes:?}");
    assert!(place("moof").is_none(), "{boxes:?}");
    assert_eq!(boxes[0], "ftyp");
    media::assert_decodes(file);
    let (start, duration) = media::span(file);
    assert_eq!(start, 0.0, "it does not begin at 0");
    let streams = media::probe(file);
    let (video, audio) = (
        media::stream(&streams, "video"),
        media::stream(&streams, "audio"),
    );
    assert_eq!((&*video.codec, &*audio.codec), ("h264", "aac"));
    let sound = media::samples(file).len() as f64 / f64::from(audio::RATE);
    assert!((duration - sound).abs() < 0.1, "{duration} s, {sound} s");
    let counters = media::recorded_counters(file);
    media::assert_recorded(&counters);
    (duration, counters)
}

pub fn assert_duration(duration: f64, seconds: f64) {
    assert!((duration - seconds).abs() < GRAIN, "{duration} s");
}

/// The beginning of a gst-launch line that plays the model.
pub fn live(server: &Server) -> String {
    format!(
        "reactorsrc name=r local=true api-url={} ! fakesink",
        server.url()
    )
}

/// Records the playground for `seconds` and ends the session. Returns the clip.
pub fn record(server: &Server, seconds: f64) -> gst::Structure {
    let running = TestPipeline::launch(&live(server));
    let source = running.by_name("r");
    let begun = Instant::now();
    loop {
        let promise = gst::Promise::new();
        source.emit_by_name::<()>("request-recording", &[&promise]);
        promise.wait();
        let reply = promise.get_reply().unwrap().to_owned();
        if reply.get::<f64>("now").is_ok_and(|now| now >= seconds) {
            return reply;
        }
        assert!(begun.elapsed() < TIMEOUT, "{reply}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits for the clip of this pipeline's `c`, a reactorclip, and saves it again by its URL. Returns
/// the pipeline that has saved it.
pub fn save_again(running: &TestPipeline, limit: Duration) -> TestPipeline {
    running.wait_element("reactor-clip", limit);
    let clip: gst::Structure = running.by_name("c").property("clip");
    let url: String = clip.get("playlist-url").expect("a playlist");
    let saving = TestPipeline::launch(&format!(
        "reactorclip local=true playlist-url=\"{url}\" ! fakesink sync=false"
    ));
    saving.wait_eos(limit);
    saving
}

/// The address of a clip's playlist, which anybody can use as it is.
pub fn playlist_url(server: &Server, clip: &gst::Structure) -> String {
    let url = clip.get::<String>("playlist-url").unwrap();
    assert!(url.starts_with(&server.url()), "{url}");
    url
}
