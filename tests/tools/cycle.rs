// SPDX-License-Identifier: MIT

//! Starts and stops a reactorsrc again and again in one process and prints,
//! after each cycle, one line of JSON with what the process holds.
//!
//!     reactor-cycle URL COUNT [camera]
//!
//! With `camera` a reactorsink takes part.
//!
//! With GST_TRACERS=leaks and GST_DEBUG=GST_TRACER:7 GStreamer lists at the
//! end what was not freed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, time::Duration};

use gst::prelude::*;
use reactor_tests::{
    frames::Reader,
    pipeline::{Running, wait_until},
};

const FRAMES: usize = 5;
const SOON: Duration = Duration::from_secs(20);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .expect("usage: reactor-cycle URL COUNT [camera]");
    let count: u32 = arguments.next().map_or(20, |n| n.parse().expect("a count"));
    let camera = arguments.next().is_some_and(|word| word == "camera");
    for cycle in 1..=count {
        once(&url, camera);
        // Threads end a moment after they were told to.
        std::thread::sleep(Duration::from_millis(200));
        println!(
            "{}",
            serde_json::json!({
                "cycle": cycle,
                "threads": entries("/proc/self/task"),
                "descriptors": entries("/proc/self/fd"),
                "rss_kib": rss_kib(),
                "heap_kib": heap_kib(),
            })
        );
    }
    // SAFETY: nothing of GStreamer is used after this; the leaks tracer
    // reports here.
    #[allow(unsafe_code)]
    unsafe {
        gst::deinit();
    }
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
    let running = Running::parse(&line);
    let reader = Reader::watch(&running.pad("video", "sink"));
    running.play();
    reader.wait_for(FRAMES, SOON);
    if camera {
        wait_until("pictures sent", SOON, || sent(&running) >= FRAMES as u64);
    }
    running.stop();
    let bus = running.pipeline.bus().unwrap();
    bus.set_flushing(true);
}

fn sent(running: &Running) -> u64 {
    let stats: gst::Structure = running.by_name("s").property("stats");
    let pad = stats.get::<gst::Structure>("video_0").unwrap();
    pad.get("sent").unwrap()
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What malloc has handed out: unlike the resident size it does not depend on
/// how the heaps of the threads are cut up.
fn heap_kib() -> usize {
    // SAFETY: reads malloc's own counters.
    #[allow(unsafe_code)]
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) / 1024
}
