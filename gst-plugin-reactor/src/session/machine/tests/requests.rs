// SPDX-License-Identifier: MIT

//! Requests of the elements and their replies.

use serde_json::json;

use super::*;
use crate::platform::wire::{Clip, ServerMessage};

#[test]
fn private_request_is_answered_and_not_reported() {
    for private in [true, false] {
        let mut harness = Harness::resumed(policy());
        harness.handle(Input::Request {
            token: 1,
            message: clip(5.0),
            private,
        });
        let out = harness.receive_control(server::clip_ready("ctrl_2", "/clips?x=1"));
        assert_eq!(replies(&out).len(), 1);
        let reported = out
            .iter()
            .any(|action| matches!(action, Action::Emit(MachineEvent::RuntimeMessage { .. })));
        assert_eq!(reported, !private);
    }
}

fn clip(seconds: f64) -> ClientMessage {
    ClientMessage::RequestClip { seconds }
}

fn publish() -> ClientMessage {
    ClientMessage::PublishTrack("webcam".into())
}

fn reply(token: u64, message: ServerMessage) -> Action {
    Action::Reply {
        token,
        result: Ok(message),
    }
}

fn pong(n: i64) -> ServerMessage {
    ServerMessage::Model {
        name: "pong".into(),
        data: json!({ "n": n }),
    }
}

/// Ready with a server that speaks v0 only.
fn v0() -> Harness {
    let harness = Harness::new(policy()).version("2.10.1");
    let mut harness = harness.without_chunking().until_ready();
    harness.receive_data(server::v0_runtime("modelSchema", json!({})));
    harness
}

#[test]
fn requests_are_queued_until_ready() {
    let mut harness = Harness::new(policy());
    assert_eq!(harness.handle(request(10, command("a"))), []);
    harness.handle(Input::Start);
    assert_eq!(harness.handle(request(11, clip(5.0))), []);
    harness.open_session();
    assert_eq!(harness.handle(request(12, command("b"))), []);
    harness.prepare();
    assert_eq!(harness.handle(request(13, publish())), []);
    harness.poll_answer(&ANSWER.replace(CHUNKING, ""));
    assert_eq!(harness.handle(request(14, command("c"))), []);
    let out = harness.connect();
    assert_eq!(labels(&out), "send send ready complete");
    assert_eq!(harness.handle(request(15, command("d"))), []);
    harness.run(100);
    let out = harness.receive_control(server::unknown(""));
    let expected = [
        harness.resume("main_video"),
        harness.v1(&command("a"), "data_1"),
        harness.v1(&clip(5.0), "ctrl_2"),
        harness.v1(&command("b"), "data_2"),
        harness.v1(&publish(), "ctrl_3"),
        harness.v1(&command("c"), "data_3"),
        harness.v1(&command("d"), "data_4"),
    ];
    assert_eq!(out, expected);
    // The time for a reply counts from when the request was sent.
    assert_eq!(harness.machine.requests.deadline(), START + ms(30 + 10_000));
}

#[test]
fn replies_match_requests_in_any_order() {
    let mut harness = Harness::resumed(policy());
    for token in 1..=3 {
        harness.handle(request(token, command("ping")));
    }
    harness.handle(request(4, clip(5.0)));
    harness.handle(request(5, publish()));
    let granted = reply(5, ServerMessage::PublishGranted);
    assert_eq!(
        harness.receive_control(server::publish_granted("ctrl_3")),
        [granted]
    );
    let out = harness.receive_data(server::model("data_3", "pong", 3.0));
    // The reply to a command is a message as well.
    let message = Action::Emit(MachineEvent::Message {
        name: "pong".into(),
        data: json!({"n": 3}),
    });
    assert_eq!(out, [reply(3, pong(3)), message]);
    // A message that answers no request comes between them.
    assert_eq!(
        labels(&harness.receive_data(server::model("", "pong", 0.0))),
        "message"
    );
    assert_eq!(
        harness.receive_data(server::ack("data_1")),
        [reply(1, ServerMessage::Ack)]
    );
    let out = harness.receive_control(server::clip_ready("ctrl_2", "/clips?x=1"));
    let ready = ServerMessage::ClipReady(Clip {
        playlist_url: "/clips?x=1".into(),
        ..Clip::default()
    });
    assert_eq!(out[0], reply(4, ready));
    assert_eq!(labels(&out), "reply runtime");
    let out = harness.receive_data(server::unknown("data_2"));
    assert_eq!(out, [reply(2, ServerMessage::Unknown)]);
    // None gets two replies.
    assert_eq!(harness.receive_data(server::ack("data_1")), []);
}

