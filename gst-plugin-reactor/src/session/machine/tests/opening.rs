// SPDX-License-Identifier: MIT

//! Opening a session, with retries on a busy server.

use super::*;

fn limited(milliseconds: u64) -> Policy {
    Policy {
        waiting_limit: Some(ms(milliseconds)),
        ..policy()
    }
}

fn refuse(harness: &mut Harness, error: Error) -> Vec<Action> {
    harness.handle(Input::SessionOpened(Err(error)))
}

/// The time until the next request, in ms.
#[track_caller]
fn next_request_after(harness: &mut Harness) -> u64 {
    harness.mark();
    assert_eq!(labels(&harness.tick_at_deadline()), "begin");
    harness.time()
}

#[test]
fn start_requests_a_session() {
    let mut harness = Harness::new(policy());
    assert_eq!(harness.machine.deadline(), None);
    let expected = [
        Action::Emit(MachineEvent::Status(Status::Connecting)),
        Action::Emit(MachineEvent::Progress(Progress::Start(
            "Asking for a session",
        ))),
        Action::OpenSession,
    ];
    assert_eq!(harness.handle(Input::Start), expected);
    assert_eq!(harness.handle(Input::Start), []);
    assert_eq!(harness.machine.session_id(), None);
}

#[test]
fn opened_session_is_announced() {
    let mut harness = Harness::opening(policy());
    harness.now += ms(120);
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
    assert_eq!(harness.open_session(), expected);
    assert_eq!(harness.machine.session_id(), Some(ID));
    assert_eq!(harness.machine.timings().described, Some(ms(120)));
}

#[test]
fn session_without_tracks_or_transport_fails() {
    let without_tracks = SessionDescriptor {
        capabilities: None,
        ..descriptor("waiting", "3.10.0")
    };
    let without_transport = SessionDescriptor {
        selected_transport: None,
        ..descriptor("waiting", "3.10.0")
    };
    for described in [without_tracks, without_transport] {
        let mut harness = Harness::opening(policy());
        let out = harness.handle(Input::SessionOpened(Ok((described, Ownership::Created))));
        assert_eq!(failure(&out).code, Code::DecodeFailed);
        // The request has been answered: only the request to end is pending.
        assert_eq!(
            labels(&out),
            "id waiting described error failed end disconnected"
        );
        assert_eq!(
            harness.handle_labels(Input::SessionEnded(Ok(()))),
            "no-id closed"
        );
    }
}

#[test]
fn session_with_too_many_tracks_or_two_of_one_name_fails() {
    let video = |name: &str| track(name, Kind::Video, Direction::RecvOnly);
    let twice = vec![video("main"), video("other"), video("main")];
    let many = (0..65).map(|n| video(&format!("v{n}"))).collect();
    for (tracks, why) in [
        (twice, "two tracks with the name 'main'"),
        (many, "65 tracks, more than the 64"),
    ] {
        let mut described = descriptor("waiting", "3.10.0");
        described.capabilities.as_mut().unwrap().tracks = tracks;
        let mut harness = Harness::opening(policy());
        let out = harness.handle(Input::SessionOpened(Ok((described, Ownership::Created))));
        let error = failure(&out);
        assert_eq!(error.code, Code::DecodeFailed);
        assert!(error.message.contains(why), "{error}");
        assert!(
            labels(&out).ends_with("error failed end disconnected"),
            "{out:?}"
        );
    }
}

#[test]
fn busy_server_is_retried_after_its_retry_after() {
    let mut harness = Harness::opening(policy());
    let text = "Waiting for a GPU: answered 503";
    let progress = Action::Emit(MachineEvent::Progress(Progress::Continue(text.into())));
    let waiting = Action::Emit(MachineEvent::Status(Status::Waiting));
    let out = refuse(&mut harness, busy(503, Some(1000)));
    assert_eq!(out, [waiting, progress.clone()]);
    harness.mark();
    assert_eq!(harness.run_labels(999), "");
    assert_eq!(harness.run_labels(1), "1000 begin");
    // No second request while one is pending.
    assert_eq!(harness.run_labels(60_000), "");
    // The status is reported once.
    assert_eq!(refuse(&mut harness, busy(503, Some(2500))), [progress]);
    assert_eq!(next_request_after(&mut harness), 2500);
    assert_eq!(
        labels(&harness.open_session()),
        "id waiting described continue announce register ice"
    );
}

#[test]
fn busy_server_without_retry_after_is_retried_with_backoff() {
    let mut harness = Harness::opening(policy());
    let mut waits = Vec::new();
    for _ in 0..6 {
        refuse(&mut harness, busy(429, None));
        waits.push(next_request_after(&mut harness));
    }
    assert_eq!(waits, [3000, 6000, 10_000, 10_000, 10_000, 10_000]);
    // `Retry-After` counts after any number of requests.
    refuse(&mut harness, busy(429, Some(250)));
    assert_eq!(next_request_after(&mut harness), 250);
}

