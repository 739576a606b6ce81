// SPDX-License-Identifier: MIT

//! The callbacks that receive the replies to requests. Each is called once, on
//! the driver's task or the command queue's: it must hand over and return.

use crate::platform::{
    Code, Error,
    wire::{FileRef, ServerMessage},
};

/// Receives the server's reply to a request.
pub type ReplyCallback = Box<dyn FnOnce(Result<ServerMessage, Error>) + Send>;

/// Receives the reference to an uploaded file.
pub type UploadCallback = Box<dyn FnOnce(Result<FileRef, Error>) + Send>;

/// The error for a request to a session that is closed.
pub(super) fn closed_error() -> Error {
    Error::gpu(Code::InvalidState, "the session is closed")
}
