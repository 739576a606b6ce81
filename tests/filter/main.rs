// SPDX-License-Identifier: MIT

//! `reactorfilter` against the real local runtime. That a clip can be requested from a pipeline with
//! a filter is tested with `reactorclip` (`clip`).

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    pipeline::{TestPipeline, wait_until},
    server::Server,
};

#[test]
fn filter_sends_camera_and_returns_model_video() {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         reactorfilter name=f local=true api-url={} ! \
         videoconvert ! video/x-raw,format=RGB ! appsink name=a sync=false max-buffers=1 drop=true",
        server.url()
    ));
    let filter = running.by_name("f");
    filter.set_property("commands", r#"[{"echo":{"text":"x"}}]"#);
    running.play();
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    assert_eq!(reply.get::<String>("command").unwrap(), "echo");
    let sink = running.by_name("a").downcast::<gst_app::AppSink>().unwrap();
    // The camera's picture comes back with inverted colours, in the lower left.
    wait_until("the changed picture", TIMEOUT, || {
        let sample = sink.try_pull_sample(gst::ClockTime::SECOND);
        sample.is_some_and(|sample| {
            let map = sample.buffer().unwrap().map_readable().unwrap();
            let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            let at = 250 * info.stride()[0] as usize + 100 * 3;
            let [r, g, b] = map[at..at + 3] else {
                return false;
            };
            r < 60 && g > 190 && b > 190
        })
    });
    let status: gst::glib::Value = filter.property_value("status");
    assert_eq!(status.serialize().unwrap(), "ready");
}
