// SPDX-License-Identifier: MIT

use super::*;

#[test]
fn pads_at_different_positions_keep_to_the_rate() {
    let mut automation = Automation::default();
    let mut followed = Vec::new();
    // Video, and sound that is 300 ms ahead.
    for n in 0..300 {
        for position in [n * 10, n * 10 + 300] {
            if automation.follows(gst::ClockTime::from_mseconds(position), 5) {
                followed.push(position);
            }
        }
    }
    assert!(followed.is_sorted(), "{followed:?}");
    assert!((15..=17).contains(&followed.len()), "{followed:?}");
    // A seek to the beginning.
    assert!(!automation.follows(gst::ClockTime::ZERO, 5));
    automation.last = None;
    assert!(automation.follows(gst::ClockTime::ZERO, 5));
}
