// SPDX-License-Identifier: MIT

//! Frame metadata between the wire and the buffers: trailers are cut off what
//! arrives, and put behind what is sent.

use super::CAT;
use crate::{
    meta::FrameMeta,
    platform::trailer::{self, FrameMetadata},
    session::codecs::Codec,
};

/// rtph264depay's, always.
const NAL_LENGTH: usize = 4;

/// Cuts the trailer off an encoded frame and attaches what it says. `None` if
/// nothing of the frame is left.
pub(super) fn detach(mut buffer: gst::Buffer, caps: &gst::CapsRef) -> Option<gst::Buffer> {
    let found = {
        let map = buffer.map_readable().ok()?;
        trailer::split(&map)
    };
    let Some((size, metadata)) = found else {
        return Some(buffer);
    };
    if size == 0 {
        return None;
    }
    let trailer = buffer.size() - size;
    let is_avc = caps
        .structure(0)
        .is_some_and(|s| s.get("stream-format").is_ok_and(|f: &str| f == "avc"));
    let writable = buffer.make_mut();
    if is_avc {
        let mut map = writable.map_writable().ok()?;
        shorten_last_nal(&mut map, trailer);
    }
    // Shares the memory.
    writable.set_size(size);
    let meta = FrameMeta {
        frame_id: metadata.frame_id,
        capture_time_us: metadata.capture_time_us,
        user_data: metadata.user_data.into(),
    };
    if let Err(error) = meta.attach(writable) {
        gst::warning!(CAT, "{error}");
    }
    Some(buffer)
}

/// The trailer went into packets as the end of the last NAL unit; where these
/// have their lengths in front, the last one's counts it.
fn shorten_last_nal(frame: &mut [u8], by: usize) {
    let mut at = 0;
    while let Some(field) = frame.get(at..at + NAL_LENGTH) {
        let length = u32::from_be_bytes([field[0], field[1], field[2], field[3]]) as usize;
        let end = at + NAL_LENGTH + length;
        if end == frame.len() {
            let shorter = length.saturating_sub(by) as u32;
            frame[at..at + NAL_LENGTH].copy_from_slice(&shorter.to_be_bytes());
        }
        at = end;
    }
}

/// Whether frames of a codec get through a payloader with a trailer. Others
/// are taken apart there, and the trailer with them.
pub(super) fn fits(codec: &Codec) -> bool {
    matches!(codec.encoding_name, "VP8" | "VP9")
}

/// The trailer for an encoded frame, if something is attached to it.
pub fn trailer(buffer: &gst::BufferRef, number: u64) -> Option<gst::Memory> {
    let meta = FrameMeta::to_send(buffer, number)?;
    let metadata = FrameMetadata {
        frame_id: meta.frame_id,
        capture_time_us: meta.capture_time_us,
        user_data: meta.user_data.into(),
    };
    trailer::append(&metadata)
        .inspect_err(|error| gst::warning!(CAT, "frame {number} goes without: {error}"))
        .ok()
        .map(gst::Memory::from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> gst::Caps {
        text.parse().unwrap()
    }

    fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
        buffer.map_readable().unwrap().to_vec()
    }

    fn meta() -> FrameMeta {
        FrameMeta {
            frame_id: 7,
            capture_time_us: 8,
            user_data: b"user".to_vec(),
        }
    }

    /// A frame as it leaves the sender.
    fn tagged(frame: &[u8]) -> Vec<u8> {
        let mut buffer = gst::Buffer::from_slice(frame.to_vec());
        meta().attach(buffer.make_mut()).unwrap();
        let memory = trailer(&buffer, 0).unwrap();
        buffer.make_mut().append_memory(memory);
        bytes(&buffer)
    }

    #[test]
    fn what_is_put_behind_is_cut_off() {
        gst::init().unwrap();
        let vp8 = caps("video/x-vp8");
        let buffer = detach(gst::Buffer::from_slice(tagged(b"frame")), &vp8).unwrap();
        assert_eq!(bytes(&buffer), b"frame");
        assert_eq!(FrameMeta::from_buffer(&buffer), Some(meta()));
        // More than one memory, as a depayloader makes it.
        let all = tagged(b"frame");
        let mut pieces = gst::Buffer::new();
        for piece in all.chunks(7) {
            let memory = gst::Memory::from_slice(piece.to_vec());
            pieces.make_mut().append_memory(memory);
        }
        assert_eq!(bytes(&detach(pieces, &vp8).unwrap()), b"frame");
    }

    #[test]
    fn a_frame_without_a_trailer_stays_whole() {
        gst::init().unwrap();
        let vp8 = caps("video/x-vp8");
        let buffer = detach(gst::Buffer::from_slice(*b"xxxxRXMT"), &vp8).unwrap();
        assert_eq!(bytes(&buffer), b"xxxxRXMT");
        assert_eq!(FrameMeta::from_buffer(&buffer), None);
        let nothing = gst::Buffer::from_slice(tagged(b""));
        assert!(detach(nothing, &vp8).is_none());
    }

    #[test]
    fn the_length_of_the_last_nal_is_set_right() {
        gst::init().unwrap();
        let frame = b"\0\0\0\x02ab\0\0\0\x03cde";
        let mut sent = tagged(frame);
        let by = (sent.len() - frame.len()) as u8;
        sent[9] += by;
        let avc = caps("video/x-h264,stream-format=avc");
        let buffer = detach(gst::Buffer::from_slice(sent), &avc).unwrap();
        assert_eq!(bytes(&buffer), frame);
    }

    #[test]
    fn nothing_is_sent_of_what_is_not_attached_or_too_large() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(*b"frame");
        assert!(trailer(&buffer, 0).is_none());
        let large = FrameMeta {
            user_data: vec![0; trailer::MAX_USER_DATA + 1],
            ..meta()
        };
        large.attach(buffer.make_mut()).unwrap();
        assert!(trailer(&buffer, 0).is_none());
    }
}
