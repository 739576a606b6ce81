// SPDX-License-Identifier: MIT

//! Frame metadata: a trailer at the end of an encoded frame, added before the
//! frame is packetized for RTP. Pure functions, called on streaming threads; they
//! copy no media.
//!
//! The layout, as runtime 3.10 writes it: the frame's own bytes, then
//! [`FrameMetadata`] as protobuf, then the length of that as 32 bits, little
//! end first, then `RXMT`. It is sent only to a side that declared
//! [`ATTRIBUTE`], and only on frames that have something attached.

use bytes::Bytes;
use prost::Message;

use super::{Code, Error};

#[cfg(test)]
mod tests;

/// The attribute of the session in an SDP by which a side says that it takes
/// trailers off: a line `a=` and this.
pub const ATTRIBUTE: &str = "x-reactor-frame-metadata:1";

/// The most user data that [`encode`] attaches to a frame, in bytes.
/// This client's own limit: it goes out with every frame it is attached to.
pub const MAX_USER_DATA: usize = 60 << 10;

const MAGIC: &[u8; 4] = b"RXMT";

/// The length and the magic, in bytes.
const FOOTER: usize = 8;

/// What is attached to a frame.
#[derive(Clone, PartialEq, Message)]
pub struct FrameMetadata {
    /// Counts the frames of a track from 0.
    #[prost(uint64, tag = "1")]
    pub frame_id: u64,
    /// When the frame was made, in microseconds of a monotonic clock of the
    /// sender's: only differences mean something. 0 is unknown.
    #[prost(uint64, tag = "2")]
    pub capture_time_us: u64,
    /// Whatever the sender attached. Empty if it did not.
    #[prost(bytes = "bytes", tag = "3")]
    pub user_data: Bytes,
}

/// Finds the trailer of an encoded frame: how many bytes, from the start, are
/// the frame itself, and what was attached.
///
/// `None` if there is no trailer. That includes an end that only looks like
/// one, whose length is beyond the frame or whose contents cannot be read: a
/// frame may end in any bytes, and must then be left whole. The frame itself
/// may be empty (0) if the bytes are a trailer and nothing else.
pub fn split(frame: &[u8]) -> Option<(usize, FrameMetadata)> {
    let (rest, magic) = frame.split_last_chunk::<4>()?;
    if magic != MAGIC {
        return None;
    }
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let end = rest.len().checked_sub(length)?;
    let metadata = FrameMetadata::decode(rest.get(end..)?).ok()?;
    Some((end, metadata))
}

/// The trailer to be put behind an encoded frame.
///
/// Fails with [`Code::MessageTooLarge`] if there is more data of the user's
/// than [`MAX_USER_DATA`].
pub fn encode(metadata: &FrameMetadata) -> Result<Vec<u8>, Error> {
    let size = metadata.user_data.len();
    if size > MAX_USER_DATA {
        let message = format!(
            "{size} bytes are too much to attach to a frame; at most {MAX_USER_DATA} are allowed"
        );
        return Err(Error::gpu(Code::MessageTooLarge, message).during("frame_metadata"));
    }
    let mut trailer = Vec::with_capacity(metadata.encoded_len() + FOOTER);
    trailer.extend(metadata.encode_to_vec());
    // The limit above keeps it far below 2^32.
    let length = u32::try_from(trailer.len()).unwrap_or_default();
    trailer.extend(length.to_le_bytes());
    trailer.extend(MAGIC);
    Ok(trailer)
}
