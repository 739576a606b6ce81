// SPDX-License-Identifier: MIT

//! Receives with reactorsrc: measured as by `official_client.py`.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    frames::{Frame, FrameReader},
    pipeline::TestPipeline,
};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{cpu_over, peak_rss_kib, percentile, round, threads},
};

/// Not measured after the first frame, as with the official client.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two sessions: the server takes a moment to end the first.
const SETTLE: Duration = Duration::from_secs(1);
pub const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(15);

pub fn run(options: &Options) -> Value {
    let (running, reader, first_frame) = start(options);
    let stats: gst::Structure = running.by_name("r").property("stats");
    std::thread::sleep(WARM_UP);

    reader.clear();
    let (cpu, window) = cpu_over(options.window);
    let frames = reader.frames();
    let threads = threads();
    running.stop();
    drop(running);
    std::thread::sleep(SETTLE);
    let (_, _, again) = start(options);

    let ages = frames.iter().map(|f| f.age().as_secs_f64() * 1000.0);
    let ages: Vec<f64> = ages.collect();
    json!({
        "client": "reactorsrc",
        "width": frames.first().map(|f| f.width),
        "height": frames.first().map(|f| f.height),
        "connect_ms": stats.get::<f64>("ready-ms").ok().map(round),
        "first_frame_ms": round(first_frame.as_secs_f64() * 1000.0),
        "first_frame_again_ms": round(again.as_secs_f64() * 1000.0),
        "latency_p50_ms": percentile(&ages, 0.5),
        "latency_p95_ms": percentile(&ages, 0.95),
        "frames": frames.len(),
        "missing": missing(&frames),
        "unreadable": reader.unreadable(),
        "seconds": window.as_secs_f64(),
        "cpu_seconds": round(cpu),
        "peak_rss_kib": peak_rss_kib(),
        "threads": threads,
        "phases_ms": phases(&stats),
    })
}

/// A pipeline with both tracks, decoded, and further elements.
pub fn pipeline(options: &Options, rest: &str) -> TestPipeline {
    let Options { url, latency, .. } = options;
    TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={url} latency={latency} \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink name=audio sync=false {rest}"
    ))
}

/// Starts receiving; returns the time until the first frame.
fn start(options: &Options) -> (TestPipeline, FrameReader, Duration) {
    let running = pipeline(options, "");
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    let started = Instant::now();
    running.play();
    reader.wait_for(1, FIRST_FRAME_LIMIT);
    (running, reader, started.elapsed())
}

/// The element's own timing of its connection.
fn phases(stats: &gst::Structure) -> serde_json::Map<String, Value> {
    let field = |name: &str| Some((name.to_owned(), round(stats.get::<f64>(name).ok()?).into()));
    [
        "session-ms",
        "offer-ms",
        "answer-ms",
        "connected-ms",
        "ready-ms",
    ]
    .into_iter()
    .filter_map(field)
    .collect()
}

fn missing(frames: &[Frame]) -> Option<u32> {
    let (first, last) = (frames.first()?, frames.last()?);
    Some(last.counter - first.counter + 1 - frames.len() as u32)
}
