// SPDX-License-Identifier: MIT

//! The Reactor platform on the wire: HTTP, signaling, and the messages of the
//! two data channels. Called by `session` and the elements; it never imports them,
//! and names no GStreamer type.

pub mod auth;
pub mod command_content;
pub mod commands;
pub mod coordinator;
pub mod endpoint;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod json_text;
mod local_file;
pub mod mp4_boxes;
pub mod navigation;
pub mod recording;
pub mod schema;
pub mod sdp;
pub mod secret;
pub mod signaling;
pub mod track;
pub mod trailer;
pub mod upload;
mod url_policy;
pub mod wire;

pub use error::{Code, Error, ErrorClass, Failure};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a panic elsewhere: no lock guards a half-made change.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
