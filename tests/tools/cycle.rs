// SPDX-License-Identifier: MIT

//! Starts and stops a reactorsrc again and again in one process and prints,
//! after each cycle, one line of JSON with what the process holds.
//!
//!     reactor-cycle URL COUNT
//!
//! With GST_TRACERS=leaks and GST_DEBUG=GST_TRACER:7 GStreamer lists at the
//! end what was not freed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, time::Duration};

use gst::prelude::*;
use reactor_tests::{frames::Reader, pipeline::Running};

const FRAMES: usize = 5;
const SOON: Duration = Duration::from_secs(20);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("usage: reactor-cycle URL COUNT");
    let count: u32 = arguments.next().map_or(20, |n| n.parse().expect("a count"));
    for cycle in 1..=count {
        once(&url);
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

fn once(url: &str) {
    let running = Running::parse(&format!(
        "reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink name=audio sync=false"
    ));
    let reader = Reader::watch(&running.pad("video", "sink"));
    running.play();
    reader.wait_for(FRAMES, SOON);
    running.stop();
    let bus = running.pipeline.bus().unwrap();
    bus.set_flushing(true);
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
