// SPDX-License-Identifier: MIT

//! Responses whose body is read piece by piece. Read in the task that sent the
//! request; it never holds more than one piece unless asked for the whole.

use std::{fmt, time::Duration};

use bytes::Bytes;
use reqwest::{Response, header::HeaderName};
use tokio::time::timeout;

use super::{
    error::transport_error,
    request::RequestContext,
    response::{read_body, read_error, within},
};
use crate::platform::{Code, Error};

/// A successful (2xx) response whose body is still to come. Dropping it closes
/// the connection.
pub struct ResponseStream {
    response: Response,
    context: RequestContext,
}

impl fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStream")
            .field("status", &self.status())
            .field("context", &self.context)
            .finish()
    }
}

impl ResponseStream {
    /// Begins to read a response. Anything but a 2xx status is an error.
    pub(super) async fn open(response: Response, context: RequestContext) -> Result<Self, Error> {
        match response.status().is_success() {
            true => Ok(Self { response, context }),
            false => Err(read_error(response, &context).await),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header of the response, unless it is missing or not ASCII.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The size of the body in bytes, as announced.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece of the body, for which it waits no longer than
    /// `max_wait`; `None` at the end.
    pub async fn next_chunk(&mut self, max_wait: Duration) -> Result<Option<Bytes>, Error> {
        let url = &self.context.url;
        match timeout(max_wait, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|e| transport_error(url, &e)),
            Err(_) => {
                let message = format!("nothing more came from {url} within {max_wait:?}");
                Err(Error::api(Code::RequestTimeout, message))
            }
        }
        .map_err(|e| e.during(self.context.operation))
    }

    /// The rest of the body. Fails if that is more than `limit` bytes, or
    /// takes longer than `max_wait`.
    pub async fn read_to_end(self, limit: usize, max_wait: Duration) -> Result<Vec<u8>, Error> {
        let RequestContext { url, operation, .. } = &self.context;
        let late = format!("no complete answer from {url} within {max_wait:?}");
        let read = read_body(self.response, url, limit);
        within(max_wait, late, operation, read).await
    }
}
