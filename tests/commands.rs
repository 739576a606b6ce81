// SPDX-License-Identifier: MIT

//! Commands, messages, uploads and steering, by property, action and event.

use std::{
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{pipeline::Running, server::Server};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// In v0 a command has no reply of its own: nothing can be said of it there.
fn cannot_be_said() -> bool {
    let v0 = reactor_tests::pipeline::is_v0();
    if v0 {
        println!("left out: wire v0 has no replies to commands");
    }
    v0
}

/// A source, shown to nobody.
fn source(server: &Server) -> Running {
    Running::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! fakesink name=s sync=false",
        server.url()
    ))
}

/// Sets a property that holds JSON: gst-launch's quoting is not JSON's.
fn set_json(running: &Running, element: &str, property: &str, json: &Value) {
    let element = running.by_name(element);
    element.set_property(property, json.to_string());
}

/// The next `reactor-reply` on the bus: the command's name and the structure.
fn reply(running: &Running) -> (String, gst::Structure) {
    let reply = running.wait_element("reactor-reply", SOON);
    (reply.get::<String>("command").unwrap(), reply)
}

fn data(structure: &gst::StructureRef) -> Value {
    serde_json::from_str(structure.get::<&str>("data").unwrap()).unwrap()
}

fn code(structure: &gst::StructureRef) -> String {
    let error = structure.get::<gst::Structure>("error").unwrap();
    error.get::<String>("code").unwrap()
}

/// Emits an action whose last argument is a promise; the reply comes on the
/// channel.
fn act(element: &gst::Element, action: &str, mut args: Vec<gst::glib::Value>) -> Asked {
    let (sender, receiver) = mpsc::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.ok().flatten().map(|s| s.to_owned()));
    });
    args.push(promise.to_value());
    element.emit_by_name_with_values(action, &args);
    Asked(receiver)
}

struct Asked(mpsc::Receiver<Option<gst::Structure>>);

impl Asked {
    fn reply(&self) -> gst::Structure {
        self.0
            .recv_timeout(SOON)
            .expect("a reply")
            .expect("a structure")
    }
}

fn command(element: &gst::Element, name: &str, arguments: &str) -> Asked {
    act(
        element,
        "send-command",
        vec![name.to_value(), arguments.to_value()],
    )
}

/// A picture file of one colour, in the test's own directory.
fn picture(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let line = format!(
        "videotestsrc num-buffers=1 pattern=red ! video/x-raw,width=64,height=64 ! pngenc ! \
         filesink location={}",
        path.display()
    );
    Running::launch(&line).wait_eos(SOON);
    path
}

#[test]
fn the_property_commands_in_order() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let cat = picture("cat.png");
    let commands = json!([
        {"set_prompt": {"prompt": "hi"}},
        {"set_image": {"image": format!("@file:{}", cat.display())}},
        {"echo": {"text": "x"}},
    ]);
    let running = source(&server);
    set_json(&running, "r", "commands", &commands);
    running.play();
    let (name, structure) = reply(&running);
    assert_eq!(name, "set_prompt");
    assert!(!structure.has_field("error"), "{structure}");
    let (name, structure) = reply(&running);
    assert_eq!(name, "set_image");
    assert!(!structure.has_field("error"), "{structure}");
    let (name, structure) = reply(&running);
    assert_eq!(name, "echo");
    assert_eq!(structure.get::<&str>("type").unwrap(), "echoed");
    assert_eq!(data(&structure), json!({"text": "x", "length": 1}));
}

#[test]
fn the_prompt_is_told_to_everybody() {
    let server = Server::playground();
    let running = source(&server);
    let commands = json!([{"set_prompt": {"prompt": "a forest"}}]);
    set_json(&running, "r", "commands", &commands);
    running.play();
    let told = running.wait_message(SOON, |message| match message.view() {
        gst::MessageView::Element(element) => element.structure().and_then(|s| {
            let is_it = s.name() == "reactor-message" && s.get("type") == Ok("prompt_changed");
            is_it.then(|| data(s))
        }),
        _ => None,
    });
    assert_eq!(told, json!({"prompt": "a forest"}));
}

