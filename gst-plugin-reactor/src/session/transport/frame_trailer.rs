// SPDX-License-Identifier: MIT

//! Frame metadata: converts trailers of encoded frames to `FrameMeta` on buffers,
//! and back. Runs on the streaming threads of the transport (receiving) and of
//! the elements (sending). It keeps no state, and knows no trailer's layout.

use super::handles::CAT;
use crate::{
    meta::FrameMeta,
    platform::trailer::{self, FrameMetadata},
    session::codecs::Codec,
};

/// The length field of rtph264depay's NAL units, in bytes, in 1.22 and later.
const NAL_LENGTH_BYTES: usize = 4;

/// Removes the trailer of an encoded frame and attaches its metadata. `None` if
/// the frame is nothing but a trailer.
pub(super) fn strip(mut buffer: gst::Buffer, caps: &gst::CapsRef) -> Option<gst::Buffer> {
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
    // Keeps the memory, without copying it.
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

/// The trailer was packetised as the end of the last NAL unit. In
/// stream-format=avc a length precedes each unit, and the last one includes it.
fn shorten_last_nal(frame: &mut [u8], trailer_bytes: usize) {
    let mut at = 0;
    while let Some(field) = frame.get(at..at + NAL_LENGTH_BYTES) {
        let length = u32::from_be_bytes([field[0], field[1], field[2], field[3]]) as usize;
        let end = at + NAL_LENGTH_BYTES + length;
        if end == frame.len() {
            let shorter = length.saturating_sub(trailer_bytes) as u32;
            frame[at..at + NAL_LENGTH_BYTES].copy_from_slice(&shorter.to_be_bytes());
        }
        at = end;
    }
}

/// Whether the codec's payloader keeps a trailer. Others split a frame into its
/// units, and lose the trailer.
pub(super) fn is_kept_by(codec: &Codec) -> bool {
    matches!(codec.encoding_name, "VP8" | "VP9")
}

/// The trailer for an encoded frame, if metadata is attached to it.
pub(super) fn write(buffer: &gst::BufferRef, number: u64) -> Option<gst::Memory> {
    let meta = FrameMeta::to_send(buffer, number)?;
    let metadata = FrameMetadata {
        frame_id: meta.frame_id,
        capture_time_us: meta.capture_time_us,
        user_data: meta.user_data.into(),
    };
    trailer::encode(&metadata)
        .inspect_err(|error| gst::warning!(CAT, "frame {number} is sent without metadata: {error}"))
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

    /// A frame with a trailer, as it is sent.
    fn with_trailer(frame: &[u8]) -> Vec<u8> {
        let mut buffer = gst::Buffer::from_slice(frame.to_vec());
        meta().attach(buffer.make_mut()).unwrap();
        let memory = write(&buffer, 0).unwrap();
        buffer.make_mut().append_memory(memory);
        bytes(&buffer)
    }

    #[test]
    fn written_trailer_is_stripped_and_attached() {
        gst::init().unwrap();
        let vp8 = caps("video/x-vp8");
        let buffer = strip(gst::Buffer::from_slice(with_trailer(b"frame")), &vp8).unwrap();
        assert_eq!(bytes(&buffer), b"frame");
        assert_eq!(FrameMeta::from_buffer(&buffer), Some(meta()));
        // Several memories, as a depayloader makes them.
        let all = with_trailer(b"frame");
        let mut pieces = gst::Buffer::new();
        for piece in all.chunks(7) {
            let memory = gst::Memory::from_slice(piece.to_vec());
            pieces.make_mut().append_memory(memory);
        }
        assert_eq!(bytes(&strip(pieces, &vp8).unwrap()), b"frame");
    }

    #[test]
    fn frame_without_trailer_stays_whole() {
        gst::init().unwrap();
        let vp8 = caps("video/x-vp8");
        let buffer = strip(gst::Buffer::from_slice(*b"xxxxRXMT"), &vp8).unwrap();
        assert_eq!(bytes(&buffer), b"xxxxRXMT");
        assert_eq!(FrameMeta::from_buffer(&buffer), None);
        let nothing = gst::Buffer::from_slice(with_trailer(b""));
        assert!(strip(nothing, &vp8).is_none());
    }

    #[test]
    fn avc_frame_loses_trailer_from_last_nal_length() {
        gst::init().unwrap();
        let frame = b"\0\0\0\x02ab\0\0\0\x03cde";
        let mut sent = with_trailer(frame);
        let by = (sent.len() - frame.len()) as u8;
        sent[9] += by;
        let avc = caps("video/x-h264,stream-format=avc");
        let buffer = strip(gst::Buffer::from_slice(sent), &avc).unwrap();
        assert_eq!(bytes(&buffer), frame);
    }

    #[test]
    fn metadata_missing_or_too_large_writes_no_trailer() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::from_slice(*b"frame");
        assert!(write(&buffer, 0).is_none());
        let large = FrameMeta {
            user_data: vec![0; trailer::MAX_USER_DATA + 1],
            ..meta()
        };
        large.attach(buffer.make_mut()).unwrap();
        assert!(write(&buffer, 0).is_none());
    }
}
