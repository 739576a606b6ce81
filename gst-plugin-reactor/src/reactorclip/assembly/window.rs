// SPDX-License-Identifier: MIT

//! The window of recorded time that a clip is trimmed to, and the result.
//! Values, without a thread of their own.

/// A part of the recorded time, in seconds since the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub start: f64,
    pub end: f64,
}

impl Window {
    pub(super) fn is_valid(&self) -> bool {
        self.start >= 0.0 && self.end > self.start && self.end.is_finite()
    }
}

/// What trimming did.
#[derive(Debug, Clone, PartialEq)]
pub struct TrimResult {
    pub requested: Window,
    /// What the file presents: from and to the frame borders that are nearest
    /// to the requested window, as far as the clip reaches.
    pub kept: Window,
    /// The media that the file holds before it, from the keyframe on, and
    /// after it, and hides with its edit lists.
    pub hidden_before: gst::ClockTime,
    pub hidden_after: gst::ClockTime,
}

impl TrimResult {
    /// The largest distance of a kept border from the requested one.
    pub fn exact_to(&self) -> gst::ClockTime {
        let start = (self.kept.start - self.requested.start).abs();
        let end = (self.kept.end - self.requested.end).abs();
        gst::ClockTime::from_nseconds((start.max(end) * 1e9).round() as u64)
    }
}
