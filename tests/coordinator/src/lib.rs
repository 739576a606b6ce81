// SPDX-License-Identifier: MIT

//! Stands in for the cloud's coordinator: it speaks the HTTP face of the
//! Reactor platform (tokens, sessions, signaling, uploads, clips) and hands
//! the rest to a real local runtime, which has one GPU to give, so to speak.
//!
//! By hand, next to a runtime:
//!
//! ```text
//! examples/models/serve.sh run --port 8080
//! cargo run -p reactor-coordinator -- --runtime http://127.0.0.1:8080 --api-key rk_test
//! ```
//!
//! and the official client is pointed at it with
//! `Reactor("playground", api_key="rk_test", api_url="http://127.0.0.1:9080")`.
//! What it was asked, what it serves and how it misbehaves is under
//! `/_coordinator` (see [`admin`]); `--help` lists what else can be set.
//!
//! What the platform answers where its clients do not look (the bodies of
//! refusals, and some status codes) is not known; this says which it chose in
//! the place where it does.

pub mod admin;
mod clips;
mod coordinator;
mod gpu;
pub mod ledger;
pub mod log;
mod presign;
mod refusal;
pub mod routes;
pub mod rules;
mod scope;
mod sessions;
pub mod settings;
mod shared;
mod signaling;
pub mod socket;
mod storage;
mod tokens;
pub mod upstream;

pub use coordinator::Coordinator;
pub use ledger::{End, Entry, State};
pub use log::{Face, Seen, digest};
pub use routes::Route;
pub use rules::Rule;
pub use settings::{Settings, Waiting};
