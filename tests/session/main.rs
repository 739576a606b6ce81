// SPDX-License-Identifier: MIT

//! One session: elements that share it, commands and messages, and what the process holds after
//! many sessions.

mod commands;
mod resources;
mod sharing;
