// SPDX-License-Identifier: MIT

//! What a clip consists of.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// One part of a clip, as it lies on the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    pub kind: PieceKind,
    pub bytes: Bytes,
    /// How long it plays, by the playlist; nothing for a header.
    pub duration: Duration,
    /// Its timestamps do not go on from those of the piece before.
    pub discontinuity: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PieceKind {
    /// `EXT-X-MAP`: what the fragments that follow need to be understood (ftyp, moov).
    Header,
    /// A media segment: whole fragments (styp, sidx, moof, mdat).
    Segment,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece")
            .field("kind", &self.kind)
            .field("size", &self.bytes.len())
            .field("duration", &self.duration)
            .field("discontinuity", &self.discontinuity)
            .finish()
    }
}
