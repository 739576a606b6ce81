// SPDX-License-Identifier: MIT

//! Connects through the stand-in for the cloud, which lists STUN and TURN servers: measured as by
//! `official_ice.py`.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    cloud::{KEY, start_coordinator_before},
    coturn::own_address,
    frames::FrameReader,
    pipeline::TestPipeline,
    silent_ice_servers::SilentIceServers,
};
use serde_json::{Value, json};

use crate::{
    measure::{percentile, round},
    receive::FIRST_FRAME_LIMIT,
};

/// The first of a process is measured by itself.
const CONNECTIONS: usize = 4;
/// Between two sessions: the server takes a moment to end the first.
const SETTLE: Duration = Duration::from_secs(1);

/// Prints the address of a cloud with this runtime; ends with the input. It lists no ICE servers,
/// or some that do not answer.
pub fn serve(runtime: String, with_silent_servers: bool) {
    let silent = SilentIceServers::bind(own_address());
    let ice_servers = match with_silent_servers {
        true => silent.list(),
        false => json!([]),
    };
    let coordinator = start_coordinator_before(
        runtime,
        CoordinatorSettings {
            ice_servers: Some(ice_servers),
            ..CoordinatorSettings::default()
        },
    );
    println!("{}", coordinator.url());
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

pub fn run(url: &str) -> Value {
    let (mut connects, mut first_frames) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let (connect, first_frame) = connect(url);
        connects.push(connect);
        first_frames.push(first_frame);
        std::thread::sleep(SETTLE);
    }
    json!({
        "client": "reactorsrc",
        "connect_ms": round(connects[0]),
        "first_frame_ms": round(first_frames[0]),
        "connect_again_ms": percentile(&connects[1..], 0.5),
        "first_frame_again_ms": percentile(&first_frames[1..], 0.5),
    })
}

/// The times in ms until the session is ready, and until the first frame.
fn connect(url: &str) -> (f64, f64) {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r api-url={url} api-key={KEY} model=playground \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    let started = Instant::now();
    running.play();
    reader.wait_for(1, FIRST_FRAME_LIMIT);
    let first_frame = started.elapsed().as_secs_f64() * 1000.0;
    let stats: gst::Structure = running.by_name("r").property("stats");
    running.stop();
    (stats.get::<f64>("ready-ms").expect("ready"), first_frame)
}
