// SPDX-License-Identifier: MIT

//! The `latency` property, set while playing: announced by a LATENCY message, applied, without a
//! lost frame.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    frames::{Frame, FrameReader, assert_nearly_contiguous},
    link_down::exclusive_network,
    pipeline::TestPipeline,
    server::Server,
};

const FRAMES: usize = 60;

/// The age of the quickest frame, from the model's emit to the display.
fn quickest(frames: &[Frame]) -> Duration {
    let ages = frames.iter().map(Frame::age);
    ages.min().expect("frames")
}

fn query_latency(running: &TestPipeline) -> (bool, gst::ClockTime) {
    let pad = running.pad("r", "video_main_video");
    let mut query = gst::query::Latency::new();
    assert!(pad.query(&mut query), "the pad does not know its latency");
    let (live, minimum, maximum) = query.result();
    assert!(maximum.is_none_or(|maximum| maximum >= minimum));
    (live, minimum)
}

#[test]
fn latency_set_while_playing_takes_effect() {
    let _exclusive = exclusive_network();
    let server = Server::playground_640x360();
    // The sink adds nothing to the latency.
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r latency=10 \
         ! fakesink name=s sync=true processing-deadline=0 qos=false",
        server.url()
    ));
    let reader = FrameReader::rendered_by(&running.by_name("s"));
    running.play();
    reader.wait_for(30, TIMEOUT);

    let mut steps = Vec::new();
    for latency in [10u32, 20, 60, 200, 60, 10] {
        // Messages of earlier steps.
        let bus = running.pipeline.bus().unwrap();
        while bus.pop().is_some() {}
        running.by_name("r").set_property("latency", latency);
        running.wait_latency_message("r", TIMEOUT);
        running.pipeline.recalculate_latency().unwrap();
        let (live, minimum) = query_latency(&running);
        assert!(live);
        let set = gst::ClockTime::from_mseconds(latency.into());
        assert!(minimum >= set, "{minimum} for {latency} ms");
        assert!(minimum < set + 100.mseconds(), "{minimum} for {latency} ms");
        // Until the new latency holds for all frames in flight.
        reader.wait_for(reader.len() + 15, TIMEOUT);
        let first = reader.len();
        reader.wait_for(first + FRAMES, TIMEOUT);
        steps.push(quickest(&reader.frames()[first..first + FRAMES]));
    }
    assert_nearly_contiguous(&reader.frames());
    assert_eq!(reader.unreadable(), 0);
    assert_age_follows_latency(&steps);
}

/// By the quickest frame of each step: a busy machine can only delay frames.
fn assert_age_follows_latency(quickest: &[Duration]) {
    let [at_10, at_20, at_60, at_200, again_60, again_10] = quickest else {
        panic!("six steps");
    };
    let ms = Duration::from_millis;
    // Nothing is shown before its time. (The time of arrival is smoothed.)
    for (age, latency) in [(at_10, 10), (at_20, 20), (at_60, 60), (at_200, 200)] {
        assert!(*age + ms(15) > ms(latency), "{quickest:?}");
    }
    assert!(*again_60 + ms(70) < *at_200, "{quickest:?}");
    assert!(*again_10 + ms(100) < *at_200, "{quickest:?}");
    assert!(*at_200 < ms(600), "{quickest:?}");
}
