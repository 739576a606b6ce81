// SPDX-License-Identifier: MIT

//! The API without a runtime behind it; tests that need one are in `tests/cloud/coordinator.rs`.

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
