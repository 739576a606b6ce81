// SPDX-License-Identifier: MIT

//! What an element counts of one track's frames: rate, size, drops, freezes, and
//! the decoder or encoder. Streaming threads count, any thread reads; the lock is
//! held for an assignment.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::platform::lock;

/// The frame rate is that of a window of at least this length.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// A rate that is older than this is 0: no frames come.
const RATE_VALIDITY: Duration = Duration::from_millis(2500);
/// W3C webrtc-stats, `freezeCount`: the average is that of the last 30 frames, and a
/// freeze is as long as three of it and longer than it by 150 ms, or more.
const FREEZE_FRAMES: usize = 30;
const FREEZE_FACTOR: u32 = 3;
const FREEZE_MARGIN: Duration = Duration::from_millis(150);

#[derive(Debug, Default)]
pub struct FrameCounters {
    dropped: AtomicU64,
    state: Mutex<State>,
}

/// What the counters show; cumulative ones since the element started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrameStatistics {
    pub frames: u64,
    pub dropped: u64,
    pub frames_per_second: f64,
    /// In pixels, if known.
    pub size: Option<(u32, u32)>,
    pub freeze_count: u64,
    pub total_freezes_duration: Duration,
    pub codec: Option<CodecImplementation>,
}

/// The element that decodes or encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecImplementation {
    /// Of its factory.
    pub name: String,
    pub is_hardware: bool,
}

impl CodecImplementation {
    pub fn of(factory: &gst::ElementFactory) -> Self {
        use gst::prelude::*;
        let klass = factory.metadata("klass").unwrap_or_default();
        Self {
            name: factory.name().to_string(),
            is_hardware: klass.contains("Hardware"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    frames: u64,
    size: Option<(u32, u32)>,
    window: Option<(Instant, u64)>,
    /// Frames per second, and when that was counted.
    rate: Option<(f64, Instant)>,
    freezes: Freezes,
    codec: Option<CodecImplementation>,
}

/// Times are running times, which stop while the element is paused.
#[derive(Debug, Default)]
struct Freezes {
    previous: Option<Duration>,
    /// The last [`FREEZE_FRAMES`] times between frames, and their sum.
    intervals: VecDeque<Duration>,
    sum: Duration,
    count: u64,
    duration: Duration,
}

impl Freezes {
    fn record(&mut self, now: Duration) {
        let Some(previous) = self.previous.replace(now) else {
            return;
        };
        let interval = now.saturating_sub(previous);
        if let Some(average) = self.average()
            && interval >= (average * FREEZE_FACTOR).max(average + FREEZE_MARGIN)
        {
            self.count += 1;
            self.duration += interval;
        }
        if self.intervals.len() == FREEZE_FRAMES {
            self.sum -= self.intervals.pop_front().unwrap_or_default();
        }
        self.intervals.push_back(interval);
        self.sum += interval;
    }

    fn average(&self) -> Option<Duration> {
        let count = u32::try_from(self.intervals.len()).ok()?;
        self.sum.checked_div(count)
    }
}

impl FrameCounters {
    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a frame; `running_time` is that of its arrival, if it is one of
    /// those whose freezes count.
    pub fn record_frame(&self, now: Instant, running_time: Option<Duration>) {
        let mut state = lock(&self.state);
        state.frames += 1;
        let (since, count) = state.window.get_or_insert((now, 0));
        let elapsed = now.saturating_duration_since(*since);
        if elapsed >= RATE_WINDOW {
            let rate = *count as f64 / elapsed.as_secs_f64();
            state.window = Some((now, 1));
            state.rate = Some((rate, now));
        } else {
            *count += 1;
        }
        if let Some(running_time) = running_time {
            state.freezes.record(running_time);
        }
    }

    /// The next frame follows on none: the time until then was no freeze.
    pub fn begin_anew(&self) {
        lock(&self.state).freezes.previous = None;
    }

    /// In pixels.
    pub fn set_size(&self, width: u32, height: u32) {
        lock(&self.state).size = Some((width, height));
    }

    pub fn set_codec(&self, codec: Option<CodecImplementation>) {
        lock(&self.state).codec = codec;
    }

    pub fn read(&self, now: Instant) -> FrameStatistics {
        let state = lock(&self.state);
        let rate = state
            .rate
            .filter(|(_, at)| now.saturating_duration_since(*at) < RATE_VALIDITY);
        FrameStatistics {
            frames: state.frames,
            dropped: self.dropped.load(Ordering::Relaxed),
            frames_per_second: rate.map_or(0.0, |(rate, _)| rate),
            size: state.size,
            freeze_count: state.freezes.count,
            total_freezes_duration: state.freezes.duration,
            codec: state.codec.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(40);

    fn record(counters: &FrameCounters, start: Instant, from: u32, to: u32) {
        for frame in from..to {
            counters.record_frame(start + FRAME * frame, Some(FRAME * frame));
        }
    }

    #[test]
    fn rate_is_that_of_last_second_and_ends_with_frames() {
        let (counters, start) = (FrameCounters::default(), Instant::now());
        record(&counters, start, 0, 51);
        let at = start + FRAME * 51;
        let statistics = counters.read(at);
        assert_eq!(statistics.frames, 51);
        assert!((statistics.frames_per_second - 25.0).abs() < 0.01);
        let later = counters.read(at + Duration::from_secs(3));
        assert!(later.frames_per_second.abs() < 0.01);
    }

    #[test]
    fn long_interval_is_freeze_unless_begun_anew() {
        let (counters, start) = (FrameCounters::default(), Instant::now());
        record(&counters, start, 0, 30);
        // 160 ms is not 150 ms more than 40.
        record(&counters, start, 33, 60);
        assert_eq!(counters.read(start).freeze_count, 0);
        record(&counters, start, 84, 90);
        let statistics = counters.read(start);
        assert_eq!(statistics.freeze_count, 1);
        assert_eq!(statistics.total_freezes_duration, FRAME * 25);
        counters.begin_anew();
        record(&counters, start, 200, 210);
        assert_eq!(counters.read(start).freeze_count, 1);
    }

    /// A freeze counts in the average for as long as it is among the last 30.
    #[test]
    fn freeze_is_forgotten_after_thirty_frames() {
        let freezes = |between: u32| {
            let mut freezes = Freezes::default();
            let mut now = Duration::ZERO;
            let mut record = |interval| {
                now += interval;
                freezes.record(now);
            };
            (0..31).for_each(|_| record(FRAME));
            record(Duration::from_secs(6));
            (0..between).for_each(|_| record(FRAME));
            record(Duration::from_millis(250));
            freezes.count
        };
        // The average was 240 ms.
        assert_eq!(freezes(29), 1);
        assert_eq!(freezes(30), 2);
    }

    #[test]
    fn interval_at_the_limit_is_freeze() {
        let mut freezes = Freezes::default();
        freezes.record(Duration::ZERO);
        freezes.record(FRAME);
        freezes.record(FRAME * 2 + FREEZE_MARGIN);
        assert_eq!(freezes.count, 1);
    }
}
