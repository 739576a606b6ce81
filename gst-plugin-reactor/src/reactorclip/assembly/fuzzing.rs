// SPDX-License-Identifier: MIT

//! Bodies of fuzz targets: a clip's header, its fragments, and the finished file.

use std::time::Duration;

use bytes::Bytes;

use super::{Assembly, Window, fragment, init_section::InitSection};
use crate::platform::{
    Error,
    mp4_boxes::{all_boxes, boxes},
    recording::{ClipSegment, SegmentKind},
};

/// The header of a recording of the local runtime, version 3.10: H.264 and AAC.
const HEADER: &[u8] = include_bytes!("../../../../fuzz/corpus/mp4_header/runtime");

/// What a playlist says of each segment of a recording, if it says anything.
const SEGMENT: Duration = Duration::from_secs(2);

/// An initialization section.
pub fn mp4_header(data: &[u8]) {
    start_gstreamer();
    if let Ok(header) = InitSection::parse(&Bytes::copy_from_slice(data)) {
        assert!(!header.tracks.is_empty());
        assert!(header.tracks.iter().all(|track| track.timescale > 0));
        assert!(header.check_continues(&header).is_ok());
    }
}

/// A media segment of a known header.
pub fn mp4_fragment(data: &[u8]) {
    start_gstreamer();
    let Ok(header) = InitSection::parse(&Bytes::from_static(HEADER)) else {
        unreachable!("the header is that of a recording");
    };
    let Ok(tracks) = fragment::read_samples(&header, &Bytes::copy_from_slice(data)) else {
        return;
    };
    let samples = tracks.iter().flatten();
    assert!(samples.clone().all(|sample| !sample.data.is_empty()));
    assert!(samples.count() <= data.len());
}

/// A whole clip up to the finished file: a fragmented MP4 that is cut into its header
/// and its fragments. The byte behind it says whether there is a window, a discontinuity
/// and a duration by the playlist.
pub fn mp4_clip(data: &[u8]) {
    start_gstreamer();
    let Some((options, data)) = data.split_last() else {
        return;
    };
    let duration = match options & 4 {
        0 => Duration::ZERO,
        _ => SEGMENT,
    };
    let window = (options & 1 != 0).then_some(Window {
        start: 0.1,
        end: 0.5,
    });
    let Ok(movie) = assemble(data, window, options & 2 != 0, duration) else {
        return;
    };
    let mut bytes = Vec::new();
    let mut file = movie.file;
    assert!(std::io::Read::read_to_end(&mut file, &mut bytes).is_ok());
    assert_eq!(bytes.len() as u64, movie.size);
    let layout = all_boxes(&bytes);
    assert!(layout.is_ok_and(|boxes| boxes.iter().any(|found| found.is(b"moov"))));
}

fn assemble(
    data: &[u8],
    window: Option<Window>,
    discontinuity: bool,
    duration: Duration,
) -> Result<super::AssembledMovie, Error> {
    let mut assembly = Assembly::begin(&std::env::temp_dir(), window)?;
    for (n, (kind, bytes)) in segments(data).into_iter().enumerate() {
        assembly.push(ClipSegment {
            kind,
            bytes: Bytes::copy_from_slice(bytes),
            duration,
            discontinuity: discontinuity && n == 2,
        })?;
    }
    assembly.finish()
}

/// A header ends with its moov, a media segment with an mdat. Boxes that cannot be read
/// belong to the last one.
fn segments(data: &[u8]) -> Vec<(SegmentKind, &[u8])> {
    let (mut segments, mut start) = (Vec::new(), 0);
    for found in boxes(data).map_while(Result::ok) {
        let kind = match found.is(b"moov") {
            true => SegmentKind::InitSection,
            false if found.is(b"mdat") => SegmentKind::Media,
            false => continue,
        };
        let end = found.range.end;
        segments.push((kind, &data[start..end]));
        start = end;
    }
    if start < data.len() {
        segments.push((SegmentKind::Media, &data[start..]));
    }
    segments
}

fn start_gstreamer() {
    assert!(gst::init().is_ok(), "GStreamer starts");
}
