// SPDX-License-Identifier: MIT

//! The pad `messages`: what the model says as a stream.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::prelude::*;
use reactor_tests::{
    TIMEOUT,
    actions::send_command,
    pipeline::{BusError, TestPipeline, count_buffers, wait_until},
    server::Server,
};
use serde_json::{Value, json};

/// What passed a pad.
#[derive(Default)]
struct Seen {
    /// Each buffer, and how long it has been on its way by its timestamp.
    messages: Vec<(String, gst::ClockTime)>,
    gaps: usize,
    is_sparse: bool,
    id: String,
    segment: Option<gst::Segment>,
}

fn watch(running: &TestPipeline, element: &str) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let list = seen.clone();
    let element = running.by_name(element);
    let pad = element.static_pad("sink").unwrap();
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(mask, move |_, info| {
        let mut seen = list.lock().unwrap();
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let text = buffer.map_readable().unwrap().to_vec();
                let age = element.current_running_time().unwrap() - buffer.pts().unwrap();
                seen.messages.push((String::from_utf8(text).unwrap(), age));
            }
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Gap(_) => seen.gaps += 1,
                gst::EventView::StreamStart(start) => {
                    seen.id = start.stream_id().to_owned();
                    seen.is_sparse = start.stream_flags().contains(gst::StreamFlags::SPARSE);
                }
                gst::EventView::Segment(segment) => seen.segment = Some(segment.segment().clone()),
                _ => {}
            },
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    seen
}

#[test]
fn each_message_is_a_buffer_at_its_arrival() {
    let server = Server::playground_640x360();
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r  r.messages ! fakesink name=m async=false \
         r.video_main_video ! queue ! fakesink name=v",
        server.url()
    ));
    let seen = watch(&running, "m");
    let pictures = count_buffers(&running.pad("v", "sink"));
    running.play();
    wait_until("a tick", TIMEOUT, || {
        !seen.lock().unwrap().messages.is_empty()
    });
    // What an application does with a message delays none.
    let source = running.by_name("r");
    source.connect("message", false, |_| {
        std::thread::sleep(std::time::Duration::from_secs(2));
        None
    });
    for text in ["one", "two"] {
        send_command(&source, "echo", &json!({ "text": text }).to_string());
    }
    let named = |name: &str| -> Vec<Value> {
        let seen = seen.lock().unwrap();
        let values = seen.messages.iter().map(|(text, _)| {
            assert!(text.ends_with('\n'), "{text}");
            serde_json::from_str::<Value>(text).unwrap()
        });
        values.filter(|value| value["type"] == name).collect()
    };
    wait_until("ticks", TIMEOUT, || named("tick").len() > 2);
    wait_until("both replies", TIMEOUT, || named("echoed").len() == 2);
    assert_eq!(
        named("echoed")[1]["data"],
        json!({"text": "two", "length": 3})
    );
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    let seen = seen.lock().unwrap();
    assert!(seen.is_sparse);
    // One of the session's, as the picture's is.
    let of_video = running.pad("v", "sink").stream_id().unwrap();
    let (session, _) = of_video.split_once('/').unwrap();
    assert_eq!(seen.id, format!("{session}/messages"));
    assert_eq!(seen.segment.as_ref().unwrap().format(), gst::Format::Time);
    for (text, age) in &seen.messages {
        assert!(*age < 3 * gst::ClockTime::SECOND, "{text} is {age} old");
    }
    assert!(seen.gaps > 20, "{} gaps", seen.gaps);
    assert!(pictures() > 30);
    let stats = running.pad_stats("r", "messages");
    assert_eq!(
        stats.get::<u64>("sent").unwrap(),
        seen.messages.len() as u64
    );
    assert_eq!(stats.get::<u64>("dropped").unwrap(), 0);
}

/// The tracks become known after the end of the messages, and end as well.
#[test]
fn eos_while_connecting_ends_messages_and_tracks() {
    let server = Server::playground();
    let running = TestPipeline::launch(&format!(
        "reactorsrc local=true api-url={} name=r  r.messages ! fakesink async=false \
         r.video_main_video ! queue ! fakesink",
        server.url()
    ));
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Eos(_) => Some(()),
        // On a busy machine, the tracks become known later than pads are waited for.
        gst::MessageView::Error(error) => (BusError::of(error).code() == "ABORTED").then_some(()),
        _ => None,
    });
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

/// The highest luma where the overlay writes.
fn overlay_luma(buffer: &gst::BufferRef, caps: &gst::Caps) -> u8 {
    let info = gst_video::VideoInfo::from_caps(caps).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    if (frame.width(), frame.height()) != (640, 360) {
        return 0;
    }
    let stride = frame.plane_stride()[0] as usize;
    let luma = frame.plane_data(0).unwrap();
    let rows = (322..358).map(|y| &luma[y * stride + 440..y * stride + 640]);
    rows.flatten().copied().max().unwrap()
}

#[test]
fn text_of_messages_is_overlaid_and_holds_no_picture() {
    let server = Server::playground_640x360();
    // The playground writes the prompt at the left of this dark band.
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r \
         textoverlay name=o valignment=bottom halignment=right ypad=8 xpad=10 font-desc=Sans,20 \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 ! queue ! o. \
         o. ! fakesink name=f",
        server.url()
    ));
    let source = running.by_name("r");
    assert!(source.request_pad_simple("nonsense").is_none());
    let pad = source.request_pad_simple("messages").unwrap();
    pad.set_property_from_str("format", "text");
    pad.set_property("path", "data/prompt");
    pad.link(&running.pad("o", "text_sink")).unwrap();
    // A path that is none.
    let started = running.pipeline.set_state(gst::State::Playing);
    assert!(started.is_err());
    let error = running.wait_error(TIMEOUT);
    assert!(
        error.error.message().contains("\"data/prompt\""),
        "{error:?}"
    );
    running.stop();
    pad.set_property("path", "/data/prompt");
    let luma = Arc::new(Mutex::new(Vec::new()));
    let list = luma.clone();
    running
        .pad("f", "sink")
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                list.lock().unwrap().push(overlay_luma(buffer, &caps));
            }
            gst::PadProbeReturn::Ok
        });
    running.play();
    let shown = || luma.lock().unwrap().last().copied();
    // Pictures come although nothing has been said that has a prompt.
    wait_until("30 pictures", TIMEOUT, || luma.lock().unwrap().len() > 30);
    assert!(shown().unwrap() < 120, "{:?}", shown());
    send_command(&source, "set_prompt", r#"{"prompt":"MMMM"}"#);
    wait_until("the prompt", TIMEOUT, || {
        shown().is_some_and(|luma| luma > 200)
    });
    wait_until("its end", TIMEOUT, || {
        shown().is_some_and(|luma| luma < 120)
    });
    running.stop();
    source.release_request_pad(&pad);
    assert!(source.static_pad("messages").is_none());
}
