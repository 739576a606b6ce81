// SPDX-License-Identifier: MIT

//! Several sessions in one process, each of which receives the picture of a server of its own:
//! threads, memory, CPU and latency, measured as by `official_scale.py`.

use std::time::Duration;

use reactor_tests::{frames::FrameReader, pipeline::TestPipeline};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{cpu_over, percentile, round, rss_kib, threads},
    receive::FIRST_FRAME_LIMIT,
};

const WARM_UP: Duration = Duration::from_secs(2);

/// The servers' addresses are separated by commas.
pub fn run(options: &Options) -> Value {
    let servers = options.url.split(',');
    let sessions: Vec<_> = servers.map(|url| start(url, options.latency)).collect();
    std::thread::sleep(WARM_UP);
    for (_, reader) in &sessions {
        reader.clear();
    }
    let (cpu, window) = cpu_over(options.window);
    let (threads, rss) = (threads(), rss_kib());
    let frames: Vec<_> = sessions.iter().map(|(_, reader)| reader.frames()).collect();
    for (pipeline, _) in &sessions {
        pipeline.stop();
    }
    let ages = frames.iter().flatten().map(|frame| frame.age());
    let ages: Vec<f64> = ages.map(|age| age.as_secs_f64() * 1000.0).collect();
    let per_session = frames.iter().map(Vec::len);
    json!({
        "client": "reactorsrc",
        "threads": threads,
        "rss_mib": rss / 1024,
        "cpu_per_s": round(cpu / window.as_secs_f64()),
        "frames": ages.len(),
        "least_frames": per_session.min(),
        "latency_p50_ms": percentile(&ages, 0.5),
        "latency_p95_ms": percentile(&ages, 0.95),
    })
}

/// Starts receiving, and waits for the first picture.
fn start(url: &str, latency: u32) -> (TestPipeline, FrameReader) {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={url} latency={latency} \
         r.video_main_video ! fakesink name=video sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    running.play();
    reader.wait_for(1, FIRST_FRAME_LIMIT);
    (running, reader)
}
