// SPDX-License-Identifier: MIT

//! The bound on received video, at the start and while the session runs.

use super::*;

fn bounded(bitrate: Option<u32>) -> Policy {
    Policy {
        max_receive_bitrate: bitrate,
        ..policy()
    }
}

fn bound(bitrate: Option<u32>) -> Input {
    Input::SetMaxReceiveBitrate(bitrate)
}

#[test]
fn offer_states_bound_on_received_video() {
    for (bitrate, stated) in [(Some(600_000), 1), (None, 0)] {
        let mut harness = Harness::new(bounded(bitrate)).until_preparing();
        let out = harness.prepare();
        let sdp = out.iter().find_map(|action| match action {
            Action::PostOffer { sdp, .. } => Some(sdp),
            _ => None,
        });
        assert_eq!(sdp.unwrap().matches("\r\nb=AS:600\r\n").count(), stated);
    }
}

#[test]
fn bound_within_that_of_the_offer_is_sent_on_the_connection() {
    let mut harness = Harness::resumed(bounded(Some(900_000)));
    for (bitrate, sent) in [(Some(500_000), Some(500_000)), (Some(900_000), None)] {
        let out = harness.handle(bound(bitrate));
        assert_eq!(out, [Action::SetMaxReceiveBitrate(sent)]);
        assert!(harness.handle(bound(bitrate)).is_empty());
    }
}

#[test]
fn bound_that_messages_cannot_state_makes_new_connection() {
    for (offered, bitrate) in [
        (None, Some(499_999)),
        (Some(900_000), None),
        (Some(900_000), Some(900_001)),
    ] {
        let mut harness = Harness::resumed(bounded(offered));
        assert_eq!(harness.handle_labels(bound(bitrate)), "describe");
    }
}

#[test]
fn bound_set_after_the_offer_applies_once_ready() {
    for (bitrate, applied) in [(Some(600_000), "bound"), (Some(400_000), "describe")] {
        let mut harness = Harness::new(policy()).until_connecting();
        assert_eq!(harness.handle_labels(bound(bitrate)), "");
        let out = labels(&harness.connect());
        assert!(out.ends_with(applied), "{out}");
    }
}

fn unbounded() -> Policy {
    Policy {
        ice_servers: false,
        ..policy()
    }
}

fn queue(received: u32) -> Input {
    Input::LinkObserved(LinkState {
        received,
        queued: true,
        capacity: None,
        measured: None,
    })
}

fn room(capacity: Option<u32>) -> Input {
    Input::LinkObserved(LinkState {
        received: 250_000,
        queued: false,
        capacity,
        measured: None,
    })
}

fn measured(capacity: u32) -> Input {
    Input::LinkObserved(LinkState {
        received: 250_000,
        queued: false,
        capacity: None,
        measured: Some(capacity),
    })
}

impl Harness {
    /// The bound and the first estimate in the offer of the next connection in
    /// kbit/s, once that is ready.
    fn next_offer(&mut self) -> (Option<String>, String) {
        self.now += DRAINED;
        let out = self.handle_labels(Input::Tick);
        assert_eq!(out, REPLACED);
        self.offered()
    }

    fn offered(&mut self) -> (Option<String>, String) {
        let out = self.handle(Input::OfferCreated(Ok(local_offer())));
        let sdp = out.iter().find_map(|action| match action {
            Action::PostOffer { sdp, .. } => Some(sdp.clone()),
            _ => None,
        });
        self.poll_answer(ANSWER);
        self.connect();
        let sdp = sdp.unwrap();
        let number = |name: &str| {
            let (_, rest) = sdp.split_once(name)?;
            let digits = rest.chars().take_while(char::is_ascii_digit);
            Some(digits.collect::<String>())
        };
        let start = number("x-google-start-bitrate=").unwrap();
        (number("\r\nb=AS:"), start)
    }

    fn next_bound(&mut self) -> Option<String> {
        self.next_offer().0
    }

    fn observe(&mut self, link: &Input, times: u32) -> String {
        let mut all = Vec::new();
        for _ in 0..times {
            self.now += ms(100);
            all.extend(self.handle(link.clone()));
        }
        labels(&all)
    }

    /// Whether the link is measured after this time, give or take a tenth.
    fn is_measured_after(&mut self, seconds: u32) -> bool {
        let after = (1u32..).find(|_| self.observe(&room(None), 1) == MEASURED);
        after.unwrap().abs_diff(seconds * 10) <= seconds
    }
}

const DRAINED: Duration = Duration::from_millis(60);
const REPLACED: &str = "close interrupted connecting start described build";
/// The video is paused.
const ANEW: &str = "send";
/// The schema is requested.
const MEASURED: &str = "send";

