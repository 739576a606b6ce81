// SPDX-License-Identifier: MIT

//! A live session: its tracks, heartbeat and messages, and its end in order.

use serde_json::json;

use super::*;

fn runtime(name: &'static str, data: Value) -> Action {
    Action::Emit(MachineEvent::RuntimeMessage { name, data })
}

fn never_stalls() -> Policy {
    Policy {
        stall_limit: None,
        ..policy()
    }
}

#[test]
fn tracks_rest_until_the_servers_first_word() {
    let mut rig = Rig::live(policy());
    assert_eq!(rig.passes(300), "");
    let resume = rig.resume("main_video");
    let pong = Action::Emit(MachineEvent::Message {
        name: "pong".into(),
        data: json!({"n": 1}),
    });
    let out = rig.hear_data(server::model("", "pong", 1.0));
    assert_eq!(out, [resume, pong.clone()]);
    // They are resumed once.
    assert_eq!(rig.hear_data(server::model("", "pong", 1.0)), [pong]);
    assert_eq!(rig.passes(2000), "");
}

#[test]
fn tracks_rest_no_longer_than_half_a_second() {
    let mut rig = Rig::live(policy());
    assert_eq!(rig.passes(499), "");
    let resume = rig.resume("main_video");
    assert_eq!(rig.run(1), [(500, resume)]);
    let out = rig.hear_control(server::schema("ctrl_1"));
    assert_eq!(out, [runtime("modelSchema", json!({"openapi": 3}))]);
}

#[test]
fn any_word_of_the_servers_is_the_first() {
    let early = server::v0_runtime("moderation", json!({"action": "warn"}));
    for (channel, frame, expected) in [
        (Channel::Control, server::garbage(), "send warning"),
        (Channel::Control, server::unknown(""), "send"),
        (Channel::Data, early, "send runtime warning"),
    ] {
        let mut rig = Rig::live(policy());
        assert_eq!(labels(&rig.hear(channel, frame)), expected);
    }
}

#[test]
fn heard_media_does_not_resume_tracks() {
    let mut rig = Rig::live(policy());
    rig.run(100);
    assert_eq!(rig.told(Input::LastReceived(rig.now)), "");
    assert_eq!(rig.passes(400), "500 send");
}

#[test]
fn wishes_before_the_tracks_flow_count_when_they_do() {
    // Linked and unlinked before there is an offer, and while connecting.
    let mut rig = Rig::new(policy());
    assert_eq!(rig.told(set_paused("main_audio", false)), "");
    let mut rig = rig.until_connecting();
    assert_eq!(rig.told(set_paused("main_video", true)), "");
    rig.connect();
    let audio = rig.resume("main_audio");
    assert_eq!(rig.run(500), [(500, audio)]);

    // And while they rest.
    let mut rig = Rig::live(policy());
    assert_eq!(rig.told(set_paused("main_audio", false)), "");
    let out = rig.hear_control(server::unknown(""));
    assert_eq!(out, [rig.resume("main_video"), rig.resume("main_audio")]);
}

#[test]
fn no_track_is_resumed_if_none_is_wanted() {
    let mut rig = Rig::live(policy());
    rig.give(set_paused("main_video", true));
    assert_eq!(rig.passes(1500), "");
    assert_eq!(
        rig.give(set_paused("main_video", false)),
        [rig.resume("main_video")]
    );
}

#[test]
fn wishes_are_passed_on_as_they_change() {
    let mut rig = Rig::flowing(policy());
    assert_eq!(rig.give(set_paused("main_video", false)), []);
    assert_eq!(
        rig.give(set_paused("main_video", true)),
        [rig.pause("main_video")]
    );
    assert_eq!(rig.give(set_paused("main_video", true)), []);
    assert_eq!(
        rig.give(set_paused("main_video", false)),
        [rig.resume("main_video")]
    );
    assert_eq!(rig.give(set_paused("main_audio", true)), []);
    assert_eq!(
        rig.give(set_paused("main_audio", false)),
        [rig.resume("main_audio")]
    );
}

#[test]
fn the_heart_beats_every_five_seconds() {
    let mut rig = Rig::flowing(never_stalls());
    let out = rig.run(19_900);
    let ping = rig.v1(&ClientMessage::Ping, "");
    let expected = [5000, 10_000, 15_000, 20_000].map(|at| (at, ping.clone()));
    assert_eq!(out, expected);
    // What is heard does not replace it.
    rig.hear_data(server::model("", "pong", 1.0));
    assert_eq!(rig.run(5000), [(25_000, ping)]);
}

