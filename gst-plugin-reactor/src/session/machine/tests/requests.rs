// SPDX-License-Identifier: MIT

//! Requests of the elements and their replies.

use serde_json::json;

use super::*;
use crate::platform::wire::{Clip, ServerMessage};

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
fn v0() -> Rig {
    let mut rig = Rig::new(policy()).version("2.10.1").until_live();
    rig.hear_data(server::v0_runtime("modelSchema", json!({})));
    rig
}

#[test]
fn requests_wait_until_it_is_live() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.give(request(10, command("a"))), []);
    rig.give(Input::Start);
    assert_eq!(rig.give(request(11, clip(5.0))), []);
    rig.begun();
    assert_eq!(rig.give(request(12, command("b"))), []);
    rig.prepare();
    assert_eq!(rig.give(request(13, publish())), []);
    rig.answered(ANSWER);
    assert_eq!(rig.give(request(14, command("c"))), []);
    let out = rig.connect();
    assert_eq!(labels(&out), "send send ready complete");
    assert_eq!(rig.give(request(15, command("d"))), []);
    rig.run(100);
    let out = rig.hear_control(server::unknown(""));
    let expected = [
        rig.resume("main_video"),
        rig.v1(&command("a"), "data_1"),
        rig.v1(&clip(5.0), "ctrl_2"),
        rig.v1(&command("b"), "data_2"),
        rig.v1(&publish(), "ctrl_3"),
        rig.v1(&command("c"), "data_3"),
        rig.v1(&command("d"), "data_4"),
    ];
    assert_eq!(out, expected);
    // The time for a reply counts from the sending.
    assert_eq!(rig.machine.requests.deadline(), START + ms(30 + 10_000));
}

#[test]
fn replies_find_their_requests_in_any_order() {
    let mut rig = Rig::flowing(policy());
    for token in 1..=3 {
        rig.give(request(token, command("ping")));
    }
    rig.give(request(4, clip(5.0)));
    rig.give(request(5, publish()));
    let granted = reply(5, ServerMessage::PublishGranted);
    assert_eq!(
        rig.hear_control(server::publish_granted("ctrl_3")),
        [granted]
    );
    let out = rig.hear_data(server::model("data_3", "pong", 3.0));
    // What a command answers is a message as well.
    let message = Action::Emit(MachineEvent::Message {
        name: "pong".into(),
        data: json!({"n": 3}),
    });
    assert_eq!(out, [reply(3, pong(3)), message]);
    // A message of nobody's between them.
    assert_eq!(
        labels(&rig.hear_data(server::model("", "pong", 0.0))),
        "message"
    );
    assert_eq!(
        rig.hear_data(server::ack("data_1")),
        [reply(1, ServerMessage::Ack)]
    );
    let out = rig.hear_control(server::clip_ready("ctrl_2", "/clips?x=1"));
    let ready = ServerMessage::ClipReady(Clip {
        playlist_url: "/clips?x=1".into(),
        ..Clip::default()
    });
    assert_eq!(out[0], reply(4, ready));
    assert_eq!(labels(&out), "reply runtime");
    let out = rig.hear_data(server::unknown("data_2"));
    assert_eq!(out, [reply(2, ServerMessage::Unknown)]);
    // None is answered twice.
    assert_eq!(rig.hear_data(server::ack("data_1")), []);
}

#[test]
fn refusals_are_errors() {
    let mut rig = Rig::flowing(policy());
    rig.give(request(1, command("ping")));
    rig.give(request(2, clip(5.0)));
    rig.give(request(3, publish()));
    let error = |code: &'static str, text: &str| Error::gpu(Code::Other(code.into()), text);
    let out = rig.hear_data(server::error(
        "data_1",
        "invalid_command",
        "no such command",
    ));
    let result = Err(error("invalid_command", "no such command"));
    // The one who asked knows: nobody else is warned.
    assert_eq!(out, [Action::Reply { token: 1, result }]);
    let out = rig.hear_control(server::clip_failed("ctrl_2", "no media"));
    let result = Err(error("clip_failed", "no media"));
    assert_eq!(out[0], Action::Reply { token: 2, result });
    assert_eq!(labels(&out), "reply runtime");
    let out = rig.hear_control(server::error("ctrl_3", "publish_refused", "taken"));
    let result = Err(error("publish_refused", "taken"));
    assert_eq!(out, [Action::Reply { token: 3, result }]);
}

