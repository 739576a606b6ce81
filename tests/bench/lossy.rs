// SPDX-License-Identifier: MIT

//! Receives with reactorsrc through a bad network, which is behind the URL: measured as by
//! `official_lossy.py`, from the first frame on. A latency of 0 stands for the element's defaults.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    frames::{Frame, FrameReader},
    pipeline::TestPipeline,
};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{cpu_over, ms_since, percentile, round},
};

/// The first keyframe may take several attempts.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(60);
/// A gap that viewers notice as a freeze.
const FREEZE_MS: f64 = 200.0;

pub fn run(options: &Options) -> Value {
    let Options { url, latency, .. } = options;
    let latency = match latency {
        0 => String::new(),
        fixed => format!("latency={fixed} max-latency=0"),
    };
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={url} {latency} \
         r.video_main_video ! fakesink name=video sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    let started = Instant::now();
    running.play();
    reader.wait_for(1, FIRST_FRAME_LIMIT);
    let first_frame = started.elapsed();
    let (cpu, window) = cpu_over(options.window);
    let frames = reader.frames();
    let stats: gst::Structure = running.by_name("r").property("stats");
    running.stop();

    let counters: BTreeSet<u32> = frames.iter().map(|frame| frame.counter).collect();
    let span = counters
        .last()
        .zip(counters.first())
        .map(|(last, first)| usize::try_from(last - first).unwrap() + 1);
    let lost = span.map(|span| span - counters.len());
    let freezes = freezes(&frames);
    let ages: Vec<f64> = frames
        .iter()
        .map(|f| f.age().as_secs_f64() * 1000.0)
        .collect();
    json!({
        "client": "reactorsrc",
        "first_frame_ms": round(first_frame.as_secs_f64() * 1000.0),
        "frames": counters.len(),
        "lost": lost,
        "lost_percent": lost.zip(span).map(|(lost, span)| round(lost as f64 * 100.0 / span as f64)),
        "freezes": freezes.len(),
        "frozen_s": round(freezes.iter().sum::<f64>() / 1000.0),
        "longest_ms": round(freezes.iter().copied().fold(0.0, f64::max)),
        "latency_p50_ms": percentile(&ages, 0.5),
        "latency_p95_ms": percentile(&ages, 0.95),
        "buffer_ms": stats.get::<u32>("latency-ms").ok(),
        "unreadable": reader.unreadable(),
        "cpu_seconds": round(cpu),
        "seconds": window.as_secs_f64(),
    })
}

/// The lengths of the freezes in ms.
fn freezes(frames: &[Frame]) -> Vec<f64> {
    let gaps = frames
        .windows(2)
        .map(|pair| ms_since(pair[1].seen, pair[0].seen));
    gaps.filter(|&gap| gap > FREEZE_MS).collect()
}
