// SPDX-License-Identifier: MIT

//! Parses a media initialization section (ISO/IEC 14496-12, 8.2): the tracks of
//! a clip. Called by the thread of the clip's job. Never accepts one that the
//! file that was begun cannot hold.

use bytes::Bytes;
use gst::prelude::*;
use mp4_atom::{Elst, FourCC, Hdlr, Mdhd, Mvhd, Tkhd, Trex};

use super::{
    caps,
    debug::CAT,
    errors::{invalid, unsupported},
    timescale::{is_plausible, scale},
};
use crate::platform::{
    Error,
    mp4_boxes::{Mp4Box, all_boxes},
    track::Kind,
};

/// The tracks that a clip may have, those that the file leaves out included. Each of the others
/// takes a thread.
const MAX_TRACKS: usize = 32;

/// The tracks, in the order of the initialization section.
#[derive(Debug)]
pub(super) struct InitSection {
    pub tracks: Vec<ClipTrack>,
    /// The IDs of the tracks that the file leaves out: captions, metadata.
    pub ignored: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct ClipTrack {
    pub id: u32,
    pub kind: Kind,
    /// Units of the track's times per second.
    pub timescale: u32,
    /// The type of its sample entry, for messages.
    pub format: String,
    /// What the edit list adds to the media's own times, in units of the time
    /// scale.
    pub edit_offset: i64,
    /// For fragments without values of their own.
    pub defaults: Trex,
    pub caps: gst::Caps,
    /// The bytes of the length field of a NAL unit, in H.264 and H.265.
    pub nal_length_size: Option<usize>,
}

impl InitSection {
    pub fn parse(bytes: &Bytes) -> Result<Self, Error> {
        let (mut tracks, ignored) = parse(bytes)
            .map_err(|why| invalid(format!("the clip's header cannot be read: {why}")))?;
        if tracks.is_empty() {
            return Err(invalid("the clip's header has no audio and no video track"));
        }
        let caps = caps::caps_of_tracks(bytes)?;
        for track in &mut tracks {
            let known = caps.get(&track.id);
            track.caps = known.cloned().ok_or_else(|| {
                let (kind, format) = (track.kind.as_str(), &track.format);
                unsupported(format!(
                    "GStreamer does not know the clip's {kind} ({format})"
                ))
            })?;
            track.nal_length_size = nal_length_size(&track.caps);
        }
        Ok(Self { tracks, ignored })
    }

    /// Fails if fragments of this section cannot be in the file that the first
    /// one began: one MP4 has one description of each track.
    pub fn check_continues(&self, first: &InitSection) -> Result<(), Error> {
        let layout = |section: &InitSection| -> Vec<_> {
            let tracks = section.tracks.iter();
            tracks.map(|t| (t.kind.as_str(), t.timescale)).collect()
        };
        let mut changed: Vec<String> = Vec::new();
        if layout(self) != layout(first) {
            changed.push(format!(
                "tracks {:?} became {:?}",
                layout(first),
                layout(self)
            ));
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

/// The fields of the caps that changed.
fn differences(old: &ClipTrack, new: &ClipTrack) -> Vec<String> {
    let kind = old.kind.as_str();
    let (Some(was), Some(is)) = (old.caps.structure(0), new.caps.structure(0)) else {
        return vec![kind.to_owned()];
    };
    if was.name() != is.name() {
        return vec![format!("{kind}: {} became {}", was.name(), is.name())];
    }
    // avc3 and hev1 carry their parameter sets in the samples.
    let in_band = matches!(was.get::<&str>("stream-format"), Ok("avc3" | "hev1"));
    let mut fields: Vec<_> = was.fields().chain(is.fields()).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
        .into_iter()
        // qtdemux guesses it from the first fragment's durations.
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

fn parse(data: &[u8]) -> Result<(Vec<ClipTrack>, Vec<u32>), String> {
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
    let (mut tracks, mut ignored) = (Vec::new(), Vec::new());
    for trak in moov.children()? {
        if !trak.is(b"trak") {
            continue;
        }
        if tracks.len() + ignored.len() == MAX_TRACKS {
            return Err(format!("it has more than {MAX_TRACKS} tracks"));
        }
        match parse_track(&trak, &movie, &defaults)? {
            Ok(track) => tracks.push(track),
            Err(id) => ignored.push(id),
        }
    }
    Ok((tracks, ignored))
}

/// A track, or the ID of one whose kind the file leaves out.
fn parse_track(
    trak: &Mp4Box<'_>,
    movie: &Mvhd,
    defaults: &[Trex],
) -> Result<Result<ClipTrack, u32>, String> {
    let id = required(trak, &[b"tkhd"])?.decode::<Tkhd>()?.track_id;
    let handler: Hdlr = required(trak, &[b"mdia", b"hdlr"])?.decode()?;
    let kind = match handler.handler {
        kind if kind == FourCC::new(b"vide") => Kind::Video,
        kind if kind == FourCC::new(b"soun") => Kind::Audio,
        other => {
            gst::warning!(CAT, "leaves out a track of kind {other}");
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
    let edit_offset = edit_offset(&edits, movie.timescale, media.timescale);
    if !is_plausible(edit_offset, media.timescale) {
        return Err("its edit list is beyond all bounds".into());
    }
    let defaults = defaults.iter().find(|trex| trex.track_id == id);
    // Its entries are boxes, after version, flags and count.
    let stsd = trak.descendant(&[b"mdia", b"minf", b"stbl", b"stsd"]);
    let entry = stsd.and_then(|stsd| stsd.children_after(8).next()?.ok());
    Ok(Ok(ClipTrack {
        id,
        kind,
        timescale: media.timescale,
        format: entry.map_or("nothing known".into(), |entry| entry.kind.to_string()),
        edit_offset,
        defaults: defaults.cloned().unwrap_or_default(),
        caps: gst::Caps::new_empty(),
        nal_length_size: None,
    }))
}

/// Empty edits delay the media, the first of the others skips its beginning
/// (the delay of reordered frames, an encoder's priming).
fn edit_offset(edits: &Elst, movie: u32, media: u32) -> i64 {
    let mut offset = 0i64;
    for edit in &edits.entries {
        match edit.media_time {
            None => {
                let empty = i64::try_from(edit.segment_duration).unwrap_or(0);
                offset = offset.saturating_add(scale(empty, media, movie));
            }
            Some(time) => return offset.saturating_sub(i64::try_from(time).unwrap_or(0)),
        }
    }
    offset
}

fn required<'a>(parent: &Mp4Box<'a>, path: &[&[u8; 4]]) -> Result<Mp4Box<'a>, String> {
    parent.descendant(path).ok_or_else(|| {
        let path = path.iter().map(|kind| FourCC::new(kind).to_string());
        let path: Vec<_> = path.collect();
        format!("its {} box has no {}", parent.kind, path.join("/"))
    })
}

fn nal_length_size(caps: &gst::Caps) -> Option<usize> {
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
