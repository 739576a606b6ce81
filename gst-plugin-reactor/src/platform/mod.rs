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
mod lock;
#[cfg(debug_assertions)]
mod lock_order;
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
pub mod url_policy;
pub mod wire;

pub use error::{Code, Error, ErrorClass, Failure};
pub use lock::{Guard, assert_unlocked, lock};
