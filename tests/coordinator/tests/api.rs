// SPDX-License-Identifier: MIT

//! The API by itself, with no runtime behind it; what needs one is among the
//! end-to-end tests.

// Where clippy.toml's in-tests rules apply: to the helpers here as well.
#![cfg(test)]

#[path = "api/client.rs"]
mod client;
#[path = "api/faults.rs"]
mod faults;
#[path = "api/sessions.rs"]
mod sessions;
#[path = "api/tokens.rs"]
mod tokens;
