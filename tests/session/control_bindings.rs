// SPDX-License-Identifier: MIT

//! Parameters of commands that follow control bindings (GstController).

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use gst_controller::prelude::{InterpolationControlSourceExt, TimedValueControlSourceExt};
use reactor_tests::{
    TIMEOUT,
    pipeline::{TestPipeline, is_v0, wait_until},
    server::Server,
};
use serde_json::Value;

/// What follows a binding at most, per second.
const RATE: usize = 5;
/// Longer than a test.
const MINUTES: gst::ClockTime = gst::ClockTime::from_seconds(600);

/// Camera and microphone of one sink, whose times are further apart than two commands: queues
/// before a sink make them so. Returns the sink as well, which has its commands as children.
fn play(server: &Server, control_rate: usize) -> (TestPipeline, gst::ChildProxy) {
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} control-rate={control_rate} \
         videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! queue min-threshold-time=300000000 ! s. \
         audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000 ! s.",
        server.url()
    ));
    running.play();
    let sink = running.by_name("s");
    let sink = sink.dynamic_cast::<gst::ChildProxy>().unwrap();
    wait_until("children", TIMEOUT, || child(&sink, "echo").is_some());
    (running, sink)
}

fn child(proxy: &gst::ChildProxy, name: &str) -> Option<gst::Object> {
    proxy.child_by_name(name)?.downcast().ok()
}

/// Binds a property to a line between these values, at these times.
fn bind(child: &gst::Object, property: &str, points: [(gst::ClockTime, f64); 2]) {
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::Linear);
    for (time, value) in points {
        source.set(time, value);
    }
    let binding = gst_controller::DirectControlBinding::new_absolute(child, property, &source);
    child.add_control_binding(&binding).unwrap();
}

/// Binds the brightness to a line; returns the values that it is set to.
fn follow_brightness(sink: &gst::ChildProxy) -> Arc<Mutex<Vec<f64>>> {
    let brightness = child(sink, "set_brightness").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let values = seen.clone();
    brightness.connect_notify(Some("brightness"), move |child, _| {
        values.lock().unwrap().push(child.property("brightness"));
    });
    bind(
        &brightness,
        "brightness",
        [(gst::ClockTime::ZERO, -1.0), (MINUTES, 1.0)],
    );
    seen
}

/// The texts of the replies to `echo`, and the number of those to `fail`, on the bus.
fn replies(running: &TestPipeline) -> (Vec<String>, usize) {
    let (mut texts, mut failed) = (Vec::new(), 0);
    let bus = running.pipeline.bus().unwrap();
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
        let reply = message.structure().filter(|s| s.name() == "reactor-reply");
        match reply.map(|reply| (reply, reply.get::<String>("command").unwrap())) {
            Some((reply, name)) if name == "echo" => {
                let data: Value = serde_json::from_str(reply.get("data").unwrap()).unwrap();
                texts.push(data["text"].as_str().unwrap().to_owned());
            }
            Some((_, name)) => failed += usize::from(name == "fail"),
            None => {}
        }
    }
    (texts, failed)
}

#[test]
fn bindings_of_a_sink_with_two_inputs_keep_to_the_rate() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let (_running, sink) = play(&server, RATE);
    let values = follow_brightness(&sink);
    wait_until("a value", TIMEOUT, || !values.lock().unwrap().is_empty());
    values.lock().unwrap().clear();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(4));
    let (seen, took) = (
        values.lock().unwrap().clone(),
        begun.elapsed().as_secs_f64(),
    );
    assert!(seen.is_sorted(), "{seen:?}");
    // A busy machine sends less.
    let most = (took * RATE as f64) as usize + 2;
    assert!(
        (5..=most).contains(&seen.len()),
        "{} in {took} s: {seen:?}",
        seen.len()
    );
}

#[test]
fn bindings_leave_alone_what_is_set_by_hand() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let (running, sink) = play(&server, 60);
    let values = follow_brightness(&sink);
    // A trigger that stays true is one command.
    bind(
        &child(&sink, "fail").unwrap(),
        "trigger",
        [(gst::ClockTime::ZERO, 0.6), (MINUTES, 1.0)],
    );
    wait_until("bindings", TIMEOUT, || values.lock().unwrap().len() > 5);
    let mut expected = Vec::new();
    for n in 0..20 {
        let begun = Instant::now();
        sink.set_child_property("echo::text", format!("early {n}"));
        std::thread::sleep(Duration::from_millis(10));
        sink.set_child_property("echo::text", format!("{n}"));
        // A thread that slept for longer has begun another turn.
        if begun.elapsed() < Duration::from_millis(18) {
            expected.push(n.to_string());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(500));
    let (texts, failed) = replies(&running);
    for n in &expected {
        assert!(texts.contains(n), "{n}: {texts:?}");
        assert!(!texts.contains(&format!("early {n}")), "{n}: {texts:?}");
    }
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(failed, 1);
}
