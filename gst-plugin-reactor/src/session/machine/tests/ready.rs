// SPDX-License-Identifier: MIT

//! A session that is ready: its tracks, pings and messages, and its regular end.

use serde_json::json;

use super::*;

fn runtime(name: &'static str, data: Value) -> Action {
    Action::Emit(MachineEvent::RuntimeMessage { name, data })
}

fn without_stall_limit() -> Policy {
    Policy {
        stall_limit: None,
        ..policy()
    }
}

#[test]
fn tracks_stay_paused_until_the_first_message() {
    let mut harness = Harness::ready(policy());
    assert_eq!(harness.run_labels(300), "");
    let resume = harness.resume("main_video");
    let pong = Action::Emit(MachineEvent::Message {
        name: "pong".into(),
        data: json!({"n": 1}),
    });
    let out = harness.receive_data(server::model("", "pong", 1.0));
    assert_eq!(out, [resume, pong.clone()]);
    // They are resumed once.
    assert_eq!(harness.receive_data(server::model("", "pong", 1.0)), [pong]);
    assert_eq!(harness.run_labels(2000), "");
}

#[test]
fn tracks_are_resumed_after_500_ms() {
    let mut harness = Harness::ready(policy());
    assert_eq!(harness.run_labels(499), "");
    let resume = harness.resume("main_video");
    assert_eq!(harness.run(1), [(500, resume)]);
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(out, [runtime("modelSchema", json!({"openapi": 3}))]);
}

#[test]
fn any_first_message_resumes_tracks() {
    let early = server::v0_runtime("moderation", json!({"action": "warn"}));
    for (channel, frame, expected) in [
        (Channel::Control, server::garbage(), "send warning"),
        (Channel::Control, server::unknown(""), "send"),
        (Channel::Data, early, "send runtime warning"),
    ] {
        let mut harness = Harness::ready(policy());
        assert_eq!(labels(&harness.receive(channel, frame)), expected);
    }
}

#[test]
fn received_media_does_not_resume_tracks() {
    let mut harness = Harness::ready(policy());
    harness.run(100);
    assert_eq!(harness.handle_labels(media("main_video", harness.now)), "");
    assert_eq!(harness.run_labels(400), "500 send");
}

#[test]
fn each_track_is_resumed_again_until_it_flows() {
    let mut harness = Harness::ready(without_stall_limit());
    harness.silent = true;
    let [video, audio] = ["main_video", "main_audio"].map(|track| harness.resume(track));
    let times = |out: Vec<(u64, Action)>, resume: &Action| -> Vec<u64> {
        let times = out.into_iter().filter(|(_, action)| action == resume);
        times.map(|(at, _)| at).collect()
    };
    harness.handle(set_paused("main_audio", false));
    harness.run(100);
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(out[..2], [video.clone(), audio.clone()]);
    // The other track's media says nothing of this one.
    harness.run(500);
    harness.handle(media("main_audio", harness.now));
    let out = harness.run(12_000);
    assert!(times(out.clone(), &audio).is_empty());
    assert_eq!(times(out, &video), [1100, 3100, 7100]);
    harness.handle(media("main_video", harness.now));
    let out = harness.run(20_000);
    assert!(times(out, &video).is_empty());

    // So is one that is resumed later, and none that is paused meanwhile.
    for paused in [true, false] {
        harness.handle(set_paused("main_video", paused));
    }
    let before = harness.time();
    let out = harness.run(2000);
    assert_eq!(times(out, &video), [before + 1000]);
    harness.handle(set_paused("main_video", true));
    let out = harness.run(20_000);
    assert!(times(out, &video).is_empty());
}

#[test]
fn pauses_before_the_first_resume_are_respected() {
    // Linked and unlinked before there is an offer, and while connecting.
    let mut harness = Harness::new(policy());
    assert_eq!(harness.handle_labels(set_paused("main_audio", false)), "");
    let mut harness = harness.until_connecting();
    assert_eq!(harness.handle_labels(set_paused("main_video", true)), "");
    harness.connect();
    let audio = harness.resume("main_audio");
    assert_eq!(harness.run(500), [(500, audio)]);

    // And while they are paused on the new connection.
    let mut harness = Harness::ready(policy());
    assert_eq!(harness.handle_labels(set_paused("main_audio", false)), "");
    let out = harness.receive_control(server::unknown(""));
    assert_eq!(
        out,
        [harness.resume("main_video"), harness.resume("main_audio")]
    );
}

