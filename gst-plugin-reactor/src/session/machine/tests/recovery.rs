// SPDX-License-Identifier: MIT

//! A lost connection that is made anew.

use super::{
    state::{State, observe},
    *,
};

fn resuming() -> Policy {
    Policy {
        reconnect: true,
        ice_servers: false,
        ..policy()
    }
}

fn restarting() -> Policy {
    Policy {
        restart: true,
        ..resuming()
    }
}

/// Lost, and the server asked.
fn lost(policy: Policy) -> Rig {
    let mut rig = Rig::flowing(policy);
    rig.give(set_paused("main_audio", false));
    assert_eq!(rig.told(Input::TransportFailed(broken())), "describe");
    rig.mark();
    rig
}

fn alive() -> Input {
    Input::SessionDescribed(Ok(descriptor("orphaned", "3.10.0")))
}

impl Rig {
    /// From the offer to a live session.
    fn resumes(&mut self) -> Vec<Action> {
        self.give(Input::OfferCreated(Ok(local_offer())));
        self.answered(ANSWER);
        self.connect()
    }
}

#[test]
fn a_session_that_is_still_there_is_resumed() {
    let mut rig = lost(resuming());
    rig.now += ms(100);
    let out = rig.give(alive());
    assert_eq!(labels(&out), "close interrupted connecting start build");
    assert!(out.contains(&Action::Emit(MachineEvent::Interrupted(Some(broken())))));
    let out = rig.give(Input::OfferCreated(Ok(local_offer())));
    // Under the same number, as another offer.
    assert!(
        matches!(
            &out[..],
            [Action::PostOffer {
                connection_id: CONNECTION,
                resume: true,
                ..
            }]
        ),
        "{out:?}"
    );
    rig.answered(ANSWER);
    rig.now += ms(400);
    let out = rig.connect();
    assert_eq!(labels(&out), "send send ready resumed complete");
    let timings = rig.machine.timings();
    assert_eq!(timings.reconnects, 1);
    assert!(timings.outage >= Some(ms(500)), "{timings:?}");
    // What flowed before flows again.
    let out = rig.hear_control(server::schema("ctrl_2"));
    assert_eq!(out, [rig.resume("main_video"), rig.resume("main_audio")]);
}

#[test]
fn a_server_out_of_reach_is_asked_again_and_again() {
    let mut rig = lost(resuming());
    let out = rig.run(29_999);
    let first = labels(&actions(out[..5].to_vec()));
    assert_eq!(first, "close interrupted connecting start describe");
    assert_eq!(out[0].0, 1000);
    let asked: Vec<_> = out
        .iter()
        .filter(|(_, a)| *a == Action::DescribeSession)
        .collect();
    assert!((28..60).contains(&asked.len()), "{} times", asked.len());
    // Never twice at once, and not far apart.
    let apart = asked.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(apart.clone().min() >= Some(100), "{:?}", apart.min());
    assert!(apart.clone().max() <= Some(1250), "{:?}", apart.max());
    let out = rig.passes(1);
    assert_eq!(out, "30000 error failed end disconnected");
}

#[test]
fn the_window_is_the_platforms() {
    let mut rig = lost(resuming());
    let error = failure(&actions(rig.run(31_000)));
    assert_eq!(error.code, Code::ReconnectionFailed);
    let text = error.message;
    assert!(text.contains("30 s") && text.contains("SCTP"), "{text}");
}

