// SPDX-License-Identifier: MIT

//! The model's commands as children of the elements (GstChildProxy).

use std::time::{Duration, Instant};

use gst::{glib, prelude::*};
use gst_controller::prelude::{InterpolationControlSourceExt, TimedValueControlSourceExt};
use reactor_tests::{
    actions,
    pipeline::{TestPipeline, is_v0, wait_for_status, wait_until},
    server::Server,
};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Long enough for the changes of a turn to be sent.
const TURNS: Duration = Duration::from_millis(300);

fn proxy(running: &TestPipeline, name: &str) -> gst::ChildProxy {
    running.by_name(name).dynamic_cast().unwrap()
}

fn wait_for_children(proxy: &gst::ChildProxy) {
    wait_until("children", TIMEOUT, || child(proxy, "echo").is_some());
}

fn child(proxy: &gst::ChildProxy, name: &str) -> Option<gst::Object> {
    proxy.child_by_name(name)?.downcast().ok()
}

/// The names of the children that are commands.
fn commands(proxy: &gst::ChildProxy) -> Vec<String> {
    let children = (0..proxy.children_count()).filter_map(|n| proxy.child_by_index(n));
    let commands = children.filter(|child| child.has_property("command-summary"));
    commands
        .map(|child| child.property::<String>("name"))
        .collect()
}

/// The next `reactor-reply` on the bus: the command's name and the structure.
fn next_reply(running: &TestPipeline) -> (String, gst::Structure) {
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    (reply.get::<String>("command").unwrap(), reply)
}

fn text_of(reply: &gst::Structure) -> String {
    let data: Value = serde_json::from_str(reply.get::<&str>("data").unwrap()).unwrap();
    data["text"].as_str().unwrap().to_owned()
}

fn code_of(reply: &gst::Structure) -> String {
    let error = reply.get::<gst::Structure>("error").unwrap();
    error.get::<String>("code").unwrap()
}

#[test]
fn children_show_and_take_what_the_model_takes() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! fakesink sync=false",
        server.url()
    ));
    let src = proxy(&running, "r");
    assert_eq!(commands(&src), [""; 0]);
    running.play();
    wait_for_children(&src);
    let names = [
        "blob",
        "crash",
        "echo",
        "fail",
        "set_brightness",
        "set_image",
        "set_paused",
        "set_prompt",
        "set_resolution",
    ];
    let found = commands(&src);
    let missing = names
        .iter()
        .find(|&&name| !found.iter().any(|found| found == name));
    assert_eq!(missing, None, "{found:?}");
    let brightness = child(&src, "set_brightness").unwrap();
    let summary = brightness.property::<String>("command-summary");
    assert!(summary.contains("Added to the picture"), "{summary}");
    for name in ["brightness", "value"] {
        let spec = brightness.find_property(name).unwrap();
        let spec = spec.downcast_ref::<glib::ParamSpecDouble>().unwrap();
        assert_eq!(
            (spec.minimum(), spec.maximum(), spec.default_value()),
            (-1.0, 1.0, 0.0)
        );
        assert!(spec.flags().contains(gst::PARAM_FLAG_CONTROLLABLE));
    }
    let fail = child(&src, "fail").unwrap();
    assert!(fail.has_property_with_type("trigger", bool::static_type()));
    assert!(fail.find_property("value").is_none());
    // One turn is one command, with what was set last.
    for text in ["a", "b", "it's \"c\", 🌲"] {
        src.set_child_property("echo::text", text);
    }
    let (name, reply) = next_reply(&running);
    assert_eq!(
        (name.as_str(), text_of(&reply).as_str()),
        ("echo", "it's \"c\", 🌲")
    );
    assert_eq!(
        src.child_property::<String>("echo::value"),
        "it's \"c\", 🌲"
    );
    // Text that looks like a file is text.
    src.set_child_property("echo::text", "@file:/etc/hostname");
    assert_eq!(text_of(&next_reply(&running).1), "@file:/etc/hostname");
    // The same value is sent again when it is set again.
    src.set_child_property("echo::text", "@file:/etc/hostname");
    assert_eq!(next_reply(&running).0, "echo");
    src.set_child_property("fail::trigger", true);
    let (name, reply) = next_reply(&running);
    assert_eq!(
        (name.as_str(), code_of(&reply).as_str()),
        ("fail", "told_to_fail")
    );
    assert!(!src.child_property::<bool>("fail::trigger"));
    // A required parameter is waited for.
    src.set_child_property("set_resolution::width", 320i64);
    std::thread::sleep(TURNS);
    src.set_child_property("set_resolution::height", 180i64);
    let (name, reply) = next_reply(&running);
    assert_eq!(name, "set_resolution");
    assert!(!reply.has_field("error"), "{reply}");
    // What only the schema can tell is an error on the bus.
    src.set_child_property("set_prompt::prompt", "x".repeat(501));
    let (name, reply) = next_reply(&running);
    assert_eq!(
        (name.as_str(), code_of(&reply).as_str()),
        ("set_prompt", "invalid_command")
    );
    src.set_child_property("set_image::image", "/nowhere/x.png");
    let (name, reply) = next_reply(&running);
    assert_eq!(
        (name.as_str(), code_of(&reply).as_str()),
        ("set_image", "BAD_REQUEST")
    );
}

