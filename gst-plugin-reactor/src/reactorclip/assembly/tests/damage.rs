// SPDX-License-Identifier: MIT

//! Clips that are damaged or incomplete, of which no file is made.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{fragment::read_samples, init_section::InitSection},
    media::*,
};
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
    let header = InitSection::parse(&recording.init_section).unwrap();
    for at in (0..index).step_by(3) {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] = value;
            // Either result will do.
            let _ = read_samples(&header, &bytes.into());
        }
    }
    for at in 0..recording.init_section.len() {
        for value in [0, 0xff] {
            let mut bytes = recording.init_section.to_vec();
            bytes[at] = value;
            let _ = InitSection::parse(&bytes.into());
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
fn media_in_several_boxes_are_found() {
    let recording = recording(H264);
    let header = InitSection::parse(&recording.init_section).unwrap();
    let count = |bytes: &[u8]| {
        let samples = read_samples(&header, &Bytes::copy_from_slice(bytes));
        samples.map(|tracks| tracks.iter().map(Vec::len).sum::<usize>())
    };
    let segment = |begin| tiny_samples(10, begin).to_vec();
    let several = [segment(0), segment(10), segment(20)].concat();
    assert_eq!(count(&several).unwrap(), 30);
    // A sample does not go on in the next one.
    let whole = segment(0);
    let fragment = &whole[..whole.len() - 18];
    let halves = atom(b"mdat", &[0; 5]).repeat(2);
    let error = count(&[fragment, &halves[..]].concat()).unwrap_err();
    assert!(error.message.contains("not in its media data"), "{error}");
    let endless = [several, atom(b"mdat", &[]).repeat(1 << 16)].concat();
    let error = count(&endless).unwrap_err();
    assert!(error.message.contains("more than 65536 boxes"), "{error}");
}

#[test]
fn header_with_too_many_tracks_is_refused() {
    let recording = recording(H264);
    let whole = &recording.init_section;
    let moov = find(whole, b"moov");
    let children = moov.children().unwrap();
    let tracks: Vec<_> = children.iter().filter(|found| found.is(b"trak")).collect();
    let more = tracks[1].bytes().repeat(33 - tracks.len());
    let body = [&whole[moov.body.clone()], &more[..]].concat();
    let header = [&whole[..moov.range.start], &atom(b"moov", &body)[..]].concat();
    let clip = vec![init_section(&header.into())];
    fails(clip, "INVALID_PLAYLIST", "more than 32 tracks");
}

#[test]
fn samples_sharing_bytes_take_no_memory() {
    const COUNT: u32 = 6000;
    let recording = recording(H264);
    // Of the audio track: 1 byte and 1 tick for each sample; from the same byte each time.
    let tfhd = atom(b"tfhd", &numbers(&[0x02_0018, 2, 1, 1]));
    let tfdt = atom(b"tfdt", &numbers(&[0, 0]));
    let trun = |offset| atom(b"trun", &numbers(&[1, COUNT, offset]));
    let fragment = |runs: usize, offset: u32| {
        let traf = [tfhd.clone(), tfdt.clone(), trun(offset).repeat(runs)].concat();
        let moof = atom(b"moof", &atom(b"traf", &traf));
        let data = atom(b"mdat", &vec![0; COUNT as usize]);
        (
            u32::try_from(moof.len()).unwrap() + 8,
            [moof, data].concat(),
        )
    };
    for (runs, is_accepted) in [(1, true), (100, false)] {
        let (offset, _) = fragment(runs, 0);
        let (_, bytes) = fragment(runs, offset);
        let header = InitSection::parse(&recording.init_section).unwrap();
        let samples = read_samples(&header, &bytes.into());
        assert_eq!(samples.is_ok(), is_accepted, "{runs}");
        if let Err(error) = samples {
            assert!(error.message.contains("more samples than"), "{error}");
        }
    }
}

#[test]
fn times_beyond_all_bounds_are_refused() {
    let late = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(4).position(|kind| kind == b"tfdt").unwrap();
        bytes[at + 8..at + 16].copy_from_slice(&(1u64 << 49).to_be_bytes());
    };
    fails(damaged(late), "CHUNK_FETCH_FAILED", "beyond all bounds");
    let mut clip = recording(H264).clip(0..2);
    clip[1].duration = Duration::MAX;
    fails(clip.clone(), "CHUNK_FETCH_FAILED", "the playlist says");
    clip[2].duration = Duration::MAX;
    clip[2] = discontinuous(clip[2].clone());
    assert!(assemble(clip, Some((0.0, 1e300))).is_ok());
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
