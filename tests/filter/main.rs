// SPDX-License-Identifier: MIT

//! `reactorfilter` against the real local runtime. That a clip can be requested from a pipeline with
//! a filter is tested with `reactorclip` (`clip`).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT, media,
    pipeline::{TestPipeline, is_v0, wait_for_status, wait_until},
    scratch::TempFile,
    server::{Server, free_port},
};

#[test]
fn filter_sends_camera_and_returns_model_video() {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         reactorfilter name=f local=true api-url={} video-encoder=vp8enc max-bitrate=900000 ! \
         videoconvert ! video/x-raw,format=RGB ! appsink name=a sync=false max-buffers=1 drop=true",
        server.url()
    ));
    let filter = running.by_name("f");
    let encoders = Arc::new(Mutex::new(Vec::new()));
    let list = encoders.clone();
    filter.connect("encoder-setup", false, move |values| {
        let track = values[1].get::<String>().unwrap();
        let encoder = values[2].get::<gst::Element>().unwrap();
        list.lock().unwrap().push((track, encoder));
        None
    });
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
            let at = 125 * info.stride()[0] as usize + 50 * 3;
            let [r, g, b] = map[at..at + 3] else {
                return false;
            };
            r < 60 && g > 190 && b > 190
        })
    });
    let [(track, encoder)] = &encoders.lock().unwrap()[..] else {
        panic!("not one encoder");
    };
    assert_eq!(track, "camera");
    assert_eq!(encoder.factory().unwrap().name(), "vp8enc");
    filter.set_property("max-bitrate", 300_000u32);
    wait_until("the new limit", TIMEOUT, || {
        encoder.property::<i32>("target-bitrate") == 300_000
    });
    let children = filter.downcast_ref::<gst::Bin>().unwrap();
    let limit = |child: &str| {
        children
            .by_name(child)
            .unwrap()
            .property::<u32>("max-bitrate")
    };
    assert_eq!(
        (limit("sink"), filter.property::<u32>("max-bitrate")),
        (300_000, 300_000)
    );
    assert!(children.by_name("src").is_some());
    // Each of the two posts its own.
    filter.set_property("stats-interval", 100u32);
    for part in ["src", "sink"] {
        running.wait_message(TIMEOUT, |message| {
            let is_stats = message.structure()?.has_name("reactor-stats");
            (is_stats && message.src()?.name() == part).then_some(())
        });
    }
    let status: gst::glib::Value = filter.property_value("status");
    assert_eq!(status.serialize().unwrap(), "ready");
}

#[test]
fn end_of_input_drains_model_and_ends_pipeline() {
    let server = Server::playground();
    let properties = format!("name=f drain-time=500 local=true api-url={}", server.url());
    let file = TempFile::new("filter.mp4");
    // Not live, like a file: the filter holds it until the model takes it.
    let running = TestPipeline::launch(&format!(
        "videotestsrc num-buffers=30 ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         reactorfilter {properties} ! videoconvert ! x264enc tune=zerolatency speed-preset=1 ! \
         mp4mux ! filesink location={}",
        file.0.display()
    ));
    running.wait_eos(TIMEOUT);
    running.stop();
    let video = media::stream(&media::probe(&file.0), "video").duration;
    // One second of input and half a second of tail; the model plays before it, too.
    assert!(video > 1.0, "{video} s");

    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true num-buffers=15 ! reactorfilter {properties} ! fakesink"
    ));
    running.pipeline.set_state(gst::State::Paused).unwrap();
    wait_for_status(&running.by_name("f"), "ready", TIMEOUT);
    running.play();
    running.wait_eos(TIMEOUT);
    running.stop();
}