#[test]
fn a_wrong_command_is_refused_with_the_right_ones() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    for (name, arguments, expected, says) in [
        ("nope", "{}", "invalid_command", "set_prompt"),
        (
            "set_brightness",
            r#"{"brightness":7}"#,
            "invalid_command",
            "at most 1",
        ),
        (
            "set_brightness",
            r#"{"brightnes":0}"#,
            "invalid_command",
            "brightness",
        ),
        ("set_prompt", "{}", "invalid_command", "prompt"),
        ("set_prompt", "[1]", "BAD_REQUEST", "JSON object"),
        ("set_prompt", "{", "BAD_REQUEST", "not JSON"),
        ("", "{}", "BAD_REQUEST", "name"),
        (
            "set_image",
            r#"{"image":"@file:/nowhere/x.png"}"#,
            "BAD_REQUEST",
            "/nowhere/x.png",
        ),
        ("set_image", r#"{"image":"@file:/"}"#, "BAD_REQUEST", "/"),
        ("fail", "{}", "told_to_fail", ""),
    ] {
        let reply = command(&element, name, arguments).reply();
        assert_eq!(code(&reply), expected, "{name} {arguments}: {reply}");
        let error = reply.get::<gst::Structure>("error").unwrap();
        let text = error.get::<&str>("message").unwrap();
        assert!(text.contains(says), "{name} {arguments}: {text}");
    }
    // The stream has gone on.
    let reply = command(&element, "echo", r#"{"text":"still here"}"#).reply();
    assert_eq!(data(&reply)["text"], "still here");
}

#[test]
fn without_the_check_the_model_itself_refuses() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.by_name("r").set_property("check-commands", false);
    running.play();
    let reply = command(&running.by_name("r"), "nope", "{}").reply();
    assert_eq!(code(&reply), "invalid_command");
    let error = reply.get::<gst::Structure>("error").unwrap();
    assert_eq!(error.get::<&str>("component").unwrap(), "gpu");
}

#[test]
fn commands_that_make_no_sense_are_a_settings_error() {
    for commands in ["[", "{\"a\":1}", "[{\"a\":{}},5]", "[{\"\":{}}]"] {
        let running = Running::parse("reactorsrc name=r local=true ! fakesink");
        running.by_name("r").set_property("commands", commands);
        assert!(
            running.pipeline.set_state(gst::State::Playing).is_err(),
            "{commands}"
        );
        let failure = running.wait_error(SOON);
        assert!(
            failure.error.matches(gst::ResourceError::Settings),
            "{commands}: {failure:?}"
        );
    }
    let running = Running::parse("reactorsrc name=r local=true navigation=[] ! fakesink");
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let failure = running.wait_error(SOON);
    assert!(
        failure.error.matches(gst::ResourceError::Settings),
        "{failure:?}"
    );
}

#[test]
fn actions_need_a_session() {
    reactor_tests::init();
    let element = gst::ElementFactory::make("reactorsrc").build().unwrap();
    assert_eq!(
        code(&command(&element, "echo", "{}").reply()),
        "INVALID_STATE"
    );
    let reply = act(&element, "request-schema", Vec::new()).reply();
    assert_eq!(code(&reply), "INVALID_STATE");
    // A dropped promise is nobody's problem.
    let none = None::<gst::Promise>;
    element.emit_by_name::<()>("send-command", &[&"echo", &"{}", &none]);
}

#[test]
fn a_thousand_commands_are_answered_once_and_in_order() {
    if cannot_be_said() {
        return;
    }
    const COUNT: usize = 1000;
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let (sender, receiver) = mpsc::channel();
    for number in 0..COUNT {
        let sender = sender.clone();
        let promise = gst::Promise::with_change_func(move |reply| {
            let reply = reply.ok().flatten().map(|s| s.to_owned());
            let _ = sender.send((number, reply));
        });
        let arguments = json!({"text": number.to_string()}).to_string();
        element.emit_by_name::<()>("send-command", &[&"echo", &arguments, &Some(promise)]);
    }
    drop(sender);
    let deadline = Instant::now() + Duration::from_secs(60);
    for expected in 0..COUNT {
        let left = deadline.saturating_duration_since(Instant::now());
        let (number, reply) = receiver.recv_timeout(left).expect("a reply");
        assert_eq!(number, expected);
        assert_eq!(
            data(&reply.expect("a structure"))["text"],
            expected.to_string()
        );
    }
    assert!(
        receiver.recv_timeout(Duration::from_millis(200)).is_err(),
        "one too many"
    );
}

#[test]
fn five_megabytes_pass_both_ways() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let reply = command(&element, "blob", r#"{"size":5000000}"#).reply();
    let blob = data(&reply);
    assert_eq!(blob["data"].as_str().map(str::len), Some(5_000_000));
    let arguments = json!({"text": "y".repeat(5_000_000)}).to_string();
    let reply = command(&element, "echo", &arguments).reply();
    assert_eq!(data(&reply)["length"], 5_000_000);
}