#[test]
fn two_clients_do_not_ask_in_step() {
    let times = |seed| {
        let out = lost(Policy { seed, ..resuming() }).run(10_000);
        out.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert_ne!(times(1), times(3));
    assert_eq!(times(1), times(1));
}

#[test]
fn any_answer_counts_however_late() {
    let mut rig = lost(resuming());
    rig.run(12_345);
    assert_eq!(rig.told(alive()), "build");
}

#[test]
fn a_server_that_says_when_is_taken_at_its_word() {
    let mut rig = lost(resuming());
    let out = rig.told(Input::SessionDescribed(Err(busy(503, Some(4000)))));
    assert_eq!(out, "close interrupted connecting start");
    assert_eq!(rig.passes(3999), "");
    assert_eq!(rig.passes(1), "4000 describe");
    // Without a word of when: the platform's 3 s.
    rig.give(Input::SessionDescribed(Err(busy(500, None))));
    rig.mark();
    assert_eq!(rig.passes(2999), "");
    assert_eq!(rig.passes(1), "3000 describe");
}

#[test]
fn a_session_that_ended_in_order_is_not_resumed() {
    let mut rig = lost(resuming());
    let out = rig.told(Input::SessionDescribed(Ok(descriptor("closing", "3.10.0"))));
    assert_eq!(out, "ended close disconnected");
}

#[test]
fn a_session_that_ended_in_the_meantime_is_lost() {
    for result in [
        Ok(descriptor("ready", "3.10.0")),
        Ok(descriptor("CLOSED", "")),
        Err(Error::api(Code::NotFound, "no such session").with_status(404)),
    ] {
        let mut rig = lost(resuming());
        rig.run(5000);
        let out = rig.give(Input::SessionDescribed(result));
        // There is nothing to end.
        assert_eq!(labels(&out), "error failed disconnected no-id closed");
        assert_eq!(failure(&out).code, Code::ReconnectionFailed);
    }
}

#[test]
fn what_no_other_try_can_mend_is_final() {
    let denied = Error::api(Code::Unauthorized, "expired").with_status(401);
    let mut rig = lost(restarting());
    let out = rig.give(Input::SessionDescribed(Err(denied)));
    assert_eq!(failure(&out).http_status, Some(401));

    let mut rig = lost(restarting());
    rig.give(alive());
    rig.give(Input::OfferCreated(Ok(local_offer())));
    rig.answered(ANSWER);
    rig.give(Input::PeerConnected);
    let impostor = Error::gpu(Code::IdentityMismatch, "another certificate");
    let out = rig.give(Input::PeerVerified(Err(impostor)));
    assert_eq!(failure(&out).code, Code::IdentityMismatch);
}

#[test]
fn a_step_that_fails_is_taken_again() {
    let steps: [fn(&mut Rig) -> String; 5] = [
        |rig| rig.told(Input::OfferCreated(Err(broken()))),
        |rig| {
            rig.give(Input::OfferCreated(Ok(local_offer())));
            rig.told(Input::OfferPosted(Err(network())))
        },
        |rig| {
            rig.give(Input::OfferCreated(Ok(local_offer())));
            rig.give(Input::OfferPosted(Ok(())));
            rig.tick_at_deadline();
            rig.told(Input::AnswerPolled(Err(network())))
        },
        |rig| {
            rig.give(Input::OfferCreated(Ok(local_offer())));
            rig.answered(ANSWER);
            rig.told(Input::TransportFailed(broken()))
        },
        |rig| {
            rig.give(Input::OfferCreated(Ok(local_offer())));
            rig.answered(ANSWER);
            // ICE finds no way: sooner given up than at first.
            labels(&actions(rig.run(5000)))
        },
    ];
    for (n, step) in steps.into_iter().enumerate() {
        let mut rig = lost(resuming());
        rig.give(alive());
        let out = step(&mut rig);
        assert!(out.starts_with("continue close"), "{n}: {out}");
        let out = labels(&actions(rig.run(2000)));
        assert!(out.starts_with("describe") || n == 4, "{n}: {out}");
        assert_eq!(rig.told(alive()), "build", "{n}");
        assert!(labels(&rig.resumes()).contains("resumed"), "{n}");
    }
}

#[test]
fn a_forgotten_connection_is_registered_anew() {
    let mut rig = lost(resuming());
    rig.give(alive());
    rig.give(Input::OfferCreated(Ok(local_offer())));
    let gone = Error::api(Code::NotFound, "no such connection").with_status(404);
    assert_eq!(rig.told(Input::OfferPosted(Err(gone))), "continue close");
    rig.run(3000);
    assert_eq!(rig.told(alive()), "register build");
    rig.give(Input::ConnectionRegistered(Ok(5030)));
    let out = rig.give(Input::OfferCreated(Ok(local_offer())));
    assert!(
        matches!(
            &out[..],
            [Action::PostOffer {
                connection_id: 5030,
                resume: false,
                ..
            }]
        ),
        "{out:?}"
    );
}

#[test]
fn requests_wait_for_the_next_connection() {
    let mut rig = Rig::flowing(resuming());
    rig.give(request(1, command("before")));
    rig.give(Input::TransportFailed(broken()));
    assert_eq!(rig.told(request(2, command("meanwhile"))), "");
    let out = rig.give(alive());
    // Whether it was acted on nobody knows.
    assert_eq!(refusals(&out), [(1, Code::Disconnected)]);
    assert_eq!(rig.told(request(3, command("later"))), "");
    let out = rig.resumes();
    assert_eq!(labels(&out), "send send send send ready resumed complete");
    assert_eq!(replies(&out), []);
}

#[test]
fn a_connection_that_does_not_hold_is_not_made_in_a_hurry() {
    let mut rig = lost(resuming());
    let mut waits = Vec::new();
    for _ in 0..6 {
        rig.give(alive());
        rig.resumes();
        rig.mark();
        let out = rig.told(Input::TransportFailed(broken()));
        let wait = match out.as_str() {
            "describe" => 0,
            _ => rig.run(2000).first().unwrap().0,
        };
        waits.push(wait);
    }
    assert!(waits.iter().all(|wait| *wait >= 150), "{waits:?}");
    // One that held for a while was a good one.
    rig.give(alive());
    rig.resumes();
    rig.run(100);
    rig.hear_control(server::schema("ctrl_9"));
    for _ in 0..11 {
        rig.now += ms(1000);
        rig.give(Input::LastReceived(rig.now));
        rig.give(Input::Tick);
    }
    assert_eq!(rig.told(Input::TransportFailed(broken())), "describe");
}

#[test]
fn stopping_ends_the_session_at_any_moment() {
    let mut rig = lost(resuming());
    rig.run(5000);
    assert_eq!(rig.told(Input::Stop), "canceled end disconnected");
    let mut rig = lost(resuming());
    rig.give(alive());
    assert_eq!(rig.told(Input::Stop), "canceled end close disconnected");
    assert_eq!(rig.told(Input::TransportClosed), "");
    assert_eq!(rig.told(Input::SessionEnded(Ok(()))), "no-id closed");
}

#[test]
fn another_session_takes_its_place_if_that_is_wanted() {
    let mut rig = lost(restarting());
    let out = rig.run(30_000);
    let out = labels(&actions(out));
    assert!(out.ends_with("warning no-id continue begin"), "{out}");
    assert_eq!(observe(&rig.machine), State::Asking);
    let other = SessionDescriptor {
        session_id: "s-2".into(),
        ..descriptor("waiting", "3.10.0")
    };
    let out = rig.told(Input::SessionOpened(Ok((other, Ownership::Created))));
    // The elements have planned already.
    assert_eq!(out, "id waiting described continue register build");
    rig.give(Input::ConnectionRegistered(Ok(5031)));
    let out = rig.resumes();
    let resumed = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Resumed { restarted, .. }) => Some(*restarted),
        _ => None,
    });
    assert_eq!(resumed, Some(true));
    assert_eq!(rig.machine.session_id(), Some("s-2"));
    assert_eq!(rig.told(Input::Stop), "end close disconnected");
}