/// The pads of both elements inside, with their properties.
#[test]
fn request_pads_take_commands_and_have_messages() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let text = "caps=text/x-raw,format=utf8";
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorfilter name=f local=true api-url={} messages::format=text \
         messages::path=/data/prompt command_set_prompt::param=prompt ! fakesink sync=false \
         appsrc name=right {text} ! f.command_set_prompt  appsrc name=wrong {text} ! f.command_nope \
         appsrc name=any caps=application/x-json ! f.commands \
         f.messages ! appsink name=m sync=false async=false",
        server.url()
    ));
    let filter = running.by_name("f");
    let push = |name: &str, text: &'static str| {
        let appsrc = running.by_name(name).downcast::<gst_app::AppSrc>().unwrap();
        appsrc.push_buffer(gst::Buffer::from_slice(text)).unwrap();
    };
    let proxy = filter.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    let children = || {
        let all = (0..proxy.children_count()).map(|n| proxy.child_by_index(n).unwrap());
        let names = all.map(|child| child.property::<String>("name"));
        names.collect::<Vec<_>>()
    };
    let pads = ["command_set_prompt", "command_nope", "commands", "messages"];
    assert_eq!(children(), [&pads[..], &["src", "sink"]].concat());
    let format = proxy.child_property_value("messages::format");
    assert_eq!(format.serialize().unwrap(), "text");
    assert_eq!(
        proxy.child_property::<String>("command_set_prompt::param"),
        "prompt"
    );
    proxy.set_child_property("command_set_prompt::max-rate", 20.0);
    running.play();
    let said = running.by_name("m").downcast::<gst_app::AppSink>().unwrap();
    let next = || {
        let sample = said.try_pull_sample(gst::ClockTime::from_seconds(TIMEOUT.as_secs()));
        let sample = sample.expect("a message");
        let map = sample.buffer().unwrap().map_readable().unwrap();
        String::from_utf8(map.to_vec()).unwrap()
    };
    push("right", "a forest, at dawn\n");
    assert_eq!(next(), "a forest, at dawn");
    push("any", r#"{"set_prompt":{"prompt":"it's night"}}"#);
    assert_eq!(next(), "it's night");
    push("wrong", "nothing\n");
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    assert_eq!(reply.get::<&str>("pad").unwrap(), "command_nope");
    assert!(reply.has_field("error"), "{reply}");
    let pad = filter.static_pad("command_nope").unwrap();
    pad.peer().unwrap().unlink(&pad).unwrap();
    filter.release_request_pad(&pad);
    assert!(!children().contains(&"command_nope".to_owned()));
    assert_eq!(filter.static_pad("command_nope"), None);
    push("right", "the last one\n");
    assert_eq!(next(), "the last one");
    running.assert_no_error();
    running.stop();
    // The pads are the user's, and stay.
    assert!(filter.static_pad("messages").is_some());
}

/// Standard input, and what a subtitle file has for later, are no reason to go on.
#[test]
fn end_of_video_ends_commands() {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc num-buffers=15 ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorfilter name=f drain-time=200 local=true api-url={} ! fakesink \
         appsrc name=open caps=text/x-raw,format=utf8 ! f.command_set_prompt \
         appsrc name=later format=time caps=application/x-json ! f.commands \
         f.messages ! fakesink async=false",
        server.url()
    ));
    let later = running.by_name("later").downcast::<gst_app::AppSrc>();
    let mut buffer = gst::Buffer::from_slice(r#"{"echo":{"text":"late"}}"#);
    buffer
        .get_mut()
        .unwrap()
        .set_pts(gst::ClockTime::from_seconds(3600));
    later.unwrap().push_buffer(buffer).unwrap();
    running.play();
    running.wait_eos(TIMEOUT);
    running.stop();
}

/// Both elements inside lose the session.
#[test]
fn failed_session_is_one_error() {
    let running = TestPipeline::launch(&format!(
        "videotestsrc is-live=true \
         ! reactorfilter local=true api-url=http://127.0.0.1:{} ! fakesink",
        free_port()
    ));
    running.wait_error(TIMEOUT);
    // The other element's would follow at once.
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.pop_error().is_none());
    running.stop();
}

#[test]
fn unknown_tracks_are_errors_that_list_tracks() {
    let server = Server::playground();
    for (property, name) in [("track-out", "main_video"), ("track-in", "camera")] {
        let running = TestPipeline::launch(&format!(
            "videotestsrc is-live=true ! \
             reactorfilter local=true api-url={} {property}=nope ! fakesink",
            server.url()
        ));
        let error = running.wait_error(TIMEOUT);
        let text = error.error.message().to_owned();
        assert_eq!(error.code(), "NOT_FOUND", "{text}");
        assert!(text.contains("nope") && text.contains(name), "{text}");
        running.stop();
    }
}

/// As the property's flags say: it need not be set in NULL.
#[test]
fn track_in_may_be_set_in_ready() {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorfilter name=f local=true api-url={} ! fakesink",
        server.url()
    ));
    let filter = running.by_name("f");
    let restart = |track: Option<&str>| {
        running.pipeline.set_state(gst::State::Ready).unwrap();
        filter.set_property("track-in", track);
        running.play();
    };
    // Of NULL, and then of a session that is over.
    for (wrong, right, pad) in [
        ("nope", Some("camera"), "video_camera"),
        ("neither", None, "video_0"),
    ] {
        while running.pop_error().is_some() {}
        restart(Some(wrong));
        let error = running.wait_error(TIMEOUT);
        assert_eq!(error.code(), "NOT_FOUND", "{error:?}");
        assert!(error.error.message().contains(wrong), "{error:?}");
        restart(right);
        wait_until("pictures", TIMEOUT, || {
            let sent = running.pad_stats("sink", pad).get::<u64>("sent");
            sent.unwrap() > 15
        });
    }
    running.stop();
}
