// SPDX-License-Identifier: MIT

//! Rewrites the moov box of the finished file: its edit lists (ISO/IEC 14496-12,
//! 8.6.6) and durations. Called by the muxer's streaming thread. Never touches
//! media data.
//!
//! mp4mux writes an edit list of its own, which begins at a track's first
//! frame. It cannot be told to begin later, nor to end earlier.

use mp4_atom::{Co64, Edts, Elst, ElstEntry, Encode, Mvhd, Stco, Stsz, StszSamples, Tkhd};

use super::timescale::{scale, to_ns, to_ticks};
use crate::platform::mp4_boxes::{Mp4Box, all_boxes};

/// The samples that were pushed to a track of the muxer.
#[derive(Debug, Clone, Default)]
pub(super) struct MuxedTrack {
    pub timescale: u32,
    pub samples: u64,
    /// On the presentation timeline, in units of the time scale.
    pub first_dts: i64,
    pub first_pts: i64,
    pub end: i64,
    /// A parser before the muxer may split or join samples.
    pub parsed: bool,
}

impl MuxedTrack {
    /// Counts the next sample.
    pub fn count(&mut self, dts: i64, pts: i64, duration: i64) {
        if self.samples == 0 {
            (self.first_dts, self.first_pts, self.end) = (dts, pts, pts);
        }
        self.first_pts = self.first_pts.min(pts);
        self.end = self.end.max(pts + duration);
        self.samples += 1;
    }
}

/// What the file is to present.
#[derive(Debug, Clone)]
pub(super) struct Presentation {
    /// On the presentation timeline, in nanoseconds.
    pub begin: i64,
    pub end: i64,
    /// In the order of the muxer's tracks.
    pub tracks: Vec<MuxedTrack>,
}

/// The edit of a track, in units of its time scale.
struct TrackEdit {
    /// Until the track begins.
    empty: i64,
    media_time: i64,
    duration: i64,
}

impl Presentation {
    /// The edit of a track, if the file presents any of it.
    fn edit_of(&self, track: &MuxedTrack) -> Option<TrackEdit> {
        let begin = to_ticks(self.begin, track.timescale);
        let from = begin.max(track.first_pts);
        let to = to_ticks(self.end, track.timescale).min(track.end);
        (track.samples > 0 && to > from).then(|| TrackEdit {
            empty: from - begin,
            media_time: from - track.first_dts,
            duration: to - from,
        })
    }

    /// The duration of the file, in nanoseconds.
    pub fn duration(&self) -> i64 {
        let ends = self.tracks.iter().filter_map(|track| {
            let edit = self.edit_of(track)?;
            Some(to_ns(edit.empty + edit.duration, track.timescale))
        });
        ends.max().unwrap_or(0)
    }
}

/// Rewrites everything before the media data.
pub(super) fn rewrite(head: &[u8], presentation: &Presentation) -> Result<Vec<u8>, String> {
    let found = all_boxes(head)?;
    let moov = found.iter().find(|found| found.is(b"moov"));
    let moov = moov.ok_or("mp4mux wrote no moov box")?;
    let mvhd = moov.descendant(&[b"mvhd"]);
    let mvhd = mvhd.ok_or("mp4mux wrote no mvhd box")?;
    let mut rewriter = MovieRewriter {
        presentation,
        timescale: mvhd.decode::<Mvhd>()?.timescale,
        media_moved: 0,
    };
    // Once to see how far it moves the media data, once with that distance.
    let mut out = Vec::with_capacity(head.len() + 256);
    rewriter.write_moov(moov, &mut out)?;
    rewriter.media_moved = out.len() as i64 - moov.range.len() as i64;
    out.clear();
    for found in &found {
        if found.is(b"moov") {
            rewriter.write_moov(found, &mut out)?;
        } else {
            out.extend_from_slice(found.bytes());
        }
    }
    Ok(out)
}

