// SPDX-License-Identifier: MIT

//! Reads the samples of a media segment (ISO/IEC 14496-12, 8.8). Called by the
//! thread of the clip's job. Never copies media, nor skips what is damaged.
//!
//! qtdemux would find the samples as well, but skips damaged and missing ones;
//! a file that lacks a sample must not look finished.

use std::ops::Range;

use bytes::Bytes;
use mp4_atom::{Tfdt, Tfhd, Trun, TrunEntry};

use super::{
    errors::corrupt,
    init_section::{ClipTrack, InitSection},
    timescale::is_plausible,
};
use crate::platform::{
    Error,
    mp4_boxes::{Mp4Box, boxes},
    track::Kind,
};

/// A video frame, or a frame of audio.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub data: Bytes,
    /// When to decode and when to present it, in units of the track's time
    /// scale, with the edit list of the initialization section applied.
    pub dts: i64,
    pub pts: i64,
    pub duration: i64,
    /// Can be decoded without the samples before it.
    pub sync: bool,
}

/// What a sample takes besides its bytes, once it is a buffer: GstBuffer, GstMemory, what both
/// are allocated with, and the entries of lists (GStreamer 1.22, 64 bits), rounded up.
pub(super) const SAMPLE_OVERHEAD: usize = 512;

impl Sample {
    /// In bytes.
    pub fn memory(&self) -> usize {
        self.data.len() + SAMPLE_OVERHEAD
    }
}

/// sample_is_non_sync_sample in a sample's flags.
const NON_SYNC_SAMPLE: u32 = 0x0001_0000;
/// The samples that one segment may have: of PCM, one for every tick, 20 s.
const MAX_SAMPLES: usize = 1 << 20;
/// The boxes that one segment may have. A fragment is a moof and an mdat or two, and for each
/// picture of its own at most: 4 min of 60 frames per second.
const MAX_BOXES: usize = 1 << 16;

/// The samples of each track, in the order of the initialization section.
pub(super) fn read_samples(
    init_section: &InitSection,
    segment: &Bytes,
) -> Result<Vec<Vec<Sample>>, Error> {
    parse(init_section, segment).map_err(|why| corrupt(format!("a segment is damaged: {why}")))
}

fn parse(init_section: &InitSection, segment: &Bytes) -> Result<Vec<Vec<Sample>>, String> {
    let found = boxes(segment).take(MAX_BOXES + 1);
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    if found.len() > MAX_BOXES {
        return Err(format!("it has more than {MAX_BOXES} boxes"));
    }
    if let Some(odd) = found.iter().find(|found| !is_known(found)) {
        return Err(format!("it has a {} box", odd.kind));
    }
    let media = found.iter().filter(|found| found.is(b"mdat"));
    let mut reader = FragmentReader {
        init_section,
        segment,
        media: media.map(|found| found.body.clone()).collect(),
        samples: vec![Vec::new(); init_section.tracks.len()],
        count: 0,
    };
    let mut fragments = found.iter().filter(|found| found.is(b"moof")).peekable();
    if fragments.peek().is_none() {
        return Err("it has no fragment".into());
    }
    for moof in fragments {
        reader.read_fragment(moof)?;
    }
    if reader.samples.iter().all(Vec::is_empty) {
        return Err("it has no samples".into());
    }
    Ok(reader.samples)
}

/// The boxes that a segment may have besides its fragments.
fn is_known(found: &Mp4Box<'_>) -> bool {
    const KNOWN: [&[u8; 4]; 10] = [
        b"styp", b"sidx", b"ssix", b"moof", b"mdat", b"emsg", b"prft", b"free", b"skip", b"mfra",
    ];
    found.is(b"uuid") || KNOWN.iter().any(|kind| found.is(kind))
}

struct FragmentReader<'a> {
    init_section: &'a InitSection,
    segment: &'a Bytes,
    /// The bodies of the mdat boxes, as offsets in the segment, in ascending order.
    media: Vec<Range<usize>>,
    samples: Vec<Vec<Sample>>,
    /// All of them, by what the headers say.
    count: usize,
}

