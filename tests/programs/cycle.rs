// SPDX-License-Identifier: MIT

//! Starts and stops a reactorsrc many times in one process. Prints, after each cycle, one line of
//! JSON with the threads, descriptors and memory of the process.
//!
//!     reactor-cycle URL COUNT [camera|together]
//!
//! With `camera` there is a reactorsink as well. With `together` each receives the video alone, and
//! none is stopped before the last has started.
//!
//! With GST_TRACERS=leaks and GST_DEBUG=GST_TRACER:7 GStreamer lists at the end the objects that
//! were not freed.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    frames::FrameReader,
    pipeline::{TestPipeline, wait_until},
    resources::ProcessResources,
};

const FRAMES: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_millis(200);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: reactor-cycle URL COUNT [camera|together]";
    let url = arguments.next().expect(usage);
    let count: u32 = arguments.next().map_or(20, |n| n.parse().expect(usage));
    let mode = arguments.next();
    let mut together = Vec::new();
    for cycle in 1..=count {
        let held = if mode.as_deref() == Some("together") {
            together.push(start(&url));
            settled(5)
        } else {
            once(&url, mode.as_deref() == Some("camera"));
            settled(1)
        };
        println!(
            "{}",
            serde_json::json!({
                "cycle": cycle,
                "threads": held.threads,
                "descriptors": held.descriptors,
                "rss_kib": held.rss_kib,
                "heap_kib": held.heap_kib,
            })
        );
    }
    together.iter().for_each(TestPipeline::stop);
    drop(together);
    // SAFETY: nothing of GStreamer is used after this; the leaks tracer
    // reports here.
    #[allow(unsafe_code)]
    unsafe {
        gst::deinit();
    }
}

/// The reading with the fewest threads: they end a moment after they were told to, and idle ones of
/// pools later.
fn settled(readings: usize) -> ProcessResources {
    let readings = (0..readings).map(|_| {
        std::thread::sleep(SETTLE);
        ProcessResources::now()
    });
    readings.min_by_key(|held| held.threads).expect("a reading")
}

fn start(url: &str) -> TestPipeline {
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={url} ! fakesink name=video sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    running.play();
    reader.wait_for(FRAMES, TIMEOUT);
    running
}

fn once(url: &str, camera: bool) {
    let mut line = format!(
        "reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink name=audio sync=false"
    );
    if camera {
        line += &format!(
            " videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 \
             ! reactorsink name=s local=true api-url={url}"
        );
    }
    let running = TestPipeline::parse(&line);
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    running.play();
    reader.wait_for(FRAMES, TIMEOUT);
    if camera {
        wait_until("pictures sent", TIMEOUT, || sent(&running) >= FRAMES as u64);
    }
    running.stop();
    let bus = running.pipeline.bus().unwrap();
    bus.set_flushing(true);
}

fn sent(running: &TestPipeline) -> u64 {
    let stats: gst::Structure = running.by_name("s").property("stats");
    let pad = stats.get::<gst::Structure>("video_0").unwrap();
    pad.get("sent").unwrap()
}
