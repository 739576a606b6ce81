// SPDX-License-Identifier: MIT

//! What goes wrong must arrive at the application as an error that a program
//! and a person can act on, in time, and leave nothing behind: no session on
//! the server, no pipeline that does not stop.

#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/health.rs"]
mod health;
#[path = "faults/http.rs"]
mod http;
#[path = "faults/server.rs"]
mod server;
#[path = "faults/settings.rs"]
mod settings;
#[path = "faults/support.rs"]
mod support;
