// SPDX-License-Identifier: MIT

//! Starts and stops a reactorsrc many times in one process. Prints, after each cycle, one line of
//! JSON with the threads, descriptors and memory of the process.
//!
//!     reactor-cycle URL COUNT [camera|filter|together|early] [READY]
//!
//! With `camera` there is a reactorsink as well, with `filter` a reactorfilter instead and a
//! reactorclip, whose clip is then saved again by its URL. With `together` each receives the video alone, and
//! none is stopped before the last has started. With `early` each is stopped as soon as its
//! connection is being made, and `connections` are those that are still there when READY -> NULL
//! has returned.
//!
//! READY is the time in seconds that each pipeline stays in READY: what the first connection of a
//! process needs is made then, which takes long under valgrind.
//!
//! With GST_TRACERS=leaks and GST_DEBUG=GST_TRACER:7 GStreamer lists at the end the objects that
//! were not freed.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    actions::send_command,
    clips::save_again,
    frames::FrameReader,
    pipeline::{TestPipeline, wait_until},
    resources::{ProcessResources, threads_named},
};

const FRAMES: usize = 5;
/// Under valgrind all takes 50 times as long.
const TIMEOUT: Duration = Duration::from_secs(120);
const SETTLE: Duration = Duration::from_millis(200);
/// The plugin's thread that makes a connection and takes it down.
const CONNECTION: &str = "reactor-peer";
/// After this, GStreamer 1.22 is making the key of a process's first connection, which then takes
/// 0.9 s and more to close.
const KEY_BEGUN: Duration = Duration::from_millis(200);
/// A thread that has closed its connection has this long to exit, which takes up to 3 ms.
const THREAD_EXIT: Duration = Duration::from_millis(250);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: reactor-cycle URL COUNT [camera|filter|together|early] [READY]";
    let url = arguments.next().expect(usage);
    let count: u32 = arguments.next().map_or(20, |n| n.parse().expect(usage));
    let mode = arguments.next();
    let ready = arguments.next().map_or(0, |n| n.parse().expect(usage));
    let ready = Duration::from_secs(ready);
    let mut together = Vec::new();
    for cycle in 1..=count {
        let mut connections = None;
        let held = match mode.as_deref() {
            Some("early") => {
                connections = Some(stop_early(&url, ready));
                settled(1)
            }
            Some("together") => {
                together.push(start(&url, ready));
                settled(5)
            }
            Some("filter") => {
                filter_once(&url, ready);
                settled(1)
            }
            mode => {
                once(&url, mode == Some("camera"), ready);
                settled(1)
            }
        };
        println!(
            "{}",
            serde_json::json!({
                "cycle": cycle,
                "threads": held.threads,
                "descriptors": held.descriptors,
                "rss_kib": held.rss_kib,
                "heap_kib": held.heap_kib,
                "connections": connections,
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

fn start(url: &str, ready: Duration) -> TestPipeline {
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={url} ! fakesink name=video sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    play(&running, ready);
    reader.wait_for(FRAMES, TIMEOUT);
    running
}

/// Returns how many connections there are once the pipeline has stopped.
fn stop_early(url: &str, ready: Duration) -> usize {
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={url} close-timeout=0 ! fakesink sync=false"
    ));
    play(&running, ready);
    wait_until("a connection", TIMEOUT, || threads_named(CONNECTION) > 0);
    std::thread::sleep(KEY_BEGUN);
    end(&running);
    std::thread::sleep(THREAD_EXIT);
    threads_named(CONNECTION)
}

fn once(url: &str, camera: bool, ready: Duration) {
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
    play(&running, ready);
    reader.wait_for(FRAMES, TIMEOUT);
    if camera {
        wait_until("pictures sent", TIMEOUT, || sent(&running) >= FRAMES as u64);
    }
    end(&running);
}

fn filter_once(url: &str, ready: Duration) {
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorfilter name=f local=true api-url={url} ! videoconvert \
         ! video/x-raw,format=I420 ! fakesink name=video sync=false \
         reactorclip name=c request=now duration=1 ! fakesink sync=false"
    ));
    let reader = FrameReader::watch(&running.pad("video", "sink"));
    play(&running, ready);
    reader.wait_for(FRAMES, TIMEOUT);
    send_command(&running.by_name("f"), "echo", r#"{"text":"x"}"#).wait_ok(TIMEOUT);
    end(&save_again(&running, TIMEOUT));
    end(&running);
}

fn play(running: &TestPipeline, ready: Duration) {
    running
        .pipeline
        .set_state(gst::State::Ready)
        .expect("READY");
    std::thread::sleep(ready);
    running.play();
}

fn end(running: &TestPipeline) {
    running.stop();
    let bus = running.pipeline.bus().unwrap();
    bus.set_flushing(true);
}

fn sent(running: &TestPipeline) -> u64 {
    let stats: gst::Structure = running.by_name("s").property("stats");
    let pad = stats.get::<gst::Structure>("video_0").unwrap();
    pad.get("sent").unwrap()
}
