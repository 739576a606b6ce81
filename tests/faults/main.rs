// SPDX-License-Identifier: MIT

//! What goes wrong must arrive at the application as an error that a program
//! and a person can act on, in time, and leave nothing behind: no session on
//! the server, no pipeline that does not stop.

mod answers;
mod health;
mod http;
mod server;
mod settings;
mod support;
