// SPDX-License-Identifier: MIT

//! When a stream has a gap, and the times of the GAP events that stand for it. Pure arithmetic.
//!
//! Downstream waits for a unit until the reported latency after its time. A unit that comes until
//! then is in time, so no event may stand for it; an event that comes later is of no use to a live
//! aggregator or sink.

/// When nothing comes for this time there is a gap, whatever the reason. It is
/// longer than jitter, and than the pauses of a slow model.
const GAP_THRESHOLD: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// A lost packet is waited for as long as the latency. What was received meanwhile comes this much
/// later at most, on a busy machine.
const RELEASE_TIME: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// GAP events end this long before now at least, because the next unit may be a little
/// older than now.
const GAP_MARGIN: gst::ClockTime = gst::ClockTime::from_mseconds(40);
/// GAP events end this much later than what downstream waits for: a picture in their place is made
/// once all its time is known (33 ms), and they come every 20 ms, on a busy machine later.
const GAP_LEAD: gst::ClockTime = gst::ClockTime::from_mseconds(80);

/// Up to when a GAP event from `start`, the end of what came last, is due at `now`; `None` if none
/// is. A gap that is known (`is_known`) does not have to last for the threshold.
pub fn gap_end(
    start: gst::ClockTime,
    now: gst::ClockTime,
    latency: gst::ClockTime,
    is_known: bool,
) -> Option<gst::ClockTime> {
    let threshold = GAP_THRESHOLD.max(latency + RELEASE_TIME);
    if !is_known && now < start + threshold {
        return None;
    }
    let margin = GAP_MARGIN.max(latency.saturating_sub(GAP_LEAD));
    Some(now.saturating_sub(margin)).filter(|end| *end > start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    #[test]
    fn gap_of_short_latency_begins_after_threshold() {
        for latency in [ms(10), ms(60)] {
            assert_eq!(gap_end(ms(1000), ms(1499), latency, false), None);
            assert_eq!(gap_end(ms(1000), ms(1500), latency, false), Some(ms(1460)));
            assert_eq!(gap_end(ms(1000), ms(1040), latency, true), None);
            assert_eq!(gap_end(ms(1000), ms(1060), latency, true), Some(ms(1020)));
        }
        assert_eq!(gap_end(ms(0), ms(20), ms(60), true), None);
    }

    /// A packet is lost, and those after it are released once it has been waited for.
    #[test]
    fn what_comes_within_the_latency_is_in_no_gap() {
        let (end, latency) = (ms(5000), ms(1000));
        for waited in 0..=1000 {
            assert_eq!(gap_end(end, end + ms(waited), latency, false), None);
        }
        // At 1100 ms downstream still waits for units of 100 ms; the GAP event ends 80 ms later.
        let first = gap_end(end, end + ms(1100), latency, false);
        assert_eq!(first, Some(end + ms(180)));
        let next = gap_end(end + ms(180), end + ms(1120), latency, true);
        assert_eq!(next, Some(end + ms(200)));
    }
}
