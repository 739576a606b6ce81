// SPDX-License-Identifier: MIT

//! `reactorclip` against recordings of the real local runtime.

mod playlists;
