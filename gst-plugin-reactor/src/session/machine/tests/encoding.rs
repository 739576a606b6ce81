// SPDX-License-Identifier: MIT

//! The encoding of messages and their framing.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::platform::wire::ServerMessage;

fn only(version: WireVersion) -> Policy {
    Policy {
        wire: WireChoice::Only(version),
        ..policy()
    }
}

/// The first messages on a connection in v0.
fn v0_greeting(harness: &Harness, id: &str) -> [Action; 2] {
    [
        harness.v0(&ClientMessage::Ping, ""),
        harness.v0(&ClientMessage::RequestSchema, id),
    ]
}

fn v0_resume(harness: &Harness) -> Action {
    harness.v0(&ClientMessage::ResumeTrack("main_video".into()), "")
}

/// Ready, with a server that may speak v0 only.
fn probing(policy: Policy) -> Harness {
    Harness::new(policy).without_chunking().until_ready()
}

/// The first reply of a server on a narrow link may take seconds: nothing waits for it.
#[test]
fn chunking_in_the_answer_decides_for_v1() {
    let mut harness = Harness::new(policy()).until_connecting();
    harness.handle(request(1, command("go")));
    let out = harness.connect();
    let expected = [
        harness.v1(&ClientMessage::Ping, ""),
        harness.v1(&ClientMessage::RequestSchema, "ctrl_1"),
        harness.v1(&command("go"), "data_1"),
    ];
    assert_eq!(out[..3], expected);
    assert!(harness.machine.speaks_v1());
    // It does not fall back.
    assert_eq!(harness.run_labels(2400), "500 send");
    let go = harness.v1(&command("go"), "data_2");
    assert_eq!(harness.handle(request(2, command("go"))), [go]);
}

#[test]
fn chunking_in_the_next_answer_returns_to_v1() {
    let mut harness = probing(Policy {
        reconnect: true,
        ..policy()
    });
    harness.run(2000);
    assert!(!harness.machine.speaks_v1());
    let out = harness.connect_again(ANSWER);
    assert_eq!(out[0], harness.v1(&ClientMessage::Ping, ""));
    assert!(harness.machine.speaks_v1());
}

impl Harness {
    /// The connection is lost and made anew, with this answer.
    fn connect_again(&mut self, answer: &str) -> Vec<Action> {
        self.handle(Input::TransportFailed(broken()));
        let running = descriptor("orphaned", "3.10.0");
        self.handle(Input::SessionDescribed(Ok(running)));
        self.handle(Input::IceServersFetched(Ok(ice_servers())));
        self.handle(Input::OfferCreated(Ok(local_offer())));
        self.poll_answer(answer);
        self.connect()
    }
}

#[test]
fn next_connection_stays_with_v0_after_a_fallback() {
    let mut harness = probing(Policy {
        reconnect: true,
        ..policy()
    });
    harness.run(2000);
    let out = harness.connect_again(&ANSWER.replace(CHUNKING, ""));
    assert_eq!(out[0], harness.v0(&ClientMessage::Ping, ""));
    let recording = request(7, ClientMessage::RequestRecording);
    assert_eq!(harness.handle_labels(recording), "send");
    // There is no second probe, which would end with the request unanswered.
    assert_eq!(harness.run_labels(2400), "500 send");
    let ready = server::v0_runtime("clipReady", json!({"playlist_url": "/x"}));
    let out = harness.receive_data(ready);
    assert_eq!(labels(&out), "reply runtime");
    assert_eq!(replies(&out)[0].0, 7);
}

#[test]
fn first_v1_frame_decides_for_v1() {
    let mut harness = probing(policy());
    // The encoding is not known yet.
    assert_eq!(harness.handle(request(1, command("go"))), []);
    assert_eq!(harness.run_labels(100), "");
    let out = harness.receive_control(server::unknown(""));
    let go = harness.v1(&command("go"), "data_1");
    assert_eq!(out, [harness.resume("main_video"), go]);
    // From now on it does not fall back.
    harness.mark();
    assert_eq!(harness.run_labels(2400), "");
    let go = harness.v1(&command("go"), "data_2");
    assert_eq!(harness.handle(request(2, command("go"))), [go]);
}

