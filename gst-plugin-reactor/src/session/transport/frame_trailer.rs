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

/// Removes the trailer of an encoded frame and attaches its metadata. `None` if
/// the frame is nothing but a trailer.
pub(super) fn strip(mut buffer: gst::Buffer) -> Option<gst::Buffer> {
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
    let writable = buffer.make_mut();
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
        let buffer = strip(gst::Buffer::from_slice(with_trailer(b"frame"))).unwrap();
        assert_eq!(bytes(&buffer), b"frame");
        assert_eq!(FrameMeta::from_buffer(&buffer), Some(meta()));
        // Several memories, as a depayloader makes them.
        let all = with_trailer(b"frame");
        let mut pieces = gst::Buffer::new();
        for piece in all.chunks(7) {
            let memory = gst::Memory::from_slice(piece.to_vec());
            pieces.make_mut().append_memory(memory);
        }
        assert_eq!(bytes(&strip(pieces).unwrap()), b"frame");
    }

    #[test]
    fn frame_without_trailer_stays_whole() {
        gst::init().unwrap();
        let buffer = strip(gst::Buffer::from_slice(*b"xxxxRXMT")).unwrap();
        assert_eq!(bytes(&buffer), b"xxxxRXMT");
        assert_eq!(FrameMeta::from_buffer(&buffer), None);
        let nothing = gst::Buffer::from_slice(with_trailer(b""));
        assert!(strip(nothing).is_none());
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
