// SPDX-License-Identifier: MIT

//! From the description of the session to a live one.

use super::{super::connect::answer_limit, *};
use crate::platform::sdp::{NegotiatedAnswer, offered_sections, parse_answer};

fn negotiated() -> NegotiatedAnswer {
    let sections = offered_sections(&local_offer()).unwrap();
    parse_answer(ANSWER, &sections).unwrap()
}

/// All orders of the numbers below `n`.
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

/// The offer is in the server's hands; times count from there.
fn polling() -> Rig {
    let mut rig = Rig::new(policy()).until_offering();
    rig.give(Input::OfferPosted(Ok(())));
    rig.mark();
    rig
}

#[test]
fn the_offer_is_made_from_pieces_in_any_order() {
    const OFFER: usize = 3;
    let mut tried = 0;
    for order in orders(4) {
        let place = |piece| order.iter().position(|p| *p == piece).unwrap();
        let [registered, planned, ice, built] = [0, 1, 2, OFFER].map(place);
        if built < planned.max(ice) {
            continue; // there is nothing to build yet
        }
        tried += 1;
        let mut rig = Rig::new(policy()).until_preparing();
        for (step, piece) in order.iter().enumerate() {
            let out = rig.give(match piece {
                0 => Input::ConnectionRegistered(Ok(CONNECTION)),
                1 => Input::TracksPlanned(Ok(plans())),
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
    // The attributes are put where the test data has the first of them.
    let attributes = format!("{CHUNKING}a=x-reactor-frame-metadata:1\n");
    let sdp = OFFER.replace(CHUNKING, &attributes);
    Action::PostOffer {
        connection_id: CONNECTION,
        sdp: sdp.replace('\n', "\r\n"),
        mapping: mapping.collect(),
        resume: false,
    }
}

#[test]
fn an_offer_that_does_not_fit_the_tracks_is_not_sent() {
    let mut rig = Rig::new(policy()).until_preparing();
    rig.give(Input::ConnectionRegistered(Ok(CONNECTION)));
    rig.give(Input::IceServersFetched(Ok(Vec::new())));
    rig.give(Input::TracksPlanned(Ok(plans()[..2].to_vec())));
    let out = rig.give(Input::OfferCreated(Ok(local_offer())));
    let error = failure(&out);
    let text = "the offer has 3 media sections for 2 tracks";
    assert_eq!((error.code, error.message.as_str()), (Code::Internal, text));
    assert_eq!(labels(&out), "error failed end close disconnected");

    let mut rig = Rig::new(policy()).until_preparing();
    rig.prepare_with("not an offer", Code::Internal);
}

impl Rig {
    #[track_caller]
    fn prepare_with(&mut self, offer: &str, code: Code) {
        self.give(Input::ConnectionRegistered(Ok(CONNECTION)));
        self.give(Input::IceServersFetched(Ok(ice_servers())));
        self.give(Input::TracksPlanned(Ok(plans())));
        let out = self.give(Input::OfferCreated(Ok(offer.into())));
        assert_eq!(failure(&out).code, code);
    }
}

#[test]
fn each_piece_can_fail() {
    let failures = [
        Input::ConnectionRegistered(Err(network())),
        Input::IceServersFetched(Err(network())),
        Input::TracksPlanned(Err(network())),
        Input::OfferCreated(Err(network())),
    ];
    for input in failures {
        let mut rig = Rig::new(policy()).until_preparing();
        let out = rig.give(input);
        assert_eq!(failure(&out), network());
        // There is no peer connection yet.
        assert_eq!(labels(&out), "error failed end disconnected");
    }
    let mut rig = Rig::new(policy()).until_offering();
    let out = rig.give(Input::OfferPosted(Err(busy(503, Some(1000)))));
    assert_eq!(failure(&out), busy(503, Some(1000)));
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn an_offer_is_due_in_time() {
    let mut rig = Rig::new(policy()).until_preparing();
    assert_eq!(rig.passes(14_999), "");
    let out = actions(rig.run(1));
    let error = failure(&out);
    assert_eq!(error.message, "no offer could be made within 15 s");
    assert_eq!(
        (error.code, error.operation),
        (Code::RequestTimeout, Some("offer"))
    );

    let mut rig = Rig::new(policy()).until_preparing();
    rig.run(14_000);
    rig.prepare();
    assert_eq!(rig.passes(14_999), "");
    let error = failure(&actions(rig.run(1)));
    assert_eq!(
        error.message,
        "the server did not take the offer within 15 s"
    );
    assert_eq!(error.operation, Some("sdp_params"));
}

#[test]
fn polls_slow_down_and_end_with_the_patience() {
    let mut rig = polling();
    let mut times = Vec::new();
    let out = loop {
        let out = rig.tick_at_deadline();
        if labels(&out) != "poll" {
            break out;
        }
        times.push(rig.time());
        assert_eq!(rig.told(Input::AnswerPolled(Ok(None))), "");
    };
    // 30 ms twice, then half as much again each time, up to a second.
    let expected = [
        30, 60, 105, 172, 273, 425, 653, 995, 1507, 2276, 3276, 4276, 5276, 6276, 7276, 8276, 9276,
        10_276, 11_276, 12_276,
    ];
    assert_eq!(times, expected);
    assert_eq!(rig.time(), 12_600);
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
fn patience_grows_as_the_platforms_own() {
    let patience = |attempts| answer_limit(attempts).as_millis();
    assert_eq!([0, 1, 2, 6].map(patience), [0, 200, 600, 12_600]);
    assert_eq!([7, 8, 9].map(patience), [25_400, 40_400, 55_400]);
    assert_eq!(patience(u32::MAX), patience(1000));
}

#[test]
fn polls_never_overlap() {
    let mut rig = polling();
    assert_eq!(rig.passes(12_599), "30 poll");
    assert_eq!(rig.told(Input::AnswerPolled(Ok(None))), "");
    // The last pause is cut short by the end of the patience.
    assert_eq!(rig.passes(1), "12600 error failed end close disconnected");

    let mut rig = polling();
    assert_eq!(rig.passes(5000), "30 poll");
    rig.give(Input::AnswerPolled(Ok(None)));
    rig.mark();
    assert_eq!(rig.passes(40), "30 poll");
}

#[test]
fn a_late_answer_is_ignored() {
    let mut rig = polling();
    rig.run(12_600);
    assert_eq!(rig.told(answer(ANSWER)), "");
    // One that comes with the end of the patience is not late.
    let mut rig = polling();
    rig.run(12_599);
    rig.now += ms(1);
    assert_eq!(rig.told(answer(ANSWER)), "apply");
}

#[test]
fn a_failed_poll_is_final() {
    let mut rig = polling();
    rig.tick_at_deadline();
    let out = rig.give(Input::AnswerPolled(Err(network())));
    assert_eq!(failure(&out), network());
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn a_rejected_track_is_named() {
    let mut rig = Rig::new(policy()).until_preparing();
    rig.give(Input::ConnectionRegistered(Ok(CONNECTION)));
    rig.give(Input::IceServersFetched(Ok(ice_servers())));
    rig.give(Input::TracksPlanned(Ok(plans())));
    rig.give(Input::OfferCreated(Ok(OFFER_H264.replace(CHUNKING, ""))));
    let error = failure(&rig.answered(ANSWER_H264));
    assert_eq!(error.code, Code::TrackRejected);
    assert_eq!(error.operation, Some("sdp_params"));
    let names = "(video0 is track 'webcam', video1 is track 'main_video', \
                 audio2 is track 'main_audio')";
    assert!(error.message.ends_with(names), "{error}");
    assert!(error.message.contains("offered H264"), "{error}");
}

#[test]
fn a_bad_answer_is_refused() {
    let last = ANSWER.rfind("9A:83").unwrap();
    let two_certificates = format!("{}AA{}", &ANSWER[..last], &ANSWER[last + 2..]);
    for (sdp, code) in [
        ("", Code::DecodeFailed),
        (two_certificates.as_str(), Code::IdentityMismatch),
    ] {
        let out = Rig::new(policy()).until_offering().answered(sdp);
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
fn a_peer_with_another_certificate_is_refused() {
    let mut rig = Rig::new(policy()).until_connecting();
    let verify = Action::VerifyPeer(negotiated().fingerprint);
    assert_eq!(rig.give(Input::PeerConnected), [verify]);
    rig.give(Input::ChannelOpened(Channel::Control));
    rig.give(Input::ChannelOpened(Channel::Data));
    let error = Error::gpu(Code::IdentityMismatch, "the peer's certificate is another");
    let out = rig.give(Input::PeerVerified(Err(error.clone())));
    assert_eq!(failure(&out), error);
    // Neither media nor a message has passed.
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn nothing_of_an_unverified_peer_counts() {
    let mut rig = Rig::new(policy()).until_connecting();
    rig.give(Input::ChannelOpened(Channel::Control));
    rig.give(Input::ChannelOpened(Channel::Data));
    assert_eq!(rig.hear_control(server::session_ended("bye")), []);
    assert_eq!(rig.hear_data(server::model("", "pong", 1.0)), []);
}

#[test]
fn is_live_when_all_is_up_in_any_order() {
    for order in orders(3) {
        let mut rig = Rig::new(policy()).until_connecting();
        rig.give(Input::PeerConnected);
        for (step, link) in order.iter().enumerate() {
            rig.now += ms(10);
            let out = rig.give(match link {
                0 => Input::PeerVerified(Ok(())),
                1 => Input::ChannelOpened(Channel::Control),
                _ => Input::ChannelOpened(Channel::Data),
            });
            let mut expected = Vec::new();
            if *link == 0 {
                expected.push(Action::OpenMedia);
            }
            if step == 2 {
                // The ping first: from it the server knows the encoding.
                expected.push(rig.v1(&ClientMessage::Ping, ""));
                expected.push(rig.v1(&ClientMessage::RequestSchema, "ctrl_1"));
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
fn the_answer_is_applied_and_its_steps_are_timed() {
    let mut rig = Rig::new(policy());
    rig.give(Input::Start);
    rig.now += ms(100);
    rig.begun();
    rig.now += ms(50);
    rig.prepare();
    let out = rig.answered(ANSWER);
    assert_eq!(out, [Action::ApplyAnswer(negotiated())]);
    rig.now += ms(40);
    rig.give(Input::PeerVerified(Ok(())));
    rig.now += ms(5);
    rig.give(Input::ChannelOpened(Channel::Data));
    rig.give(Input::ChannelOpened(Channel::Control));
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
    assert_eq!(rig.machine.timings(), expected);
}

#[test]
fn a_connection_that_does_not_come_up_says_what_is_missing() {
    let after = |inputs: Vec<Input>| {
        let mut rig = Rig::new(policy()).until_connecting();
        for input in inputs {
            rig.give(input);
        }
        assert_eq!(rig.passes(29_999), "");
        let out = actions(rig.run(1));
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
fn a_broken_transport_ends_the_attempt() {
    let rigs = [
        Rig::new(policy()).until_offering(),
        polling(),
        Rig::new(policy()).until_connecting(),
    ];
    for mut rig in rigs {
        let out = rig.give(Input::TransportFailed(broken()));
        assert_eq!(failure(&out), broken());
        assert_eq!(labels(&out), "error failed end close disconnected");
    }
}