#[test]
fn the_schema_is_told_once() {
    let mut rig = Rig::live(policy());
    rig.run(100);
    let schema = runtime("modelSchema", json!({"openapi": 3}));
    let out = rig.hear_control(server::schema("ctrl_1"));
    assert_eq!(out, [rig.resume("main_video"), schema]);
    assert_eq!(rig.hear_control(server::schema("ctrl_1")), []);
    // The watchdog asks once more.
    let ask = rig.v1(&ClientMessage::RequestSchema, "ctrl_2");
    assert_eq!(rig.run(2500), [(2600, ask)]);
    assert_eq!(rig.hear_control(server::schema("ctrl_2")), []);
    // An element that asks gets it, and only that one.
    rig.give(request(5, ClientMessage::RequestSchema));
    let out = rig.hear_control(server::schema("ctrl_3"));
    assert_eq!(labels(&out), "reply");
}

#[test]
fn a_session_that_ends_in_order_has_not_failed() {
    let mut rig = Rig::flowing(policy());
    rig.give(request(1, command("go")));
    let out = rig.hear_control(server::session_ended("bye now"));
    let why = Error::gpu(
        Code::SessionTerminal,
        "the model ended the session: bye now",
    );
    let reason = Some("bye now".to_owned());
    let expected = [
        runtime("sessionEnded", json!({"reason": "bye now"})),
        Action::Emit(MachineEvent::Ended { reason }),
        Action::Reply {
            token: 1,
            result: Err(why),
        },
        // There is nothing left to end on the server.
        Action::CloseTransport,
        Action::Emit(MachineEvent::Status(Status::Disconnected)),
    ];
    assert_eq!(out, expected);
    assert_eq!(rig.told(Input::TransportClosed), "no-id closed");
}

#[test]
fn a_session_ends_in_v0_too() {
    let policy = Policy {
        wire: WireChoice::Only(WireVersion::V0),
        ..policy()
    };
    let mut rig = Rig::live(policy);
    let out = rig.hear_data(server::v0_runtime("sessionEnded", json!({"reason": "bye"})));
    assert_eq!(labels(&out), "send runtime ended close disconnected");
}

#[test]
fn a_warning_of_the_moderation_is_passed_on() {
    let mut rig = Rig::flowing(policy());
    let out = rig.hear_control(server::moderation("warn", "careful"));
    let moderation = json!({
        "action": "warn", "input_kind": "", "command": "", "categories": [], "message": "careful",
    });
    let careful = Error::gpu(Code::Other("moderation".into()), "careful");
    let expected = [
        runtime("moderation", moderation),
        Action::Emit(MachineEvent::Warning(careful)),
    ];
    assert_eq!(out, expected);
    let out = rig.hear_control(server::moderation("warn", ""));
    let text = "the platform's moderation stepped in";
    assert_eq!(warning(&out).message, text);
}

#[test]
fn the_moderation_can_end_the_session() {
    let mut rig = Rig::flowing(policy());
    let text = "Session terminated due to policy violation.";
    let out = rig.hear_control(server::moderation("terminate", text));
    assert_eq!(labels(&out), "runtime ended close disconnected");
    let reason = Some(text.to_owned());
    assert_eq!(out[1], Action::Emit(MachineEvent::Ended { reason }));
}

#[test]
fn clips_that_nobody_asked_for_are_passed_on() {
    let mut rig = Rig::flowing(policy());
    let out = rig.hear_control(server::clip_failed("ctrl_77", "no media"));
    assert_eq!(out, [runtime("clipFailed", json!({"reason": "no media"}))]);
    let out = rig.hear_control(server::clip_ready("ctrl_78", "/clips?x=1"));
    let [Action::Emit(MachineEvent::RuntimeMessage { name, data })] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(
        (*name, &data["playlist_url"]),
        ("clipReady", &json!("/clips?x=1"))
    );
}

#[test]
fn errors_that_nobody_asked_for_are_warnings() {
    let mut rig = Rig::flowing(policy());
    let out = rig.hear_data(server::error("", "out_of_memory", "the model is tired"));
    assert_eq!(labels(&out), "warning");
    let error = warning(&out);
    assert_eq!(error.code, Code::Other("out_of_memory".into()));
    assert_eq!(error.message, "the model is tired");
}

#[test]
fn what_is_not_known_is_skipped() {
    let mut rig = Rig::flowing(policy());
    for frame in [server::unknown(""), server::unknown("ctrl_99")] {
        assert_eq!(rig.hear_control(frame), []);
    }
    assert_eq!(rig.hear_data(server::ack("data_99")), []);
    assert_eq!(rig.hear_control(server::publish_granted("ctrl_98")), []);
}
