// SPDX-License-Identifier: MIT

//! Which encoding is spoken, and how messages are framed.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::platform::wire::ServerMessage;

fn speaking(version: WireVersion) -> Policy {
    Policy {
        wire: WireChoice::Only(version),
        ..policy()
    }
}

/// What a fresh connection is told in v0.
fn v0_greeting(rig: &Rig, id: &str) -> [Action; 2] {
    [
        rig.v0(&ClientMessage::Ping, ""),
        rig.v0(&ClientMessage::RequestSchema, id),
    ]
}

fn v0_resume(rig: &Rig) -> Action {
    rig.v0(&ClientMessage::ResumeTrack("main_video".into()), "")
}

#[test]
fn the_first_v1_frame_settles_the_wire() {
    let mut rig = Rig::live(policy());
    // It is not known yet how to say it.
    assert_eq!(rig.give(request(1, command("go"))), []);
    assert_eq!(rig.passes(100), "");
    let out = rig.hear_control(server::unknown(""));
    let go = rig.v1(&command("go"), "data_1");
    assert_eq!(out, [rig.resume("main_video"), go]);
    // From now on there is no falling back.
    rig.mark();
    assert_eq!(rig.passes(2400), "");
    let go = rig.v1(&command("go"), "data_2");
    assert_eq!(rig.give(request(2, command("go"))), [go]);
}

#[test]
fn a_server_silent_in_v1_is_spoken_to_in_v0() {
    let mut rig = Rig::live(policy());
    rig.give(request(1, command("go")));
    rig.give(request(2, ClientMessage::RequestRecording));
    assert_eq!(rig.passes(1999), "500 send");
    let out = actions(rig.run(1));
    let text = "the server does not answer wire v1, speaking v0 to it";
    let [ping, schema] = v0_greeting(&rig, "ctrl_2");
    let expected = [
        Action::Emit(MachineEvent::Warning(Error::gpu(
            Code::VersionMismatch,
            text,
        ))),
        ping,
        schema,
        v0_resume(&rig),
        rig.v0(&command("go"), ""),
        // A command of v0 is not answered.
        Action::Reply {
            token: 1,
            result: Ok(ServerMessage::Ack),
        },
        rig.v0(&ClientMessage::RequestRecording, ""),
    ];
    assert_eq!(out, expected);
    let out = rig.hear_data(server::v0_runtime("modelSchema", json!({"openapi": "3"})));
    assert_eq!(labels(&out), "runtime");
    // The question in v1 was never understood: the next answer is another's.
    rig.give(request(3, ClientMessage::RequestSchema));
    let out = rig.hear_data(server::v0_runtime("modelSchema", json!({"openapi": "3"})));
    assert_eq!(labels(&out), "reply");
    // All that follows is v0.
    let pause = rig.v0(&ClientMessage::PauseTrack("main_video".into()), "");
    assert_eq!(rig.give(set_paused("main_video", true)), [pause]);
    rig.hear_data(server::v0_model("tick", json!({})));
    let ping = rig.v0(&ClientMessage::Ping, "");
    assert!(rig.run(3000).contains(&(5000, ping)));
}

#[test]
fn a_server_that_speaks_v1_late_is_spoken_to_in_v1() {
    let mut rig = Rig::live(policy());
    rig.run(2000);
    let out = rig.hear_data(server::model("", "pong", 1.0));
    assert_eq!(labels(&out), "message");
    let go = rig.v1(&command("go"), "data_1");
    assert_eq!(rig.give(request(1, command("go"))), [go]);
    rig.mark();
    assert_eq!(rig.passes(2400), "");
}

#[test]
fn an_early_v0_frame_settles_nothing() {
    let mut rig = Rig::live(policy());
    rig.give(request(1, command("go")));
    rig.run(50);
    // What was sent before the server knew the encoding.
    let out = rig.hear_data(server::v0_model("hello", json!({"a": 1})));
    let hello = Action::Emit(MachineEvent::Message {
        name: "hello".into(),
        data: json!({"a": 1}),
    });
    assert_eq!(out, [rig.resume("main_video"), hello]);
    rig.run(50);
    let out = rig.hear_control(server::schema("ctrl_1"));
    assert_eq!(out[0], rig.v1(&command("go"), "data_1"));
    assert_eq!(labels(&out), "send runtime");
}

#[test]
fn garbage_settles_nothing() {
    let mut rig = Rig::live(policy());
    rig.hear_control(server::garbage());
    assert_eq!(rig.give(request(1, command("go"))), []);
    assert_eq!(rig.passes(2000), "2000 warning send send send send reply");
}

#[test]
fn an_old_server_is_spoken_to_in_v0_at_once() {
    let mut rig = Rig::new(policy()).version("2.10.1").until_connecting();
    rig.give(Input::PeerVerified(Ok(())));
    rig.give(Input::ChannelOpened(Channel::Data));
    let out = rig.give(Input::ChannelOpened(Channel::Control));
    assert_eq!(out[..2], v0_greeting(&rig, ""));
    rig.mark();
    // Nor is there anything to find out.
    let out = rig.run(2400);
    assert_eq!(out, [(500, v0_resume(&rig))]);
    // Only a version 2 is that old.
    let mut rig = Rig::new(policy()).version("20.1").until_connecting();
    let ping = rig.v1(&ClientMessage::Ping, "");
    assert_eq!(rig.connect()[0], ping);
}

