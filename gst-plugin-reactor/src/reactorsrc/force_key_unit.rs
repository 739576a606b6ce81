// SPDX-License-Identifier: MIT

//! What downstream asks by force-key-unit events: a keyframe at once, or once the
//! stream is at a running time, as splitmuxsink and hlssink2 do for the beginning
//! of their next file. A probe on the streaming thread of a pad; it never waits.

use std::{collections::BTreeSet, sync::Mutex};

use gst::prelude::*;

use crate::{element::lock, gst_helpers::running_time};

/// The running times at which keyframes are to be requested. splitmuxsink 1.22 has
/// one at a time; those beyond are dropped.
const MAX_WAITING: usize = 16;

#[derive(Debug, Default)]
struct Schedule(BTreeSet<gst::ClockTime>);

impl Schedule {
    /// Has a keyframe requested once the stream is there; false if too many wait.
    fn add(&mut self, time: gst::ClockTime) -> bool {
        let is_accepted = self.0.len() < MAX_WAITING || self.0.contains(&time);
        if is_accepted {
            self.0.insert(time);
        }
        is_accepted
    }

    /// Whether a keyframe is due for a stream that is at `now`. One does for all that are.
    fn take_due(&mut self, now: gst::ClockTime) -> bool {
        let waiting = self.0.len();
        self.0.retain(|time| *time > now);
        self.0.len() < waiting
    }
}

/// Calls `request` for each keyframe that the events which pass `src` upstream ask for, and ends
/// these events here.
pub fn watch(src: &gst::Pad, request: impl Fn() + Send + Sync + 'static) {
    let schedule = Mutex::new(Schedule::default());
    let mask = gst::PadProbeType::EVENT_UPSTREAM | gst::PadProbeType::BUFFER;
    src.add_probe(mask, move |src, info| match &info.data {
        Some(gst::PadProbeData::Event(event)) => {
            let Ok(asked) = gst_video::UpstreamForceKeyUnitEvent::parse(event) else {
                return gst::PadProbeReturn::Ok;
            };
            match asked.running_time {
                Some(time) if is_ahead(src, time) => {
                    lock(&schedule).add(time);
                }
                _ => request(),
            }
            gst::PadProbeReturn::Handled
        }
        Some(gst::PadProbeData::Buffer(buffer)) => {
            let mut schedule = lock(&schedule);
            if !schedule.0.is_empty()
                && let Some(now) = running_time(src, buffer.pts())
                && schedule.take_due(now)
            {
                drop(schedule);
                request();
            }
            gst::PadProbeReturn::Ok
        }
        _ => gst::PadProbeReturn::Ok,
    });
}

/// Whether the element is not at this running time yet.
fn is_ahead(src: &gst::Pad, time: gst::ClockTime) -> bool {
    let element = src.parent_element();
    element.and_then(|element| element.current_running_time()) < Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_keyframe_does_for_all_that_are_due() {
        let mut schedule = Schedule::default();
        let seconds = gst::ClockTime::from_seconds;
        for time in [4, 2, 3, 3] {
            assert!(schedule.add(seconds(time)));
        }
        assert!(!schedule.take_due(seconds(1)));
        assert!(schedule.take_due(seconds(3)));
        assert!(!schedule.take_due(seconds(3)));
        assert!(schedule.take_due(seconds(5)));
        assert!(schedule.0.is_empty());
    }

    #[test]
    fn number_that_waits_is_bounded() {
        let mut schedule = Schedule::default();
        let accepted = (0..100).filter(|n| schedule.add(gst::ClockTime::from_seconds(*n)));
        assert_eq!(accepted.count(), MAX_WAITING);
        // One that waits already is no further one.
        assert!(schedule.add(gst::ClockTime::from_seconds(0)));
    }
}
