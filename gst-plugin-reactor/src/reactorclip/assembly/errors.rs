// SPDX-License-Identifier: MIT

//! The errors of an assembly. Pure functions.

use crate::platform::{Code, Error};

/// A segment is damaged or missing.
pub(super) fn corrupt(text: impl Into<String>) -> Error {
    Error::api(Code::ChunkFetchFailed, text)
}

/// The playlist or an initialization section is not that of a clip.
pub(super) fn invalid(text: impl Into<String>) -> Error {
    Error::api(Code::InvalidPlaylist, text)
}

/// Undamaged media that cannot be in an ordinary MP4.
pub(super) fn unsupported(text: impl std::fmt::Display) -> Error {
    let text = format!("{text}; format=fragmented saves it as it is");
    Error::api(Code::UnsupportedMedia, text)
}

pub(super) fn aborted() -> Error {
    Error::api(Code::Aborted, "putting the clip together was cancelled")
}
