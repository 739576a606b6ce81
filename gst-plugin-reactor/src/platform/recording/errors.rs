// SPDX-License-Identifier: MIT

//! The errors of a download. Pure functions. Never changes what is wrong with
//! an API key or a token: that is not the clip's fault.

use crate::platform::{Code, Error};

/// As it appears in [`Error::operation`].
pub(super) const OPERATION: &str = "clip";

/// An error of this clip.
pub(super) fn clip_error(code: Code, message: impl Into<String>) -> Error {
    Error::api(code, message).during(OPERATION)
}

/// Whether the error comes from requests for the clip, not for a token.
pub(super) fn is_of_clip(e: &Error) -> bool {
    e.operation == Some(OPERATION)
}

/// Whether a retry may succeed.
pub(super) fn is_transient(e: &Error) -> bool {
    match e.http_status {
        Some(status) => matches!(status, 408 | 429 | 500 | 502..=599),
        None => matches!(e.code, Code::NetworkError | Code::RequestTimeout),
    }
}

/// The error of a clip whose playlist cannot be fetched.
pub(super) fn playlist_failed(mut e: Error) -> Error {
    if !is_of_clip(&e) {
        return e;
    }
    match e.code {
        _ if matches!(e.http_status, Some(404 | 410)) => e.code = Code::ClipGone,
        Code::Unauthorized
        | Code::BadRequest
        | Code::InvalidPlaylist
        | Code::InvalidSettings
        | Code::Internal => {}
        _ => e.code = Code::PlaylistFetchFailed,
    }
    e
}

/// The error of a clip of which a segment cannot be fetched.
pub(super) fn segment_failed(mut e: Error) -> Error {
    if is_of_clip(&e) && !matches!(e.code, Code::Internal | Code::InvalidSettings) {
        e.code = Code::ChunkFetchFailed;
    }
    e
}
