// SPDX-License-Identifier: MIT

//! Promises: each is answered once, whatever the application does meanwhile, and what it does in a
//! callback holds up nothing but its own element's callbacks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use reactor_tests::{
    actions::{disconnect, emit_action, reconnect, send_command},
    pipeline::{TestPipeline, is_v0, status, wait_for_status, wait_until},
    server::Server,
};
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A source without a display.
fn source(server: &Server) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc name=r local=true api-url={} ! fakesink name=s sync=false",
        server.url()
    ))
}

/// Emits `send-command` with a callback.
fn echo(
    element: &gst::Element,
    text: &str,
    answered: impl FnOnce(&gst::StructureRef) + Send + 'static,
) {
    let promise = gst::Promise::with_change_func(move |reply| {
        answered(reply.ok().flatten().expect("a structure"));
    });
    let arguments = json!({ "text": text }).to_string();
    element.emit_by_name::<()>("send-command", &[&"echo", &arguments, &Some(promise)]);
}

fn code(structure: &gst::StructureRef) -> Option<String> {
    let error = structure.get::<gst::Structure>("error").ok()?;
    error.get::<String>("code").ok()
}

#[test]
fn callback_may_wait_for_another_reply() {
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    wait_for_status(&element, "ready", TIMEOUT);
    let (sender, second) = mpsc::channel();
    let inner = element.clone();
    echo(&element, "first", move |_| {
        let reply = send_command(&inner, "echo", r#"{"text":"second"}"#);
        let _ = sender.send(code(&reply.wait(TIMEOUT)));
    });
    assert_eq!(second.recv_timeout(TIMEOUT).expect("a reply"), None);
    assert_eq!(status(&element), "ready");
}

/// Each element has an event thread of its own, and none of them is the session's: heartbeats,
/// pictures and replies of other elements go on while two callbacks block.
#[test]
fn blocking_callbacks_hold_up_no_other_element() {
    let server = Server::playground();
    // A pipeline each: what one waits for before it plays, its other sinks wait for too.
    let pipelines = ["a", "b", "c"].map(|session| {
        TestPipeline::launch(&format!(
            "reactorsrc name=r local=true api-url={} session={session} ! fakesink name=s",
            server.url()
        ))
    });
    let pictures = Arc::new(AtomicUsize::new(0));
    let count = pictures.clone();
    pipelines[2]
        .pad("s", "sink")
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::AcqRel);
            gst::PadProbeReturn::Ok
        });
    let elements = pipelines.each_ref().map(|running| running.by_name("r"));
    for element in &elements {
        wait_for_status(element, "ready", TIMEOUT);
    }
    let blocked = Arc::new(AtomicBool::new(true));
    let (sender, entered) = mpsc::channel();
    for element in &elements[..2] {
        let (sender, blocked) = (sender.clone(), blocked.clone());
        echo(element, "block", move |_| {
            let _ = sender.send(());
            while blocked.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
    for _ in 0..2 {
        entered.recv_timeout(TIMEOUT).expect("a callback");
    }
    // Longer than the 10 s between two heartbeats.
    std::thread::sleep(Duration::from_secs(12));
    let before = pictures.load(Ordering::Acquire);
    wait_until("pictures", TIMEOUT, || {
        pictures.load(Ordering::Acquire) > before + 30
    });
    let reply = send_command(&elements[2], "echo", r#"{"text":"x"}"#).wait(TIMEOUT);
    assert_eq!(code(&reply), None, "{reply}");
    for element in &elements {
        assert_eq!(status(element), "ready");
    }
    blocked.store(false, Ordering::Release);
    let reply = send_command(&elements[0], "echo", r#"{"text":"x"}"#).wait(TIMEOUT);
    assert_eq!(code(&reply), None, "{reply}");
    for running in &pipelines {
        running.assert_no_error();
    }
}

#[test]
fn callback_may_stop_pipeline() {
    let server = Server::playground();
    for _ in 0..3 {
        let running = source(&server);
        running.play();
        let element = running.by_name("r");
        wait_for_status(&element, "ready", TIMEOUT);
        let (sender, stopped) = mpsc::channel();
        let pipeline = running.pipeline.clone();
        echo(&element, "stop", move |_| {
            let begin = Instant::now();
            pipeline.set_state(gst::State::Null).expect("NULL");
            let _ = sender.send(begin.elapsed());
        });
        let took = stopped.recv_timeout(TIMEOUT).expect("it has stopped");
        assert!(took < Duration::from_secs(5), "{took:?}");
        server.wait_for_state("ready", TIMEOUT);
    }
}

#[test]
fn slow_message_handler_leaves_queue_bounded() {
    if is_v0() {
        println!("skipped: wire v0 has no replies to commands");
        return;
    }
    const COUNT: usize = 3000;
    /// A busy server answers these well within a request's timeout.
    const AT_ONCE: usize = 100;
    let server = Server::playground();
    let running = source(&server);
    let element = running.by_name("r");
    let (blocked, handled) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (wait, count) = (blocked.clone(), handled.clone());
    element.connect("message", false, move |_| {
        while wait.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(10));
        }
        count.fetch_add(1, Ordering::AcqRel);
        None
    });
    running.play();
    wait_for_status(&element, "ready", TIMEOUT);
    let (sender, replies) = mpsc::channel();
    // The handler blocks, and yet all replies come.
    for _ in 0..COUNT / AT_ONCE {
        for number in 0..AT_ONCE {
            let sender = sender.clone();
            echo(&element, &number.to_string(), move |reply| {
                // A test that has failed waits for no reply.
                let _ = sender.send(code(reply));
            });
        }
        for number in 0..AT_ONCE {
            let reply = replies.recv_timeout(TIMEOUT).expect("a reply");
            assert_eq!(reply, None, "{number}");
        }
    }
    blocked.store(false, Ordering::Release);
    let dropped = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let details = warning.details()?;
            let is_it = details.get::<&str>("code") == Ok("MESSAGES_DROPPED");
            is_it.then(|| details.get::<u64>("count").expect("a number"))
        }
        _ => None,
    });
    assert!(dropped > 0);
    wait_until("all messages", TIMEOUT, || {
        handled.load(Ordering::Acquire) + dropped as usize >= COUNT
    });
    assert!(handled.load(Ordering::Acquire) < COUNT);
}

