// SPDX-License-Identifier: MIT

//! Commands, messages, uploads and navigation, by property, action and event.

use std::{
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    actions::{emit_action, send_command},
    pipeline::{TestPipeline, is_v0, wait_until},
    proxy::{Proxy, RuntimeRoute},
    scratch::{self, TempFile},
    server::Server,
};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(20);

/// In wire v0 a command has no reply of its own: tests of replies are skipped.
fn is_skipped_in_v0() -> bool {
    let v0 = is_v0();
    if v0 {
        println!("skipped: wire v0 has no replies to commands");
    }
    v0
}

/// A source without a display.
fn source(server: &Server) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! fakesink name=s sync=false",
        server.url()
    ))
}

/// Sets a property that holds JSON: gst-launch's quoting differs from JSON's.
fn set_json(running: &TestPipeline, element: &str, property: &str, json: &Value) {
    let element = running.by_name(element);
    element.set_property(property, json.to_string());
}

/// The next `reactor-reply` on the bus: the command's name and the structure.
fn next_reply(running: &TestPipeline) -> (String, gst::Structure) {
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    (reply.get::<String>("command").unwrap(), reply)
}

fn data(structure: &gst::StructureRef) -> Value {
    serde_json::from_str(structure.get::<&str>("data").unwrap()).unwrap()
}

fn code(structure: &gst::StructureRef) -> String {
    let error = structure.get::<gst::Structure>("error").unwrap();
    error.get::<String>("code").unwrap()
}

/// A picture file of one colour, in the tests' directory.
fn picture(name: &str) -> PathBuf {
    let path = scratch::directory().join(name);
    let line = format!(
        "videotestsrc num-buffers=1 pattern=red ! video/x-raw,width=64,height=64 ! pngenc ! \
         filesink location={}",
        path.display()
    );
    TestPipeline::launch(&line).wait_eos(TIMEOUT);
    path
}

#[test]
fn commands_property_sends_in_order() {
    if is_skipped_in_v0() {
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
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "set_prompt");
    assert!(!structure.has_field("error"), "{structure}");
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "set_image");
    assert!(!structure.has_field("error"), "{structure}");
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "echo");
    assert_eq!(structure.get::<&str>("type").unwrap(), "echoed");
    assert_eq!(data(&structure), json!({"text": "x", "length": 1}));
    // Set while playing they are sent, or refused.
    let element = running.by_name("r");
    element.set_property("commands", "[{echo:{text:'now'}");
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "commands");
    assert_eq!(code(&structure), "INVALID_SETTINGS");
    element.set_property("commands", "{echo:{text:'it\\'s now'}}");
    assert_eq!(data(&next_reply(&running).1)["text"], "it's now");
}

#[test]
fn commands_property_names_missing_or_large_file() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let cat = picture("large.png");
    let file = |path: &str| json!({"set_image": {"image": format!("@file:{path}")}});
    let commands = json!([
        file("/nowhere/x.png"),
        file("/"),
        file(cat.to_str().unwrap())
    ]);
    let running = source(&server);
    running.by_name("r").set_property("max-upload-size", 10u64);
    set_json(&running, "r", "commands", &commands);
    running.play();
    for says in ["/nowhere/x.png", "is a directory", "max-upload-size"] {
        let (_, reply) = next_reply(&running);
        assert_eq!(code(&reply), "BAD_REQUEST", "{reply}");
        let error = reply.get::<gst::Structure>("error").unwrap();
        let text = error.get::<&str>("message").unwrap();
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn text_of_application_never_names_file() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    let navigation = json!({"key:*": {"echo": {"text": "@file:$key"}}});
    set_json(&running, "r", "navigation", &navigation);
    running.play();
    wait_until("a picture", TIMEOUT, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    for text in ["@file:/etc/hostname", "@@hello", "@file:", "@@file:x"] {
        let arguments = json!({ "text": text }).to_string();
        let reply = send_command(&running.by_name("r"), "echo", &arguments).wait(TIMEOUT);
        assert_eq!(data(&reply)["text"], text, "by the action");
        let structure = gst::Structure::builder("reactor-command")
            .field("name", "echo")
            .field("data", &arguments)
            .build();
        let event = gst::event::CustomUpstream::new(structure);
        running.pad("s", "sink").push_event(event);
        assert_eq!(data(&next_reply(&running).1)["text"], text, "by an event");
    }
    let press = gst_video::NavigationEvent::new_key_press("x");
    running.pad("s", "sink").push_event(press.build());
    assert_eq!(data(&next_reply(&running).1)["text"], "@file:x");
}

#[test]
fn model_message_is_posted_on_bus() {
    let server = Server::playground();
    let running = source(&server);
    let commands = json!([{"set_prompt": {"prompt": "a forest"}}]);
    set_json(&running, "r", "commands", &commands);
    running.play();
    let told = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Element(element) => element.structure().and_then(|s| {
            let is_it = s.name() == "reactor-message" && s.get("type") == Ok("prompt_changed");
            is_it.then(|| data(s))
        }),
        _ => None,
    });
    assert_eq!(told["prompt"], "a forest");
}

