// SPDX-License-Identifier: MIT

//! Selects the samples that a window needs. Called by the thread of the clip's
//! job. Never keeps more than 32 MiB of samples that may not be needed.
//!
//! A frame can be decoded from the keyframe before it on, so the file holds
//! that as well; its edit list hides it. The borders are the frame borders that
//! are nearest to the requested ones.

use std::time::Duration;

use super::{
    errors::unsupported,
    fragment::Sample,
    init_section::InitSection,
    timescale::{MAX_NS, to_ns, to_ticks},
    window::Window,
};
use crate::platform::{Error, track::Kind};

/// Decoders of audio need media before the first frame that is presented, in
/// nanoseconds: AAC one frame, Opus 80 ms (RFC 7845, section 4.6).
const AUDIO_PREROLL: i64 = 80_000_000;
/// The largest distance at which an encoder reorders frames, in nanoseconds.
const MAX_REORDERING: i64 = 2_000_000_000;
/// The largest offset of recorded time 0 that a muxer adds, in nanoseconds.
const MAX_ZERO_OFFSET: i64 = 250_000_000;
/// How much memory the samples may take that are kept until it is known whether
/// they are needed, in bytes.
const MAX_PENDING: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Trimmer {
    requested: Window,
    /// The requested window on the presentation timeline, in nanoseconds as are
    /// the other times here, once it is known where the recording begins.
    window: Option<(i64, i64)>,
    /// Recorded time 0 on the presentation timeline.
    zero: i64,
    tracks: Vec<TrackBuffer>,
    /// The index of the track whose frames set the borders.
    lead: usize,
    /// Where the file will begin.
    begin: Option<i64>,
    /// Where the presented part of the leading track ends.
    end: Option<i64>,
    /// Half of the longest duration of its frames: the end may be later than
    /// requested by that.
    half_frame: i64,
}

#[derive(Debug)]
struct TrackBuffer {
    kind: Kind,
    timescale: u32,
    pending: Vec<Sample>,
    /// Presented after the end, but frames before it may depend on them.
    references: Vec<Sample>,
    complete: bool,
}

impl Trimmer {
    pub fn new(requested: Window, init_section: &InitSection) -> Self {
        let tracks = init_section.tracks.iter().map(|track| TrackBuffer {
            kind: track.kind,
            timescale: track.timescale,
            pending: Vec::new(),
            references: Vec::new(),
            complete: false,
        });
        let tracks: Vec<_> = tracks.collect();
        let lead = tracks.iter().position(|t| t.kind == Kind::Video);
        Self {
            requested,
            window: None,
            zero: 0,
            tracks,
            lead: lead.unwrap_or(0),
            begin: None,
            end: None,
            half_frame: 0,
        }
    }

    /// Takes a segment's samples, and returns those that are certain to be
    /// needed. `duration` is the playlist's.
    pub fn push(
        &mut self,
        samples: Vec<Vec<Sample>>,
        duration: Duration,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        if self.window.is_none() {
            self.find_zero(&samples, duration);
        }
        for (track, samples) in self.tracks.iter_mut().zip(samples) {
            if !track.complete {
                track.pending.extend(samples);
            }
        }
        self.drop_unneeded();
        let pending = self.tracks.iter().map(TrackBuffer::memory).sum::<usize>();
        if pending > MAX_PENDING {
            return Err(unsupported(
                "the recording has no keyframe near the window's borders",
            ));
        }
        self.find_begin(false);
        Ok(self.release())
    }

    /// Returns the last samples: no segment follows.
    pub fn finish(&mut self) -> Vec<Vec<Sample>> {
        self.find_begin(true);
        self.release()
    }

    /// What the file is to present, on the presentation timeline.
    pub fn borders(&self) -> Option<(i64, i64)> {
        let (_, end) = self.window?;
        Some((self.begin?, self.end.unwrap_or(end)))
    }

    /// Recorded time, in seconds, of a time on the presentation timeline.
    pub fn recorded_time(&self, at: i64) -> f64 {
        (at - self.zero) as f64 / 1e9
    }

    /// The server cuts at keyframes, at multiples of a segment's duration in
    /// recorded time; the muxer that wrote the segments has added a constant
    /// offset (the audio encoder's priming, the reordering).
    fn find_zero(&mut self, samples: &[Vec<Sample>], duration: Duration) {
        let duration = i64::try_from(duration.as_nanos()).unwrap_or(0);
        let ns = |seconds: f64| ((seconds * 1e9) as i64).min(MAX_NS);
        let start = ns(self.requested.start);
        let first = samples.get(self.lead).and_then(|samples| samples.first());
        if let (Some(track), Some(first)) = (self.tracks.get(self.lead), first)
            && track.kind == Kind::Video
            && duration > MAX_ZERO_OFFSET
        {
            let offset = to_ns(first.pts, track.timescale).rem_euclid(duration);
            if offset < MAX_ZERO_OFFSET {
                self.zero = offset;
            }
        }
        let end = ns(self.requested.end);
        self.window = Some((start + self.zero, end + self.zero));
    }

