// SPDX-License-Identifier: MIT

//! The segments that a clip consists of, as values. Shared with the element
//! that saves them; never refers to a server.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// A segment of a clip, as it is on the server.
#[derive(Clone, PartialEq, Eq)]
pub struct ClipSegment {
    pub kind: SegmentKind,
    pub bytes: Bytes,
    /// EXTINF of the playlist; 0 for an initialization section.
    pub duration: Duration,
    /// EXT-X-DISCONTINUITY: its timestamps do not continue those of the
    /// segment before.
    pub discontinuity: bool,
}

/// RFC 8216, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// A media initialization section (EXT-X-MAP): what the fragments that
    /// follow need to be decoded (ftyp, moov).
    InitSection,
    /// A media segment: complete fragments (styp, sidx, moof, mdat).
    Media,
}

impl fmt::Debug for ClipSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClipSegment")
            .field("kind", &self.kind)
            .field("size", &self.bytes.len())
            .field("duration", &self.duration)
            .field("discontinuity", &self.discontinuity)
            .finish()
    }
}
