// SPDX-License-Identifier: MIT

//! An HTTP client for the real runtime.

use anyhow::Result;
use axum::{
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

/// A runtime, by its base URL.
#[derive(Debug, Clone)]
pub struct Upstream {
    base: String,
    client: reqwest::Client,
}

/// A reply of the runtime.
#[derive(Debug)]
pub struct UpstreamReply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl UpstreamReply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl IntoResponse for UpstreamReply {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

impl Upstream {
    pub fn new(url: &str) -> Result<Self> {
        // The runtime closes idle connections at any moment.
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// Forwards a request; `path` includes the query.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> reqwest::Result<UpstreamReply> {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let reply = request
            .headers(end_to_end(headers))
            .body(body)
            .send()
            .await?;
        Ok(UpstreamReply {
            status: reply.status(),
            headers: end_to_end(reply.headers()),
            body: reply.bytes().await?,
        })
    }
}

/// Without hop-by-hop headers, and without those of the original body.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}