struct MovieRewriter<'a> {
    presentation: &'a Presentation,
    /// The movie's.
    timescale: u32,
    /// By how many bytes the media data are moved towards the end.
    media_moved: i64,
}

impl MovieRewriter<'_> {
    fn write_moov(&self, moov: &Mp4Box<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let begun = open_box(b"moov", out);
        let mut tracks = self.presentation.tracks.iter();
        for found in moov.children()? {
            if found.is(b"mvhd") {
                let mut mvhd: Mvhd = found.decode()?;
                mvhd.duration = self.movie_time(self.presentation.duration(), 1_000_000_000);
                encode(&mvhd, out)?;
            } else if found.is(b"trak") {
                let track = tracks.next().ok_or("mp4mux wrote a track too many")?;
                // Without samples it has no sample entry.
                if let Some(edit) = self.presentation.edit_of(track) {
                    self.write_trak(&found, track, &edit, out)?;
                }
            } else {
                out.extend_from_slice(found.bytes());
            }
        }
        if tracks.next().is_some() {
            return Err("mp4mux wrote a track too few".into());
        }
        close_box(begun, out)
    }

    fn write_trak(
        &self,
        trak: &Mp4Box<'_>,
        track: &MuxedTrack,
        edit: &TrackEdit,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let sizes = [b"mdia", b"minf", b"stbl", b"stsz"];
        let sizes = trak.descendant(&sizes).ok_or("mp4mux wrote no stsz box")?;
        let written = match sizes.decode::<Stsz>()?.samples {
            StszSamples::Identical { count, .. } => u64::from(count),
            StszSamples::Different { sizes } => sizes.len() as u64,
        };
        if written != track.samples && !track.parsed {
            return Err(format!(
                "mp4mux was given {} samples and wrote {written}",
                track.samples
            ));
        }
        let until = self.movie_time(edit.empty + edit.duration, track.timescale);
        let empty = self.movie_time(edit.empty, track.timescale);
        let begun = open_box(b"trak", out);
        for found in trak.children()? {
            if found.is(b"tkhd") {
                let mut tkhd: Tkhd = found.decode()?;
                tkhd.duration = until;
                encode(&tkhd, out)?;
                encode(&edit_list(empty, until - empty, edit.media_time), out)?;
            } else if !found.is(b"edts") {
                self.copy_box(&found, out)?;
            }
        }
        close_box(begun, out)
    }

    /// Copies a box, with the chunk offsets of the moved media data.
    fn copy_box(&self, found: &Mp4Box<'_>, into: &mut Vec<u8>) -> Result<(), String> {
        let kinds = [b"mdia", b"minf", b"stbl"];
        if let Some(kind) = kinds.into_iter().find(|kind| found.is(kind)) {
            let begun = open_box(kind, into);
            for inner in found.children()? {
                self.copy_box(&inner, into)?;
            }
            close_box(begun, into)?;
        } else if found.is(b"stco") {
            let mut offsets: Stco = found.decode()?;
            for offset in &mut offsets.entries {
                let moved = i64::from(*offset) + self.media_moved;
                *offset = u32::try_from(moved).map_err(|_| "the file is too large")?;
            }
            encode(&offsets, into)?;
        } else if found.is(b"co64") {
            let mut offsets: Co64 = found.decode()?;
            for offset in &mut offsets.entries {
                *offset = offset.saturating_add_signed(self.media_moved);
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

/// Begins a container box, whose size is set when it is closed.
fn open_box(kind: &[u8; 4], out: &mut Vec<u8>) -> usize {
    let begun = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    begun
}

fn close_box(begun: usize, out: &mut [u8]) -> Result<(), String> {
    let length = u32::try_from(out.len() - begun).map_err(|_| "it is too large")?;
    let field = out.get_mut(begun..begun + 4).ok_or("it has no length")?;
    field.copy_from_slice(&length.to_be_bytes());
    Ok(())
}
