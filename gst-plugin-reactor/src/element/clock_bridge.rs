// SPDX-License-Identifier: MIT

//! [`ClockBridge`]: converts between the transport's clock, which is the system
//! clock, and an element's running time. Called by streaming threads for each
//! buffer; never changes a clock.

use gst::prelude::*;

use crate::session::bridge_clock;

/// Nanoseconds. An offset that differs by more is a change of the foreign
/// clock, not jitter of the measurement.
const MAX_JITTER: i64 = 100_000_000;
/// Weight of a new measurement of the offset, as 1/n.
const SMOOTHING: i64 = 32;

/// The offset of the element's clock from the system clock, in nanoseconds,
/// measured at each buffer and smoothed: a sound card's clock drifts from it.
#[derive(Debug, Default)]
pub struct ClockBridge {
    offset: Option<i64>,
}

impl ClockBridge {
    /// The element's running time at this absolute system time; `None` before
    /// the element's base time, or without a clock.
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

    /// The absolute system time at this running time of the element.
    pub fn bridge_time(
        &mut self,
        element: &gst::Element,
        running: gst::ClockTime,
    ) -> Option<gst::ClockTime> {
        let (offset, base) = self.offset(element)?;
        let absolute = (base + running).nseconds().checked_sub_signed(offset)?;
        Some(gst::ClockTime::from_nseconds(absolute))
    }

    /// The offset of the element's clock from the system clock, and the
    /// element's base time.
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
            Some(old) if (measured - old).abs() < MAX_JITTER => old + (measured - old) / SMOOTHING,
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
    fn offset_follows_drift_smoothly_and_jump_at_once() {
        let mut bridge = ClockBridge::default();
        assert_eq!(bridge.smooth(1_000_000), 1_000_000);
        // Jitter is smoothed.
        assert_eq!(bridge.smooth(1_320_000), 1_010_000);
        // A steady drift is followed.
        for _ in 0..1000 {
            bridge.smooth(2_000_000);
        }
        assert!((bridge.smooth(2_000_000) - 2_000_000).abs() < 100);
        assert_eq!(bridge.smooth(5_000_000_000), 5_000_000_000);
    }
}
