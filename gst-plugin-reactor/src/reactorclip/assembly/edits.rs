// SPDX-License-Identifier: MIT

//! Rewrites the finished file's header: what each track shows, and when.
//!
//! mp4mux writes an edit list of its own, which begins at a track's first
//! picture. It cannot be told to begin later, nor to end earlier.

use mp4_atom::{Co64, Edts, Elst, ElstEntry, Encode, Mvhd, Stco, Stsz, StszSamples, Tkhd};

use super::timeline::{scale, to_ns, to_ticks};
use crate::platform::mp4_boxes::{Mp4Box, all_boxes};

/// What a track was fed.
#[derive(Debug, Clone, Default)]
pub(super) struct Fed {
    pub timescale: u32,
    pub samples: u64,
    /// In the track's units, on the line of time that all tracks share.
    pub first_dts: i64,
    pub first_pts: i64,
    pub end: i64,
    /// A parser before the muxer may split or join what it was fed.
    pub parsed: bool,
}

impl Fed {
    /// Counts what is fed next.
    pub fn add(&mut self, dts: i64, pts: i64, duration: i64) {
        if self.samples == 0 {
            (self.first_dts, self.first_pts, self.end) = (dts, pts, pts);
        }
        self.first_pts = self.first_pts.min(pts);
        self.end = self.end.max(pts + duration);
        self.samples += 1;
    }
}

/// What the file is to show.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Nanoseconds on the line of time that all tracks share.
    pub begin: i64,
    pub end: i64,
    /// In the order of the muxer's tracks.
    pub tracks: Vec<Fed>,
}

/// What a track shows, in its own units.
struct Shown {
    /// Until it begins.
    empty: i64,
    media_time: i64,
    duration: i64,
}

impl Plan {
    fn shown(&self, fed: &Fed) -> Option<Shown> {
        let begin = to_ticks(self.begin, fed.timescale);
        let from = begin.max(fed.first_pts);
        let to = to_ticks(self.end, fed.timescale).min(fed.end);
        (fed.samples > 0 && to > from).then(|| Shown {
            empty: from - begin,
            media_time: from - fed.first_dts,
            duration: to - from,
        })
    }

    /// How long the file plays, in nanoseconds.
    pub fn duration(&self) -> i64 {
        let ends = self.tracks.iter().filter_map(|fed| {
            let shown = self.shown(fed)?;
            Some(to_ns(shown.empty + shown.duration, fed.timescale))
        });
        ends.max().unwrap_or(0)
    }
}

/// A time scale that all tracks' times fit in, if there is one.
pub(super) fn movie_timescale(tracks: impl Iterator<Item = u32>) -> u32 {
    /// Finer than any camera's; a file of an hour still has 32-bit times.
    const FINEST: u64 = 1_000_000;
    let tracks: Vec<_> = tracks.map(u64::from).collect();
    let common = tracks.iter().try_fold(1, |common: u64, scale| {
        let lcm = common / gcd(common, *scale) * scale;
        (lcm <= FINEST).then_some(lcm)
    });
    let finest = || tracks.iter().copied().max().unwrap_or(1000);
    u32::try_from(common.unwrap_or_else(finest)).unwrap_or(1000)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// The header (everything before the media data) as it should be.
pub(super) fn rewrite(head: &[u8], plan: &Plan) -> Result<Vec<u8>, String> {
    let found = all_boxes(head)?;
    let moov = found.iter().find(|found| found.is(b"moov"));
    let moov = moov.ok_or("mp4mux wrote no moov box")?;
    let mvhd = moov.descendant(&[b"mvhd"]);
    let mvhd = mvhd.ok_or("mp4mux wrote no mvhd box")?;
    let mut movie = Movie {
        plan,
        timescale: mvhd.decode::<Mvhd>()?.timescale,
        moved: 0,
    };
    // Once to see how far it moves the media data, once with that.
    let mut out = Vec::with_capacity(head.len() + 256);
    movie.moov(moov, &mut out)?;
    movie.moved = out.len() as i64 - moov.range.len() as i64;
    out.clear();
    for found in &found {
        if found.is(b"moov") {
            movie.moov(found, &mut out)?;
        } else {
            out.extend_from_slice(found.bytes());
        }
    }
    Ok(out)
}

struct Movie<'a> {
    plan: &'a Plan,
    timescale: u32,
    /// How many bytes the media data come later.
    moved: i64,
}

