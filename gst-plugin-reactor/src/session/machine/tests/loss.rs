// SPDX-License-Identifier: MIT

//! The watchdog, and what becomes of a session whose connection is lost.

use super::{
    state::{State, observe},
    *,
};

fn stalling(limit: Option<u64>) -> Policy {
    Policy {
        stall_limit: limit.map(ms),
        ..policy()
    }
}

/// Lost, and the server has been asked what became of the session.
fn checking() -> Rig {
    let mut rig = Rig::flowing(policy());
    assert_eq!(
        rig.give(Input::TransportFailed(broken())),
        [Action::DescribeSession]
    );
    rig.mark();
    rig
}

fn described(rig: &mut Rig, result: Result<SessionDescriptor, Error>) -> Vec<Action> {
    rig.give(Input::SessionDescribed(result))
}

#[test]
fn a_silent_server_is_probed_and_then_lost() {
    let mut rig = Rig::flowing(stalling(Some(5000)));
    let ask = rig.v1(&ClientMessage::RequestSchema, "ctrl_2");
    let ping = rig.v1(&ClientMessage::Ping, "");
    let out = rig.run(5000);
    assert_eq!(
        out,
        [(2600, ask), (5000, ping), (5100, Action::DescribeSession)]
    );
    let out = actions(rig.run(QUERY_LIMIT.as_millis().try_into().unwrap()));
    let error = failure(&out);
    let text = "nothing was received for 5000 ms (stall-timeout)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::Disconnected, text)
    );
    assert_eq!(labels(&out), "error failed end close disconnected");
}

#[test]
fn an_answered_probe_starts_the_patience_anew() {
    let mut rig = Rig::flowing(stalling(Some(3000)));
    for n in 2..6 {
        rig.mark();
        assert_eq!(rig.passes(1499), "", "probe {n}");
        let ask = rig.v1(&ClientMessage::RequestSchema, &format!("ctrl_{n}"));
        let out = rig.run(1);
        assert!(out.contains(&(1500, ask)), "{out:?}");
        rig.give(Input::Tick);
        rig.hear_control(server::schema(&format!("ctrl_{n}")));
        rig.machine_pings();
    }
    // The next one stays without an answer.
    rig.mark();
    assert_eq!(rig.passes(3000), "1500 send, 3000 describe");
}

impl Rig {
    /// Puts the heartbeat off, so that only the watchdog speaks.
    fn machine_pings(&mut self) {
        let Phase::Ready(live) = &mut self.machine.phase else {
            panic!("{:?}", self.machine.phase);
        };
        live.next_ping = self.now + ms(60_000);
    }
}

#[test]
fn media_keeps_the_session() {
    let mut rig = Rig::flowing(stalling(Some(3000)));
    for _ in 0..100 {
        rig.now += ms(1400);
        rig.machine_pings();
        rig.give(Input::LastReceived(rig.now));
        assert_eq!(rig.told(Input::Tick), "");
    }
    // Media is heard between ticks: its own time counts.
    rig.now += ms(1000);
    rig.give(Input::LastReceived(rig.now - ms(400)));
    rig.mark();
    assert_eq!(rig.passes(2600), "1100 send, 2600 describe");
}

#[test]
fn old_news_do_not_count() {
    let mut rig = Rig::flowing(stalling(Some(3000)));
    let first = rig.now;
    rig.machine_pings();
    assert_eq!(rig.passes(1500), "1600 send");
    rig.give(Input::LastReceived(first));
    rig.give(Input::LastReceived(first - ms(50)));
    assert_eq!(rig.passes(1500), "3100 describe");
}

#[test]
fn garbage_is_a_sign_of_life() {
    let mut rig = Rig::flowing(stalling(Some(3000)));
    rig.machine_pings();
    rig.run(2900);
    rig.hear_control(server::garbage());
    rig.mark();
    assert_eq!(rig.passes(3000), "1500 send, 3000 describe");
}