#[test]
fn queue_lowers_bound_at_once_and_again() {
    let mut harness = Harness::resumed(unbounded());
    assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
    // The connection is replaced once.
    assert_eq!(harness.observe(&queue(300_000), 1), "");
    assert_eq!(harness.next_bound().as_deref(), Some("300"));
    assert_eq!(harness.observe(&queue(380_000), 1), ANEW);
    assert_eq!(harness.next_bound().as_deref(), Some("225"));
    // The user's own bound is the upper limit.
    let mut harness = Harness::resumed(Policy {
        max_receive_bitrate: Some(200_000),
        ..unbounded()
    });
    assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
    assert_eq!(harness.next_bound().as_deref(), Some("150"));
}

#[test]
fn queue_that_server_can_lower_changes_nothing() {
    let mut harness = Harness::resumed(unbounded());
    for _ in 0..10 {
        assert_eq!(harness.observe(&queue(700_000), 10), "");
        assert_eq!(harness.observe(&room(Some(100_000_000)), 10), "");
    }
    assert_eq!(harness.observe(&measured(100_000_000), 10), "");
}

#[test]
fn queue_that_server_does_not_lower_is_bounded_by_messages() {
    let bounded = |bitrate| vec![Action::SetMaxReceiveBitrate(bitrate)];
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&queue(1_000_000), 10);
    harness.now += ms(100);
    assert_eq!(harness.handle(queue(1_000_000)), bounded(Some(850_000)));
    // It takes a while.
    assert_eq!(harness.observe(&queue(900_000), 9), "");
    assert_eq!(harness.observe(&queue(700_000), 2), "bound");
    // The user's own bound is kept.
    assert_eq!(harness.handle(bound(Some(520_000))), bounded(Some(520_000)));
    assert_eq!(harness.handle(bound(None)), bounded(Some(595_000)));
    let sending = Input::LinkObserved(LinkState {
        received: 600_000,
        queued: false,
        capacity: None,
        measured: None,
    });
    harness.now += ms(2000);
    assert_eq!(harness.handle(sending.clone()), bounded(Some(743_750)));
    assert_eq!(harness.observe(&sending, 19), "");
    harness.now += ms(100);
    assert_eq!(harness.handle(sending.clone()), bounded(Some(929_687)));
    harness.now += ms(2000);
    assert_eq!(harness.handle(sending.clone()), bounded(Some(1_162_108)));
    harness.now += ms(2000);
    assert_eq!(harness.handle(sending.clone()), bounded(Some(1_452_635)));
    harness.now += ms(2000);
    // The server does not send that much.
    assert_eq!(harness.handle(sending.clone()), bounded(None));
    assert_eq!(harness.observe(&sending, 100), "");
}

#[test]
fn connection_is_replaced_once_the_queue_is_gone() {
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&queue(400_000), 1);
    let begin = harness.now;
    // Packets arrive that the server sent before the pause message reached it.
    while harness.now < begin + ms(500) {
        let at = harness.machine.deadline().unwrap();
        assert!(at <= harness.now + DRAINED);
        harness.handle(Input::LastArrival(at - ms(30)));
        harness.now = at;
        assert_eq!(harness.handle_labels(Input::Tick), "");
    }
    harness.now += DRAINED;
    assert_eq!(harness.handle_labels(Input::Tick), REPLACED);
    // It is not waited for without end.
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&queue(400_000), 1);
    harness.now += ms(1000);
    harness.handle(Input::LastArrival(harness.now));
    assert_eq!(harness.handle_labels(Input::Tick), REPLACED);
    // A connection that is lost meanwhile has the new bound, too.
    let mut harness = Harness::resumed(Policy {
        reconnect: true,
        ..unbounded()
    });
    harness.observe(&queue(400_000), 1);
    harness.handle(Input::TransportFailed(broken()));
    harness.handle(Input::SessionDescribed(Ok(descriptor(
        "streaming",
        "3.10.0",
    ))));
    assert_eq!(harness.offered().0.as_deref(), Some("300"));
    harness.now += ms(1000);
    assert!(!harness.handle_labels(Input::Tick).contains("close"));
}

#[test]
fn narrow_link_is_bounded_before_any_media_flows() {
    let mut harness = Harness::ready(unbounded());
    assert_eq!(harness.observe(&measured(600_000), 1), "");
    assert_eq!(harness.observe(&measured(400_000), 1), "");
    // The message that shows it is complete.
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(labels(&out), format!("runtime {REPLACED}"));
    assert_eq!(harness.offered(), (Some("300".into()), "500".into()));
    // If its end is lost, after the limit for resuming the tracks.
    let mut harness = Harness::ready(unbounded());
    harness.observe(&measured(400_000), 1);
    harness.now += ms(400);
    assert_eq!(harness.handle_labels(Input::Tick), REPLACED);
    // The user's own bound is low enough.
    let mut harness = Harness::ready(Policy {
        max_receive_bitrate: Some(300_000),
        ..unbounded()
    });
    assert_eq!(harness.observe(&measured(400_000), 1), "");
    let out = harness.receive_control(server::schema("ctrl_1"));
    assert_eq!(labels(&out), "send runtime");
    // What comes later shows what else the link carries at that time.
    let mut harness = Harness::resumed(unbounded());
    harness.now += ms(4000);
    assert_eq!(harness.observe(&measured(400_000), 10), "");
}