    /// Drops samples that are certain to be before the window.
    fn drop_unneeded(&mut self) {
        let (Some((start, _)), None) = (self.window, self.begin) else {
            return;
        };
        let lead = self.tracks.get(self.lead);
        let keyframe = lead.map_or(0, |lead| lead.find_keyframe(start));
        for (index, track) in self.tracks.iter_mut().enumerate() {
            if index == self.lead && track.kind == Kind::Video {
                track.pending.drain(..keyframe);
            } else if track.kind == Kind::Audio {
                // As far as the begin may still move, and the preroll.
                let from = start - 2 * MAX_REORDERING;
                let scale = track.timescale;
                let needed = |s: &Sample| to_ns(s.pts + s.duration, scale) > from;
                track.pending.retain(needed);
            }
        }
    }

    /// Finds where the file begins, as soon as that is certain. `complete`: no
    /// segment follows.
    fn find_begin(&mut self, complete: bool) {
        let (Some((start, _)), None) = (self.window, self.begin) else {
            return;
        };
        let Some(lead) = self.tracks.get_mut(self.lead) else {
            return;
        };
        let (scale, kind) = (lead.timescale, lead.kind);
        let far = |s: &Sample| to_ns(s.dts, scale) > start + MAX_REORDERING;
        if !complete && !lead.pending.iter().any(far) {
            return;
        }
        if kind == Kind::Audio {
            let first = lead.pending.first().map(|s| to_ns(s.pts, scale));
            self.begin = first.map(|first| first.max(start));
            return;
        }
        let decodable = lead.pending.iter().position(|s| s.sync);
        lead.pending
            .drain(..decodable.unwrap_or(lead.pending.len()));
        let Some(keyframe) = lead.pending.first().map(|s| s.pts) else {
            return;
        };
        // Frames presented before the keyframe may need frames before it.
        lead.pending.retain(|s| s.pts >= keyframe);
        // The window may be after the last frame.
        let reaches = |s: &&Sample| to_ns(s.pts + s.duration, scale) > start;
        let times = lead.pending.iter().filter(reaches);
        let times = times.map(|s| to_ns(s.pts, scale));
        self.begin = times.min_by_key(|at| (at - start).abs());
    }

    fn release(&mut self) -> Vec<Vec<Sample>> {
        let (Some((_, end)), Some(begin)) = (self.window, self.begin) else {
            return self.tracks.iter().map(|_| Vec::new()).collect();
        };
        let mut released = Vec::with_capacity(self.tracks.len());
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let out = match track.kind {
                Kind::Video => track.take_video(end),
                Kind::Audio => track.take_audio(begin - AUDIO_PREROLL, end + self.half_frame),
            };
            if index == self.lead {
                let presented = out.iter().filter(|s| track.is_before_end(s, end));
                let ends = presented.map(|s| to_ns(s.pts + s.duration, track.timescale));
                let ends = match track.kind {
                    Kind::Video => ends.max(),
                    Kind::Audio => ends.max().map(|last| last.min(end)),
                };
                self.end = self.end.max(ends);
                let longest = out.iter().map(|s| s.duration).max().unwrap_or(0);
                self.half_frame = self.half_frame.max(to_ns(longest, track.timescale) / 2);
            }
            released.push(out);
        }
        released
    }
}

impl TrackBuffer {
    /// In bytes.
    fn memory(&self) -> usize {
        let samples = self.pending.iter().chain(&self.references);
        samples.map(Sample::memory).sum()
    }

    /// The index of the last keyframe from which the frame presented at `start`
    /// can be decoded.
    fn find_keyframe(&self, start: i64) -> usize {
        let start = to_ticks(start, self.timescale);
        let before = |s: &Sample| s.sync && s.pts <= start.saturating_add(s.duration / 2);
        self.pending.iter().rposition(before).unwrap_or(0)
    }

    /// Whether the frame border that is nearest to `end` is after the sample.
    fn is_before_end(&self, sample: &Sample, end: i64) -> bool {
        match self.kind {
            Kind::Video => sample.pts < to_ticks(end, self.timescale) - sample.duration / 2,
            Kind::Audio => to_ns(sample.pts, self.timescale) < end,
        }
    }

    /// Frames up to the last one, in decoding order, that is presented.
    fn take_video(&mut self, end: i64) -> Vec<Sample> {
        let mut out = Vec::new();
        for sample in std::mem::take(&mut self.pending) {
            if self.is_before_end(&sample, end) {
                out.append(&mut self.references);
                out.push(sample);
            } else if to_ns(sample.dts, self.timescale) > end + MAX_REORDERING {
                self.complete = true;
                self.references.clear();
                break;
            } else {
                self.references.push(sample);
            }
        }
        out
    }

    /// Audio frames of a span of time.
    fn take_audio(&mut self, from: i64, to: i64) -> Vec<Sample> {
        let scale = self.timescale;
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (from, to) = (to_ticks(from, scale), to_ticks(to, scale));
        pending
            .filter(|s| s.pts + s.duration > from && s.pts < to)
            .collect()
    }
}
