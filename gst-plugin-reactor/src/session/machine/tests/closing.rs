// SPDX-License-Identifier: MIT

//! Closing in every phase, and the session that is left on the server.

use super::{
    state::{State, harness_in, state_of, states},
    *,
};

/// Who created the session, and whether it is recoverable.
const OWNERS: [(Ownership, bool); 4] = [
    (Ownership::Created, false),
    (Ownership::Created, true),
    (Ownership::Joined, false),
    (Ownership::Joined, true),
];

fn policy_with_recoverable(recoverable: bool) -> Policy {
    Policy {
        recoverable,
        ..policy()
    }
}

#[test]
fn idle_session_closes_at_once() {
    let mut harness = Harness::new(policy());
    harness.handle(request(4, command("go")));
    let out = harness.handle(Input::Stop);
    assert_eq!(refusals(&out), [(4, Code::Disconnected)]);
    assert_eq!(labels(&out), "reply no-id closed");
    assert_eq!(harness.handle(Input::Start), []);
    assert_eq!(harness.handle(Input::Stop), []);
}

#[test]
fn session_opened_after_stop_is_ended() {
    for (ownership, recoverable) in OWNERS {
        let mut harness =
            Harness::opening(policy_with_recoverable(recoverable)).ownership(ownership);
        let canceled = Action::Emit(MachineEvent::Progress(Progress::Canceled("Stopped")));
        let disconnected = Action::Emit(MachineEvent::Status(Status::Disconnected));
        assert_eq!(harness.handle(Input::Stop), [canceled, disconnected]);
        assert_eq!(harness.handle_labels(Input::Stop), "");
        harness.now += ms(1500);
        if ownership == Ownership::Created && !recoverable {
            assert_eq!(harness.open_session(), [Action::EndSession]);
            // The deadline does not move.
            assert_eq!(harness.machine.deadline(), Some(START + ms(2000)));
            assert_eq!(
                harness.handle_labels(Input::SessionEnded(Ok(()))),
                "no-id closed"
            );
        } else {
            assert_eq!(labels(&harness.open_session()), "no-id closed");
        }
    }
}

/// The property is for an element that stops; the application says here what it wants.
#[test]
fn disconnect_ends_recoverable_session() {
    let disconnect = || Input::Disconnect {
        token: 9,
        recoverable: false,
    };
    for (ownership, out) in [
        (Ownership::Created, "ended end close disconnected"),
        (Ownership::Joined, "ended close disconnected"),
    ] {
        let harness = Harness::new(policy_with_recoverable(true)).ownership(ownership);
        let mut harness = harness.until_resumed();
        assert_eq!(harness.handle_labels(disconnect()), out);
    }
    // Also one that the server opens later, and one whose element was stopped before.
    for stopped in [false, true] {
        let mut harness = Harness::opening(policy_with_recoverable(true));
        if stopped {
            harness.handle(Input::Stop);
        }
        harness.handle(disconnect());
        assert!(!harness.machine.is_recoverable());
        assert_eq!(harness.open_session(), [Action::EndSession]);
    }
}

#[test]
fn session_refused_after_stop_closes() {
    let mut harness = Harness::opening(policy());
    harness.handle(Input::Stop);
    assert_eq!(
        harness.handle_labels(Input::SessionOpened(Err(busy(429, Some(1000))))),
        "no-id closed"
    );
    // Between two requests no reply is pending.
    let mut harness = Harness::opening(policy());
    harness.handle(Input::SessionOpened(Err(busy(429, Some(1000)))));
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled disconnected no-id closed"
    );
}