#[test]
fn extreme_retry_after_is_clamped() {
    let mut harness = Harness::opening(policy());
    refuse(&mut harness, busy(503, Some(0)));
    assert_eq!(next_request_after(&mut harness), 100);
    let forever = busy(429, None).with_retry_after(Some(Duration::MAX));
    refuse(&mut harness, forever);
    assert_eq!(next_request_after(&mut harness), 3_600_000);
}

#[test]
fn busy_server_without_waiting_limit_is_retried_for_days() {
    let mut harness = Harness::opening(policy());
    for _ in 0..100_000 {
        refuse(&mut harness, busy(429, None));
        next_request_after(&mut harness);
    }
    assert!(harness.now > Duration::from_secs(11 * 24 * 3600));
    assert_eq!(harness.machine.deadline(), None);
}

#[test]
fn other_errors_fail_at_once() {
    let unavailable = busy(503, None);
    let unauthorized = busy(401, Some(1000));
    for error in [
        network(),
        unavailable,
        unauthorized,
        busy(409, None),
        broken(),
    ] {
        let mut harness = Harness::opening(policy());
        let expected = [
            Action::Emit(MachineEvent::Progress(Progress::Error(
                error.message.clone(),
            ))),
            Action::Emit(MachineEvent::Failed(Error {
                failure: Some(Failure::Connection),
                ..error.clone()
            })),
            Action::Emit(MachineEvent::Status(Status::Disconnected)),
            Action::Emit(MachineEvent::SessionId(None)),
            Action::Emit(MachineEvent::Closed),
        ];
        assert_eq!(refuse(&mut harness, error), expected);
    }
}

#[test]
fn busy_server_fails_at_the_waiting_limit() {
    let mut harness = Harness::opening(limited(5000));
    refuse(&mut harness, busy(429, Some(2000)));
    assert_eq!(harness.run_labels(2000), "2000 begin");
    refuse(&mut harness, busy(429, Some(60_000)));
    assert_eq!(harness.run_labels(2999), "");
    let out = harness.run(1);
    assert_eq!(out[0].0, 5000);
    let error = failure(&actions(out));
    let text = "answered 429 (gave up after waiting-timeout, 5000 ms)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::RateLimited, text)
    );
    assert_eq!(error.http_status, Some(429));
    assert!(harness.machine.is_closed());
}

#[test]
fn silent_server_fails_at_the_waiting_limit() {
    let mut harness = Harness::opening(limited(5000));
    let out = harness.run(5000);
    assert_eq!(out[0].0, 5000);
    let error = failure(&actions(out));
    let text = "the server did not answer (gave up after waiting-timeout, 5000 ms)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::RequestTimeout, text)
    );
    assert_eq!(error.operation, Some("session"));
    // A late reply: the session that it created is ended.
    assert!(!harness.machine.is_closed());
    assert_eq!(labels(&harness.open_session()), "end");
    assert_eq!(
        harness.handle_labels(Input::SessionEnded(Ok(()))),
        "no-id closed"
    );
}

#[test]
fn refusal_after_the_waiting_limit_fails() {
    let mut harness = Harness::opening(limited(5000));
    harness.now += ms(5000);
    let out = refuse(&mut harness, busy(429, Some(1000)));
    let mut expected = busy(429, Some(1000));
    expected.message += " (gave up after waiting-timeout, 5000 ms)";
    assert_eq!(failure(&out), expected);
    assert!(harness.machine.is_closed());
}

#[test]
fn session_opened_at_the_waiting_limit_is_used() {
    let mut harness = Harness::opening(limited(5000));
    harness.now += ms(5000);
    assert!(harness.open_session().contains(&Action::RegisterConnection));
    assert_eq!(harness.machine.deadline(), Some(harness.now + OFFER_LIMIT));
}

#[test]
fn conflict_with_an_ending_session_is_retried_for_ten_seconds() {
    let mut harness = Harness::opening(policy());
    let mut asked = 0;
    loop {
        let out = refuse(&mut harness, busy(409, Some(500)));
        if harness.machine.is_closed() {
            assert_eq!(failure(&out), busy(409, Some(500)));
            break;
        }
        assert_eq!(next_request_after(&mut harness), 500);
        asked += 1;
    }
    assert_eq!(asked, 20);
    assert_eq!(harness.now - START, CONFLICT_LIMIT);
}

#[test]
fn given_connection_id_is_not_registered() {
    let policy = Policy {
        adopt: Some(ID.into()),
        connection_id: Some(1234),
        ice_servers: false,
        ..policy()
    };
    let mut harness = Harness::opening(policy).ownership(Ownership::Joined);
    assert_eq!(
        labels(&harness.open_session()),
        "id waiting described continue announce"
    );
    let build = Action::CreateOffer {
        ice_servers: Vec::new(),
    };
    assert_eq!(harness.handle(Input::TracksPlanned(Ok(tracks()))), [build]);
    let out = harness.handle(Input::OfferCreated(Ok(local_offer())));
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
    harness.handle(Input::OfferPosted(Ok(())));
    let poll = Action::PollAnswer {
        connection_id: 1234,
    };
    assert_eq!(harness.tick_at_deadline(), [poll]);
}
