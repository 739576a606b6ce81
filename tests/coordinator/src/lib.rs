// SPDX-License-Identifier: MIT

//! A stand-in for the cloud's coordinator: it implements the HTTP API of the Reactor platform
//! (tokens, sessions, signaling, uploads, clips) and hands media to a real local runtime, which
//! counts as its one GPU.
//!
//! To run it by hand, next to a runtime:
//!
//! ```text
//! examples/models/serve.sh run --port 8080
//! cargo run -p reactor-coordinator -- --runtime http://127.0.0.1:8080 --api-key rk_test
//! ```
//!
//! and the official client is pointed at it with
//! `Reactor("playground", api_key="rk_test", api_url="http://127.0.0.1:9080")`.
//! Its log, its ledger and its rules are below `/_coordinator` (see [`admin`]); `--help` lists the
//! other options.
//!
//! Where the platform's clients do not look (the bodies of refusals, some status codes), its
//! answers are not known; a comment marks each place where one was chosen.

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
pub use ledger::{LedgerEntry, SessionEnd, SessionState};
pub use log::{Endpoint, RecordedRequest, digest};
pub use routes::ApiRoute;
pub use rules::Rule;
pub use settings::{CoordinatorSettings, GpuWait};
