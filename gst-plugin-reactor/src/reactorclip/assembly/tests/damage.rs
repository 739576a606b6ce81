// SPDX-License-Identifier: MIT

//! Clips that are damaged or incomplete, of which no file is made.

use std::time::Duration;

use bytes::Bytes;

use super::media::*;
use crate::platform::{
    mp4_boxes::{Mp4Box, all_boxes},
    recording::ClipSegment,
};

fn fails(clip: Vec<ClipSegment>, code: &str, text: &str) {
    let error = assemble(clip, None).unwrap_err();
    assert_eq!(error.code.as_str(), code, "{error}");
    assert!(error.message.contains(text), "{error}");
}

/// A clip whose second segment is changed by `damage`.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> Vec<ClipSegment> {
    let recording = recording(H264);
    let mut clip = recording.clip(0..3);
    let mut bytes = clip[2].bytes.to_vec();
    damage(&mut bytes);
    clip[2].bytes = bytes.into();
    clip
}

fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Mp4Box<'a> {
    let mut all = all_boxes(bytes).unwrap().into_iter();
    all.find(|found| found.is(kind)).unwrap()
}

#[test]
fn segment_incomplete_is_refused() {
    let code = "CHUNK_FETCH_FAILED";
    let truncated = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    fails(damaged(truncated), code, "lacks its last 1 bytes");
    let no_media = |bytes: &mut Vec<u8>| {
        let media = find(bytes, b"mdat");
        bytes.drain(media.range);
    };
    fails(damaged(no_media), code, "not in its media data");
    let no_fragment = |bytes: &mut Vec<u8>| {
        let fragment = find(bytes, b"moof");
        bytes.drain(fragment.range);
    };
    fails(damaged(no_fragment), code, "no fragment");
    fails(damaged(Vec::clear), code, "no fragment");
    let stray = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(4).position(|kind| kind == b"tfhd").unwrap();
        bytes[at + 11] = 9;
    };
    fails(damaged(stray), code, "a track 9");
    let error_page = |bytes: &mut Vec<u8>| *bytes = b"<html>not found</html>".to_vec();
    fails(damaged(error_page), code, "damaged");
}

#[test]
fn segment_with_damaged_sample_is_refused() {
    let garbage = |bytes: &mut Vec<u8>| {
        let media = find(bytes, b"mdat").body;
        bytes[media.start + 2000..media.start + 12_000].fill(0xa5);
    };
    fails(damaged(garbage), "CHUNK_FETCH_FAILED", "make no sense");
}

#[test]
fn boxes_damaged_do_not_panic_or_hang() {
    let recording = made(H264, "320x180", 2);
    let whole = &recording.segments[0];
    let index = find(whole, b"mdat").body.start;
    let header = super::super::init_section::InitSection::parse(&recording.init_section).unwrap();
    for at in (0..index).step_by(3) {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] = value;
            // Either result will do.
            let _ = super::super::fragment::read_samples(&header, &bytes.into());
        }
    }
    for at in 0..recording.init_section.len() {
        for value in [0, 0xff] {
            let mut bytes = recording.init_section.to_vec();
            bytes[at] = value;
            let _ = super::super::init_section::InitSection::parse(&bytes.into());
        }
    }
}

#[test]
fn clip_without_media_is_refused() {
    let recording = recording(H264);
    let invalid = "INVALID_PLAYLIST";
    fails(Vec::new(), invalid, "empty");
    fails(recording.clip(0..0), invalid, "no segments");
    fails(recording.clip(0..1).split_off(1), invalid, "no header");
    let nonsense = init_section(&Bytes::from_static(b"\0\0\0\x08ftyp"));
    fails(vec![nonsense], invalid, "no moov");
    let page = init_section(&Bytes::from_static(b"<html>not found</html>"));
    fails(vec![page], invalid, "cannot be read");
    let mut trackless = recording.init_section.to_vec();
    while let Some(at) = trackless.windows(4).position(|w| w == b"trak") {
        trackless[at..at + 4].copy_from_slice(b"free");
    }
    fails(
        vec![init_section(&trackless.into())],
        invalid,
        "no audio and no video",
    );
}

#[test]
fn segments_with_gap_are_refused() {
    let recording = recording(H264);
    let mut clip = recording.clip(0..3);
    clip.remove(2);
    fails(clip, "CHUNK_FETCH_FAILED", "missing between two segments");
    let mut clip = recording.clip(0..2);
    clip.push(segment(&recording.segments[1]));
    fails(clip, "CHUNK_FETCH_FAILED", "goes back by");
}

#[test]
fn clip_shorter_than_playlist_is_refused() {
    let recording = recording(H264);
    let mut clip = recording.clip(0..2);
    for segment in &mut clip {
        segment.duration *= 2;
    }
    // The last segment of a recording is listed at full length.
    assert!(assemble(clip.clone(), None).is_ok());
    clip[1].duration = Duration::from_secs(9);
    fails(clip.clone(), "CHUNK_FETCH_FAILED", "the playlist says");
}
