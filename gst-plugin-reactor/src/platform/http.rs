// SPDX-License-Identifier: MIT

//! HTTP to the platform's servers: the one place that sends requests and turns
//! each failure into an [`super::Error`]. Called from tasks of the tokio
//! runtime; it never follows a redirect, and never puts a secret in a message.

mod authorities;
mod client;
mod error;
mod exchange;
mod request;
mod response;
mod response_stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;

pub use client::{HTTP_TIMEOUT, HttpClient};
pub(super) use error::parse_retry_after;
pub use exchange::{Exchange, observe_exchanges};
pub use request::{API_HEADERS, Credential, HttpRequest, ServerRole, StaticHeader, StreamRequest};
pub use response::HttpResponse;
pub use response_stream::ResponseStream;
pub(crate) use text::sanitize;
pub(super) use text::{append_path, display_url, is_loopback};