#[test]
fn without_a_limit_silence_is_fine() {
    let mut rig = Rig::flowing(stalling(None));
    let out = rig.run(100_000);
    let ping = rig.v1(&ClientMessage::Ping, "");
    assert_eq!(out.len(), 20);
    assert!(out.iter().all(|(_, action)| *action == ping), "{out:?}");
}

#[test]
fn a_server_that_closed_the_session_has_ended_it() {
    let gone = Error::api(Code::NotFound, "no such session").with_status(404);
    let terminal = Error::api(Code::SessionTerminal, "over");
    let over = ["ready", "closing"].map(|state| Ok(descriptor(state, "3.10.0")));
    for result in over.into_iter().chain([Err(gone), Err(terminal)]) {
        let mut rig = checking();
        let out = described(&mut rig, result);
        let expected = [
            Action::Emit(MachineEvent::Ended { reason: None }),
            Action::CloseTransport,
            Action::Emit(MachineEvent::Status(Status::Disconnected)),
        ];
        assert_eq!(out, expected);
    }
}

#[test]
fn a_session_that_is_still_there_was_lost() {
    for state in ["waiting", "streaming", "orphaned"] {
        let out = described(&mut checking(), Ok(descriptor(state, "3.10.0")));
        let mut error = broken();
        error.message = "the SCTP association is gone; the session itself is still there".into();
        assert_eq!(failure(&out), error);
        // It is ours, and would be billed.
        assert_eq!(labels(&out), "error failed end close disconnected");
    }
}

#[test]
fn a_runtime_that_went_down_with_its_model_is_a_failure() {
    let out = described(&mut checking(), Ok(descriptor("terminated", "3.10.0")));
    let error = failure(&out);
    assert_eq!(error.code, broken().code);
    assert!(error.message.contains("terminated"), "{error}");
}

#[test]
fn a_server_out_of_reach_is_a_failure() {
    let out = described(&mut checking(), Err(busy(503, None)));
    let error = failure(&out);
    assert_eq!(error.code, Code::TransportError);
    assert_eq!(error.message, "the SCTP association is gone; answered 503");
    assert_eq!(error.http_status, Some(503));
}

#[test]
fn a_server_that_does_not_say_is_a_failure() {
    let mut rig = checking();
    assert_eq!(rig.passes(999), "");
    let out = rig.run(1);
    assert_eq!(out[0].0, 1000);
    assert_eq!(failure(&actions(out)), broken());
    assert_eq!(
        labels(&described(&mut rig, Ok(descriptor("closing", "3.10.0")))),
        ""
    );
}

#[test]
fn what_is_lost_is_lost_once() {
    let mut rig = checking();
    assert_eq!(rig.told(Input::TransportFailed(network())), "");
    assert_eq!(rig.hear_control(server::session_ended("bye")), []);
    assert_eq!(rig.told(set_paused("main_audio", false)), "");
    assert_eq!(rig.told(Input::Stop), "end close disconnected");
}

#[test]
fn requests_of_a_lost_session_are_answered() {
    let mut rig = Rig::flowing(policy());
    rig.give(request(1, command("go")));
    rig.give(Input::TransportFailed(broken()));
    let out = rig.give(request(2, command("go")));
    assert_eq!(refusals(&out), [(2, Code::Disconnected)]);
    let out = described(&mut rig, Ok(descriptor("streaming", "3.10.0")));
    let text = "the SCTP association is gone; the session itself is still there";
    let replies = replies(&out);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].0, 1);
    assert_eq!(replies[0].1.as_ref().unwrap_err().message, text);
}

#[test]
fn a_session_lost_before_the_wire_is_settled_waits_in_peace() {
    let mut rig = Rig::live(policy());
    rig.run(1900);
    rig.give(Input::TransportFailed(broken()));
    // The end of the patience with v1 falls into this second.
    assert_eq!(rig.passes(999), "");
    assert_eq!(observe(&rig.machine), State::QueryingSession);
    assert_eq!(rig.passes(1), "2900 error failed end close disconnected");
}
