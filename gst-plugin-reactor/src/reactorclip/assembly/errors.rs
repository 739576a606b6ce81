// SPDX-License-Identifier: MIT

//! What can go wrong when a clip is put together.

use crate::platform::{Code, Error};

/// A segment is not what it should be.
pub(super) fn corrupt(text: impl Into<String>) -> Error {
    Error::api(Code::ChunkFetchFailed, text)
}

/// The clip as a whole is not what it should be.
pub(super) fn invalid(text: impl Into<String>) -> Error {
    Error::api(Code::InvalidPlaylist, text)
}

/// Sound media that cannot be in an ordinary MP4.
pub(super) fn unsupported(text: impl std::fmt::Display) -> Error {
    let text = format!("{text}; format=fragmented saves it as it is");
    Error::api(Code::UnsupportedMedia, text)
}

pub(super) fn aborted() -> Error {
    Error::api(Code::Aborted, "putting the clip together was cancelled")
}
