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