#[test]
fn a_request_that_cannot_be_written_fails() {
    let mut rig = Rig::flowing(policy());
    let out = rig.give(request(1, clip(-1.0)));
    let code = Code::Other("INVALID_DURATION".into());
    assert_eq!(refusals(&out), [(1, code)]);
    assert_eq!(labels(&out), "reply");
}

#[test]
fn what_is_never_answered_is_done_when_sent() {
    let mut rig = Rig::flowing(policy());
    let release = ClientMessage::UnpublishTrack("webcam".into());
    let out = rig.give(request(1, release.clone()));
    assert_eq!(out, [rig.v1(&release, ""), reply(1, ServerMessage::Ack)]);
}

#[test]
fn a_reply_is_awaited_ten_seconds() {
    let policy = Policy {
        stall_limit: None,
        ..policy()
    };
    let mut rig = Rig::flowing(policy);
    rig.mark();
    rig.give(request(1, command("slow")));
    rig.run(300);
    rig.give(request(2, command("slower")));
    assert_eq!(rig.passes(9699), "4900 send, 9900 send");
    let out = actions(rig.run(1));
    let text = "the model did not reply within 10 s; it may still act on it";
    let result = Err(Error::gpu(Code::RequestTimeout, text));
    assert_eq!(out, [Action::Reply { token: 1, result }]);
    assert_eq!(rig.passes(300), "10300 reply");
    // The reply comes after all: it is nobody's.
    let out = rig.hear_data(server::ack("data_1"));
    assert_eq!(out, []);
    let out = rig.hear_data(server::model("data_2", "pong", 1.0));
    assert_eq!(labels(&out), "message");
}

#[test]
fn the_machines_own_question_may_stay_without_an_answer() {
    let policy = Policy {
        stall_limit: None,
        ..policy()
    };
    let mut rig = Rig::live(policy);
    rig.hear_control(server::unknown(""));
    assert_eq!(rig.passes(12_000), "5000 send, 10000 send");
}

#[test]
fn replies_of_v0_come_in_the_order_of_the_requests() {
    let mut rig = v0();
    let out = rig.give(request(1, clip(5.0)));
    assert_eq!(out, [rig.v0(&clip(5.0), "")]);
    rig.give(request(2, ClientMessage::RequestRecording));
    rig.give(request(3, ClientMessage::RequestSchema));
    rig.give(request(4, ClientMessage::RequestSchema));
    // Each subject has a queue of its own.
    let schema = |n: i64| server::v0_runtime("modelSchema", json!({ "n": n }));
    let told = |n: i64| ServerMessage::Schema(json!({ "n": n }));
    assert_eq!(rig.hear_data(schema(1)), [reply(3, told(1))]);
    let failed = server::v0_runtime("clipFailed", json!({"reason": "no media"}));
    let out = rig.hear_data(failed);
    assert_eq!(refusals(&out), [(1, Code::Other("clip_failed".into()))]);
    let ready = server::v0_runtime("clipReady", json!({"playlist_url": "/x"}));
    let out = rig.hear_data(ready.clone());
    assert_eq!(replies(&out).len(), 1);
    assert_eq!(replies(&out)[0].0, 2);
    assert_eq!(rig.hear_data(schema(2)), [reply(4, told(2))]);
    // Nobody asked for a third.
    assert_eq!(labels(&rig.hear_data(ready)), "runtime");
}

#[test]
fn commands_of_v0_are_done_when_sent() {
    let mut rig = v0();
    let out = rig.give(request(1, command("go")));
    assert_eq!(
        out,
        [rig.v0(&command("go"), ""), reply(1, ServerMessage::Ack)]
    );
    // What the model says then is nobody's reply.
    let out = rig.hear_data(server::v0_model("pong", json!({})));
    assert_eq!(labels(&out), "message");
}

#[test]
fn claims_of_v0_have_ids() {
    let mut rig = v0();
    let answer = |id: &str, error: Option<&str>| {
        let mut answer = json!({"type": "response", "method": "publish_track", "request_id": id});
        if let Some(code) = error {
            answer["error"] = json!({"code": code, "message": "taken"});
        }
        server::text(&answer)
    };
    let out = rig.give(request(1, publish()));
    assert_eq!(out, [rig.v0(&publish(), "ctrl_2")]);
    rig.give(request(2, publish()));
    let out = rig.hear_control(answer("ctrl_3", Some("publish_refused")));
    assert_eq!(refusals(&out), [(2, Code::Other("publish_refused".into()))]);
    let out = rig.hear_control(answer("ctrl_2", None));
    assert_eq!(out, [reply(1, ServerMessage::PublishGranted)]);
}