#[test]
fn invalid_command_is_refused_with_explanation() {
    if is_skipped_in_v0() {
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
            r#"{"image":"@file:/etc/hostname"}"#,
            "invalid_command",
            "image",
        ),
        ("fail", "{}", "told_to_fail", ""),
    ] {
        let reply = send_command(&element, name, arguments).wait(TIMEOUT);
        assert_eq!(code(&reply), expected, "{name} {arguments}: {reply}");
        let error = reply.get::<gst::Structure>("error").unwrap();
        let text = error.get::<&str>("message").unwrap();
        assert!(text.contains(says), "{name} {arguments}: {text}");
    }
    // Without a promise a failure is said on the bus, and a success is not.
    for arguments in [r#"{"text":"unheard"}"#, r#"{"text":1}"#] {
        element.emit_by_name::<()>(
            "send-command",
            &[&"echo", &arguments, &None::<gst::Promise>],
        );
    }
    let (name, reply) = next_reply(&running);
    assert_eq!((name.as_str(), &*code(&reply)), ("echo", "invalid_command"));
    // The stream goes on.
    let reply = send_command(&element, "echo", r#"{"text":"still here"}"#).wait(TIMEOUT);
    assert_eq!(data(&reply)["text"], "still here");
}

#[test]
fn check_commands_off_leaves_refusal_to_model() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.by_name("r").set_property("check-commands", false);
    running.play();
    let reply = send_command(&running.by_name("r"), "nope", "{}").wait(TIMEOUT);
    assert_eq!(code(&reply), "invalid_command");
    let error = reply.get::<gst::Structure>("error").unwrap();
    assert_eq!(error.get::<&str>("component").unwrap(), "gpu");
}

#[test]
fn malformed_json_property_posts_settings_error() {
    for commands in ["[", "{\"a\":1}", "[{\"a\":{}},5]", "[{\"\":{}}]"] {
        let running = TestPipeline::parse("reactorsrc name=r local=true ! fakesink");
        running.by_name("r").set_property("commands", commands);
        assert!(
            running.pipeline.set_state(gst::State::Playing).is_err(),
            "{commands}"
        );
        let failure = running.wait_error(TIMEOUT);
        assert!(
            failure.error.matches(gst::ResourceError::Settings),
            "{commands}: {failure:?}"
        );
    }
    for property in ["navigation=[]", "arguments=nojson", "arguments=[]"] {
        let line = format!("reactorsrc name=r local=true {property} ! fakesink");
        let running = TestPipeline::parse(&line);
        assert!(running.pipeline.set_state(gst::State::Playing).is_err());
        let failure = running.wait_error(TIMEOUT);
        let is_settings = failure.error.matches(gst::ResourceError::Settings);
        assert!(is_settings, "{property}: {failure:?}");
    }
}