#[test]
fn unanswered_v1_probe_falls_back_to_v0() {
    let mut harness = probing(policy());
    harness.handle(request(1, command("go")));
    harness.handle(request(2, ClientMessage::RequestRecording));
    assert_eq!(harness.run_labels(1999), "500 send");
    let out = actions(harness.run(1));
    let text = "the server does not answer wire v1, speaking v0 to it";
    let [ping, schema] = v0_greeting(&harness, "ctrl_2");
    let expected = [
        Action::Emit(MachineEvent::Warning(Error::gpu(
            Code::VersionMismatch,
            text,
        ))),
        ping,
        schema,
        v0_resume(&harness),
        harness.v0(&command("go"), ""),
        // A command in v0 has no reply.
        Action::Reply {
            token: 1,
            result: Ok(ServerMessage::Ack),
        },
        harness.v0(&ClientMessage::RequestRecording, ""),
    ];
    assert_eq!(out, expected);
    let out = harness.receive_data(server::v0_runtime("modelSchema", json!({"openapi": "3"})));
    assert_eq!(labels(&out), "runtime");
    // The request in v1 was never understood: the next reply answers another.
    harness.handle(request(3, ClientMessage::RequestSchema));
    let out = harness.receive_data(server::v0_runtime("modelSchema", json!({"openapi": "3"})));
    assert_eq!(labels(&out), "reply");
    // Everything after that is v0.
    let pause = harness.v0(&ClientMessage::PauseTrack("main_video".into()), "");
    assert_eq!(harness.handle(set_paused("main_video", true)), [pause]);
    harness.receive_data(server::v0_model("tick", json!({})));
    let ping = harness.v0(&ClientMessage::Ping, "");
    assert!(harness.run(3000).contains(&(5000, ping)));
}

#[test]
fn late_v1_frame_returns_to_v1() {
    let mut harness = probing(policy());
    harness.run(2000);
    let out = harness.receive_data(server::model("", "pong", 1.0));
    assert_eq!(labels(&out), "message");
    let go = harness.v1(&command("go"), "data_1");
    assert_eq!(harness.handle(request(1, command("go"))), [go]);
    harness.mark();
    assert_eq!(harness.run_labels(2400), "");
}

#[test]
fn v0_frame_does_not_end_the_v1_probe() {
    let mut harness = probing(policy());
    harness.handle(request(1, command("go")));
    harness.run(50);
    // The server sent it before it knew the encoding.
    let out = harness.receive_data(server::v0_model("hello", json!({"a": 1})));
    let hello = Action::Emit(MachineEvent::Message {
        name: "hello".into(),
        data: json!({"a": 1}),
    });
    assert_eq!(out, [harness.resume("main_video"), hello]);
    harness.run(50);
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(out[0], harness.v1(&command("go"), "data_1"));
    assert_eq!(labels(&out), "send runtime");
}

#[test]
fn invalid_frame_does_not_end_the_v1_probe() {
    let mut harness = probing(policy());
    harness.receive_control(server::garbage());
    assert_eq!(harness.handle(request(1, command("go"))), []);
    assert_eq!(
        harness.run_labels(2000),
        "2000 warning send send send send reply"
    );
}

#[test]
fn server_2_x_is_sent_v0_at_once() {
    let harness = Harness::new(policy()).version("2.10.1");
    let mut harness = harness.without_chunking().until_connecting();
    harness.handle(Input::PeerVerified(Ok(())));
    harness.handle(Input::ChannelOpened(Channel::Data));
    let out = harness.handle(Input::ChannelOpened(Channel::Control));
    assert_eq!(out[..2], v0_greeting(&harness, ""));
    harness.mark();
    // There is no probe either.
    let out = harness.run(2400);
    assert_eq!(out, [(500, v0_resume(&harness))]);
    // Only a version 2 speaks nothing else.
    let harness = Harness::new(policy()).version("20.1");
    let mut harness = harness.without_chunking().until_connecting();
    let ping = harness.v1(&ClientMessage::Ping, "");
    assert_eq!(harness.connect()[0], ping);
}

#[test]
fn wire_property_overrides_detection() {
    let mut harness = Harness::new(only(WireVersion::V1))
        .version("2.10.1")
        .until_connecting();
    let out = harness.connect();
    assert_eq!(out[0], harness.v1(&ClientMessage::Ping, ""));
    let go = harness.v1(&command("go"), "data_1");
    assert_eq!(harness.handle(request(1, command("go"))), [go]);
    // It does not fall back.
    assert_eq!(harness.run_labels(2400), "500 send");

    let mut harness = Harness::new(only(WireVersion::V0)).until_connecting();
    let out = harness.connect();
    assert_eq!(out[..2], v0_greeting(&harness, ""));
    harness.receive_data(server::model("", "pong", 1.0));
    let out = harness.handle(request(1, command("go")));
    assert_eq!(out[0], harness.v0(&command("go"), ""));
    assert_eq!(labels(&out), "send reply");
}

