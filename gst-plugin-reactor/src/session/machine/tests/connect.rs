// SPDX-License-Identifier: MIT

//! From the description of the session to one that is ready.

use super::{super::connect::answer_limit, *};
use crate::platform::sdp::{self, NegotiatedAnswer, offered_sections, parse_answer};

fn negotiated() -> NegotiatedAnswer {
    let sections = offered_sections(&local_offer()).unwrap();
    parse_answer(ANSWER, &sections).unwrap()
}

/// All permutations of the numbers below `n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    let all = shorter
        .iter()
        .flat_map(|o| (0..n).map(move |at| insert(o, at)));
    all.collect()
}

#[test]
fn offer_is_posted_whatever_the_order_of_its_parts() {
    const OFFER: usize = 3;
    let mut tried = 0;
    for order in orders(4) {
        let place = |piece| order.iter().position(|p| *p == piece).unwrap();
        let [registered, planned, ice, built] = [0, 1, 2, OFFER].map(place);
        if built < planned.max(ice) {
            continue; // the transport has not been asked for an offer yet
        }
        tried += 1;
        let mut harness = Harness::new(policy()).until_preparing();
        for (step, piece) in order.iter().enumerate() {
            let out = harness.handle(match piece {
                0 => Input::ConnectionRegistered(Ok(CONNECTION)),
                1 => Input::TracksPlanned(Ok(tracks())),
                2 => Input::IceServersFetched(Ok(ice_servers())),
                _ => Input::OfferCreated(Ok(local_offer())),
            });
            let mut expected = Vec::new();
            if step == planned.max(ice) {
                expected.push(Action::CreateOffer {
                    ice_servers: ice_servers(),
                });
            }
            if step == built.max(registered) {
                expected.push(posted_offer());
            }
            assert_eq!(out, expected, "step {step} of {order:?}");
        }
    }
    assert_eq!(tried, 8);
}

fn posted_offer() -> Action {
    let mapping = ["video0", "video1", "audio2"].into_iter().zip(tracks());
    let mapping = mapping.map(|(mid, track)| TrackMapping {
        mid: mid.into(),
        name: track.name,
        kind: track.kind,
        direction: track.direction,
    });
    // The attributes go where the test data has the first of them.
    let attributes = format!("{CHUNKING}a=x-reactor-frame-metadata:1\n");
    let sdp = OFFER.replace(CHUNKING, &attributes);
    let bitrates = sdp::ReceiveBitrates {
        start: Some(500_000),
        max_video: None,
    };
    Action::PostOffer {
        connection_id: CONNECTION,
        sdp: sdp::prepare_offer(&sdp, &[], bitrates).unwrap(),
        mapping: mapping.collect(),
        resume: false,
    }
}

#[test]
fn offer_with_wrong_m_lines_is_not_posted() {
    let mut harness = Harness::new(policy()).until_preparing();
    harness.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
    harness.handle(Input::IceServersFetched(Ok(Vec::new())));
    harness.handle(Input::TracksPlanned(Ok(tracks()[..2].to_vec())));
    let out = harness.handle(Input::OfferCreated(Ok(local_offer())));
    let error = failure(&out);
    let text = "the offer has 3 media sections for 2 tracks";
    assert_eq!((error.code, error.message.as_str()), (Code::Internal, text));
    assert_eq!(labels(&out), "error failed end close disconnected");

    let mut harness = Harness::new(policy()).until_preparing();
    harness.prepare_with("not an offer", Code::Internal);
}

impl Harness {
    #[track_caller]
    fn prepare_with(&mut self, offer: &str, code: Code) {
        self.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
        self.handle(Input::IceServersFetched(Ok(ice_servers())));
        self.handle(Input::TracksPlanned(Ok(tracks())));
        let out = self.handle(Input::OfferCreated(Ok(offer.into())));
        assert_eq!(failure(&out).code, code);
    }
}

