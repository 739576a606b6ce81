// SPDX-License-Identifier: MIT

//! Access units of H.264 without a picture: rtph264pay (GStreamer 1.26) sets the
//! marker bit of the parameter sets that it sends at a request for a keyframe, so
//! that they arrive as a unit of their own. A muxer would make a sample of it,
//! which decoders complain about. They belong to the next picture.

/// The most that waits for a picture, in bytes. A sequence and a picture parameter
/// set have less than 100.
const MAX_WAITING: usize = 64 << 10;

/// Puts what has no picture before the next unit that has one.
#[derive(Debug, Default)]
pub(super) struct PictureJoiner(Vec<gst::Memory>);

impl PictureJoiner {
    /// Takes a unit as a byte stream (ITU-T H.264, annex B). Returns it once there
    /// is a picture.
    pub(super) fn join(&mut self, mut unit: gst::Buffer) -> Option<gst::Buffer> {
        // What cannot be read is not changed.
        let has_picture = unit.map_readable().map_or(true, |data| has_picture(&data));
        if has_picture {
            for memory in self.0.drain(..).rev() {
                unit.make_mut().prepend_memory(memory);
            }
            return Some(unit);
        }
        self.0.extend(unit.iter_memories_owned());
        if self.0.iter().map(|memory| memory.size()).sum::<usize>() > MAX_WAITING {
            self.0.clear();
        }
        None
    }
}

/// Whether there is a coded slice (ITU-T H.264, table 7-1).
fn has_picture(stream: &[u8]) -> bool {
    let nal_units = stream
        .windows(4)
        .filter(|bytes| bytes.starts_with(&[0, 0, 1]));
    nal_units
        .map(|bytes| bytes[3] & 0x1f)
        .any(|kind| (1..=5).contains(&kind))
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
    fn what_waits_is_bounded() {
        let mut joiner = PictureJoiner::default();
        for _ in 0..100 {
            assert!(joiner.join(unit(&[0; 10_000], 0)).is_none());
        }
        let size = joiner.join(unit(&PICTURE, 0)).unwrap().size();
        assert!(size <= MAX_WAITING + PICTURE.len(), "{size}");
    }
}
