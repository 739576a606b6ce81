// SPDX-License-Identifier: MIT

//! Asking for a session, and waiting for one.

use super::*;

fn limited(milliseconds: u64) -> Policy {
    Policy {
        waiting_limit: Some(ms(milliseconds)),
        ..policy()
    }
}

fn refused(rig: &mut Rig, error: Error) -> Vec<Action> {
    rig.give(Input::SessionOpened(Err(error)))
}

/// How long until it asks again, in ms.
#[track_caller]
fn asks_again(rig: &mut Rig) -> u64 {
    rig.mark();
    assert_eq!(labels(&rig.tick_at_deadline()), "begin");
    rig.time()
}

#[test]
fn a_start_asks_for_a_session() {
    let mut rig = Rig::new(policy());
    assert_eq!(rig.machine.deadline(), None);
    let expected = [
        Action::Emit(MachineEvent::Status(Status::Connecting)),
        Action::Emit(MachineEvent::Progress(Progress::Start(
            "Asking for a session",
        ))),
        Action::OpenSession,
    ];
    assert_eq!(rig.give(Input::Start), expected);
    assert_eq!(rig.give(Input::Start), []);
    assert_eq!(rig.machine.session_id(), None);
}

#[test]
fn a_session_is_announced() {
    let mut rig = Rig::asked(policy());
    rig.now += ms(120);
    let described = descriptor("waiting", "3.10.0");
    let expected = [
        Action::Emit(MachineEvent::SessionId(Some(ID.into()))),
        Action::Emit(MachineEvent::Status(Status::Waiting)),
        Action::Emit(MachineEvent::Described(described)),
        Action::Emit(MachineEvent::Progress(Progress::Continue(
            "Connecting to the model".into(),
        ))),
        Action::AnnounceTracks(tracks()),
        Action::RegisterConnection,
        Action::FetchIceServers,
    ];
    assert_eq!(rig.begun(), expected);
    assert_eq!(rig.machine.session_id(), Some(ID));
    assert_eq!(rig.machine.timings().described, Some(ms(120)));
}

#[test]
fn a_session_without_tracks_or_transport_is_of_no_use() {
    let without_tracks = SessionDescriptor {
        capabilities: None,
        ..descriptor("waiting", "3.10.0")
    };
    let without_transport = SessionDescriptor {
        selected_transport: None,
        ..descriptor("waiting", "3.10.0")
    };
    for described in [without_tracks, without_transport] {
        let mut rig = Rig::asked(policy());
        let out = rig.give(Input::SessionOpened(Ok((described, Ownership::Created))));
        assert_eq!(failure(&out).code, Code::DecodeFailed);
        // The request has been answered: only the end is waited for.
        assert_eq!(
            labels(&out),
            "id waiting described error failed end disconnected"
        );
        assert_eq!(rig.told(Input::SessionEnded(Ok(()))), "no-id closed");
    }
}

#[test]
fn waits_as_long_as_the_server_says() {
    let mut rig = Rig::asked(policy());
    let text = "Waiting for a GPU: answered 503";
    let progress = Action::Emit(MachineEvent::Progress(Progress::Continue(text.into())));
    let waiting = Action::Emit(MachineEvent::Status(Status::Waiting));
    let out = refused(&mut rig, busy(503, Some(1000)));
    assert_eq!(out, [waiting, progress.clone()]);
    rig.mark();
    assert_eq!(rig.passes(999), "");
    assert_eq!(rig.passes(1), "1000 begin");
    // While it is being asked nothing else is.
    assert_eq!(rig.passes(60_000), "");
    // That it waits is said once.
    assert_eq!(refused(&mut rig, busy(503, Some(2500))), [progress]);
    assert_eq!(asks_again(&mut rig), 2500);
    assert_eq!(
        labels(&rig.begun()),
        "id waiting described continue announce register ice"
    );
}

#[test]
fn backs_off_from_a_server_that_does_not_say() {
    let mut rig = Rig::asked(policy());
    let mut waits = Vec::new();
    for _ in 0..6 {
        refused(&mut rig, busy(429, None));
        waits.push(asks_again(&mut rig));
    }
    assert_eq!(waits, [3000, 6000, 10_000, 10_000, 10_000, 10_000]);
    // What the server says counts, however often it was asked.
    refused(&mut rig, busy(429, Some(250)));
    assert_eq!(asks_again(&mut rig), 250);
}

#[test]
fn a_strange_delay_neither_floods_nor_hangs() {
    let mut rig = Rig::asked(policy());
    refused(&mut rig, busy(503, Some(0)));
    assert_eq!(asks_again(&mut rig), 100);
    let forever = busy(429, None).with_retry_after(Some(Duration::MAX));
    refused(&mut rig, forever);
    assert_eq!(asks_again(&mut rig), 3_600_000);
}

