// SPDX-License-Identifier: MIT

//! One line of time through everything that a clip consists of.

use std::time::Duration;

use super::{
    errors::{corrupt, invalid},
    fragment::Sample,
    header::Header,
};
use crate::platform::{Error, track::Kind};

/// More than that between two segments that should adjoin is a hole.
const LARGEST_GAP: i64 = 500_000_000;

/// Nanoseconds from units of a time scale, to the nearest.
pub(super) fn to_ns(ticks: i64, timescale: u32) -> i64 {
    scale(ticks, 1_000_000_000, timescale)
}

/// Units of a time scale from nanoseconds, to the nearest.
pub(super) fn to_ticks(ns: i64, timescale: u32) -> i64 {
    scale(ns, timescale, 1_000_000_000)
}

pub(super) fn scale(value: i64, to: u32, from: u32) -> i64 {
    let (to, from) = (i128::from(to), i128::from(from.max(1)));
    let scaled = (i128::from(value) * to + from / 2).div_euclid(from);
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// Puts segments one after the other, audio and video by the same step.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    tracks: Vec<Line>,
    /// What is added to the times of the current part, in nanoseconds.
    offset: i64,
    /// Where everything so far ends.
    end: i64,
    segments: u64,
    /// How long it should play by the playlist, and how long it does.
    listed: i64,
    played: i64,
    /// Where the first part begins.
    begun: i64,
    /// The length of the last segment of each part, by the playlist: that is
    /// how much shorter the part may be.
    slack: i64,
    last_listed: i64,
}

#[derive(Debug)]
struct Line {
    kind: Kind,
    timescale: u32,
    last: Option<i64>,
    /// Where its samples so far end, by the order of decoding, and where what
    /// they show does, in nanoseconds.
    next: i64,
    end: i64,
}

impl Timeline {
    pub fn new(header: &Header) -> Self {
        let tracks = header.tracks.iter().map(|track| Line {
            kind: track.kind,
            timescale: track.timescale,
            last: None,
            next: 0,
            end: 0,
        });
        Self {
            tracks: tracks.collect(),
            ..Self::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.segments == 0
    }

    /// Brings a segment's samples to their place. `apart`: their times have
    /// nothing to do with those before.
    pub fn place(
        &mut self,
        samples: &mut [Vec<Sample>],
        apart: bool,
        listed: Duration,
    ) -> Result<(), Error> {
        if self.is_empty() || apart {
            self.begin_part(samples);
        }
        self.segments += 1;
        let listed = i64::try_from(listed.as_nanos()).unwrap_or(0);
        self.listed += listed;
        self.last_listed = listed;
        for (line, samples) in self.tracks.iter_mut().zip(samples) {
            let step = to_ticks(self.offset, line.timescale);
            for sample in samples.iter_mut() {
                sample.dts += step;
                sample.pts += step;
                line.follow(sample)?;
                let end = to_ns(sample.pts + sample.duration, line.timescale);
                line.end = line.end.max(end);
            }
        }
        // Audio may go on for a little, which the next part's takes over.
        let ends = self.tracks.iter().filter(|line| line.last.is_some());
        let end = ends.min_by_key(|line| line.kind != Kind::Video);
        self.end = end.map_or(self.end, |line| line.end);
        self.played = self.played.max(self.end - self.begun);
        Ok(())
    }

    /// Where the pictures begin, or the audio, if there are none.
    fn begin(&self, samples: &[Vec<Sample>]) -> i64 {
        let tracks = self.tracks.iter().zip(samples);
        let first = tracks.filter_map(|(line, samples)| {
            let first = samples.iter().map(|s| s.pts).min()?;
            // What is before 0 is an encoder's priming, which nobody hears.
            let first = to_ns(first, line.timescale).max(0);
            Some((line.kind != Kind::Video, first))
        });
        first.min().map_or(0, |(_, first)| first)
    }

    /// The part begins where the one before ended.
    fn begin_part(&mut self, samples: &mut [Vec<Sample>]) {
        let begin = self.begin(samples);
        self.slack += self.last_listed;
        if self.is_empty() {
            self.begun = begin;
            self.end = begin;
            return;
        }
        self.offset = self.end - begin;
        // An encoder that reorders more than the one before decodes earlier.
        let tracks = self.tracks.iter().zip(samples.iter());
        let late = tracks.filter_map(|(line, samples)| {
            let step = to_ticks(self.offset, line.timescale);
            let first = samples.first()?.dts + step;
            let lacks = (line.last? + 1).saturating_sub(first).max(0);
            (line.kind == Kind::Video).then(|| to_ns(lacks, line.timescale))
        });
        self.offset += late.max().unwrap_or(0);
        for (line, samples) in self.tracks.iter_mut().zip(samples) {
            let step = to_ticks(self.offset, line.timescale);
            if line.kind == Kind::Audio {
                // Its frames do not end with the pictures: what is heard
                // already, or was before the part, is left out.
                let from = to_ticks(begin, line.timescale);
                samples.retain(|sample| {
                    sample.pts + sample.duration > from && sample.dts + step + 1 >= line.next
                });
            }
            if let Some(first) = samples.first() {
                line.next = first.dts + step;
            }
        }
    }

    /// What was put together plays as long as the playlist says. A part's
    /// last segment is listed at full length even where it is shorter.
    pub fn check_length(&self) -> Result<(), Error> {
        if self.is_empty() {
            return Err(invalid("the clip has no segments"));
        }
        let allowed = self.slack + self.last_listed;
        if self.listed > 0 && (self.listed - self.played).abs() > allowed {
            let seconds = |ns: i64| ns as f64 / 1e9;
            return Err(corrupt(format!(
                "the segments play for {:.3} s, the playlist says {:.3} s",
                seconds(self.played),
                seconds(self.listed)
            )));
        }
        Ok(())
    }
}

impl Line {
    fn follow(&mut self, sample: &Sample) -> Result<(), Error> {
        let first = self.last.is_none();
        if self.last.is_some_and(|last| sample.dts <= last) {
            let back = to_ns(self.next - sample.dts, self.timescale) as f64 / 1e9;
            return Err(corrupt(format!(
                "the {} goes back by {back:.3} s from one segment to the next",
                self.kind.as_str()
            )));
        }
        let gap = to_ns(sample.dts - self.next, self.timescale);
        if !first && gap > LARGEST_GAP {
            return Err(corrupt(format!(
                "{:.3} s of {} are missing between two segments",
                gap as f64 / 1e9,
                self.kind.as_str()
            )));
        }
        self.last = Some(sample.dts);
        self.next = sample.dts + sample.duration;
        Ok(())
    }
}
