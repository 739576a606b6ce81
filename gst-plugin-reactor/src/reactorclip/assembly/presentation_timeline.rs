// SPDX-License-Identifier: MIT

//! Puts the segments of a clip on one presentation timeline, across
//! discontinuities. Called by the thread of the clip's job; never changes the
//! distance of audio and video within a segment.

use std::time::Duration;

use super::{
    errors::{corrupt, invalid},
    fragment::Sample,
    init_section::InitSection,
    timescale::{MAX_NS, is_plausible, to_ns, to_ticks},
};
use crate::platform::{Error, track::Kind};

/// The largest gap between two segments that should adjoin, in nanoseconds.
const MAX_GAP: i64 = 500_000_000;

/// The segments so far. Those between two discontinuities are a part; all
/// samples of a part are moved by one offset.
#[derive(Debug, Default)]
pub(super) struct PresentationTimeline {
    tracks: Vec<TrackTimeline>,
    /// What is added to the times of the current part, in nanoseconds, as are
    /// the other times here.
    offset: i64,
    /// Where the segments so far end.
    end: i64,
    segments: u64,
    /// The duration by the playlist, and by the samples.
    playlist_duration: i64,
    media_duration: i64,
    /// Where the first part begins.
    begin: i64,
    /// The sum of the durations of the last segment of each part, by the
    /// playlist: a part may be shorter by that.
    tolerance: i64,
    last_duration: i64,
}

#[derive(Debug)]
struct TrackTimeline {
    kind: Kind,
    timescale: u32,
    /// The DTS of the last sample, and where it ends in decoding order, in
    /// units of the time scale.
    last_dts: Option<i64>,
    next_dts: i64,
    /// Where the samples end in presentation order, in nanoseconds.
    end: i64,
}

impl PresentationTimeline {
    pub fn new(init_section: &InitSection) -> Self {
        let tracks = init_section.tracks.iter().map(|track| TrackTimeline {
            kind: track.kind,
            timescale: track.timescale,
            last_dts: None,
            next_dts: 0,
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

    /// Moves a segment's samples to their place. With a `discontinuity` their
    /// times are unrelated to those before. `duration` is the playlist's.
    pub fn append(
        &mut self,
        samples: &mut [Vec<Sample>],
        discontinuity: bool,
        duration: Duration,
    ) -> Result<(), Error> {
        if self.is_empty() || discontinuity {
            self.begin_part(samples);
        }
        self.segments += 1;
        self.last_duration = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        self.playlist_duration = self.playlist_duration.saturating_add(self.last_duration);
        for (track, samples) in self.tracks.iter_mut().zip(samples) {
            let offset = to_ticks(self.offset, track.timescale);
            if !is_plausible(offset, track.timescale) {
                return Err(endless());
            }
            for sample in samples.iter_mut() {
                sample.dts += offset;
                sample.pts += offset;
                track.check_follows(sample)?;
                let end = to_ns(sample.pts + sample.duration, track.timescale);
                track.end = track.end.max(end);
            }
        }
        // The end of the video counts, if there is any: audio beyond it overlaps
        // with that of the next part, which is cut.
        let ends = self.tracks.iter().filter(|track| track.last_dts.is_some());
        let end = ends.min_by_key(|track| track.kind != Kind::Video);
        self.end = end.map_or(self.end, |track| track.end);
        if self.end > MAX_NS {
            return Err(endless());
        }
        self.media_duration = self.media_duration.max(self.end - self.begin);
        Ok(())
    }

    /// Where the video begins, or the audio, if there is no video.
    fn begin_of(&self, samples: &[Vec<Sample>]) -> i64 {
        let tracks = self.tracks.iter().zip(samples);
        let first = tracks.filter_map(|(track, samples)| {
            let first = samples.iter().map(|s| s.pts).min()?;
            // What is before 0 is an encoder's priming, which is not played.
            let first = to_ns(first, track.timescale).max(0);
            Some((track.kind != Kind::Video, first))
        });
        first.min().map_or(0, |(_, first)| first)
    }

    /// The new part begins where the one before ended.
    fn begin_part(&mut self, samples: &mut [Vec<Sample>]) {
        let begin = self.begin_of(samples);
        self.tolerance = self.tolerance.saturating_add(self.last_duration);
        if self.is_empty() {
            self.begin = begin;
            self.end = begin;
            return;
        }
        self.offset = self.end - begin;
        // An encoder that reorders more than the one before has an earlier first
        // DTS, which must still be after the last one.
        let tracks = self.tracks.iter().zip(samples.iter());
        let late = tracks.filter_map(|(track, samples)| {
            let offset = to_ticks(self.offset, track.timescale);
            let first = samples.first()?.dts + offset;
            let lacks = (track.last_dts? + 1).saturating_sub(first).max(0);
            (track.kind == Kind::Video).then(|| to_ns(lacks, track.timescale))
        });
        self.offset += late.max().unwrap_or(0);
        for (track, samples) in self.tracks.iter_mut().zip(samples) {
            let offset = to_ticks(self.offset, track.timescale);
            if track.kind == Kind::Audio {
                // Audio frames do not end where video frames do: those that
                // overlap, or are before the part, are left out.
                let from = to_ticks(begin, track.timescale);
                samples.retain(|sample| {
                    sample.pts + sample.duration > from && sample.dts + offset + 1 >= track.next_dts
                });
            }
            if let Some(first) = samples.first() {
                track.next_dts = first.dts + offset;
            }
        }
    }

    /// Fails if the segments do not play as long as the playlist says. A
    /// part's last segment is listed at full length even where it is shorter.
    pub fn check_duration(&self) -> Result<(), Error> {
        if self.is_empty() {
            return Err(invalid("the clip has no segments"));
        }
        let tolerance = self.tolerance.saturating_add(self.last_duration);
        let difference = (self.playlist_duration - self.media_duration).abs();
        if self.playlist_duration > 0 && difference > tolerance {
            let seconds = |ns: i64| ns as f64 / 1e9;
            return Err(corrupt(format!(
                "the segments play for {:.3} s, the playlist says {:.3} s",
                seconds(self.media_duration),
                seconds(self.playlist_duration)
            )));
        }
        Ok(())
    }
}

fn endless() -> Error {
    corrupt("the segments play for longer than anything can")
}

impl TrackTimeline {
    fn check_follows(&mut self, sample: &Sample) -> Result<(), Error> {
        if self.last_dts.is_some_and(|last| sample.dts <= last) {
            let back = to_ns(self.next_dts - sample.dts, self.timescale) as f64 / 1e9;
            return Err(corrupt(format!(
                "the {} goes back by {back:.3} s from one segment to the next",
                self.kind.as_str()
            )));
        }
        let gap = to_ns(sample.dts - self.next_dts, self.timescale);
        if self.last_dts.is_some() && gap > MAX_GAP {
            return Err(corrupt(format!(
                "{:.3} s of {} are missing between two segments",
                gap as f64 / 1e9,
                self.kind.as_str()
            )));
        }
        self.last_dts = Some(sample.dts);
        self.next_dts = sample.dts + sample.duration;
        Ok(())
    }
}
