// SPDX-License-Identifier: MIT

//! What a clip's header says of its tracks.

use bytes::Bytes;
use gst::prelude::*;
use mp4_atom::{Elst, FourCC, Hdlr, Mdhd, Mvhd, Tkhd, Trex};

use super::{
    caps,
    errors::{invalid, unsupported},
    timeline::scale,
};
use crate::platform::{
    Error,
    mp4_boxes::{Mp4Box, all_boxes},
    track::Kind,
};

/// The tracks of a header, in its order.
#[derive(Debug)]
pub(super) struct Header {
    pub tracks: Vec<Track>,
    /// The IDs of those that the file leaves out: captions, metadata.
    pub others: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Track {
    pub id: u32,
    pub kind: Kind,
    /// Units of its times per second.
    pub timescale: u32,
    /// What the header's edit list adds to the media's own times.
    pub shift: i64,
    /// What fragments leave out.
    pub defaults: Trex,
    pub caps: gst::Caps,
    /// How many bytes give the length of each NAL unit, in H.264 and H.265.
    pub nal_length: Option<usize>,
}

impl Header {
    pub fn parse(bytes: &Bytes) -> Result<Self, Error> {
        let (mut tracks, others) = parse(bytes)
            .map_err(|why| invalid(format!("the clip's header cannot be read: {why}")))?;
        if tracks.is_empty() {
            return Err(invalid("the clip's header has no audio and no video track"));
        }
        let caps = caps::of_header(bytes)?;
        for track in &mut tracks {
            let known = caps.get(&track.id);
            track.caps = known.cloned().ok_or_else(|| {
                let what = sample_entry(bytes, track.id).unwrap_or_else(|| "nothing known".into());
                let kind = track.kind.as_str();
                unsupported(format!(
                    "GStreamer does not know the clip's {kind} ({what})"
                ))
            })?;
            track.nal_length = nal_length(&track.caps);
        }
        Ok(Self { tracks, others })
    }

