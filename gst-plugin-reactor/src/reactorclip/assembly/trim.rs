// SPDX-License-Identifier: MIT

//! Keeps what a window needs, and nothing else.
//!
//! A picture can be decoded from the keyframe before it on, so the file holds
//! that as well; its edit list hides it. The borders are those between
//! pictures that are nearest to what was asked for.

use std::time::Duration;

use super::{
    Window,
    errors::unsupported,
    fragment::Sample,
    header::Header,
    timeline::{to_ns, to_ticks},
};
use crate::platform::{Error, track::Kind};

/// Decoders of audio need something before the first frame that is heard: AAC
/// one frame, Opus 80 ms (RFC 7845, 4.6).
const AUDIO_LEAD: i64 = 80_000_000;
/// No encoder reorders pictures further than that.
const REORDERING: i64 = 2_000_000_000;
/// What a muxer may put before recorded time 0.
const LARGEST_CONSTANT: i64 = 250_000_000;
/// What may be held back until it is known whether it is needed.
const LARGEST_HOLD: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Trim {
    asked: Window,
    /// The same on the media's line of time, once it is known where the
    /// recording begins there.
    window: Option<(i64, i64)>,
    /// Recorded time 0 on the media's line.
    zero: i64,
    tracks: Vec<Lane>,
    /// The track whose pictures set the borders.
    lead: usize,
    /// Where the file will begin.
    begin: Option<i64>,
    /// Where what is shown of the leading track ends.
    end: Option<i64>,
    /// How far its last picture reaches: half of it decides.
    half: i64,
}

#[derive(Debug)]
struct Lane {
    kind: Kind,
    timescale: u32,
    waiting: Vec<Sample>,
    /// After the end, but others before it may depend on it.
    held: Vec<Sample>,
    over: bool,
}

impl Trim {
    pub fn new(asked: Window, header: &Header) -> Self {
        let tracks = header.tracks.iter().map(|track| Lane {
            kind: track.kind,
            timescale: track.timescale,
            waiting: Vec::new(),
            held: Vec::new(),
            over: false,
        });
        let tracks: Vec<_> = tracks.collect();
        let lead = tracks.iter().position(|t| t.kind == Kind::Video);
        Self {
            asked,
            window: None,
            zero: 0,
            tracks,
            lead: lead.unwrap_or(0),
            begin: None,
            end: None,
            half: 0,
        }
    }

    /// Takes a segment's samples, gives those that are certain to be needed.
    pub fn take(
        &mut self,
        samples: Vec<Vec<Sample>>,
        listed: Duration,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        if self.window.is_none() {
            self.find_zero(&samples, listed);
        }
        for (lane, samples) in self.tracks.iter_mut().zip(samples) {
            if !lane.over {
                lane.waiting.extend(samples);
            }
        }
        self.forget();
        let held = self.tracks.iter().map(Lane::bytes).sum::<usize>();
        if held > LARGEST_HOLD {
            return Err(unsupported(
                "the recording has no keyframe near the window's borders",
            ));
        }
        self.settle(false);
        Ok(self.release())
    }

    /// Nothing more comes.
    pub fn finish(&mut self) -> Vec<Vec<Sample>> {
        self.settle(true);
        self.release()
    }

    /// What the file is to show, on the media's line of time.
    pub fn borders(&self) -> Option<(i64, i64)> {
        let (_, end) = self.window?;
        Some((self.begin?, self.end.unwrap_or(end)))
    }

    /// Recorded time, in seconds, of a point of the media's line.
    pub fn recorded(&self, at: i64) -> f64 {
        (at - self.zero) as f64 / 1e9
    }

    /// The server cuts at keyframes, at whole multiples of a segment's length
    /// in recorded time; the muxer that wrote the segments has put a constant
    /// before all of it (the audio encoder's priming, the reordering).
    fn find_zero(&mut self, samples: &[Vec<Sample>], listed: Duration) {
        let listed = i64::try_from(listed.as_nanos()).unwrap_or(0);
        let start = (self.asked.start * 1e9) as i64;
        let first = samples.get(self.lead).and_then(|samples| samples.first());
        if let (Some(lane), Some(first)) = (self.tracks.get(self.lead), first)
            && lane.kind == Kind::Video
            && listed > LARGEST_CONSTANT
        {
            let constant = to_ns(first.pts, lane.timescale).rem_euclid(listed);
            if constant < LARGEST_CONSTANT {
                self.zero = constant;
            }
        }
        let end = (self.asked.end * 1e9) as i64;
        self.window = Some((start + self.zero, end + self.zero));
    }

