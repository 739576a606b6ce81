// SPDX-License-Identifier: MIT

//! Receives from a local runtime with reactorsrc and prints one line of JSON
//! with the same figures as `official_client.py`, got the same way.
//!
//!     bench-reactorsrc URL SECONDS [LATENCY_MS]

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    frames::{Frame, Reader},
    pipeline::Running,
};

/// Not measured after the first frame, as with the other client.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two sessions: the server needs a moment to end the first.
const SETTLE: Duration = Duration::from_secs(1);
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(15);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .expect("usage: bench-reactorsrc URL SECONDS [LATENCY_MS]");
    let seconds: f64 = arguments
        .next()
        .map_or(10.0, |s| s.parse().expect("seconds"));
    let latency: u32 = arguments.next().map_or(10, |s| s.parse().expect("latency"));

    let (running, reader, first_frame) = start(&url, latency);
    let stats: gst::Structure = running.by_name("r").property("stats");
    std::thread::sleep(WARM_UP);

    reader.clear();
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let (cpu, window) = (cpu_seconds() - cpu, begin.elapsed());
    let frames = reader.frames();
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    running.stop();
    drop(running);
    std::thread::sleep(SETTLE);
    let (_, _, again) = start(&url, latency);

    let mut ages: Vec<f64> = frames
        .iter()
        .map(|f| f.age().as_secs_f64() * 1000.0)
        .collect();
    ages.sort_by(f64::total_cmp);
    let report = serde_json::json!({
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
    });
    println!("{report}");
}

/// Starts receiving; how long the first frame took.
fn start(url: &str, latency: u32) -> (Running, Reader, Duration) {
    let running = Running::parse(&format!(
        "reactorsrc name=r local=true api-url={url} latency={latency} \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink name=audio sync=false"
    ));
    let reader = Reader::watch(&running.pad("video", "sink"));
    let started = Instant::now();
    running.play();
    reader.wait_for(1, FIRST_FRAME_LIMIT);
    (running, reader, started.elapsed())
}

/// What the element itself says of how it connected.
fn phases(stats: &gst::Structure) -> serde_json::Map<String, serde_json::Value> {
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

fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = (sorted.len() as f64 * part) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .map(round)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn usage() -> libc::rusage {
    // SAFETY: getrusage fills the structure it is given; zeroes are a valid one.
    #[allow(unsafe_code)]
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}

fn cpu_seconds() -> f64 {
    let usage = usage();
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn peak_rss_kib() -> i64 {
    usage().ru_maxrss
}
