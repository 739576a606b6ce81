// SPDX-License-Identifier: MIT

//! Access units of H.264 without a picture: rtph264pay (GStreamer 1.26) sets the
//! marker bit of the parameter sets that it sends at a request for a keyframe, so
//! that they arrive as a unit of their own. A muxer would make a sample of it,
//! which decoders complain about. They belong to the next picture.
//!
//! And NAL units that no picture needs: a server could crash this process with some of
//! them. h264parse 1.26.2 crashes at bytes behind the one byte of an end of sequence or
//! of stream (1.29.2 reads no differently, 1.22 ends the stream), and GStreamer before
//! 1.28.2 at a subset sequence parameter set (ITU-T H.264, annex G) that is cut short.

use std::ops::RangeInclusive;

/// The most that waits for a picture, in bytes. A sequence and a picture parameter
/// set have less than 100.
const MAX_WAITING: usize = 64 << 10;

/// The types of NAL units that go on: coded slices, supplemental enhancement information,
/// parameter sets and delimiters (ITU-T H.264, table 7-1).
const NEEDED: RangeInclusive<u8> = 1..=9;

/// Leaves out what no picture needs, and puts what has no picture before the next unit
/// that has one.
#[derive(Debug, Default)]
pub(super) struct PictureJoiner(Vec<gst::Memory>);

impl PictureJoiner {
    /// Takes a unit as a byte stream (ITU-T H.264, annex B). Returns it once there
    /// is a picture.
    pub(super) fn join(&mut self, mut unit: gst::Buffer) -> Option<gst::Buffer> {
        let read = unit
            .map_readable()
            .map(|data| (has_picture(&data), without_useless(&data)));
        // What cannot be read is not changed.
        let (has_picture, needed) = read.unwrap_or((true, None));
        if let Some(needed) = needed {
            let unit = unit.make_mut();
            unit.remove_all_memory();
            unit.append_memory(gst::Memory::from_slice(needed));
        }
        if has_picture {
            for memory in self.0.drain(..).rev() {
                unit.make_mut().prepend_memory(memory);
            }
            return Some(unit);
        }
        let memories = unit.iter_memories_owned();
        self.0.extend(memories.filter(|memory| memory.size() > 0));
        if self.0.iter().map(|memory| memory.size()).sum::<usize>() > MAX_WAITING {
            self.0.clear();
        }
        None
    }
}

/// Whether there is a coded slice (ITU-T H.264, table 7-1).
fn has_picture(stream: &[u8]) -> bool {
    nal_units(stream).any(|(kind, _)| (1..=5).contains(&kind))
}

/// The NAL units that are [`NEEDED`], if there are others.
fn without_useless(stream: &[u8]) -> Option<Vec<u8>> {
    let needed = nal_units(stream).filter(|(kind, _)| NEEDED.contains(kind));
    let bytes = || needed.map(|(_, bytes)| bytes).collect::<Vec<_>>().concat();
    let is_useless = |(kind, _)| !NEEDED.contains(&kind);
    nal_units(stream).any(is_useless).then(bytes)
}

/// The type of each NAL unit, and its bytes with the start code of three bytes.
fn nal_units(stream: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let is_start = |at: &usize| stream[*at..].starts_with(&[0, 0, 1]);
    let mut starts = (0..stream.len().saturating_sub(3))
        .filter(is_start)
        .peekable();
    std::iter::from_fn(move || {
        let start = starts.next()?;
        let end = starts.peek().copied().unwrap_or(stream.len());
        Some((stream[start + 3] & 0x1f, &stream[start..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETER_SETS: [u8; 13] = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 1, 0x68, 0xce, 0x38];
    const PICTURE: [u8; 7] = [0, 0, 0, 1, 0x65, 0x88, 0x84];

    fn unit(data: &[u8], milliseconds: u64) -> gst::Buffer {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(data.to_vec());
        let time = gst::ClockTime::from_mseconds(milliseconds);
        buffer.get_mut().unwrap().set_pts(time);
        buffer
    }

    fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
        buffer.map_readable().unwrap().to_vec()
    }

    #[test]
    fn parameter_sets_come_with_the_next_picture() {
        let mut joiner = PictureJoiner::default();
        let alone = joiner.join(unit(&PICTURE, 1)).unwrap();
        assert_eq!(bytes(&alone), PICTURE);
        for _ in 0..2 {
            assert!(joiner.join(unit(&PARAMETER_SETS, 2)).is_none());
        }
        let joined = joiner.join(unit(&PICTURE, 3)).unwrap();
        let expected = [&PARAMETER_SETS[..], &PARAMETER_SETS, &PICTURE].concat();
        assert_eq!(bytes(&joined), expected);
        assert_eq!(joined.pts(), Some(gst::ClockTime::from_mseconds(3)));
        let next = joiner.join(unit(&PICTURE, 4)).unwrap();
        assert_eq!(bytes(&next), PICTURE);
    }

    #[test]
    fn what_no_picture_needs_is_left_out() {
        let mut joiner = PictureJoiner::default();
        for kind in [0, 10, 11, 12, 14, 15, 20, 24, 31] {
            for more in [&[][..], &[0], &[0x55; 6], &[0x55, 0, 0, 1]] {
                let useless = [&[0, 0, 1, 0x60 | kind], more].concat();
                let unit = unit(&[&useless, &PICTURE[..], &useless, &PICTURE].concat(), 1);
                let joined = joiner.join(unit).unwrap();
                assert_eq!(bytes(&joined), [&PICTURE[1..], &PICTURE[1..]].concat());
                assert_eq!(joined.pts(), Some(gst::ClockTime::from_mseconds(1)));
            }
        }
        assert!(joiner.join(unit(&[0, 0, 1, 10], 1)).is_none());
        assert_eq!(bytes(&joiner.join(unit(&PICTURE, 2)).unwrap()), PICTURE);
    }

    #[test]
    fn what_pictures_need_is_not_changed() {
        let mut joiner = PictureJoiner::default();
        let kinds = 1..=9;
        let nal_units = kinds.flat_map(|kind| [0, 0, 0, 1, 0x60 | kind, 0x55, 0, 0x80]);
        let whole: Vec<u8> = nal_units.collect();
        assert_eq!(bytes(&joiner.join(unit(&whole, 3)).unwrap()), whole);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut joiner = PictureJoiner::default();
        assert!(joiner.join(unit(&[0, 0, 1, 10], 0)).is_none());
        assert_eq!(joiner.0.len(), 0);
        for _ in 0..100 {
            assert!(joiner.join(unit(&[0; 10_000], 0)).is_none());
        }
        let size = joiner.join(unit(&PICTURE, 0)).unwrap().size();
        assert!(size <= MAX_WAITING + PICTURE.len(), "{size}");
    }
}
