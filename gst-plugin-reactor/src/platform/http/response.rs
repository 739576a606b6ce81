// SPDX-License-Identifier: MIT

//! Responses that are read as a whole. Read in the task that sent the
//! request; the body never appears in a debug output.

use std::{fmt, time::Duration};

use reqwest::Response;
use serde_json::Value;

use super::{
    error::{protocol_error, status_error, transport_error},
    request::RequestContext,
};
use crate::platform::{Code, Error, secret::Secret};

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 4 << 20;

/// A successful (2xx) response.
pub struct HttpResponse {
    pub status: u16,
    body: Vec<u8>,
    context: RequestContext,
}

// The body may hold passwords and tokens.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("size", &self.body.len())
            .field("context", &self.context)
            .finish()
    }
}

impl HttpResponse {
    /// Reads a response with its body. Anything but a 2xx status is an error.
    pub(super) async fn read(response: Response, context: RequestContext) -> Result<Self, Error> {
        let status = response.status();
        if !status.is_success() {
            return Err(read_error(response, &context).await);
        }
        Ok(Self {
            status: status.as_u16(),
            body: read_body(response, &context.url, MAX_BODY).await?,
            context,
        })
    }

    /// The body as JSON, without the secret that the request carried.
    pub fn json(&self) -> Result<Value, Error> {
        let mut value = self.unredacted_json()?;
        if let Some(secret) = &self.context.secret {
            secret.redact_json(&mut value);
        }
        Ok(value)
    }

    /// The body as JSON, with whatever secret is in it.
    pub(in crate::platform) fn unredacted_json(&self) -> Result<Value, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|_| self.protocol_error("the answer is not JSON"))
    }

    /// The error for a response that does not follow the protocol.
    pub fn protocol_error(&self, what: &str) -> Error {
        protocol_error(&self.context, what).with_status(self.status)
    }

    /// The key or token that the request carried.
    pub(in crate::platform) fn request_secret(&self) -> Option<&Secret> {
        self.context.secret.as_ref()
    }
}

/// The error for a response whose status is no success.
pub(super) async fn read_error(response: Response, context: &RequestContext) -> Error {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_body(response, &context.url, MAX_BODY).await;
    status_error(context, status, &headers, &body.unwrap_or_default())
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(
    mut response: Response,
    url: &str,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let too_large = || {
        let message = format!("{url}: the answer is larger than {limit} bytes");
        Error::api(Code::DecodeFailed, message)
    };
    if response.content_length() > Some(limit as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let failed = |e| transport_error(url, &e);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The outcome of an exchange, or the error `late` if it takes longer.
pub(super) async fn within<T>(
    timeout: Duration,
    late: String,
    operation: &'static str,
    exchange: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let outcome = tokio::time::timeout(timeout, exchange).await;
    outcome
        .unwrap_or_else(|_| Err(Error::api(Code::RequestTimeout, late)))
        .map_err(|e| e.during(operation))
}
