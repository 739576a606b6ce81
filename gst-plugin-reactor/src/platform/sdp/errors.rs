// SPDX-License-Identifier: MIT

//! The errors of SDP negotiation, with the operation `sdp_params`. Pure.

use crate::platform::{Code, Error};

fn error(code: Code, message: impl Into<String>) -> Error {
    Error::gpu(code, message).during("sdp_params")
}

pub(super) fn unusable_offer(what: &str) -> Error {
    error(Code::Internal, format!("unusable offer: {what}"))
}

/// The error for an answer that breaks the rules.
pub(super) fn malformed_answer(what: &str) -> Error {
    let message = format!("the server's SDP answer is unusable: {what}");
    error(Code::DecodeFailed, message)
}

/// The error for a framing of data-channel messages that is not known here.
pub(super) fn unknown_framing(version: &str) -> Error {
    let message = format!(
        "the server frames data-channel messages in an unknown way (version \"{version}\")"
    );
    error(Code::VersionMismatch, message)
}

/// The error for a track that the server rejects.
pub(super) fn rejected_track(message: String) -> Error {
    error(Code::TrackRejected, message)
}

/// The error for an answer without usable data channels.
pub(super) fn no_data_channels(why: &str) -> Error {
    let message = format!("the server takes no data channels ({why})");
    error(Code::TransportError, message)
}

/// The error for a certificate that is not the announced one.
pub(super) fn identity_mismatch(what: &str) -> Error {
    error(Code::IdentityMismatch, what)
}

pub(super) fn ambiguous_identity() -> Error {
    identity_mismatch("the answer announces more than one certificate")
}
