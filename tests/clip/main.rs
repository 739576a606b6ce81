// SPDX-License-Identifier: MIT

//! `reactorclip` against recordings of the real local runtime.

mod live_sessions;
mod playlists;
