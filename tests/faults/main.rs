// SPDX-License-Identifier: MIT

//! Errors must reach the application in time, as messages that a program and a person can act on,
//! and leave nothing behind: no session on the server, no pipeline that does not stop.

mod answers;
mod clock;
mod disk;
mod dns;
mod health;
mod hostile_peer;
mod http;
mod limits;
mod memory;
mod server;
mod settings;
mod support;
mod suspended;