#[test]
fn link_that_is_measured_to_carry_more_is_not_bounded() {
    let mut harness = Harness::ready(unbounded());
    harness.observe(&measured(400_000), 1);
    harness.receive_control(server::schema("ctrl_1"));
    harness.offered();
    // Narrow from the start: seldom.
    for seconds in [2, 2, 4, 8, 16, 30, 30] {
        assert!(harness.is_measured_after(seconds), "{seconds}");
        // Its message is a queue of its own.
        assert_eq!(harness.observe(&measured(420_000), 1), "");
        assert_eq!(harness.observe(&queue(330_000), 1), "");
        harness.now -= ms(200);
    }
    // One measurement is not enough.
    assert!(harness.is_measured_after(30));
    assert_eq!(harness.observe(&measured(6_000_000), 1), "");
    assert_eq!(harness.observe(&room(None), 1), MEASURED);
    assert_eq!(harness.observe(&measured(400_000), 1), "");
    assert!(harness.is_measured_after(30));
    assert_eq!(harness.observe(&measured(6_000_000), 1), "");
    assert_eq!(harness.observe(&room(None), 1), MEASURED);
    assert_eq!(harness.observe(&measured(6_000_000), 1), ANEW);
    assert_eq!(harness.next_offer(), (None, "2000".into()));
    // It was wrong: later the next time.
    assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
    assert_eq!(harness.next_bound().as_deref(), Some("300"));
    assert!(harness.is_measured_after(24));
}

/// What an action says of the link's capacity.
fn remembered(actions: &[Action]) -> Option<Option<u32>> {
    actions.iter().find_map(|action| match action {
        Action::RememberLinkCapacity(capacity) => Some(*capacity),
        _ => None,
    })
}

#[test]
fn connection_begins_with_what_the_link_carried_lately() {
    let mut harness = Harness::ready(unbounded());
    let out = harness.handle(measured(6_000_000));
    assert_eq!(remembered(&out), Some(Some(6_000_000)));
    assert_eq!(remembered(&harness.handle(measured(6_000_000))), None);
    let known = || {
        let mut harness = Harness::new(unbounded());
        harness.machine.set_link_capacity(Some(6_000_000));
        harness
    };
    let out = known().until_preparing().prepare();
    let states_it = |action: &Action| match action {
        Action::PostOffer { sdp, .. } => sdp.contains("x-google-start-bitrate=2000"),
        _ => false,
    };
    assert!(out.iter().any(states_it));
    // A queue shows that it is another link now.
    let mut harness = known().until_resumed();
    assert_eq!(remembered(&harness.handle(queue(400_000))), Some(None));
    // So may a loss.
    let mut harness = known().until_resumed();
    let out = harness.handle(Input::TransportFailed(Error::gpu(
        Code::TransportError,
        "lost",
    )));
    assert_eq!(remembered(&out), Some(None));
}

#[test]
fn link_that_was_wide_is_measured_often() {
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&measured(50_000_000), 1);
    harness.now += ms(4000);
    harness.observe(&queue(400_000), 1);
    harness.next_bound();
    for _ in 0..4 {
        assert!(harness.is_measured_after(2));
        harness.observe(&measured(400_000), 1);
        harness.now -= ms(100);
    }
    // The packets of frames show that it would be in vain.
    assert_eq!(harness.observe(&room(Some(430_000)), 300), "");
    // Somewhat more: another bound.
    assert_eq!(harness.observe(&room(None), 1), MEASURED);
    harness.observe(&measured(560_000), 1);
    assert_eq!(harness.observe(&room(None), 1), MEASURED);
    assert_eq!(harness.observe(&measured(560_000), 1), ANEW);
    assert_eq!(harness.next_bound().as_deref(), Some("420"));
}

#[test]
fn bound_that_cannot_be_measured_is_lifted_after_a_while() {
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&queue(400_000), 1);
    harness.next_bound();
    for seconds in [12, 24, 48] {
        // Its packets show that the link carries no more.
        let mut waited = 0;
        while waited < seconds * 10 - 20 {
            assert_eq!(harness.observe(&room(None), 1), "");
            waited += 1;
        }
        harness.observe(&room(Some(400_000)), 30);
        assert_eq!(harness.observe(&room(Some(900_000)), 1), ANEW);
        assert_eq!(harness.next_bound(), None);
        // It was wrong.
        assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
        assert_eq!(harness.next_bound().as_deref(), Some("300"));
    }
}