#[test]
fn error_replies_are_errors() {
    let mut harness = Harness::resumed(policy());
    harness.handle(request(1, command("ping")));
    harness.handle(request(2, clip(5.0)));
    harness.handle(request(3, publish()));
    let error = |code: &'static str, text: &str| Error::gpu(Code::Other(code.into()), text);
    let out = harness.receive_data(server::error(
        "data_1",
        "invalid_command",
        "no such command",
    ));
    let result = Err(error("invalid_command", "no such command"));
    // The requester gets the error: there is no warning.
    assert_eq!(out, [Action::Reply { token: 1, result }]);
    let out = harness.receive_control(server::clip_failed("ctrl_2", "no media"));
    let result = Err(error("clip_failed", "no media"));
    assert_eq!(out[0], Action::Reply { token: 2, result });
    assert_eq!(labels(&out), "reply runtime");
    let out = harness.receive_control(server::error("ctrl_3", "publish_refused", "taken"));
    let result = Err(error("publish_refused", "taken"));
    assert_eq!(out, [Action::Reply { token: 3, result }]);
}

#[test]
fn request_that_cannot_be_encoded_fails() {
    let mut harness = Harness::resumed(policy());
    let out = harness.handle(request(1, clip(-1.0)));
    let code = Code::Other("INVALID_DURATION".into());
    assert_eq!(refusals(&out), [(1, code)]);
    assert_eq!(labels(&out), "reply");
}

#[test]
fn request_without_reply_succeeds_when_sent() {
    let mut harness = Harness::resumed(policy());
    let release = ClientMessage::UnpublishTrack("webcam".into());
    let out = harness.handle(request(1, release.clone()));
    assert_eq!(
        out,
        [harness.v1(&release, ""), reply(1, ServerMessage::Ack)]
    );
}

#[test]
fn request_times_out_after_ten_seconds() {
    let policy = Policy {
        stall_limit: None,
        ..policy()
    };
    let mut harness = Harness::resumed(policy);
    harness.mark();
    harness.handle(request(1, command("slow")));
    harness.run(300);
    harness.handle(request(2, command("slower")));
    assert_eq!(harness.run_labels(9699), "4900 send, 9900 send");
    let out = actions(harness.run(1));
    let text = "the model did not reply within 10 s; it may still act on it";
    let result = Err(Error::gpu(Code::RequestTimeout, text));
    assert_eq!(out, [Action::Reply { token: 1, result }]);
    assert_eq!(harness.run_labels(300), "10300 reply");
    // A late reply answers no request.
    let out = harness.receive_data(server::ack("data_1"));
    assert_eq!(out, []);
    let out = harness.receive_data(server::model("data_2", "pong", 1.0));
    assert_eq!(labels(&out), "message");
}

#[test]
fn unanswered_schema_request_is_no_error() {
    let policy = Policy {
        stall_limit: None,
        ..policy()
    };
    let mut harness = Harness::ready(policy);
    harness.receive_control(server::unknown(""));
    assert_eq!(harness.run_labels(12_000), "5000 send, 10000 send");
}