type Stage = (&'static str, fn(Harness) -> Harness);

fn stages() -> [Stage; 8] {
    [
        ("canceled", Harness::until_preparing),
        ("canceled", |harness| {
            let mut harness = harness.until_preparing();
            harness.handle(Input::TracksPlanned(Ok(tracks())));
            harness.handle(Input::IceServersFetched(Ok(ice_servers())));
            harness
        }),
        ("canceled", Harness::until_offering),
        ("canceled", |harness| {
            let mut harness = harness.until_offering();
            harness.handle(Input::OfferPosted(Ok(())));
            harness
        }),
        ("canceled", Harness::until_connecting),
        ("", Harness::until_ready),
        ("", Harness::until_resumed),
        ("", |harness| {
            let mut harness = harness.until_resumed();
            harness.handle(Input::TransportFailed(broken()));
            harness
        }),
    ]
}

#[test]
fn stop_ends_created_sessions_only() {
    for (n, (first, stage)) in stages().into_iter().enumerate() {
        for (ownership, recoverable) in OWNERS {
            let mut harness =
                stage(Harness::new(policy_with_recoverable(recoverable)).ownership(ownership));
            let ours = ownership == Ownership::Created && !recoverable;
            let transport = n > 0;
            let mut expected: Vec<&str> = first.split_whitespace().collect();
            expected.extend(ours.then_some("end"));
            expected.extend(transport.then_some("close"));
            expected.push("disconnected");
            if !ours && !transport {
                expected.extend(["no-id", "closed"]);
            }
            let expected = expected.join(" ");
            assert_eq!(
                harness.handle_labels(Input::Stop),
                expected,
                "{n} {ownership:?} {recoverable}"
            );
            assert_eq!(harness.handle_labels(Input::Stop), "");
            assert_eq!(harness.machine.session_id(), None);
        }
    }
}

#[test]
fn failure_ends_created_sessions_only() {
    for (ownership, recoverable) in OWNERS {
        let mut harness = Harness::new(policy_with_recoverable(recoverable))
            .ownership(ownership)
            .until_connecting();
        let out = harness.handle(Input::TransportFailed(broken()));
        let ours = ownership == Ownership::Created && !recoverable;
        assert_eq!(out.contains(&Action::EndSession), ours);
        assert!(out.contains(&Action::CloseTransport));
    }
}

#[test]
fn session_and_transport_closed_in_either_order_close_the_machine() {
    let ended = || Input::SessionEnded(Ok(()));
    let mut harness = Harness::resumed(policy());
    harness.handle(Input::Stop);
    assert_eq!(harness.handle_labels(ended()), "");
    assert_eq!(
        harness.handle_labels(Input::TransportClosed),
        "no-id closed"
    );
    let mut harness = Harness::resumed(policy());
    harness.handle(Input::Stop);
    assert_eq!(harness.handle_labels(Input::TransportClosed), "");
    // A failed request to end the session does not keep the machine open.
    let out = harness.handle(Input::SessionEnded(Err(network())));
    assert_eq!(warning(&out), network());
    assert_eq!(labels(&out), "warning no-id closed");
}

#[test]
fn closing_ends_at_the_close_limit() {
    for state in states() {
        let mut harness = harness_in(state, policy());
        if matches!(state, State::Idle | State::Closing(_) | State::Closed) {
            continue;
        }
        harness.mark();
        harness.handle(Input::Stop);
        if harness.machine.is_closed() {
            continue;
        }
        assert_eq!(harness.run_labels(1999), "", "{state:?}");
        assert_eq!(harness.run_labels(1), "2000 no-id closed", "{state:?}");
        // Later inputs are ignored.
        assert_eq!(labels(&harness.open_session()), "");
        assert_eq!(harness.handle_labels(Input::TransportClosed), "");
        assert_eq!(
            harness.handle_labels(Input::SessionEnded(Err(network()))),
            ""
        );
        assert_eq!(state_of(&harness.machine), State::Closed);
    }
}

#[test]
fn closed_transport_is_not_closed_again() {
    let mut harness = Harness::resumed(policy());
    assert_eq!(harness.handle_labels(Input::TransportClosed), "");
    assert_eq!(harness.handle_labels(Input::Stop), "end disconnected");
}

#[test]
fn pending_requests_fail_when_closing() {
    let mut harness = Harness::resumed(policy());
    harness.handle(request(2, command("a")));
    harness.handle(request(1, ClientMessage::RequestRecording));
    let out = harness.handle(Input::Stop);
    assert_eq!(
        refusals(&out),
        [(2, Code::Disconnected), (1, Code::Disconnected)]
    );
    assert_eq!(labels(&out), "reply reply end close disconnected");
    let out = harness.handle(request(3, command("b")));
    assert_eq!(refusals(&out), [(3, Code::Disconnected)]);
    assert_eq!(labels(&harness.receive_data(server::ack("data_1"))), "");

    // Queued requests as well.
    let mut harness = Harness::new(policy()).until_connecting();
    harness.handle(request(7, command("a")));
    let out = harness.handle(Input::TransportFailed(broken()));
    assert_eq!(refusals(&out), [(7, Code::Disconnected)]);
}