#[test]
fn the_users_choice_is_final() {
    let mut rig = Rig::new(speaking(WireVersion::V1))
        .version("2.10.1")
        .until_connecting();
    let out = rig.connect();
    assert_eq!(out[0], rig.v1(&ClientMessage::Ping, ""));
    let go = rig.v1(&command("go"), "data_1");
    assert_eq!(rig.give(request(1, command("go"))), [go]);
    // No falling back.
    assert_eq!(rig.passes(2400), "500 send");

    let mut rig = Rig::new(speaking(WireVersion::V0)).until_connecting();
    let out = rig.connect();
    assert_eq!(out[..2], v0_greeting(&rig, ""));
    rig.hear_data(server::model("", "pong", 1.0));
    let out = rig.give(request(1, command("go")));
    assert_eq!(out[0], rig.v0(&command("go"), ""));
    assert_eq!(labels(&out), "send reply");
}

#[test]
fn without_the_attribute_messages_go_as_they_are() {
    let mut rig = Rig::new(policy()).until_offering();
    rig.answered(&ANSWER.replace(CHUNKING, ""));
    assert_eq!(rig.framing, Framing::plain());
    let out = rig.connect();
    let (channel, ping) = encode(WireVersion::V1, &ClientMessage::Ping, None).unwrap();
    assert_eq!(out[0], Action::SendFrames(channel, vec![ping]));
    let out = rig.hear_control(server::schema("ctrl_1"));
    assert_eq!(labels(&out), "send runtime");
}

#[test]
fn with_the_attribute_messages_are_framed() {
    let mut rig = Rig::flowing(policy());
    let (channel, ping) = encode(WireVersion::V1, &ClientMessage::Ping, None).unwrap();
    let framed = [&[0][..], ping.as_bytes()].concat();
    let framed = WireFrame::Binary(Bytes::from(framed));
    let out = rig.run(5000);
    assert!(
        out.contains(&(5000, Action::SendFrames(channel, vec![framed]))),
        "{out:?}"
    );
}

#[test]
fn a_large_command_goes_in_pieces() {
    let mut rig = Rig::flowing(policy());
    let text = Value::from("x".repeat(150_000));
    let large = ClientMessage::Command {
        name: "set".into(),
        data: [("text".to_owned(), text)].into_iter().collect(),
        uploads: UploadReferences::new(),
    };
    let expected = rig.v1(&large, "data_1");
    let Action::SendFrames(Channel::Data, frames) = &expected else {
        panic!("{expected:?}");
    };
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| frame.len() <= 65_536));
    assert_eq!(rig.give(request(1, large.clone())), [expected]);

    // Too large for a server that does not take pieces.
    let mut rig = Rig::new(policy()).until_offering();
    rig.answered(&ANSWER.replace(CHUNKING, ""));
    rig.connect();
    rig.hear_control(server::schema("ctrl_1"));
    let out = rig.give(request(1, large));
    assert_eq!(refusals(&out), [(1, Code::MessageTooLarge)]);
    assert_eq!(labels(&out), "reply");
    assert_eq!(labels(&rig.give(request(2, command("go")))), "send");
}

#[test]
fn a_message_in_pieces_is_put_together_on_its_channel() {
    let mut rig = Rig::flowing(policy());
    let WireFrame::Binary(whole) = server::model("", "pong", 1.0) else {
        panic!()
    };
    let piece = |flags: u8, part: &[u8]| {
        let bytes = [&[flags][..], part].concat();
        Input::FrameReceived(Channel::Data, WireFrame::Binary(Bytes::from(bytes)))
    };
    assert_eq!(rig.told(piece(1, &whole[..5])), "");
    // The other channel goes its own way.
    let out = rig.hear_control(server::moderation("warn", "careful"));
    assert_eq!(labels(&out), "runtime warning");
    assert_eq!(rig.told(piece(1, &whole[5..9])), "");
    assert_eq!(rig.told(piece(0, &whole[9..])), "message");
}

#[test]
fn a_bad_frame_is_a_warning_and_no_more() {
    let mut rig = Rig::flowing(policy());
    let unframed = WireFrame::Text("{}".into());
    let flagged = WireFrame::Binary(Bytes::from_static(b"\x80abc"));
    let empty = WireFrame::Binary(Bytes::new());
    let garbage = WireFrame::Binary(Bytes::from_static(b"\x00\x0a\x20short"));
    let no_json = WireFrame::Binary(Bytes::from_static(b"\x02{"));
    for frame in [unframed, flagged, empty, garbage, no_json] {
        for channel in [Channel::Control, Channel::Data] {
            let out = rig.give(Input::FrameReceived(channel, frame.clone()));
            assert_eq!(labels(&out), "warning", "{frame:?}");
            assert_eq!(warning(&out).code, Code::DecodeFailed);
        }
        let out = rig.hear_data(server::model("", "pong", 1.0));
        assert_eq!(labels(&out), "message");
    }
}
