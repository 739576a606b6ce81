// SPDX-License-Identifier: MIT

//! Stopping, whenever it is asked for, and what is left on the server.

use super::{
    state::{State, observe, reach, states},
    *,
};

/// Whose session it is, and whether it may stay.
const OWNERS: [(Ownership, bool); 4] = [
    (Ownership::Created, false),
    (Ownership::Created, true),
    (Ownership::Joined, false),
    (Ownership::Joined, true),
];

fn keeping(recoverable: bool) -> Policy {
    Policy {
        recoverable,
        ..policy()
    }
}

#[test]
fn a_session_that_never_began_closes_at_once() {
    let mut rig = Rig::new(policy());
    rig.give(request(4, command("go")));
    let out = rig.give(Input::Stop);
    assert_eq!(refusals(&out), [(4, Code::Aborted)]);
    assert_eq!(labels(&out), "reply no-id closed");
    assert_eq!(rig.give(Input::Start), []);
    assert_eq!(rig.give(Input::Stop), []);
}

#[test]
fn a_session_that_comes_after_the_stop_is_ended() {
    for (ownership, recoverable) in OWNERS {
        let mut rig = Rig::asked(keeping(recoverable)).ownership(ownership);
        let canceled = Action::Emit(MachineEvent::Progress(Progress::Canceled("Stopped")));
        let disconnected = Action::Emit(MachineEvent::Status(Status::Disconnected));
        assert_eq!(rig.give(Input::Stop), [canceled, disconnected]);
        assert_eq!(rig.told(Input::Stop), "");
        rig.now += ms(1500);
        if ownership == Ownership::Created && !recoverable {
            assert_eq!(rig.begun(), [Action::EndSession]);
            // It does not get more time for that.
            assert_eq!(rig.machine.deadline(), Some(START + ms(2000)));
            assert_eq!(rig.told(Input::SessionEnded(Ok(()))), "no-id closed");
        } else {
            assert_eq!(labels(&rig.begun()), "no-id closed");
        }
    }
}

#[test]
fn a_session_that_does_not_come_after_the_stop_is_no_matter() {
    let mut rig = Rig::asked(policy());
    rig.give(Input::Stop);
    assert_eq!(
        rig.told(Input::SessionOpened(Err(busy(429, Some(1000))))),
        "no-id closed"
    );
    // Between two requests there is nothing to wait for.
    let mut rig = Rig::asked(policy());
    rig.give(Input::SessionOpened(Err(busy(429, Some(1000)))));
    assert_eq!(rig.told(Input::Stop), "canceled disconnected no-id closed");
}

type Stage = (&'static str, fn(Rig) -> Rig);

fn stages() -> [Stage; 8] {
    [
        ("canceled", Rig::until_preparing),
        ("canceled", |rig| {
            let mut rig = rig.until_preparing();
            rig.give(Input::TracksPlanned(Ok(plans())));
            rig.give(Input::IceServersFetched(Ok(ice_servers())));
            rig
        }),
        ("canceled", Rig::until_offering),
        ("canceled", |rig| {
            let mut rig = rig.until_offering();
            rig.give(Input::OfferPosted(Ok(())));
            rig
        }),
        ("canceled", Rig::until_connecting),
        ("", Rig::until_live),
        ("", Rig::until_flowing),
        ("", |rig| {
            let mut rig = rig.until_flowing();
            rig.give(Input::TransportFailed(broken()));
            rig
        }),
    ]
}

#[test]
fn a_stop_ends_what_is_ours_and_nothing_else() {
    for (n, (first, stage)) in stages().into_iter().enumerate() {
        for (ownership, recoverable) in OWNERS {
            let mut rig = stage(Rig::new(keeping(recoverable)).ownership(ownership));
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
                rig.told(Input::Stop),
                expected,
                "{n} {ownership:?} {recoverable}"
            );
            assert_eq!(rig.told(Input::Stop), "");
            assert_eq!(rig.machine.session_id(), None);
        }
    }
}

#[test]
fn a_failure_ends_what_is_ours_and_nothing_else() {
    for (ownership, recoverable) in OWNERS {
        let mut rig = Rig::new(keeping(recoverable))
            .ownership(ownership)
            .until_connecting();
        let out = rig.give(Input::TransportFailed(broken()));
        let ours = ownership == Ownership::Created && !recoverable;
        assert_eq!(out.contains(&Action::EndSession), ours);
        assert!(out.contains(&Action::CloseTransport));
    }
}

#[test]
fn closes_when_all_is_done_in_either_order() {
    let ended = || Input::SessionEnded(Ok(()));
    let mut rig = Rig::flowing(policy());
    rig.give(Input::Stop);
    assert_eq!(rig.told(ended()), "");
    assert_eq!(rig.told(Input::TransportClosed), "no-id closed");
    let mut rig = Rig::flowing(policy());
    rig.give(Input::Stop);
    assert_eq!(rig.told(Input::TransportClosed), "");
    // That the server could not be told is no reason to stay.
    let out = rig.give(Input::SessionEnded(Err(network())));
    assert_eq!(warning(&out), network());
    assert_eq!(labels(&out), "warning no-id closed");
}

#[test]
fn closing_takes_no_longer_than_it_may() {
    for state in states() {
        let mut rig = reach(state, policy());
        if matches!(state, State::Idle | State::Closing(_) | State::Closed) {
            continue;
        }
        rig.mark();
        rig.give(Input::Stop);
        if rig.machine.is_closed() {
            continue;
        }
        assert_eq!(rig.passes(1999), "", "{state:?}");
        assert_eq!(rig.passes(1), "2000 no-id closed", "{state:?}");
        // What comes now comes too late.
        assert_eq!(labels(&rig.begun()), "");
        assert_eq!(rig.told(Input::TransportClosed), "");
        assert_eq!(rig.told(Input::SessionEnded(Err(network()))), "");
        assert_eq!(observe(&rig.machine), State::Closed);
    }
}

#[test]
fn a_transport_that_closed_by_itself_is_not_closed_again() {
    let mut rig = Rig::flowing(policy());
    assert_eq!(rig.told(Input::TransportClosed), "");
    assert_eq!(rig.told(Input::Stop), "end disconnected");
}

#[test]
fn requests_are_answered_when_it_closes() {
    let mut rig = Rig::flowing(policy());
    rig.give(request(2, command("a")));
    rig.give(request(1, ClientMessage::RequestRecording));
    let out = rig.give(Input::Stop);
    assert_eq!(refusals(&out), [(2, Code::Aborted), (1, Code::Aborted)]);
    assert_eq!(labels(&out), "reply reply end close disconnected");
    let out = rig.give(request(3, command("b")));
    assert_eq!(refusals(&out), [(3, Code::InvalidState)]);
    assert_eq!(labels(&rig.hear_data(server::ack("data_1"))), "");

    // Those that were never sent as well.
    let mut rig = Rig::new(policy()).until_connecting();
    rig.give(request(7, command("a")));
    let out = rig.give(Input::TransportFailed(broken()));
    assert_eq!(refusals(&out), [(7, Code::TransportError)]);
}
