// SPDX-License-Identifier: MIT

//! One session: elements that share it, commands and messages, and the resources of a process after
//! many sessions.

mod command_children;
mod commands;
mod control_bindings;
mod hammer;
mod replies;
mod resources;
mod second_client;
mod sharing;
mod statistics;