#[test]
fn v0_replies_match_requests_in_order() {
    let mut harness = v0();
    let out = harness.handle(request(1, clip(5.0)));
    assert_eq!(out, [harness.v0(&clip(5.0), "")]);
    harness.handle(request(2, ClientMessage::RequestRecording));
    harness.handle(request(3, ClientMessage::RequestSchema));
    harness.handle(request(4, ClientMessage::RequestSchema));
    // Each kind of request has a queue of its own.
    let schema = |n: i64| server::v0_runtime("modelSchema", json!({ "n": n }));
    let schema_reply = |n: i64| ServerMessage::Schema(json!({ "n": n }));
    assert_eq!(harness.receive_data(schema(1)), [reply(3, schema_reply(1))]);
    let failed = server::v0_runtime("clipFailed", json!({"reason": "no media"}));
    let out = harness.receive_data(failed);
    assert_eq!(refusals(&out), [(1, Code::Other("clip_failed".into()))]);
    let ready = server::v0_runtime("clipReady", json!({"playlist_url": "/x"}));
    let out = harness.receive_data(ready.clone());
    assert_eq!(replies(&out).len(), 1);
    assert_eq!(replies(&out)[0].0, 2);
    assert_eq!(harness.receive_data(schema(2)), [reply(4, schema_reply(2))]);
    // There is no third request.
    assert_eq!(labels(&harness.receive_data(ready)), "runtime");
}

#[test]
fn v0_commands_succeed_when_sent() {
    let mut harness = v0();
    let out = harness.handle(request(1, command("go")));
    assert_eq!(
        out,
        [harness.v0(&command("go"), ""), reply(1, ServerMessage::Ack)]
    );
    // The model's message then answers no request.
    let out = harness.receive_data(server::v0_model("pong", json!({})));
    assert_eq!(labels(&out), "message");
}

#[test]
fn v0_publish_requests_have_ids() {
    let mut harness = v0();
    let answer = |id: &str, error: Option<&str>| {
        let mut answer = json!({"type": "response", "method": "publish_track", "request_id": id});
        if let Some(code) = error {
            answer["error"] = json!({"code": code, "message": "taken"});
        }
        server::text(&answer)
    };
    let out = harness.handle(request(1, publish()));
    assert_eq!(out, [harness.v0(&publish(), "ctrl_2")]);
    harness.handle(request(2, publish()));
    let out = harness.receive_control(answer("ctrl_3", Some("publish_refused")));
    assert_eq!(refusals(&out), [(2, Code::Other("publish_refused".into()))]);
    let out = harness.receive_control(answer("ctrl_2", None));
    assert_eq!(out, [reply(1, ServerMessage::PublishGranted)]);
}

#[test]
fn request_that_cannot_be_sent_expires() {
    let mut harness = Harness::new(policy());
    harness.handle(request(10, command("a")));
    let out = actions(harness.run(29_999));
    assert_eq!(refusals(&out), []);
    harness.handle(request(11, clip(1.0)));
    let out = actions(harness.run(1));
    assert_eq!(refusals(&out), [(10, Code::Disconnected)]);
    let out = actions(harness.run(30_000));
    assert_eq!(refusals(&out), [(11, Code::Disconnected)]);
}

#[test]
fn suspended_session_refuses_requests() {
    let mut harness = Harness::resumed(policy());
    harness.handle(request(1, command("a")));
    let out = harness.handle(Input::Disconnect {
        token: 9,
        recoverable: true,
    });
    assert_eq!(refusals(&out), [(1, Code::Disconnected)]);
    let out = harness.handle(request(2, command("b")));
    assert_eq!(refusals(&out), [(2, Code::Disconnected)]);
    // They wait again for the next connection.
    harness.handle(Input::Reconnect { token: 8 });
    assert_eq!(harness.handle(request(3, command("c"))), []);
    // But not if there is none.
    let out = harness.handle(Input::Disconnect {
        token: 10,
        recoverable: true,
    });
    assert!(refusals(&out).contains(&(3, Code::Disconnected)), "{out:?}");
}
