// SPDX-License-Identifier: MIT

//! What the elements share: properties, published state, bus messages, action
//! signals, and their membership in a session. Called by GStreamer's threads
//! (properties, state changes, events) and by each element's event thread.
//! Never talks to the network; that is done by `session`.

pub mod actions;
mod bus;
pub mod clip_structure;
pub mod clock_bridge;
pub mod command_children;
mod context;
mod control_actions;
mod debug;
pub mod errors;
pub mod event_thread;
pub mod gobject;
mod inherited_settings;
pub mod lifecycle;
mod membership;
mod navigation;
pub mod pad_children;
mod publish;
mod reply;
pub mod settings_pad;
mod state;
pub mod statistics;
mod status;
pub mod templates;
mod upload_progress;

pub use bus::{post, post_message, post_missing_plugin};
pub use context::SessionContext;
pub use membership::{SessionMembership, wait_session_closed};
pub use publish::Outcome;
pub use state::ElementState;
pub use status::Status;

pub use crate::session::{Guard, assert_unlocked, lock};