#[test]
fn failure_of_any_part_fails_the_session() {
    let failures = [
        Input::ConnectionRegistered(Err(network())),
        Input::IceServersFetched(Err(network())),
        Input::TracksPlanned(Err(network())),
        Input::OfferCreated(Err(network())),
    ];
    for input in failures {
        let mut harness = Harness::new(policy()).until_preparing();
        let out = harness.handle(input);
        assert_eq!(failure(&out), network());
        // There is no peer connection yet.
        assert_eq!(labels(&out), "error failed end disconnected");
    }
    let mut harness = Harness::new(policy()).until_offering();
    let out = harness.handle(Input::OfferPosted(Err(busy(503, Some(1000)))));
    assert_eq!(failure(&out), busy(503, Some(1000)));
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn late_offer_fails_at_the_offer_limit() {
    let mut harness = Harness::new(policy()).until_preparing();
    assert_eq!(harness.run_labels(14_999), "");
    let out = actions(harness.run(1));
    let error = failure(&out);
    assert_eq!(error.message, "no offer could be made within 15 s");
    assert_eq!(
        (error.code, error.operation),
        (Code::RequestTimeout, Some("offer"))
    );

    let mut harness = Harness::new(policy()).until_preparing();
    harness.run(14_000);
    harness.prepare();
    assert_eq!(harness.run_labels(14_999), "");
    let error = failure(&actions(harness.run(1)));
    assert_eq!(
        error.message,
        "the server did not take the offer within 15 s"
    );
    assert_eq!(error.operation, Some("sdp_params"));
}

#[test]
fn answer_polls_slow_down_until_the_answer_limit() {
    let mut harness = polling();
    let mut times = Vec::new();
    let out = loop {
        let out = harness.tick_at_deadline();
        if labels(&out) != "poll" {
            break out;
        }
        times.push(harness.time());
        assert_eq!(harness.handle_labels(Input::AnswerPolled(Ok(None))), "");
    };
    // 30 ms twice, then 1.5 times the last interval, up to 1 s.
    let expected = [
        30, 60, 105, 172, 273, 425, 653, 995, 1507, 2276, 3276, 4276, 5276, 6276, 7276, 8276, 9276,
        10_276, 11_276, 12_276,
    ];
    assert_eq!(times, expected);
    assert_eq!(harness.time(), 12_600);
    let error = failure(&out);
    let text = "the server did not answer the offer within 12.6 s (max-sdp-attempts=6); \
                it may be overloaded, or have refused the offer";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::RequestTimeout, text)
    );
    assert_eq!(error.operation, Some("sdp_params"));
}

#[test]
fn answer_limit_is_that_of_the_platforms_clients() {
    let limit = |attempts| answer_limit(attempts).as_millis();
    assert_eq!([0, 1, 2, 6].map(limit), [0, 200, 600, 12_600]);
    assert_eq!([7, 8, 9].map(limit), [25_400, 40_400, 55_400]);
    assert_eq!(limit(u32::MAX), limit(1000));
}

#[test]
fn answer_polls_never_overlap() {
    let mut harness = polling();
    assert_eq!(harness.run_labels(12_599), "30 poll");
    assert_eq!(harness.handle_labels(Input::AnswerPolled(Ok(None))), "");
    // The answer limit cuts the last interval short.
    assert_eq!(
        harness.run_labels(1),
        "12600 error failed end close disconnected"
    );

    let mut harness = polling();
    assert_eq!(harness.run_labels(5000), "30 poll");
    harness.handle(Input::AnswerPolled(Ok(None)));
    harness.mark();
    assert_eq!(harness.run_labels(40), "30 poll");
}

#[test]
fn answer_after_failure_is_ignored() {
    let mut harness = polling();
    harness.run(12_600);
    assert_eq!(harness.handle_labels(answer(ANSWER)), "");
    // An answer at the limit is not late.
    let mut harness = polling();
    harness.run(12_599);
    harness.now += ms(1);
    assert_eq!(harness.handle_labels(answer(ANSWER)), "apply");
}