impl FragmentReader<'_> {
    fn read_fragment(&mut self, moof: &Mp4Box<'_>) -> Result<(), String> {
        // Where track fragments without a base offset begin.
        let mut end = moof.range.start;
        for traf in moof.children()? {
            if traf.is(b"traf") {
                end = self.read_track_fragment(moof, &traf, end)?;
            }
        }
        Ok(())
    }

    fn read_track_fragment(
        &mut self,
        moof: &Mp4Box<'_>,
        traf: &Mp4Box<'_>,
        end: usize,
    ) -> Result<usize, String> {
        let inside = traf.children()?;
        let one = |kind| inside.iter().find(|found| found.is(kind));
        let tfhd = one(b"tfhd").ok_or("a track's fragment has no tfhd box")?;
        let tfhd: Tfhd = tfhd.decode()?;
        let id = tfhd.track_id;
        if self.init_section.ignored.contains(&id) {
            return Ok(end);
        }
        let mut tracks = self.init_section.tracks.iter().enumerate();
        let (index, track) = tracks
            .find(|(_, track)| track.id == id)
            .ok_or_else(|| format!("it has a track {id}, which the header does not know"))?;
        let tfdt = one(b"tfdt").ok_or("a track's fragment does not say when it begins")?;
        let mut dts = tfdt.decode::<Tfdt>()?.base_media_decode_time;
        let base = match tfhd.base_data_offset {
            Some(offset) => usize::try_from(offset).map_err(|error| error.to_string())?,
            None if tfhd.default_base_is_moof => moof.range.start,
            None => end,
        };
        let mut at = base;
        for found in inside.iter().filter(|found| found.is(b"trun")) {
            let trun: Trun = found.decode()?;
            if let Some(offset) = trun.data_offset {
                at = base
                    .checked_add_signed(offset as isize)
                    .ok_or("its data begin before it")?;
            }
            // A count is a few bytes, whatever it is, and its samples may all be one byte.
            self.count += trun.samples.len();
            if self.count > MAX_SAMPLES.min(self.segment.len()) {
                return Err("it counts more samples than it can have".into());
            }
            for entry in trun.samples.iter() {
                let sample = self.read_sample(track, &tfhd, &entry, dts, &mut at)?;
                dts += sample.duration as u64;
                if let Some(samples) = self.samples.get_mut(index) {
                    samples.push(sample);
                }
            }
        }
        Ok(at)
    }

    /// Whether these bytes are in one mdat box, of which there may be one for each sample.
    fn is_media(&self, bytes: Range<usize>) -> bool {
        let begun = self.media.partition_point(|m| m.start <= bytes.start);
        let last = begun.checked_sub(1).and_then(|last| self.media.get(last));
        last.is_some_and(|media| bytes.end <= media.end)
    }

    /// A sample without values of its own has those of the track fragment, or
    /// else of the track.
    fn read_sample(
        &self,
        track: &ClipTrack,
        tfhd: &Tfhd,
        entry: &TrunEntry,
        dts: u64,
        at: &mut usize,
    ) -> Result<Sample, String> {
        let size = entry.size.or(tfhd.default_sample_size);
        let size = size.unwrap_or(track.defaults.default_sample_size) as usize;
        let duration = entry.duration.or(tfhd.default_sample_duration);
        let duration = duration.unwrap_or(track.defaults.default_sample_duration);
        let flags = entry.flags.or(tfhd.default_sample_flags);
        let flags = flags.unwrap_or(track.defaults.default_sample_flags);
        let start = *at;
        let end = start.checked_add(size).filter(|_| size > 0);
        let end = end.ok_or("a sample of it has no bytes")?;
        if !self.is_media(start..end) {
            return Err(format!(
                "{size} bytes of a sample at byte {start} are not in its media data"
            ));
        }
        let time = i64::try_from(dts)
            .ok()
            .filter(|time| is_plausible(*time, track.timescale));
        let dts = time.ok_or("its time is beyond all bounds")? + track.edit_offset;
        *at = end;
        let data = self.segment.slice(start..end);
        check_nal_units(track, &data)?;
        Ok(Sample {
            data,
            dts,
            pts: dts + entry.cts.unwrap_or(0),
            duration: i64::from(duration),
            sync: track.kind == Kind::Audio || flags & NON_SYNC_SAMPLE == 0,
        })
    }
}

/// A sample of H.264 or H.265 consists of NAL units, each after its length
/// (ISO/IEC 14496-15). If those do not add up the sample is damaged.
fn check_nal_units(track: &ClipTrack, data: &[u8]) -> Result<(), String> {
    let Some(length) = track.nal_length_size else {
        return Ok(());
    };
    let mut rest = data;
    while !rest.is_empty() {
        let unit = rest.split_at_checked(length).and_then(|(size, unit)| {
            let size = size
                .iter()
                .fold(0usize, |n, byte| n << 8 | usize::from(*byte));
            unit.split_at_checked(size)
        });
        rest = unit.ok_or("the bytes of a picture make no sense")?.1;
    }
    Ok(())
}