#[test]
fn no_track_is_resumed_if_all_are_paused() {
    let mut harness = Harness::ready(policy());
    harness.handle(set_paused("main_video", true));
    assert_eq!(harness.run_labels(1500), "");
    assert_eq!(
        harness.handle(set_paused("main_video", false)),
        [harness.resume("main_video")]
    );
}

#[test]
fn pause_and_resume_are_sent_on_change_only() {
    let mut harness = Harness::resumed(policy());
    assert_eq!(harness.handle(set_paused("main_video", false)), []);
    assert_eq!(
        harness.handle(set_paused("main_video", true)),
        [harness.pause("main_video")]
    );
    assert_eq!(harness.handle(set_paused("main_video", true)), []);
    assert_eq!(
        harness.handle(set_paused("main_video", false)),
        [harness.resume("main_video")]
    );
    assert_eq!(harness.handle(set_paused("main_audio", true)), []);
    assert_eq!(
        harness.handle(set_paused("main_audio", false)),
        [harness.resume("main_audio")]
    );
}

#[test]
fn ping_is_sent_every_five_seconds() {
    let mut harness = Harness::resumed(without_stall_limit());
    let out = harness.run(19_900);
    let ping = harness.v1(&ClientMessage::Ping, "");
    let expected = [5000, 10_000, 15_000, 20_000].map(|at| (at, ping.clone()));
    assert_eq!(out, expected);
    // Received messages do not replace it.
    harness.receive_data(server::model("", "pong", 1.0));
    assert_eq!(harness.run(5000), [(25_000, ping)]);
}

#[test]
fn schema_is_reported_once() {
    let mut harness = Harness::ready(policy());
    harness.run(100);
    let schema = runtime("modelSchema", json!({"openapi": 3}));
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(out, [harness.resume("main_video"), schema]);
    assert_eq!(harness.receive_control(server::schema("ctrl_1")), []);
    // The watchdog requests it once more.
    let ask = harness.v1(&ClientMessage::RequestSchema, "ctrl_2");
    assert_eq!(harness.run(2500), [(2600, ask)]);
    assert_eq!(harness.receive_control(server::schema("ctrl_2")), []);
    // An element that requests it receives it, and no other.
    harness.handle(request(5, ClientMessage::RequestSchema));
    let out = harness.receive_control(server::schema("ctrl_3"));
    assert_eq!(labels(&out), "reply");
}

#[test]
fn session_ended_by_server_does_not_fail() {
    let mut harness = Harness::resumed(policy());
    harness.handle(request(1, command("go")));
    let out = harness.receive_control(server::session_ended("bye now"));
    let why = Error::gpu(Code::Disconnected, "the model ended the session: bye now");
    let reason = Some("bye now".to_owned());
    let expected = [
        runtime("sessionEnded", json!({"reason": "bye now"})),
        Action::Emit(MachineEvent::Ended {
            reason,
            requested: false,
        }),
        Action::Reply {
            token: 1,
            result: Err(why),
        },
        // The session needs no request to end it.
        Action::CloseTransport,
        Action::Emit(MachineEvent::Status(Status::Disconnected)),
    ];
    assert_eq!(out, expected);
    assert_eq!(
        harness.handle_labels(Input::TransportClosed),
        "no-id closed"
    );
}

#[test]
fn session_ended_in_v0_ends() {
    let policy = Policy {
        wire: WireChoice::Only(WireVersion::V0),
        ..policy()
    };
    let mut harness = Harness::ready(policy);
    let out = harness.receive_data(server::v0_runtime("sessionEnded", json!({"reason": "bye"})));
    assert_eq!(labels(&out), "send runtime ended close disconnected");
}