#[test]
fn waits_for_days_if_nobody_objects() {
    let mut rig = Rig::asked(policy());
    for _ in 0..100_000 {
        refused(&mut rig, busy(429, None));
        asks_again(&mut rig);
    }
    assert!(rig.now > Duration::from_secs(11 * 24 * 3600));
    assert_eq!(rig.machine.deadline(), None);
}

#[test]
fn other_failures_are_final_at_once() {
    let unavailable = busy(503, None);
    let unauthorized = busy(401, Some(1000));
    for error in [
        network(),
        unavailable,
        unauthorized,
        busy(409, None),
        broken(),
    ] {
        let mut rig = Rig::asked(policy());
        let expected = [
            Action::Emit(MachineEvent::Progress(Progress::Error(
                error.message.clone(),
            ))),
            Action::Emit(MachineEvent::Failed(error.clone())),
            Action::Emit(MachineEvent::Status(Status::Disconnected)),
            Action::Emit(MachineEvent::SessionId(None)),
            Action::Emit(MachineEvent::Closed),
        ];
        assert_eq!(refused(&mut rig, error), expected);
    }
}

#[test]
fn gives_up_waiting_in_time() {
    let mut rig = Rig::asked(limited(5000));
    refused(&mut rig, busy(429, Some(2000)));
    assert_eq!(rig.passes(2000), "2000 begin");
    refused(&mut rig, busy(429, Some(60_000)));
    assert_eq!(rig.passes(2999), "");
    let out = rig.run(1);
    assert_eq!(out[0].0, 5000);
    let error = failure(&actions(out));
    let text = "answered 429 (gave up after waiting-timeout, 5000 ms)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::RateLimited, text)
    );
    assert_eq!(error.http_status, Some(429));
    assert!(rig.machine.is_closed());
}

#[test]
fn gives_up_on_a_server_that_does_not_answer() {
    let mut rig = Rig::asked(limited(5000));
    let out = rig.run(5000);
    assert_eq!(out[0].0, 5000);
    let error = failure(&actions(out));
    let text = "the server did not answer (gave up after waiting-timeout, 5000 ms)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::RequestTimeout, text)
    );
    assert_eq!(error.operation, Some("session"));
    // The answer comes after all: what it created is ended.
    assert!(!rig.machine.is_closed());
    assert_eq!(labels(&rig.begun()), "end");
    assert_eq!(rig.told(Input::SessionEnded(Ok(()))), "no-id closed");
}

#[test]
fn a_refusal_after_the_limit_is_final() {
    let mut rig = Rig::asked(limited(5000));
    rig.now += ms(5000);
    let out = refused(&mut rig, busy(429, Some(1000)));
    assert_eq!(failure(&out), busy(429, Some(1000)));
    assert!(rig.machine.is_closed());
}

#[test]
fn a_session_that_comes_at_the_limit_is_taken() {
    let mut rig = Rig::asked(limited(5000));
    rig.now += ms(5000);
    assert!(rig.begun().contains(&Action::RegisterConnection));
    assert_eq!(rig.machine.deadline(), Some(rig.now + OFFER_LIMIT));
}

#[test]
fn an_ending_session_is_waited_for_but_not_for_long() {
    let mut rig = Rig::asked(policy());
    let mut asked = 0;
    loop {
        let out = refused(&mut rig, busy(409, Some(500)));
        if rig.machine.is_closed() {
            assert_eq!(failure(&out), busy(409, Some(500)));
            break;
        }
        assert_eq!(asks_again(&mut rig), 500);
        asked += 1;
    }
    assert_eq!(asked, 20);
    assert_eq!(rig.now - START, CONFLICT_LIMIT);
}

#[test]
fn an_adopted_connection_needs_no_registration() {
    let policy = Policy {
        adopt: Some(ID.into()),
        connection_id: Some(1234),
        ice_servers: false,
        ..policy()
    };
    let mut rig = Rig::asked(policy).ownership(Ownership::Joined);
    assert_eq!(
        labels(&rig.begun()),
        "id waiting described continue announce"
    );
    let build = Action::CreateOffer {
        ice_servers: Vec::new(),
    };
    assert_eq!(rig.give(Input::TracksPlanned(Ok(plans()))), [build]);
    let out = rig.give(Input::OfferCreated(Ok(local_offer())));
    assert!(
        matches!(
            out[..],
            [Action::PostOffer {
                connection_id: 1234,
                ..
            }]
        ),
        "{out:?}"
    );
    rig.give(Input::OfferPosted(Ok(())));
    let poll = Action::PollAnswer {
        connection_id: 1234,
    };
    assert_eq!(rig.tick_at_deadline(), [poll]);
}