#[test]
fn actions_without_session_reply_disconnected() {
    reactor_tests::init();
    let element = gst::ElementFactory::make("reactorsrc").build().unwrap();
    assert_eq!(
        code(&send_command(&element, "echo", "{}").wait(TIMEOUT)),
        "DISCONNECTED"
    );
    let reply = emit_action(&element, "request-schema", Vec::new()).wait(TIMEOUT);
    assert_eq!(code(&reply), "DISCONNECTED");
    // An action without a promise is harmless.
    let none = None::<gst::Promise>;
    element.emit_by_name::<()>("send-command", &[&"echo", &"{}", &none]);
}

#[test]
fn thousand_commands_are_answered_once_and_in_order() {
    if is_skipped_in_v0() {
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
fn five_megabyte_messages_pass_both_ways() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let reply = send_command(&element, "blob", r#"{"size":5000000}"#).wait(TIMEOUT);
    let blob = data(&reply);
    assert_eq!(blob["data"].as_str().map(str::len), Some(5_000_000));
    let arguments = json!({"text": "y".repeat(5_000_000)}).to_string();
    let reply = send_command(&element, "echo", &arguments).wait(TIMEOUT);
    assert_eq!(data(&reply)["length"], 5_000_000);
}

#[test]
fn files_and_bytes_are_uploaded_and_used() {
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let none = None::<String>.to_value();
    let cat = picture("upload.png").display().to_string();
    let upload = |action: &str, args: [gst::glib::Value; 3]| {
        emit_action(&element, action, args.into()).wait(TIMEOUT)
    };
    let reply = upload("upload-file", [cat.to_value(), none.clone(), none.clone()]);
    assert_eq!(reply.get::<&str>("name").unwrap(), "upload.png");
    assert_eq!(reply.get::<&str>("mime_type").unwrap(), "image/png");
    assert!(reply.get::<u64>("size").unwrap() > 0);
    // The fields of the answer are the members of the argument.
    let mut reference = serde_json::Map::new();
    for (name, value) in reply.iter() {
        let text = value.get::<String>().map(Value::from);
        let value = text.unwrap_or_else(|_| value.get::<u64>().unwrap().into());
        reference.insert(name.to_string(), value);
    }
    let image = json!({ "image": reference }).to_string();
    let reply = send_command(&element, "set_image", &image).wait(TIMEOUT);
    assert!(!reply.has_field("error"), "{reply}");

    let (empty, webp) = ("".to_value(), "a.webp".to_value());
    let reply = upload("upload-file", [cat.to_value(), webp, empty.clone()]);
    assert_eq!(reply.get::<&str>("mime_type").unwrap(), "image/webp");
    let reply = upload(
        "upload-file",
        [cat.to_value(), empty.clone(), empty.clone()],
    );
    assert_eq!(reply.get::<&str>("name").unwrap(), "upload.png");
    let bytes = gst::glib::Bytes::from_static(b"abc").to_value();
    let reply = upload("upload-bytes", [bytes, "a.txt".to_value(), empty]);
    assert_eq!(reply.get::<&str>("mime_type").unwrap(), "text/plain");
    assert_eq!(reply.get::<u64>("size").unwrap(), 3);

    let large = gst::glib::Bytes::from_owned(vec![7; 2 << 20]).to_value();
    upload("upload-bytes", [large, "large".to_value(), none.clone()]);
    let progress = running.wait_element("reactor-upload-progress", TIMEOUT);
    assert_eq!(progress.get::<&str>("name").unwrap(), "large");
    assert_eq!(progress.get::<u64>("size").unwrap(), 2 << 20);

    let nothing = gst::glib::Bytes::from_static(b"").to_value();
    let reply = upload("upload-bytes", [nothing, none.clone(), none.clone()]);
    assert_eq!(code(&reply), "BAD_REQUEST");
    let refused = |path: &str| {
        code(&upload(
            "upload-file",
            [path.to_value(), none.clone(), none.clone()],
        ))
    };
    assert_eq!(refused("/nowhere"), "BAD_REQUEST");
    assert_eq!(refused("/dev/zero"), "BAD_REQUEST");
    element.set_property("max-upload-size", 10u64);
    assert_eq!(refused(&cat), "BAD_REQUEST");
}

#[test]
fn platform_requests_are_answered() {
    let server = Server::recording();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    let schema = data(&emit_action(&element, "request-schema", Vec::new()).wait(TIMEOUT));
    assert!(schema["paths"]["/events/set_prompt"].is_object());
    // Something has to be recorded first.
    running.wait_element("reactor-message", TIMEOUT);
    std::thread::sleep(Duration::from_secs(2));
    let clip = emit_action(&element, "request-clip", vec![1.0f64.to_value()]).wait(TIMEOUT);
    assert_eq!(clip.get::<&str>("kind").unwrap(), "snap", "{clip}");
    assert!(
        clip.get::<&str>("playlist-url")
            .unwrap()
            .starts_with(&format!("{}/clips?", server.url()))
    );
    let clip = emit_action(&element, "request-clip", vec![(-1.0f64).to_value()]).wait(TIMEOUT);
    assert_eq!(code(&clip), "INVALID_DURATION");
    let recording = emit_action(&element, "request-recording", Vec::new()).wait(TIMEOUT);
    assert_eq!(recording.get::<&str>("kind").unwrap(), "recording");
}

#[test]
fn navigation_events_send_mapped_commands() {
    if is_skipped_in_v0() {
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
    wait_until("a picture", TIMEOUT, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    let sink = running.pad("s", "sink");
    let press = gst_video::NavigationEvent::new_key_press("w");
    sink.push_event(press.build());
    assert_eq!(next_reply(&running).0, "set_prompt");
    // The middle of the picture, which is 640x360.
    let click = gst_video::NavigationEvent::new_mouse_button_press(1, 320.0, 180.0);
    sink.push_event(click.build());
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "echo");
    let text = data(&structure)["text"].as_str().unwrap().to_owned();
    assert!(
        matches!(text.as_str(), "320,180" | "319,179" | "320,179" | "319,180"),
        "{text}"
    );
}

/// What is typed into files is JSON5: for `navigation`, and `arguments` of a session.
#[test]
fn navigation_and_arguments_are_read_from_files() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let files = [
        TempFile::new("keys.json5"),
        TempFile::new("arguments.json5"),
    ];
    std::fs::write(
        &files[0].0,
        "// A key.\n{'key:w':{echo:{text:'it\\'s w'}},}",
    )
    .unwrap();
    std::fs::write(&files[1].0, "{seed:7, /* of the dice */ style:'oil'}").unwrap();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! fakesink name=s",
        proxy.url()
    ));
    for (property, file) in ["navigation", "arguments"].iter().zip(&files) {
        let value = format!("@{}", file.0.display());
        running.by_name("r").set_property(property, value);
    }
    running.play();
    wait_until("a picture", TIMEOUT, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    let bodies = proxy.requests(RuntimeRoute::StartSession);
    let body = &bodies.first().expect("a session is begun").body;
    assert!(
        body.contains(r#""seed":7"#) && body.contains(r#""style":"oil""#),
        "{body}"
    );
    let press = gst_video::NavigationEvent::new_key_press("w");
    running.pad("s", "sink").push_event(press.build());
    let (name, structure) = next_reply(&running);
    assert_eq!(
        (name.as_str(), &data(&structure)["text"]),
        ("echo", &json!("it's w"))
    );
}

#[test]
fn upstream_event_sends_command() {
    if is_skipped_in_v0() {
        return;
    }
    let server = Server::playground();
    let running = source(&server);
    running.play();
    wait_until("a picture", TIMEOUT, || {
        running.pad("s", "sink").current_caps().is_some()
    });
    let structure = gst::Structure::builder("reactor-command")
        .field("name", "echo")
        .field("data", r#"{"text":"from below"}"#)
        .build();
    let event = gst::event::CustomUpstream::new(structure);
    running.pad("s", "sink").push_event(event);
    let (name, structure) = next_reply(&running);
    assert_eq!(name, "echo");
    assert_eq!(data(&structure)["text"], "from below");
}
