// SPDX-License-Identifier: MIT

//! Between the transport's clock and an element's running time.

use gst::prelude::*;

use crate::session::bridge_clock;

/// A foreign clock's offset that jumps by more than this has been changed,
/// not measured with jitter.
const JUMP: i64 = 100_000_000;
/// Weight of a new measurement of the offset, as 1/n.
const SMOOTHING: i64 = 32;

/// The element clock's offset from the system clock, measured anew with every
/// buffer and smoothed: the two drift apart when a sound card gives the time.
#[derive(Debug, Default)]
pub struct ClockBridge {
    offset: Option<i64>,
}

impl ClockBridge {
    /// The running time at which something with this absolute system time
    /// stands, or `None` if it is from before the element's time.
    pub fn running_time(
        &mut self,
        element: &gst::Element,
        time: gst::ClockTime,
    ) -> Option<gst::ClockTime> {
        let (offset, base) = self.offset(element)?;
        let absolute = time.nseconds().checked_add_signed(offset)?;
        absolute
            .checked_sub(base.nseconds())
            .map(gst::ClockTime::from_nseconds)
    }

    /// The absolute system time at which this running time of the element's
    /// stands.
    pub fn bridge_time(
        &mut self,
        element: &gst::Element,
        running: gst::ClockTime,
    ) -> Option<gst::ClockTime> {
        let (offset, base) = self.offset(element)?;
        let absolute = (base + running).nseconds().checked_sub_signed(offset)?;
        Some(gst::ClockTime::from_nseconds(absolute))
    }

    /// The element clock's lead over the system's, and the base time.
    fn offset(&mut self, element: &gst::Element) -> Option<(i64, gst::ClockTime)> {
        let clock = element.clock()?;
        let base = element.base_time()?;
        let bridge = bridge_clock();
        if clock == bridge {
            return Some((0, base));
        }
        let difference = clock.time().nseconds() as i64 - bridge.time().nseconds() as i64;
        Some((self.smooth(difference), base))
    }

    fn smooth(&mut self, measured: i64) -> i64 {
        let offset = match self.offset {
            Some(old) if (measured - old).abs() < JUMP => old + (measured - old) / SMOOTHING,
            _ => measured,
        };
        self.offset = Some(offset);
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_followed_and_a_jump_taken_at_once() {
        let mut timing = ClockBridge::default();
        assert_eq!(timing.smooth(1_000_000), 1_000_000);
        // Jitter is damped.
        assert_eq!(timing.smooth(1_320_000), 1_010_000);
        // A steady drift is reached.
        for _ in 0..1000 {
            timing.smooth(2_000_000);
        }
        assert!((timing.smooth(2_000_000) - 2_000_000).abs() < 100);
        assert_eq!(timing.smooth(5_000_000_000), 5_000_000_000);
    }
}