#[test]
fn children_outlive_session_and_send_again() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorfilter name=f local=true api-url={} ! fakesink sync=false",
        server.url()
    ));
    let filter = proxy(&running, "f");
    // Names that are looked for before there are any, as gst-launch-1.0 does.
    for name in ["set_promt", "set_prompt", "echo", "sink"] {
        assert_eq!(filter.child_by_name(name).is_some(), name == "sink");
    }
    let added = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let names = added.clone();
    filter.connect_child_added(move |filter, child, name| {
        names.lock().unwrap().push(name.to_owned());
        if name == "echo" {
            child.set_property("text", "when added");
            assert_eq!(filter.child_by_name("echo").as_ref(), Some(child));
        }
    });
    running.play();
    for says in [
        "nothing was set of the command \"set_prompt\"",
        "no command \"set_promt\"",
    ] {
        let text = running.wait_message(TIMEOUT, |message| match message.view() {
            gst::MessageView::Warning(warning) => {
                let text = warning.error().message().to_owned();
                text.contains("set_pro").then_some(text)
            }
            _ => None,
        });
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(text_of(&next_reply(&running).1), "when added");
    let count = commands(&filter).len();
    assert_eq!(added.lock().unwrap().len(), count);
    let echo = child(&filter, "echo").unwrap();
    // NULL while something is about to be sent: it is not, but it is kept.
    filter.set_child_property("echo::text", "pending");
    running.pipeline.set_state(gst::State::Null).unwrap();
    filter.set_child_property("echo::text", "kept");
    filter.set_child_property("set_resolution::width", 320i64);
    running.play();
    assert_eq!(text_of(&next_reply(&running).1), "kept");
    assert_eq!(child(&filter, "echo"), Some(echo), "the schema is the same");
    assert_eq!(
        added.lock().unwrap().len(),
        count,
        "no child is added again"
    );
}

#[test]
fn brightness_follows_its_control_binding() {
    if is_v0() {
        return;
    }
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} control-rate=20 ! videoconvert ! \
         video/x-raw,format=GRAY8 ! appsink name=s sync=false max-buffers=1 drop=true",
        server.url()
    ));
    running.play();
    let src = proxy(&running, "r");
    wait_for_children(&src);
    let sink = running.by_name("s").downcast::<gst_app::AppSink>().unwrap();
    let first = sink.try_pull_sample(gst::ClockTime::from_seconds(TIMEOUT.as_secs()));
    assert!(first.is_some(), "no picture");
    let brightness = child(&src, "set_brightness").unwrap();
    let now = running.by_name("r").current_running_time().unwrap();
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::Linear);
    let later = |seconds| now + gst::ClockTime::from_seconds(seconds);
    for (time, value) in [(gst::ClockTime::ZERO, -0.5), (now, -0.5), (later(3), 0.5)] {
        source.set(time, value);
    }
    let binding =
        gst_controller::DirectControlBinding::new_absolute(&brightness, "brightness", &source);
    brightness.add_control_binding(&binding).unwrap();
    let mut seen = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(5)) else {
            continue;
        };
        let map = sample.buffer().unwrap().map_readable().unwrap();
        // The rows below the code, above the prompt.
        let rows = &map[map.len() / 4..map.len() * 3 / 4];
        let sum: u64 = rows.iter().map(|&byte| u64::from(byte)).sum();
        seen.push(sum as f64 / rows.len() as f64);
    }
    let darkest = seen.iter().copied().fold(f64::MAX, f64::min);
    let last = *seen.last().unwrap();
    assert!(darkest < 40.0 && last > 200.0, "{darkest} .. {last}");
    // A curve, and not a step.
    let between = |low: f64, high: f64| seen.iter().filter(|v| (low..high).contains(*v)).count();
    for low in [40.0, 80.0, 120.0, 160.0] {
        assert!(between(low, low + 40.0) > 2, "{low}: {seen:?}");
    }
    let set = brightness.property::<f64>("brightness");
    assert!((set - 0.5).abs() < 0.02, "{set}");
}

/// The signals about children, in their order: `+echo`, `-echo`.
fn watch_children(proxy: &gst::ChildProxy) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for (signal, sign) in [("child-added", '+'), ("child-removed", '-')] {
        let seen = seen.clone();
        proxy.connect(signal, false, move |args| {
            let name = args[2].get::<String>().unwrap();
            seen.lock().unwrap().push(format!("{sign}{name}"));
            None
        });
    }
    seen
}

