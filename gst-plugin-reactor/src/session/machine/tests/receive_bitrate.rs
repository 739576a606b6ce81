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
    })
}

fn room(capacity: Option<u32>) -> Input {
    Input::LinkObserved(LinkState {
        received: 250_000,
        queued: false,
        capacity,
    })
}

impl Harness {
    /// The bound in the offer of the next connection, once that is ready.
    fn offered_bound(&mut self) -> Option<String> {
        self.now += ms(200);
        let out = self.handle_labels(Input::Tick);
        assert_eq!(out, "close interrupted connecting start described build");
        let out = self.handle(Input::OfferCreated(Ok(local_offer())));
        let sdp = out.iter().find_map(|action| match action {
            Action::PostOffer { sdp, .. } => Some(sdp.clone()),
            _ => None,
        });
        self.poll_answer(ANSWER);
        self.connect();
        let sdp = sdp.unwrap();
        let mut lines = sdp.lines();
        lines.find_map(|line| line.strip_prefix("b=AS:").map(str::to_owned))
    }

    fn observe(&mut self, link: &Input, times: u32) -> String {
        let mut all = Vec::new();
        for _ in 0..times {
            self.now += ms(100);
            all.extend(self.handle(link.clone()));
        }
        labels(&all)
    }
}

/// The video is paused.
const ANEW: &str = "send";

#[test]
fn queue_of_new_connection_lowers_bound_at_once_and_again() {
    let mut harness = Harness::resumed(unbounded());
    assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
    // The connection is replaced once.
    assert_eq!(harness.observe(&queue(300_000), 1), "");
    assert_eq!(harness.offered_bound().as_deref(), Some("300"));
    assert_eq!(harness.observe(&queue(380_000), 1), ANEW);
    assert_eq!(harness.offered_bound().as_deref(), Some("225"));
    // The user's own bound is the upper limit.
    let mut harness = Harness::resumed(Policy {
        max_receive_bitrate: Some(200_000),
        ..unbounded()
    });
    assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
    assert_eq!(harness.offered_bound().as_deref(), Some("150"));
}

#[test]
fn queue_that_server_can_lower_or_that_is_short_changes_nothing() {
    let mut harness = Harness::resumed(unbounded());
    assert_eq!(harness.observe(&queue(700_000), 30), "");
    harness.observe(&room(None), 20);
    // A queue for a moment, now and then.
    for _ in 0..20 {
        assert_eq!(harness.observe(&queue(400_000), 2), "");
        assert_eq!(harness.observe(&room(Some(400_000)), 1), "");
    }
    assert_eq!(harness.observe(&queue(400_000), 3), ANEW);
    let mut harness = Harness::resumed(unbounded());
    assert_eq!(harness.observe(&room(Some(100_000_000)), 10), "");
}

#[test]
fn bound_is_lifted_after_a_while_and_later_if_that_was_wrong() {
    let mut harness = Harness::resumed(unbounded());
    harness.observe(&queue(400_000), 1);
    harness.offered_bound();
    for seconds in [12, 24, 48] {
        // Its packets show that the link carries no more.
        let mut waited = 0;
        while waited < seconds * 10 - 20 {
            assert_eq!(harness.observe(&room(None), 1), "");
            waited += 1;
        }
        harness.observe(&room(Some(400_000)), 30);
        assert_eq!(harness.observe(&room(Some(900_000)), 1), ANEW);
        assert_eq!(harness.offered_bound(), None);
        // It was wrong.
        assert_eq!(harness.observe(&queue(400_000), 1), ANEW);
        assert_eq!(harness.offered_bound().as_deref(), Some("300"));
    }
}
