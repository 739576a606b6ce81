// SPDX-License-Identifier: MIT

//! The time from a command that changes the picture to the first picture that shows it: measured as
//! by `official_command.py`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst_video::prelude::*;
use reactor_tests::{frames::monotonic_us, pipeline::wait_until};
use serde_json::{Value, json};

use crate::{
    Options,
    measure::{ms_since, percentile},
    receive::{self, FIRST_FRAME_LIMIT},
};

/// Not a multiple of the model's 1/30 s, so that the commands meet all phases.
const INTERVAL: Duration = Duration::from_micros(412_700);
const WARM_UP: Duration = Duration::from_secs(1);
/// The brightness that is added to the picture, alternately. The prompt's background is almost
/// black.
const BRIGHTNESS: [f64; 2] = [0.6, 0.0];
const THRESHOLD: u8 = 100;

/// Since when, by [`monotonic_us`], the prompt's background has this brightness.
type Changes = Arc<Mutex<Vec<(bool, u32)>>>;

pub fn run(options: &Options) -> Value {
    let running = receive::pipeline(options, "");
    let changes = watch(&running.pad("video", "sink"));
    running.play();
    let seen = || changes.lock().unwrap().len();
    wait_until("a picture", FIRST_FRAME_LIMIT, || seen() > 0);
    std::thread::sleep(WARM_UP);

    let element = running.by_name("r");
    let count = (options.window.as_secs_f64() / INTERVAL.as_secs_f64()) as usize;
    let mut sent = Vec::with_capacity(count);
    let begin = Instant::now();
    for (index, brightness) in BRIGHTNESS.into_iter().cycle().take(count).enumerate() {
        let due = begin + INTERVAL * index as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.push((brightness > 0.0, monotonic_us()));
        let data = json!({ "brightness": brightness }).to_string();
        let promise = None::<gst::Promise>;
        element.emit_by_name::<()>("send-command", &[&"set_brightness", &data, &promise]);
    }
    std::thread::sleep(INTERVAL);

    let changes = changes.lock().unwrap();
    let waits: Vec<f64> = sent
        .iter()
        .filter_map(|(bright, at)| shown(&changes, *bright, *at))
        .collect();
    json!({
        "client": "reactorsrc",
        "latency_p50_ms": percentile(&waits, 0.5),
        "latency_p95_ms": percentile(&waits, 0.95),
        "commands": count,
        "unseen": count - waits.len(),
    })
}

/// The time from a command to its effect, unless the next command came first.
fn shown(changes: &[(bool, u32)], bright: bool, at: u32) -> Option<f64> {
    let times = changes.iter().filter(|(now, _)| *now == bright);
    let waits = times.map(|(_, time)| ms_since(*time, at));
    waits
        .filter(|wait| *wait < INTERVAL.as_secs_f64() * 1000.0)
        .reduce(f64::min)
}

fn watch(pad: &gst::Pad) -> Changes {
    let changes = Changes::default();
    let list = changes.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let seen = monotonic_us();
        if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
            let info = gst_video::VideoInfo::from_caps(&caps).expect("video caps");
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info);
            let bright = is_bright(&frame.expect("a picture"));
            let mut list = list.lock().unwrap();
            if list.last().is_none_or(|(last, _)| *last != bright) {
                list.push((bright, seen));
            }
        }
        gst::PadProbeReturn::Ok
    });
    changes
}

/// The brightness of a pixel in the prompt's empty background, at its right.
fn is_bright(frame: &gst_video::VideoFrameRef<&gst::BufferRef>) -> bool {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (x, y) = (width - width / 20, height - height / 16);
    let stride = frame.plane_stride()[0] as usize;
    frame.plane_data(0).expect("a plane")[y * stride + x] >= THRESHOLD
}
