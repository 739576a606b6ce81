// SPDX-License-Identifier: MIT

//! Fuzz targets: each takes any bytes as what a server, a network or a user gives, and
//! panics where that breaks a promise. The bodies stand in the rooms whose code they
//! try (`fuzzing.rs`); `fuzz/` runs them with libFuzzer, and `tests.rs` for some time
//! with proptest. Not compiled otherwise, and not published.

#[cfg(test)]
mod tests;

pub use crate::{
    platform::{
        fuzzing::{capabilities, commands, frame_trailer, navigation, schema},
        recording::fuzzing::playlist,
        wire::fuzzing::{frames, message},
    },
    reactorclip::fuzzing::{mp4_clip, mp4_fragment, mp4_header},
    reactorsrc::fuzzing::uri,
    session::fuzzing::{ice_servers, redundancy, sdp_answer},
};