#[test]
fn files_and_bytes_are_uploaded() {
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let none = None::<String>.to_value();
    let cat = picture("upload.png").display().to_string();
    let args = vec![cat.to_value(), none.clone(), none.clone()];
    let reply = act(&element, "upload-file", args).reply();
    assert_eq!(reply.get::<&str>("name").unwrap(), "upload.png");
    assert_eq!(reply.get::<&str>("mime-type").unwrap(), "image/png");
    assert!(reply.get::<u64>("size").unwrap() > 0);

    let bytes = gst::glib::Bytes::from_static(b"abc").to_value();
    let args = vec![bytes, "a.txt".to_value(), none.clone()];
    let reply = act(&element, "upload-bytes", args).reply();
    assert_eq!(reply.get::<&str>("mime-type").unwrap(), "text/plain");
    assert_eq!(reply.get::<u64>("size").unwrap(), 3);

    let nothing = gst::glib::Bytes::from_static(b"").to_value();
    let reply = act(
        &element,
        "upload-bytes",
        vec![nothing, none.clone(), none.clone()],
    )
    .reply();
    assert_eq!(code(&reply), "BAD_REQUEST");
    let missing = vec!["/nowhere".to_value(), none.clone(), none];
    assert_eq!(
        code(&act(&element, "upload-file", missing).reply()),
        "BAD_REQUEST"
    );
}

#[test]
fn the_platform_answers() {
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let schema = data(&act(&element, "request-schema", Vec::new()).reply());
    assert!(schema["paths"]["/events/set_prompt"].is_object());
    // Something has to be recorded first.
    running.wait_element("reactor-message", SOON);
    std::thread::sleep(Duration::from_secs(2));
    let clip = act(&element, "request-clip", vec![1.0f64.to_value()]).reply();
    assert_eq!(clip.get::<&str>("kind").unwrap(), "snap", "{clip}");
    assert!(
        clip.get::<&str>("playlist-url")
            .unwrap()
            .starts_with("/clips?")
    );
    let clip = act(&element, "request-clip", vec![(-1.0f64).to_value()]).reply();
    assert_eq!(code(&clip), "INVALID_DURATION");
    let recording = act(&element, "request-recording", Vec::new()).reply();
    assert_eq!(recording.get::<&str>("kind").unwrap(), "recording");
}

#[test]
fn the_video_window_steers() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let navigation = json!({
        "key:w": {"set_prompt": {"prompt": "forward"}},
        "mouse-press:1": {"echo": {"text": "$x,$y"}},
    });
    let running = source(&server);
    set_json(&running, "r", "navigation", &navigation);
    running.play();
    reactor_tests::pipeline::wait_until("a picture", SOON, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    let sink = running.pad("s", "sink");
    let press = gst_video::NavigationEvent::new_key_press("w");
    sink.push_event(press.build());
    assert_eq!(reply(&running).0, "set_prompt");
    // In the middle of the picture, which is 640x360.
    let click = gst_video::NavigationEvent::new_mouse_button_press(1, 320.0, 180.0);
    sink.push_event(click.build());
    let (name, structure) = reply(&running);
    assert_eq!(name, "echo");
    let text = data(&structure)["text"].as_str().unwrap().to_owned();
    assert!(
        matches!(text.as_str(), "320,180" | "319,179" | "320,179" | "319,180"),
        "{text}"
    );
}

#[test]
fn an_event_from_downstream_is_a_command() {
    if cannot_be_said() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.play();
    reactor_tests::pipeline::wait_until("a picture", SOON, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    let structure = gst::Structure::builder("reactor-command")
        .field("name", "echo")
        .field("data", r#"{"text":"from below"}"#)
        .build();
    let event = gst::event::CustomUpstream::new(structure);
    running.pad("s", "sink").push_event(event);
    let (name, structure) = reply(&running);
    assert_eq!(name, "echo");
    assert_eq!(data(&structure)["text"], "from below");
}

#[test]
fn a_filter_is_both_in_one() {
    let server = Server::playground();
    let running = Running::parse(&format!(
        "videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         reactorfilter name=f local=true api-url={} ! \
         videoconvert ! video/x-raw,format=RGB ! appsink name=a sync=false max-buffers=1 drop=true",
        server.url()
    ));
    set_json(&running, "f", "commands", &json!([{"echo": {"text": "x"}}]));
    running.play();
    assert_eq!(reply(&running).0, "echo");
    let sink = running.by_name("a").downcast::<gst_app::AppSink>().unwrap();
    // The camera comes back with its colours inverted, in the lower left.
    reactor_tests::pipeline::wait_until("the changed picture", SOON, || {
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
    let status: gst::glib::Value = running.by_name("f").property_value("status");
    assert_eq!(status.serialize().unwrap(), "ready");
}
