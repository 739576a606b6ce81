// SPDX-License-Identifier: MIT

//! Tells times of another clock from jitter: GstPipeline (1.22) begins its running time anew
//! after a flushing seek of any branch, while this element plays on. Pure arithmetic.

/// A time that is before the previous one by more than this has another clock.
const MIN_CLOCK_STEP: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// Whether `time` is of another clock than `last`, the time before it.
pub fn is_clock_step(last: gst::ClockTime, time: gst::ClockTime) -> bool {
    last.saturating_sub(time) > MIN_CLOCK_STEP
}