#[test]
fn requests_while_disconnected_are_answered_at_once() {
    let server = Server::playground();
    let running = source(&server);
    running.play();
    let element = running.by_name("r");
    wait_for_status(&element, "ready", TIMEOUT);
    disconnect(&element, true);
    wait_for_status(&element, "disconnected", TIMEOUT);
    let soon = Duration::from_secs(5);
    let reply = send_command(&element, "echo", r#"{"text":"x"}"#).wait(soon);
    assert_eq!(code(&reply).as_deref(), Some("DISCONNECTED"));
    let reply = emit_action(&element, "request-schema", Vec::new()).wait(soon);
    assert_eq!(code(&reply).as_deref(), Some("DISCONNECTED"));
    let bytes = glib::Bytes::from_static(b"abc").to_value();
    let none = None::<String>.to_value();
    let reply = emit_action(&element, "upload-bytes", vec![bytes, none.clone(), none]).wait(soon);
    assert_eq!(code(&reply).as_deref(), Some("DISCONNECTED"));
    reconnect(&element);
    let reply = send_command(&element, "echo", r#"{"text":"x"}"#).wait(TIMEOUT);
    assert_eq!(code(&reply), None, "{reply}");
}

#[test]
fn every_promise_is_answered_once_when_element_stops() {
    const ROUNDS: u64 = 60;
    const COMMANDS: usize = 30;
    let server = Server::recording();
    let running = source(&server);
    let element = running.by_name("r");
    let (sender, answers) = mpsc::channel();
    for round in 0..ROUNDS {
        running.play();
        // Stopped while it connects, or once it is connected.
        if round % 3 == 0 {
            wait_for_status(&element, "ready", TIMEOUT);
        }
        if round % 6 == 5 {
            disconnect(&element, true);
        }
        let bytes = glib::Bytes::from_static(b"abc").to_value();
        for number in 0..COMMANDS {
            let sender = sender.clone();
            let promise = gst::Promise::with_change_func(move |reply| {
                assert!(reply.ok().flatten().is_some(), "a structure");
                sender.send((round, number)).unwrap();
            });
            let promise = Some(promise);
            let none = None::<String>;
            match number % 10 {
                7 => element.emit_by_name::<()>("request-schema", &[&promise]),
                8 => element.emit_by_name::<()>("request-clip", &[&1.0, &promise]),
                9 => element.emit_by_name::<()>("upload-bytes", &[&bytes, &none, &none, &promise]),
                _ => element
                    .emit_by_name::<()>("send-command", &[&"echo", &r#"{"text":"x"}"#, &promise]),
            }
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 60));
        running.stop();
        let mut answered = [0; COMMANDS];
        let deadline = Instant::now() + TIMEOUT;
        while answered.contains(&0) {
            let left = deadline.saturating_duration_since(Instant::now());
            let (of, number) = answers
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("round {round}: {answered:?}"));
            assert_eq!(of, round, "answered twice");
            answered[number] += 1;
        }
        assert_eq!(answered, [1; COMMANDS], "round {round}");
    }
    assert!(answers.recv_timeout(Duration::from_secs(1)).is_err());
}
