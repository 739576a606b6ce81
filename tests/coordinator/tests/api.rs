// SPDX-License-Identifier: MIT

//! The API by itself, with no runtime behind it; what needs one is among the
//! end-to-end tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "api/client.rs"]
mod client;
#[path = "api/faults.rs"]
mod faults;
#[path = "api/sessions.rs"]
mod sessions;
#[path = "api/tokens.rs"]
mod tokens;
