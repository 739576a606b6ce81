// SPDX-License-Identifier: MIT

//! Tells times of another clock from jitter: GstPipeline (1.22) begins its running time anew
//! after a flushing seek of any branch, while this element plays on. And has decoders take them.

use gst::prelude::*;

/// A time that is before the previous one by more than this has another clock.
const MIN_CLOCK_STEP: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// Whether `time` is of another clock than `last`, the time before it.
pub fn is_clock_step(last: gst::ClockTime, time: gst::ClockTime) -> bool {
    last.saturating_sub(time) > MIN_CLOCK_STEP
}

/// The name of [`event`]'s structure.
const NAME: &str = "reactor-clock-step";

/// What an appsrc sends between the units of two clocks, to its own pad: see
/// [`replace_event`].
pub fn event() -> gst::Event {
    gst::event::CustomDownstream::new(gst::Structure::new_empty(NAME))
}

/// Replaces it by the pad's segment: within one, GstVideoDecoder (1.22) never lets timestamps
/// go back.
pub fn replace_event(pad: &gst::Pad, event: &mut gst::Event) {
    if event.has_name(NAME)
        && let Some(segment) = pad.sticky_event::<gst::event::Segment>(0)
    {
        *event = gst::event::Segment::new(segment.segment());
    }
}