    /// Fragments under this header go on in the file that the other began:
    /// one MP4 has one description of each track.
    pub fn continues(&self, first: &Header) -> Result<(), Error> {
        let of = |header: &Header| -> Vec<_> {
            let tracks = header.tracks.iter();
            tracks.map(|t| (t.kind.as_str(), t.timescale)).collect()
        };
        let mut changed: Vec<String> = Vec::new();
        if of(self) != of(first) {
            changed.push(format!("tracks {:?} became {:?}", of(first), of(self)));
        } else {
            for (new, old) in self.tracks.iter().zip(&first.tracks) {
                changed.extend(differences(old, new));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        Err(unsupported(format!(
            "the recording changes within the clip ({}), which one ordinary MP4 cannot hold",
            changed.join(", ")
        )))
    }
}

/// Which fields of the caps are not the same any more.
fn differences(old: &Track, new: &Track) -> Vec<String> {
    let kind = old.kind.as_str();
    let (Some(was), Some(is)) = (old.caps.structure(0), new.caps.structure(0)) else {
        return vec![kind.to_owned()];
    };
    if was.name() != is.name() {
        return vec![format!("{kind}: {} became {}", was.name(), is.name())];
    }
    // avc3 and hev1 carry their parameter sets with the pictures.
    let in_band = matches!(was.get::<&str>("stream-format"), Ok("avc3" | "hev1"));
    let mut fields: Vec<_> = was.fields().chain(is.fields()).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
        .into_iter()
        // A guess from the first fragment's durations.
        .filter(|field| *field != "framerate")
        .filter(|field| !(in_band && *field == "codec_data"))
        .filter(|field| {
            let value = |s: &gst::StructureRef| {
                let value = s.value(field.as_str()).ok();
                value.and_then(|v| v.serialize().ok())
            };
            value(was) != value(is)
        })
        .map(|field| format!("{kind}: {field}"))
        .collect()
}

fn parse(data: &[u8]) -> Result<(Vec<Track>, Vec<u32>), String> {
    let moov = all_boxes(data)?
        .into_iter()
        .find(|found| found.is(b"moov"))
        .ok_or("it has no moov box")?;
    let movie: Mvhd = required(&moov, &[b"mvhd"])?.decode()?;
    let mut defaults: Vec<Trex> = Vec::new();
    if let Some(mvex) = moov.descendant(&[b"mvex"]) {
        for found in mvex.children()? {
            if found.is(b"trex") {
                defaults.push(found.decode()?);
            }
        }
    }
    let (mut tracks, mut others) = (Vec::new(), Vec::new());
    for trak in moov.children()? {
        if trak.is(b"trak") {
            match track(&trak, &movie, &defaults)? {
                Ok(track) => tracks.push(track),
                Err(id) => others.push(id),
            }
        }
    }
    Ok((tracks, others))
}

/// A track, or the ID of one whose kind does not go into the file.
fn track(trak: &Mp4Box<'_>, movie: &Mvhd, defaults: &[Trex]) -> Result<Result<Track, u32>, String> {
    let id = required(trak, &[b"tkhd"])?.decode::<Tkhd>()?.track_id;
    let handler: Hdlr = required(trak, &[b"mdia", b"hdlr"])?.decode()?;
    let kind = match handler.handler {
        kind if kind == FourCC::new(b"vide") => Kind::Video,
        kind if kind == FourCC::new(b"soun") => Kind::Audio,
        other => {
            gst::warning!(super::CAT, "leaves out a track of kind {other}");
            return Ok(Err(id));
        }
    };
    let media: Mdhd = required(trak, &[b"mdia", b"mdhd"])?.decode()?;
    if media.timescale == 0 || movie.timescale == 0 {
        return Err("its time scale is 0".into());
    }
    let edits = match trak.descendant(&[b"edts", b"elst"]) {
        Some(found) => found.decode()?,
        None => Elst::default(),
    };
    let defaults = defaults.iter().find(|trex| trex.track_id == id);
    Ok(Ok(Track {
        id,
        kind,
        timescale: media.timescale,
        shift: shift(&edits, movie.timescale, media.timescale),
        defaults: defaults.cloned().unwrap_or_default(),
        caps: gst::Caps::new_empty(),
        nal_length: None,
    }))
}

/// Empty edits delay the media, the first of the others leaves out what is
/// before (the frames that a decoder reorders, an encoder's priming).
fn shift(edits: &Elst, movie: u32, media: u32) -> i64 {
    let mut shift = 0i64;
    for edit in &edits.entries {
        match edit.media_time {
            None => {
                let empty = i64::try_from(edit.segment_duration).unwrap_or(0);
                shift = shift.saturating_add(scale(empty, media, movie));
            }
            Some(time) => return shift.saturating_sub(i64::try_from(time).unwrap_or(0)),
        }
    }
    shift
}

fn required<'a>(parent: &Mp4Box<'a>, path: &[&[u8; 4]]) -> Result<Mp4Box<'a>, String> {
    parent.descendant(path).ok_or_else(|| {
        let path: Vec<_> = path
            .iter()
            .map(|kind| FourCC::new(kind).to_string())
            .collect();
        format!("its {} box has no {}", parent.kind, path.join("/"))
    })
}

/// How the header names the format of a track, for messages.
fn sample_entry(data: &[u8], id: u32) -> Option<String> {
    let moov = all_boxes(data).ok()?.into_iter().find(|b| b.is(b"moov"))?;
    let is_of_track = |trak: &Mp4Box<'_>| {
        let tkhd = trak.descendant(&[b"tkhd"]);
        let tkhd = tkhd.and_then(|tkhd| tkhd.decode::<Tkhd>().ok());
        tkhd.is_some_and(|tkhd| tkhd.track_id == id)
    };
    let trak = moov.children().ok()?.into_iter().find(is_of_track)?;
    let stsd = trak.descendant(&[b"mdia", b"minf", b"stbl", b"stsd"])?;
    // Its entries are boxes, after version, flags and count.
    let entry = stsd.children_after(8).next()?.ok()?;
    Some(entry.kind.to_string())
}

fn nal_length(caps: &gst::Caps) -> Option<usize> {
    let s = caps.structure(0)?;
    let at = match (s.name().as_str(), s.get::<&str>("stream-format").ok()?) {
        ("video/x-h264", "avc" | "avc3") => 4,
        ("video/x-h265", "hvc1" | "hev1") => 21,
        _ => return None,
    };
    let data = s.get::<gst::Buffer>("codec_data").ok()?;
    let data = data.map_readable().ok()?;
    data.get(at).map(|byte| usize::from(byte & 3) + 1)
}