#[test]
fn moderation_warning_is_reported() {
    let mut harness = Harness::resumed(policy());
    let out = harness.receive_control(server::moderation("warn", "careful"));
    let moderation = json!({
        "action": "warn", "input_kind": "", "command": "", "categories": [], "message": "careful",
    });
    let careful = Error::gpu(Code::Other("moderation".into()), "careful");
    let expected = [
        runtime("moderation", moderation),
        Action::Emit(MachineEvent::Warning(careful)),
    ];
    assert_eq!(out, expected);
    let out = harness.receive_control(server::moderation("warn", ""));
    let text = "the platform's moderation stepped in";
    assert_eq!(warning(&out).message, text);
}

#[test]
fn moderation_terminate_ends_the_session() {
    let mut harness = Harness::resumed(policy());
    let text = "Session terminated due to policy violation.";
    let out = harness.receive_control(server::moderation("terminate", text));
    assert_eq!(labels(&out), "runtime ended close disconnected");
    let reason = Some(text.to_owned());
    assert_eq!(
        out[1],
        Action::Emit(MachineEvent::Ended {
            reason,
            requested: false
        })
    );
}

#[test]
fn unsolicited_clips_are_reported() {
    let mut harness = Harness::resumed(policy());
    let out = harness.receive_control(server::clip_failed("ctrl_77", "no media"));
    assert_eq!(out, [runtime("clipFailed", json!({"reason": "no media"}))]);
    let out = harness.receive_control(server::clip_ready("ctrl_78", "/clips?x=1"));
    let [Action::Emit(MachineEvent::RuntimeMessage { name, data })] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(
        (*name, &data["playlist_url"]),
        ("clipReady", &json!("/clips?x=1"))
    );
}

#[test]
fn unsolicited_errors_are_warnings() {
    let mut harness = Harness::resumed(policy());
    let out = harness.receive_data(server::error("", "out_of_memory", "the model is tired"));
    assert_eq!(labels(&out), "warning");
    let error = warning(&out);
    assert_eq!(error.code, Code::Other("out_of_memory".into()));
    assert_eq!(error.message, "the model is tired");
}

#[test]
fn unknown_messages_are_ignored() {
    let mut harness = Harness::resumed(policy());
    for frame in [server::unknown(""), server::unknown("ctrl_99")] {
        assert_eq!(harness.receive_control(frame), []);
    }
    assert_eq!(harness.receive_data(server::ack("data_99")), []);
    assert_eq!(
        harness.receive_control(server::publish_granted("ctrl_98")),
        []
    );
}

fn pause(track: &str, paused: bool) -> Input {
    Input::PauseTrack {
        token: 3,
        track: track.into(),
        paused,
    }
}

#[test]
fn track_paused_by_the_user_stays_paused() {
    let mut harness = Harness::resumed(policy());
    let out = harness.handle(pause("main_video", true));
    assert_eq!(out[0], harness.pause("main_video"));
    // The pipeline pauses and plays again.
    assert_eq!(harness.handle(set_paused("main_video", true)), []);
    assert_eq!(harness.handle(set_paused("main_video", false)), []);
    assert!(harness.machine.is_track_paused("main_video"));
    let out = harness.handle(pause("main_video", false));
    assert_eq!(out[0], harness.resume("main_video"));
    // No pad needs the sound: nothing is sent for it.
    assert_eq!(harness.handle_labels(pause("main_audio", true)), "reply");
    assert_eq!(harness.handle_labels(pause("main_audio", false)), "reply");
    assert!(!harness.machine.is_track_paused("main_video"));
}

#[test]
fn track_paused_by_the_user_stays_paused_on_the_next_connection() {
    let mut harness = Harness::until_ready(Harness::new(policy()));
    assert_eq!(harness.handle_labels(pause("main_video", true)), "reply");
    harness.run(100);
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert!(!out.contains(&harness.resume("main_video")), "{out:?}");
}

#[test]
fn only_output_tracks_can_be_paused() {
    let mut harness = Harness::resumed(policy());
    for track in ["webcam", "nothing", ""] {
        let out = harness.handle(pause(track, true));
        assert_eq!(refusals(&out), [(3, Code::NotFound)], "{track}");
        let text = format!("{out:?}");
        assert!(text.contains("main_video, main_audio"), "{text}");
    }
}