#[test]
fn failed_answer_poll_fails() {
    let mut harness = polling();
    harness.tick_at_deadline();
    let out = harness.handle(Input::AnswerPolled(Err(network())));
    assert_eq!(failure(&out), network());
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn rejected_track_is_named_in_the_error() {
    let mut harness = Harness::new(policy()).until_preparing();
    harness.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
    harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    harness.handle(Input::TracksPlanned(Ok(tracks())));
    harness.handle(Input::OfferCreated(Ok(OFFER_H264.replace(CHUNKING, ""))));
    let error = failure(&harness.poll_answer(ANSWER_H264));
    assert_eq!(error.code, Code::TrackRejected);
    assert_eq!(error.operation, Some("sdp_params"));
    let names = "(video0 is track 'webcam', video1 is track 'main_video', \
                 audio2 is track 'main_audio')";
    assert!(error.message.ends_with(names), "{error}");
    assert!(error.message.contains("offered H264"), "{error}");
}

#[test]
fn invalid_answer_fails() {
    let last = ANSWER.rfind("9A:83").unwrap();
    let two_certificates = format!("{}AA{}", &ANSWER[..last], &ANSWER[last + 2..]);
    for (sdp, code) in [
        ("", Code::DecodeFailed),
        (two_certificates.as_str(), Code::IdentityMismatch),
    ] {
        let out = Harness::new(policy()).until_offering().poll_answer(sdp);
        let error = failure(&out);
        assert_eq!(
            (error.code.clone(), error.operation),
            (code, Some("sdp_params"))
        );
        assert!(!error.message.contains("track '"), "{error}");
        assert_eq!(labels(&out), "error failed end close disconnected");
    }
}

#[test]
fn peer_with_wrong_certificate_fails() {
    let mut harness = Harness::new(policy()).until_connecting();
    let verify = Action::VerifyPeer(negotiated().fingerprint);
    assert_eq!(harness.handle(Input::PeerConnected), [verify]);
    harness.handle(Input::ChannelOpened(Channel::Control));
    harness.handle(Input::ChannelOpened(Channel::Data));
    let error = Error::gpu(Code::IdentityMismatch, "the peer's certificate is another");
    let out = harness.handle(Input::PeerVerified(Err(error.clone())));
    assert_eq!(failure(&out), error);
    // Neither media nor a message was passed on.
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn messages_of_unverified_peer_are_ignored() {
    let mut harness = Harness::new(policy()).until_connecting();
    harness.handle(Input::ChannelOpened(Channel::Control));
    harness.handle(Input::ChannelOpened(Channel::Data));
    assert_eq!(harness.receive_control(server::session_ended("bye")), []);
    assert_eq!(harness.receive_data(server::model("", "pong", 1.0)), []);
}

#[test]
fn session_is_ready_whatever_the_order_of_connecting() {
    for order in orders(3) {
        let mut harness = Harness::new(policy()).until_connecting();
        harness.handle(Input::PeerConnected);
        for (step, link) in order.iter().enumerate() {
            harness.now += ms(10);
            let out = harness.handle(match link {
                0 => Input::PeerVerified(Ok(())),
                1 => Input::ChannelOpened(Channel::Control),
                _ => Input::ChannelOpened(Channel::Data),
            });
            let mut expected = Vec::new();
            if *link == 0 {
                expected.push(Action::OpenMedia);
            }
            if step == 2 {
                // The ping comes first: it tells the server the encoding.
                expected.push(harness.v1(&ClientMessage::Ping, ""));
                expected.push(harness.v1(&ClientMessage::RequestSchema, "ctrl_1"));
                expected.push(Action::Emit(MachineEvent::Status(Status::Ready)));
                let text = "Connected to the model";
                expected.push(Action::Emit(MachineEvent::Progress(Progress::Complete(
                    text,
                ))));
            }
            assert_eq!(out, expected, "step {step} of {order:?}");
        }
    }
}

#[test]
fn answer_is_applied_and_timings_are_kept() {
    let mut harness = Harness::new(policy());
    harness.handle(Input::Start);
    harness.now += ms(100);
    harness.open_session();
    harness.now += ms(50);
    harness.prepare();
    let out = harness.poll_answer(ANSWER);
    assert_eq!(out, [Action::ApplyAnswer(negotiated())]);
    harness.now += ms(40);
    harness.handle(Input::PeerVerified(Ok(())));
    harness.now += ms(5);
    harness.handle(Input::ChannelOpened(Channel::Data));
    harness.handle(Input::ChannelOpened(Channel::Control));
    let expected = Timings {
        start: START,
        session: Some(ms(100)),
        described: Some(ms(100)),
        offered: Some(ms(150)),
        answered: Some(ms(180)),
        connected: Some(ms(220)),
        ready: Some(ms(225)),
        ..Timings::default()
    };
    assert_eq!(harness.machine.timings(), expected);
}

#[test]
fn connect_timeout_names_the_missing_step() {
    let after = |inputs: Vec<Input>| {
        let mut harness = Harness::new(policy()).until_connecting();
        for input in inputs {
            harness.handle(input);
        }
        assert_eq!(harness.run_labels(29_999), "");
        let out = actions(harness.run(1));
        assert_eq!(labels(&out), "error failed end close disconnected");
        let error = failure(&out);
        assert_eq!(
            (error.code, error.operation),
            (Code::RequestTimeout, Some("connect"))
        );
        error.message
    };
    let ice = "the peer connection was not up within 30 s: no ICE/DTLS connection to the \
               server's media port; is UDP blocked?";
    let channels = "the peer connection was not up within 30 s: the data channels did not open";
    assert_eq!(after(vec![]), ice);
    assert_eq!(after(vec![Input::PeerConnected]), ice);
    assert_eq!(after(vec![Input::PeerVerified(Ok(()))]), channels);
    for channel in [Channel::Control, Channel::Data] {
        let one = vec![Input::PeerVerified(Ok(())), Input::ChannelOpened(channel)];
        assert_eq!(after(one), channels);
    }
}

#[test]
fn transport_failure_while_connecting_fails() {
    let rigs = [
        Harness::new(policy()).until_offering(),
        polling(),
        Harness::new(policy()).until_connecting(),
    ];
    for mut harness in rigs {
        let out = harness.handle(Input::TransportFailed(broken()));
        assert_eq!(failure(&out), broken());
        assert_eq!(labels(&out), "error failed end close disconnected");
    }
}

/// The session is ours, and is ended.
#[test]
fn tracks_that_cannot_be_told_apart_or_are_too_many_fail() {
    let named = |name: &str| track(name, Kind::Video, Direction::RecvOnly);
    let many = (0..5000).map(|n| named(&format!("t{n}"))).collect();
    let twice = vec![named("a"), track("a", Kind::Audio, Direction::SendOnly)];
    for (tracks, text) in [
        (many, "5000 tracks"),
        (twice, "two tracks with the name 'a'"),
    ] {
        let mut harness = Harness::opening(policy());
        let mut descriptor = descriptor("waiting", "3.10.0");
        descriptor.capabilities = Some(Capabilities {
            tracks,
            emission_fps: None,
            raw: Value::Null,
        });
        let out = harness.handle(Input::SessionOpened(Ok((descriptor, Ownership::Created))));
        let error = failure(&out);
        assert_eq!(error.code, Code::DecodeFailed);
        assert!(error.message.contains(text), "{error}");
        assert!(out.contains(&Action::EndSession));
        let announced = |action: &Action| matches!(action, Action::AnnounceTracks(_));
        assert!(!out.iter().any(announced));
    }
}
