// SPDX-License-Identifier: MIT

//! Feeds for a reactorsink, and what its `stats` say of its pads.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::pipeline::TestPipeline;

/// The default close-timeout (2 s), and 1 s for the rest.
pub const CLOSED: Duration = Duration::from_secs(3);

pub const CAMERA: &str = "videotestsrc is-live=true pattern=red \
                      ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";
pub const MICROPHONE: &str = "audiotestsrc is-live=true freq=1000 volume=0.3 \
                          ! audio/x-raw,rate=48000,channels=1";

/// `feed ! reactorsink name=s PROPERTIES`, and a reactorsrc that shows the result.
pub fn parse(url: &str, feed: &str, properties: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties} \
         reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false"
    ))
}

/// The sink alone.
pub fn parse_sink(url: &str, feed: &str, properties: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties}"
    ))
}

pub fn sent(running: &TestPipeline, pad: &str) -> u64 {
    running.pad_stats("s", pad).get("sent").unwrap()
}

pub fn codec(running: &TestPipeline, pad: &str) -> String {
    let codec = running.pad_stats("s", pad).get::<Option<String>>("codec");
    codec.unwrap().expect("a codec")
}

/// The encoders within the sink.
pub fn encoders(running: &TestPipeline) -> Vec<gst::Element> {
    let sink = running.by_name("s").downcast::<gst::Bin>().unwrap();
    let elements = sink.iterate_recurse().into_iter().flatten();
    let is_encoder = |element: &gst::Element| {
        let factory = element.factory();
        factory.is_some_and(|f| f.has_type(gst::ElementFactoryType::ENCODER))
    };
    elements.filter(is_encoder).collect()
}

pub fn assert_stops_soon(running: &TestPipeline) {
    let begun = Instant::now();
    running.stop();
    assert!(begun.elapsed() < CLOSED, "{:?}", begun.elapsed());
}
