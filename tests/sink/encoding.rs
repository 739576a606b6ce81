// SPDX-License-Identifier: MIT

//! Encoders: their choice, their settings, changes of size, bitrate.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, wait_until},
    server::Server,
};

use crate::support::{CAMERA, codec, encoders, parse, parse_sink, sent};

#[test]
fn input_size_change_is_encoded() {
    let server = Server::playground();
    let feed = "videotestsrc is-live=true pattern=red \
                ! capsfilter name=c caps=video/x-raw,width=640,height=360,framerate=15/1";
    let running = parse(&server.url(), feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    let above = |view: &CameraView| Colour::Red.is_inverted(view.last().unwrap().above);
    assert!(!above(&view));
    let set_size = |width: i32, height: i32| {
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(15, 1))
            .build();
        running.by_name("c").set_property("caps", caps);
    };
    set_size(320, 240);
    wait_until("a picture of 4:3", TIMEOUT, || above(&view));
    set_size(640, 360);
    wait_until("a picture of 16:9", TIMEOUT, || !above(&view));
    view.wait_for(Colour::Red, TIMEOUT);
}

#[test]
fn video_encoder_property_selects_encoder() {
    let server = Server::playground();
    let running = parse(&server.url(), CAMERA, "video-encoder=vp9enc");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    assert_eq!(codec(&running, "video_0"), "VP9");
    let names: Vec<_> = encoders(&running)
        .iter()
        .map(|e| e.factory().unwrap().name().to_string())
        .collect();
    assert_eq!(names, ["vp9enc"]);
}

#[test]
fn unknown_video_encoder_posts_missing_plugin() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "video-encoder=nonsense");
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(
        failure.error.matches(gst::CoreError::MissingPlugin),
        "{failure:?}"
    );
    assert!(failure.error.message().contains("video-encoder=nonsense"));
}

#[test]
fn encoder_setup_signal_configures_encoder() {
    let server = Server::playground();
    let running = parse_sink(
        &server.url(),
        CAMERA,
        "video-encoder=vp8enc start-bitrate=300000",
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    running
        .by_name("s")
        .connect("encoder-setup", false, move |values| {
            let track = values[1].get::<String>().unwrap();
            let encoder = values[2].get::<gst::Element>().unwrap();
            let bitrate = encoder.property::<i32>("target-bitrate");
            encoder.set_property("threads", 2);
            // A property of the sink may be read there.
            let sink = values[0].get::<gst::Element>().unwrap();
            assert!(sink.property::<gst::Structure>("stats").n_fields() > 0);
            list.lock().unwrap().push((track, bitrate));
            None
        });
    running.play();
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    assert_eq!(*seen.lock().unwrap(), [("camera".to_owned(), 300_000)]);
    assert_eq!(encoders(&running)[0].property::<i32>("threads"), 2);
}

#[test]
fn clean_network_raises_bitrate_to_limit() {
    let server = Server::playground();
    let running = TestPipeline::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorsink name=s local=true api-url={} start-bitrate=200000 max-bitrate=400000",
        server.url()
    ));
    let bitrate = || running.pad_stats("s", "video_0").get::<u32>("bitrate").ok();
    // By the server's receiver reports, one per second, up to the limit.
    wait_until("the limit", Duration::from_secs(40), || {
        bitrate() == Some(400_000)
    });
    // Limits that are set while it plays apply at once.
    let encoder = &encoders(&running)[0];
    running.by_name("s").set_property("max-bitrate", 250_000u32);
    wait_until("the new limit", TIMEOUT, || {
        bitrate() == Some(250_000) && encoder.property::<i32>("target-bitrate") == 250_000
    });
    let source = running
        .pad_stats("s", "video_0")
        .get::<String>("bitrate-from");
    let installed = gst::ElementFactory::find("rtpgccbwe").is_some();
    assert_eq!(source.unwrap(), if installed { "estimate" } else { "loss" });
}
