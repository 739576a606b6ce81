// SPDX-License-Identifier: MIT

//! Camera to model to screen, both directions in one pipeline: measured as by
//! `official_roundtrip.py`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::pipeline::wait_until;
use serde_json::{Value, json};

use crate::{
    Options,
    camera::{Feed, Scene, Sight, Sights},
    measure::{cpu_over, ms_since, percentile, round},
    receive::{self, FIRST_FRAME_LIMIT},
};

/// Until libwebrtc's bitrate has reached its final value.
const WARM_UP: Duration = Duration::from_secs(8);

pub fn run(options: &Options, scene: Scene) -> Value {
    // A little slower than the model, so that its pictures meet each phase of the model's once: how
    // long one waits for the model's next picture is random.
    let seconds = options.window.as_secs_f64();
    let period = Duration::from_secs_f64(1.0 / (30.0 - 1.0 / seconds));
    let running = receive::pipeline(
        options,
        &format!(
            "appsrc name=camera is-live=true format=time do-timestamp=true \
             ! reactorsink name=s local=true api-url={} latency={}",
            options.url, options.latency
        ),
    );
    let camera = running.by_name("camera").downcast::<gst_app::AppSrc>();
    let camera = camera.expect("an appsrc");
    camera.set_caps(Some(&scene.caps(gst::Fraction::new(30, 1))));
    let sent = count_encoded(&running.by_name("s"));
    let sights = Sights::watch(&running.pad("video", "sink"));
    let (width, height) = (scene.width, scene.height);
    running.play();
    let feed = Feed::start(camera, scene, period);
    wait_until("the camera's picture", FIRST_FRAME_LIMIT, || sights.any());
    std::thread::sleep(WARM_UP);

    sights.take();
    let bytes = sent.load(Ordering::Relaxed);
    let (cpu, window) = cpu_over(options.window);
    let sights = sights.take();
    let bytes = sent.load(Ordering::Relaxed) - bytes;
    let trips = Trips::of(&sights, &feed);
    json!({
        "client": "reactorsrc and reactorsink",
        "latency_p50_ms": percentile(&trips.total, 0.5),
        "latency_p95_ms": percentile(&trips.total, 0.95),
        "up_p50_ms": percentile(&trips.up, 0.5),
        "down_p50_ms": percentile(&trips.down, 0.5),
        "pictures": trips.total.len(),
        "unreadable": sights.iter().filter(|sight| sight.is_none()).count(),
        "seconds": window.as_secs_f64(),
        "cpu_seconds": round(cpu),
        "sent_width": width,
        "sent_height": height,
        "sent_kbit_s": (bytes as f64 / 125.0 / window.as_secs_f64()).round(),
    })
}

/// The number of bytes that the sink's encoder has produced.
pub fn count_encoded(sink: &gst::Element) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    sink.connect("encoder-setup", false, move |values| {
        let encoder = values[2].get::<gst::Element>().expect("an encoder");
        let pad = encoder.static_pad("src").expect("a pad");
        let counter = counter.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let size = info.buffer().map_or(0, |buffer| buffer.size());
            counter.fetch_add(size as u64, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        None
    });
    count
}

/// The transit times of the camera's pictures, when first seen, in ms.
#[derive(Default)]
struct Trips {
    total: Vec<f64>,
    /// Until the model emitted the picture that contains it.
    up: Vec<f64>,
    down: Vec<f64>,
}

impl Trips {
    fn of(sights: &[Option<Sight>], feed: &Feed) -> Self {
        let handed = feed.handed.lock().unwrap();
        let mut trips = Self::default();
        let mut last = None;
        for sight in sights.iter().flatten() {
            // The first one may have been visible before.
            let fresh = last.is_some_and(|last| last != sight.number);
            last = Some(sight.number);
            if let (true, Some(begin)) = (fresh, handed[sight.number]) {
                trips.total.push(ms_since(sight.seen, begin));
                trips.up.push(ms_since(sight.emitted, begin));
                trips.down.push(ms_since(sight.seen, sight.emitted));
            }
        }
        trips
    }
}
