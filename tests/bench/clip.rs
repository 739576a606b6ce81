// SPDX-License-Identifier: MIT

//! A long recording, downloaded and stored as a file.

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{pipeline::TestPipeline, recording_server::RecordingServer};
use serde_json::{Value, json};

use crate::measure::{peak_rss_kib, round, rss_kib};

/// Longer than the repeated part of a long recording, in seconds.
const BASE: f64 = 11.0;
const LIMIT: Duration = Duration::from_secs(600);

/// Records a session of the playground; stores the clip as the platform serves it.
pub fn record(url: &str, file: &str) -> Value {
    let running = TestPipeline::launch(&format!(
        "reactorsrc local=true api-url={url} ! fakesink  \
         reactorclip duration={BASE} format=fragmented ! filesink location={file}"
    ));
    running.wait_element("reactor-clip", LIMIT);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(LIMIT);
    json!({ "bytes": size(file) })
}

/// Serves a recording of `segments` segments, each after `latency` ms, until the standard input
/// ends. Prints the address first.
pub fn serve(base: &str, segments: usize, latency: u64) {
    let base = std::fs::read(base).expect("a recording");
    let recording = RecordingServer::serve(&base, segments, Duration::from_millis(latency));
    println!("{}", recording.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

pub fn fetch(url: &str, format: &str, file: &str) -> Value {
    let running = TestPipeline::parse(&format!(
        "reactorclip local=true format={format} playlist-url={url} ! filesink location={file}"
    ));
    let idle = rss_kib();
    let begun = Instant::now();
    running.play();
    running.wait_eos(LIMIT);
    let seconds = begun.elapsed().as_secs_f64();
    json!({
        "seconds": round(seconds),
        "peak_kib": peak_rss_kib(),
        "grown_kib": peak_rss_kib() - idle,
        "megabytes": round(size(file) / 1e6),
    })
}

fn size(file: impl AsRef<Path>) -> f64 {
    std::fs::metadata(file).map_or(0.0, |file| file.len() as f64)
}