    /// Drops what is certain to be before the window.
    fn forget(&mut self) {
        let (Some((start, _)), None) = (self.window, self.begin) else {
            return;
        };
        let keyframe = self.tracks.get(self.lead).map_or(0, |l| l.keyframe(start));
        for (index, lane) in self.tracks.iter_mut().enumerate() {
            if index == self.lead && lane.kind == Kind::Video {
                lane.waiting.drain(..keyframe);
            } else if lane.kind == Kind::Audio {
                // As far as the beginning may still move, and then the lead.
                let from = start - 2 * REORDERING;
                let scale = lane.timescale;
                lane.waiting
                    .retain(|s| to_ns(s.pts + s.duration, scale) > from);
            }
        }
    }

    /// Finds where the file begins, as soon as that is certain.
    fn settle(&mut self, over: bool) {
        let (Some((start, _)), None) = (self.window, self.begin) else {
            return;
        };
        let Some(lead) = self.tracks.get_mut(self.lead) else {
            return;
        };
        let (scale, kind) = (lead.timescale, lead.kind);
        let far = |s: &Sample| to_ns(s.dts, scale) > start + REORDERING;
        if !over && !lead.waiting.iter().any(far) {
            return;
        }
        if kind == Kind::Audio {
            let first = lead.waiting.first().map(|s| to_ns(s.pts, scale));
            self.begin = first.map(|first| first.max(start));
            return;
        }
        let decodable = lead.waiting.iter().position(|s| s.sync);
        lead.waiting
            .drain(..decodable.unwrap_or(lead.waiting.len()));
        let Some(keyframe) = lead.waiting.first().map(|s| s.pts) else {
            return;
        };
        // Those that precede a keyframe may need what was before it.
        lead.waiting.retain(|s| s.pts >= keyframe);
        // The window may lie behind all that there is.
        let reaches = |s: &&Sample| to_ns(s.pts + s.duration, scale) > start;
        let times = lead.waiting.iter().filter(reaches);
        let times = times.map(|s| to_ns(s.pts, scale));
        self.begin = times.min_by_key(|at| (at - start).abs());
    }

    fn release(&mut self) -> Vec<Vec<Sample>> {
        let (Some((_, end)), Some(begin)) = (self.window, self.begin) else {
            return self.tracks.iter().map(|_| Vec::new()).collect();
        };
        let mut released = Vec::with_capacity(self.tracks.len());
        for (index, lane) in self.tracks.iter_mut().enumerate() {
            let out = match lane.kind {
                Kind::Video => lane.pictures(end),
                Kind::Audio => lane.frames(begin - AUDIO_LEAD, end + self.half),
            };
            if index == self.lead {
                let shown = out.iter().filter(|s| lane.starts_before(s, end));
                let ends = shown.map(|s| to_ns(s.pts + s.duration, lane.timescale));
                let ends = match lane.kind {
                    Kind::Video => ends.max(),
                    Kind::Audio => ends.max().map(|last| last.min(end)),
                };
                self.end = self.end.max(ends);
                let longest = out.iter().map(|s| s.duration).max().unwrap_or(0);
                self.half = self.half.max(to_ns(longest, lane.timescale) / 2);
            }
            released.push(out);
        }
        released
    }
}

impl Lane {
    fn bytes(&self) -> usize {
        let samples = self.waiting.iter().chain(&self.held);
        samples.map(|sample| sample.data.len()).sum()
    }

    /// The last keyframe from which what is shown at `start` can be decoded.
    fn keyframe(&self, start: i64) -> usize {
        let start = to_ticks(start, self.timescale);
        let before = |s: &Sample| s.sync && s.pts <= start + s.duration / 2;
        self.waiting.iter().rposition(before).unwrap_or(0)
    }

    /// Whether the nearest border to `end` is behind the sample.
    fn starts_before(&self, sample: &Sample, end: i64) -> bool {
        match self.kind {
            Kind::Video => sample.pts < to_ticks(end, self.timescale) - sample.duration / 2,
            Kind::Audio => to_ns(sample.pts, self.timescale) < end,
        }
    }

    /// Pictures up to the last one, in order of decoding, that is shown.
    fn pictures(&mut self, end: i64) -> Vec<Sample> {
        let mut out = Vec::new();
        for sample in std::mem::take(&mut self.waiting) {
            if self.starts_before(&sample, end) {
                out.append(&mut self.held);
                out.push(sample);
            } else if to_ns(sample.dts, self.timescale) > end + REORDERING {
                self.over = true;
                self.held.clear();
                break;
            } else {
                self.held.push(sample);
            }
        }
        out
    }

    fn frames(&mut self, from: i64, to: i64) -> Vec<Sample> {
        let scale = self.timescale;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (from, to) = (to_ticks(from, scale), to_ticks(to, scale));
        waiting
            .filter(|s| s.pts + s.duration > from && s.pts < to)
            .collect()
    }
}
