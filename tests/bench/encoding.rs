// SPDX-License-Identifier: MIT

//! The cost of sending: pictures that reactorsink encodes, and equal pictures that were encoded
//! before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::pipeline::{TestPipeline, wait_until};
use serde_json::{Value, json};

use crate::{
    Options,
    camera::{Scene, Sights, pace},
    measure::{cpu_over, round},
    receive::FIRST_FRAME_LIMIT,
    roundtrip::count_encoded,
};

/// The pipeline that prepares the input before the measurement.
pub const RAW: &str = "";
/// At the bitrate at which the sink's encoder is kept.
pub const ENCODED: &str = "! vp8enc deadline=1 cpu-used=8 end-usage=cbr target-bitrate=2000000 \
                           keyframe-max-dist=60";
const BITRATE: u32 = 2_000_000;

const PERIOD: Duration = Duration::from_nanos(33_333_333);
/// Forward and backward, so that it continues without a jump.
const PICTURES: usize = 60;
const WARM_UP: Duration = Duration::from_secs(2);

pub fn run(options: &Options, scene: &Scene, tail: &str) -> Value {
    let (pictures, caps) = prepare(scene, tail);
    let url = &options.url;
    let running = TestPipeline::parse(&format!(
        "appsrc name=camera is-live=true format=time do-timestamp=true \
         ! reactorsink name=s session=b local=true api-url={url} \
           start-bitrate={BITRATE} max-bitrate={BITRATE}"
    ));
    let camera = running.by_name("camera").downcast::<gst_app::AppSrc>();
    let camera = camera.expect("an appsrc");
    camera.set_caps(Some(&caps));
    let encoded = count_encoded(&running.by_name("s"));
    let handed = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    running.play();
    let feeding = std::thread::spawn({
        let (handed, stop) = (handed.clone(), stop.clone());
        move || {
            let mut pictures = pictures.iter().cycle();
            pace(PERIOD, &stop, || {
                let picture = pictures.next().expect("pictures");
                handed.fetch_add(picture.size() as u64, Ordering::Relaxed);
                camera.push_buffer(picture.copy()).is_ok()
            });
        }
    });
    wait_until_it_arrives(options);
    std::thread::sleep(WARM_UP);

    // The output: of the encoder, where there is one.
    let count = || match tail {
        RAW => encoded.load(Ordering::Relaxed),
        _ => handed.load(Ordering::Relaxed),
    };
    let (bytes, pictures) = (count(), sent(&running));
    let (cpu, window) = cpu_over(options.window);
    let (bytes, pictures) = (count() - bytes, sent(&running) - pictures);
    stop.store(true, Ordering::Relaxed);
    feeding.join().expect("the feeder");
    json!({
        "client": "reactorsink",
        "pictures": pictures,
        "sent_kbit_s": (bytes as f64 / 125.0 / window.as_secs_f64()).round(),
        "seconds": window.as_secs_f64(),
        "cpu_seconds": round(cpu),
    })
}

/// Waits until the model shows the camera, and disconnects: receiving is not measured.
fn wait_until_it_arrives(options: &Options) {
    let watching = TestPipeline::parse(&format!(
        "reactorsrc session=b local=true api-url={} ! fakesink name=video sync=false",
        options.url
    ));
    let sights = Sights::watch(&watching.pad("video", "sink"));
    watching.play();
    wait_until("the camera's picture", FIRST_FRAME_LIMIT, || sights.any());
    watching.stop();
}

fn sent(running: &TestPipeline) -> u64 {
    let stats: gst::Structure = running.by_name("s").property("stats");
    let track: gst::Structure = stats.get("video_0").expect("a pad");
    track.get("sent").expect("a count")
}

/// The scene as I420, as cameras give it, or encoded; without timestamps.
fn prepare(scene: &Scene, tail: &str) -> (Vec<gst::Buffer>, gst::Caps) {
    let running = TestPipeline::parse(&format!(
        "appsrc name=scene format=time ! videoconvert ! video/x-raw,format=I420 {tail} \
         ! appsink name=prepared sync=false"
    ));
    let source = running.by_name("scene").downcast::<gst_app::AppSrc>();
    let sink = running.by_name("prepared").downcast::<gst_app::AppSink>();
    let (source, sink) = (source.expect("an appsrc"), sink.expect("an appsink"));
    source.set_caps(Some(&scene.caps(gst::Fraction::new(30, 1))));
    running.play();
    let period = gst::ClockTime::from_nseconds(PERIOD.as_nanos() as u64);
    let mut pictures = Vec::new();
    let mut caps = None;
    for (index, number) in (1..=PICTURES).chain((1..=PICTURES).rev()).enumerate() {
        let mut buffer = gst::Buffer::with_size(scene.size()).expect("memory");
        let writable = buffer.get_mut().expect("ours alone");
        writable.set_pts(period * index as u64);
        writable.set_duration(period);
        scene.draw(number, &mut writable.map_writable().expect("writable"));
        source.push_buffer(buffer).expect("it flows");
        let sample = sink.pull_sample().expect("a picture");
        let mut picture = sample.buffer_owned().expect("a buffer");
        let timeless = picture.make_mut();
        timeless.set_pts(None);
        timeless.set_dts(None);
        timeless.set_duration(None);
        pictures.push(picture);
        caps = sample.caps_owned();
    }
    (pictures, caps.expect("caps"))
}