#[test]
fn without_chunking_attribute_messages_are_not_framed() {
    let mut harness = Harness::new(policy()).until_offering();
    harness.poll_answer(&ANSWER.replace(CHUNKING, ""));
    assert_eq!(harness.framing, Framing::plain());
    let out = harness.connect();
    let (channel, ping) = encode(WireVersion::V1, &ClientMessage::Ping, None).unwrap();
    assert_eq!(out[0], Action::SendFrames(channel, vec![ping]));
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(labels(&out), "send runtime");
}

#[test]
fn with_chunking_attribute_messages_are_framed() {
    let mut harness = Harness::resumed(policy());
    let (channel, ping) = encode(WireVersion::V1, &ClientMessage::Ping, None).unwrap();
    let framed = [&[0][..], ping.as_bytes()].concat();
    let framed = WireFrame::Binary(Bytes::from(framed));
    let out = harness.run(5000);
    assert!(
        out.contains(&(5000, Action::SendFrames(channel, vec![framed]))),
        "{out:?}"
    );
}

#[test]
fn large_command_is_sent_in_chunks() {
    let mut harness = Harness::resumed(policy());
    let text = Value::from("x".repeat(150_000));
    let large = ClientMessage::Command {
        name: "set".into(),
        data: [("text".to_owned(), text)].into_iter().collect(),
        uploads: UploadReferences::new(),
    };
    let expected = harness.v1(&large, "data_1");
    let Action::SendFrames(Channel::Data, frames) = &expected else {
        panic!("{expected:?}");
    };
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| frame.len() <= 65_536));
    assert_eq!(harness.handle(request(1, large.clone())), [expected]);

    // Too large for a server without chunking.
    let mut harness = Harness::new(policy()).until_offering();
    harness.poll_answer(&ANSWER.replace(CHUNKING, ""));
    harness.connect();
    harness.receive_control(server::schema("ctrl_1"));
    let out = harness.handle(request(1, large));
    assert_eq!(refusals(&out), [(1, Code::MessageTooLarge)]);
    assert_eq!(labels(&out), "reply");
    assert_eq!(labels(&harness.handle(request(2, command("go")))), "send");
}

#[test]
fn chunks_are_reassembled_per_channel() {
    let mut harness = Harness::resumed(policy());
    let WireFrame::Binary(whole) = server::model("", "pong", 1.0) else {
        panic!()
    };
    let piece = |flags: u8, part: &[u8]| {
        let bytes = [&[flags][..], part].concat();
        Input::FrameReceived(Channel::Data, WireFrame::Binary(Bytes::from(bytes)))
    };
    assert_eq!(harness.handle_labels(piece(1, &whole[..5])), "");
    // The other channel has chunks of its own.
    let out = harness.receive_control(server::moderation("warn", "careful"));
    assert_eq!(labels(&out), "runtime warning");
    assert_eq!(harness.handle_labels(piece(1, &whole[5..9])), "");
    assert_eq!(harness.handle_labels(piece(0, &whole[9..])), "message");
}

#[test]
fn invalid_frame_is_a_warning() {
    let mut harness = Harness::resumed(policy());
    let unframed = WireFrame::Text("{}".into());
    let flagged = WireFrame::Binary(Bytes::from_static(b"\x80abc"));
    let empty = WireFrame::Binary(Bytes::new());
    let garbage = WireFrame::Binary(Bytes::from_static(b"\x00\x0a\x20short"));
    let no_json = WireFrame::Binary(Bytes::from_static(b"\x02{"));
    for frame in [unframed, flagged, empty, garbage, no_json] {
        for channel in [Channel::Control, Channel::Data] {
            let out = harness.handle(Input::FrameReceived(channel, frame.clone()));
            assert_eq!(labels(&out), "warning", "{frame:?}");
            assert_eq!(warning(&out).code, Code::DecodeFailed);
        }
        let out = harness.receive_data(server::model("", "pong", 1.0));
        assert_eq!(labels(&out), "message");
    }
}