#[test]
fn children_follow_session_to_another_model() {
    if is_v0() {
        return;
    }
    let mut server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} stall-timeout=1000 restart-session=true \
         ! fakesink sync=false",
        server.url()
    ));
    let src = proxy(&running, "r");
    running.play();
    wait_for_children(&src);
    for (property, value) in [
        ("echo::text", "kept".to_value()),
        ("set_prompt::prompt", "kept as well".to_value()),
        ("set_brightness::brightness", 0.25.to_value()),
    ] {
        src.set_child_property_from_value(property, &value);
        assert!(property.starts_with(&next_reply(&running).0));
    }
    let before = |name| child(&src, name).unwrap();
    let (echo, prompt, brightness) = (
        before("echo"),
        before("set_prompt"),
        before("set_brightness"),
    );
    // A command that is not complete, and one whose file is none.
    src.set_child_property("set_resolution::width", 320i64);
    src.set_child_property("set_image::image", "/nowhere/x.png");
    assert_eq!(code_of(&next_reply(&running).1), "BAD_REQUEST");

    // The session is resumed: nothing is sent again, and no child is another one.
    let signals = watch_children(&src);
    let element = running.by_name("r");
    assert_eq!(
        actions::disconnect(&element, true).error_code(TIMEOUT),
        None
    );
    assert_eq!(actions::reconnect(&element).error_code(TIMEOUT), None);
    wait_for_status(&element, "ready", TIMEOUT);
    src.set_child_property("set_brightness::brightness", 0.5);
    assert_eq!(next_reply(&running).0, "set_brightness");
    assert_eq!(*signals.lock().unwrap(), [""; 0]);
    assert_eq!(child(&src, "echo").as_ref(), Some(&echo));

    server.kill();
    server.serve_next("successor");
    server.start_again();
    let resumed = running.wait_element("reactor-resumed", 3 * TIMEOUT);
    assert!(resumed.get::<bool>("restarted").unwrap());
    wait_until("the other model's children", TIMEOUT, || {
        child(&src, "set_speed").is_some()
    });
    assert_eq!(
        commands(&src),
        [
            "echo",
            "set_image",
            "set_prompt",
            "set_resolution",
            "set_speed"
        ]
    );
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let text = warning.error().message().to_owned();
            text.contains("another model").then_some(text)
        }
        _ => None,
    });
    // What both models take is kept and sent again; the others name what they do not take.
    let mut replies = [
        next_reply(&running),
        next_reply(&running),
        next_reply(&running),
    ];
    replies.sort_by(|a, b| a.0.cmp(&b.0));
    let [(_, of_echo), (_, of_prompt), (_, of_resolution)] = &replies;
    assert_eq!(text_of(of_echo), "kept");
    assert_eq!(arguments_of(of_prompt), "kept as well|oil");
    assert_eq!(arguments_of(of_resolution), "320");
    for (lost, is_named) in [
        ("set_brightness::brightness", true),
        ("set_image::image", true),
        ("set_prompt", false),
        ("set_resolution", false),
        ("echo", false),
    ] {
        assert_eq!(warning.contains(lost), is_named, "{warning}");
    }
    assert_eq!(
        child(&src, "echo").as_ref(),
        Some(&echo),
        "it takes the same"
    );
    let signals = signals.lock().unwrap().clone();
    for name in ["set_image", "set_prompt", "set_resolution"] {
        let [removed, added] = ["-", "+"].map(|sign| {
            let signal = format!("{sign}{name}");
            let found: Vec<_> = signals.iter().filter(|s| **s == signal).collect();
            assert_eq!(found.len(), 1, "{signal}: {signals:?}");
            signals.iter().position(|s| *s == signal).unwrap()
        });
        assert!(removed < added, "{signals:?}");
    }
    assert!(signals.contains(&"+set_speed".to_owned()), "{signals:?}");
    assert!(!signals.iter().any(|s| s.ends_with("echo")), "{signals:?}");

    // The properties are those of the model that there is.
    let resolution = child(&src, "set_resolution").unwrap();
    assert_eq!(resolution.property::<i64>("value"), 320);
    assert!(resolution.find_property("height").is_none());
    src.set_child_property("set_prompt::style", "ink");
    assert_eq!(arguments_of(&next_reply(&running).1), "kept as well|ink");
    // What an application has kept of the other model changes nothing.
    for (stale, property, value) in [
        (&prompt, "prompt", "from a stale child".to_value()),
        (&brightness, "brightness", 0.1.to_value()),
    ] {
        assert_eq!(stale.parent(), None);
        stale.set_property_from_value(property, &value);
        let (name, reply) = next_reply(&running);
        assert_eq!(name, stale.property::<String>("name"));
        assert_eq!(code_of(&reply), "BAD_REQUEST");
    }
    assert_eq!(
        src.child_property::<String>("set_prompt::prompt"),
        "kept as well"
    );
    running.assert_no_error();
}

/// The arguments of a command that the model `successor` received, from its reply.
fn arguments_of(reply: &gst::Structure) -> String {
    let data: Value = serde_json::from_str(reply.get::<&str>("data").unwrap()).unwrap();
    data["arguments"].as_str().unwrap().to_owned()
}