#[test]
fn another_session_is_waited_for_while_the_network_is_down() {
    let mut rig = lost(restarting());
    rig.run(30_000);
    let mut asked = 0;
    let end = rig.now + ms(30_000);
    while rig.now < end {
        assert_eq!(rig.told(Input::SessionOpened(Err(network()))), "continue");
        let out = rig.run(1250);
        assert_eq!(labels(&actions(out)), "begin");
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
    // As long as the session before was waited for, and no longer.
    let out = rig.give(Input::SessionOpened(Err(network())));
    assert_eq!(labels(&out), "error failed disconnected no-id closed");
    assert_eq!(failure(&out).code, Code::NetworkError);
}

#[test]
fn each_connection_has_a_number() {
    let mut rig = lost(resuming());
    let first = rig.machine.connections();
    rig.run(5000);
    assert_eq!(rig.machine.connections(), first);
    rig.give(alive());
    assert_eq!(rig.machine.connections(), first + 1);
    rig.give(Input::OfferCreated(Ok(local_offer())));
    // The server is too slow: what it says to this offer is too late.
    rig.run(7000);
    assert_eq!(rig.machine.connections(), first + 1);
    rig.give(alive());
    assert_eq!(rig.machine.connections(), first + 2);
    assert!(labels(&rig.resumes()).contains("resumed"));
    assert_eq!(rig.machine.connections(), first + 2);
}

#[test]
fn a_local_runtime_may_still_have_our_session() {
    let mut rig = lost(restarting());
    rig.run(30_000);
    let same = descriptor("orphaned", "3.10.0");
    rig.give(Input::SessionOpened(Ok((same, Ownership::Joined))));
    // It is ours to end nevertheless.
    assert_eq!(rig.told(Input::Stop), "canceled end close disconnected");
}

#[test]
fn a_session_of_somebody_elses_is_not_replaced() {
    let policy = Policy {
        adopt: Some(ID.into()),
        ..restarting()
    };
    let mut rig = Rig::new(policy)
        .ownership(Ownership::Joined)
        .until_flowing();
    rig.give(Input::TransportFailed(broken()));
    let out = labels(&actions(rig.run(30_000)));
    assert!(
        out.ends_with("error failed disconnected no-id closed"),
        "{out}"
    );
}

#[test]
fn another_model_cannot_take_its_place() {
    let mut rig = lost(restarting());
    rig.run(30_000);
    let mut other = descriptor("waiting", "3.10.0");
    if let Some(capabilities) = &mut other.capabilities {
        capabilities.tracks.clear();
    }
    let out = rig.give(Input::SessionOpened(Ok((other, Ownership::Created))));
    assert_eq!(failure(&out).code, Code::TrackRejected);
    assert!(labels(&out).contains("end"));
}

#[test]
fn the_user_may_give_the_connection_up_and_have_it_back() {
    let mut rig = Rig::flowing(resuming());
    let out = rig.told(Input::Disconnect { recoverable: true });
    assert_eq!(out, "close interrupted disconnected");
    assert_eq!(rig.passes(100_000), "");
    assert_eq!(rig.told(request(1, command("go"))), "");
    assert_eq!(rig.told(Input::Reconnect), "describe connecting start");
    assert_eq!(rig.told(alive()), "build");
    assert_eq!(
        labels(&rig.resumes()),
        "send send send ready resumed complete"
    );
    // The server has let it go in the meantime: that is no end in order.
    rig.give(Input::Disconnect { recoverable: true });
    rig.give(Input::Reconnect);
    let out = rig.give(Input::SessionDescribed(Ok(descriptor("ready", "3.10.0"))));
    assert_eq!(failure(&out).code, Code::ReconnectionFailed);
}

#[test]
fn a_new_connection_can_be_had_without_the_property() {
    let mut rig = Rig::flowing(Policy {
        reconnect: false,
        ..resuming()
    });
    assert_eq!(rig.told(Input::Reconnect), "describe");
    assert_eq!(
        rig.told(alive()),
        "close interrupted connecting start build"
    );
    assert!(labels(&rig.resumes()).contains("resumed"));
}