impl Movie<'_> {
    fn moov(&self, moov: &Mp4Box<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let begun = open(b"moov", out);
        let mut tracks = self.plan.tracks.iter();
        for found in moov.children()? {
            if found.is(b"mvhd") {
                let mut mvhd: Mvhd = found.decode()?;
                mvhd.duration = self.movie_time(self.plan.duration(), 1_000_000_000);
                encode(&mvhd, out)?;
            } else if found.is(b"trak") {
                let fed = tracks.next().ok_or("mp4mux wrote a track too many")?;
                // Without samples it has not even a format.
                if let Some(shown) = self.plan.shown(fed) {
                    self.trak(&found, fed, &shown, out)?;
                }
            } else {
                out.extend_from_slice(found.bytes());
            }
        }
        if tracks.next().is_some() {
            return Err("mp4mux wrote a track too few".into());
        }
        close(begun, out)
    }

    fn trak(
        &self,
        trak: &Mp4Box<'_>,
        fed: &Fed,
        shown: &Shown,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let sizes = [b"mdia", b"minf", b"stbl", b"stsz"];
        let sizes = trak.descendant(&sizes).ok_or("mp4mux wrote no stsz box")?;
        let written = match sizes.decode::<Stsz>()?.samples {
            StszSamples::Identical { count, .. } => u64::from(count),
            StszSamples::Different { sizes } => sizes.len() as u64,
        };
        if written != fed.samples && !fed.parsed {
            return Err(format!(
                "mp4mux was given {} samples and wrote {written}",
                fed.samples
            ));
        }
        let until = self.movie_time(shown.empty + shown.duration, fed.timescale);
        let empty = self.movie_time(shown.empty, fed.timescale);
        let begun = open(b"trak", out);
        for found in trak.children()? {
            if found.is(b"tkhd") {
                let mut tkhd: Tkhd = found.decode()?;
                tkhd.duration = until;
                encode(&tkhd, out)?;
                encode(&edit_list(empty, until - empty, shown.media_time), out)?;
            } else if !found.is(b"edts") {
                self.copy(&found, out)?;
            }
        }
        close(begun, out)
    }

    /// A box as it is, but for where the media data lie.
    fn copy(&self, found: &Mp4Box<'_>, into: &mut Vec<u8>) -> Result<(), String> {
        let kinds = [b"mdia", b"minf", b"stbl"];
        if let Some(kind) = kinds.into_iter().find(|kind| found.is(kind)) {
            let begun = open(kind, into);
            for inner in found.children()? {
                self.copy(&inner, into)?;
            }
            close(begun, into)?;
        } else if found.is(b"stco") {
            let mut offsets: Stco = found.decode()?;
            for offset in &mut offsets.entries {
                let moved = i64::from(*offset) + self.moved;
                *offset = u32::try_from(moved).map_err(|_| "the file is too large")?;
            }
            encode(&offsets, into)?;
        } else if found.is(b"co64") {
            let mut offsets: Co64 = found.decode()?;
            for offset in &mut offsets.entries {
                *offset = offset.saturating_add_signed(self.moved);
            }
            encode(&offsets, into)?;
        } else {
            into.extend_from_slice(found.bytes());
        }
        Ok(())
    }

    fn movie_time(&self, ticks: i64, timescale: u32) -> u64 {
        scale(ticks, self.timescale, timescale).max(0) as u64
    }
}

fn edit_list(empty: u64, duration: u64, media_time: i64) -> Edts {
    let entry = |segment_duration, media_time| ElstEntry {
        segment_duration,
        media_time,
        media_rate: 1.into(),
    };
    let mut entries = Vec::new();
    if empty > 0 {
        entries.push(entry(empty, None));
    }
    entries.push(entry(duration, Some(media_time.max(0) as u64)));
    Edts {
        elst: Some(Elst { entries }),
    }
}

fn encode(value: &impl Encode, into: &mut Vec<u8>) -> Result<(), String> {
    value.encode(into).map_err(|error| error.to_string())
}

/// Begins a container, whose length is known when it is closed.
fn open(kind: &[u8; 4], out: &mut Vec<u8>) -> usize {
    let begun = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    begun
}

fn close(begun: usize, out: &mut [u8]) -> Result<(), String> {
    let length = u32::try_from(out.len() - begun).map_err(|_| "it is too large")?;
    let field = out.get_mut(begun..begun + 4).ok_or("it has no length")?;
    field.copy_from_slice(&length.to_be_bytes());
    Ok(())
}
