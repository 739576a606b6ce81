// SPDX-License-Identifier: MIT

//! Receives with reactorsrc through a link that may be too small: measured as by
//! `official_narrow.py`, from the moment at which the session is ready. A latency of 0 stands for
//! the element's default.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    frames::{Frame, FrameReader, monotonic_us},
    pipeline::{TestPipeline, wait_for_status},
};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{cpu_over, ms_since, percentile, round},
};

const READY_LIMIT: Duration = Duration::from_secs(30);
/// How often the bytes that arrived are read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// `properties` are set on the element.
pub fn run(options: &Options, properties: &str) -> Value {
    let Options { url, latency, .. } = options;
    let latency = match latency {
        0 => String::new(),
        latency => format!("latency={latency}"),
    };
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={url} {latency} {properties} \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    let started = Instant::now();
    running.play();
    wait_for_status(&running.by_name("r"), "ready", READY_LIMIT);
    let (ready, begin) = (started.elapsed(), monotonic_us());
    let (bytes, (cpu, window)) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_bytes(&running.by_name("r"), options.window));
        let measured = cpu_over(options.window);
        (sampler.join().unwrap_or_default(), measured)
    });
    let frames = reader.frames();
    let stats: gst::Structure = running.by_name("r").property("stats");
    running.stop();

    let seen: Vec<f64> = frames.iter().map(|f| ms_since(f.seen, begin)).collect();
    let ages: Vec<f64> = frames.iter().map(age_ms).collect();
    json!({
        "client": "reactorsrc",
        "ready_ms": round(ready.as_secs_f64() * 1000.0),
        "first_frame_ms": seen.first().map(|ms| round(*ms)),
        "frames": frames.len(),
        "latency_p50_ms": percentile(&ages, 0.5),
        "latency_p95_ms": percentile(&ages, 0.95),
        "longest_ms": longest_gap(&seen, window.as_secs_f64() * 1000.0),
        "unreadable": reader.unreadable(),
        "cpu_seconds": round(cpu),
        "seconds": window.as_secs_f64(),
        "buffer_ms": stats.get::<u32>("latency-ms").ok(),
        "per_second": per_second(&seen, &ages, window),
        "series": {
            "frames": Vec::from_iter(seen.iter().map(|ms| round(*ms)).zip(ages.iter().map(|ms| round(*ms)))),
            "bytes": bytes,
        },
    })
}

/// The bytes of video that have arrived, each with its time in ms.
fn sample_bytes(element: &gst::Element, window: Duration) -> Vec<(f64, u64)> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    while begin.elapsed() < window {
        let stats: gst::Structure = element.property("stats");
        let pad = stats.get::<gst::Structure>("video_main_video").ok();
        let bytes = pad.and_then(|pad| pad.get::<u64>("bytes").ok());
        let at = begin.elapsed().as_secs_f64() * 1000.0;
        samples.push((round(at), bytes.unwrap_or_default()));
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    samples
}

fn age_ms(frame: &Frame) -> f64 {
    frame.age().as_secs_f64() * 1000.0
}

/// The longest time without a picture, the times before the first and after the last included.
fn longest_gap(seen: &[f64], end: f64) -> f64 {
    let mut last = 0.0;
    let times = seen.iter().copied().chain([end]);
    let gaps = times.map(|time| time - std::mem::replace(&mut last, time));
    round(gaps.fold(0.0, f64::max))
}

/// For each second: the number of frames and their median latency.
fn per_second(seen: &[f64], ages: &[f64], window: Duration) -> Vec<Value> {
    let seconds = 0..window.as_secs();
    let second = |n: u64| {
        let of_second = seen.iter().zip(ages);
        let of_second = of_second.filter(|(seen, _)| (**seen / 1000.0) as u64 == n);
        let ages: Vec<f64> = of_second.map(|(_, age)| *age).collect();
        json!([ages.len(), percentile(&ages, 0.5)])
    };
    seconds.map(second).collect()
}
