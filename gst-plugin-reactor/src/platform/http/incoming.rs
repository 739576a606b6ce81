// SPDX-License-Identifier: MIT

//! Answers that are read bit by bit.

use std::{fmt, time::Duration};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use reqwest::{
    Response,
    header::{HeaderMap, HeaderName},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Credential, HttpClient, RequestContext, ServerRole, StaticHeader, broken, refused, shown,
};
use crate::platform::{Code, Error, secret::Secret};

/// What to get.
#[derive(Debug)]
pub struct StreamRequest<'a> {
    pub headers: &'a [StaticHeader],
    /// More of them, such as `Range`.
    pub about_the_body: HeaderMap,
    pub role: ServerRole,
    /// As it appears in [`Error::operation`].
    pub operation: &'static str,
}

/// A successful (2xx) answer whose body is still to come. Dropping it closes
/// the connection.
pub struct ResponseStream {
    response: Response,
    about: RequestContext,
}

impl fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStream")
            .field("status", &self.status())
            .field("about", &self.about)
            .finish()
    }
}

impl HttpClient {
    /// Asks for what lies at an address. The answer must begin within the time
    /// that a whole exchange may take; anything but a 2xx status is an error.
    pub(in crate::platform) async fn get(
        &self,
        url: Url,
        ask: StreamRequest<'_>,
        credential: Credential<'_>,
    ) -> Result<ResponseStream, Error> {
        let operation = ask.operation;
        let about = RequestContext {
            url: shown(&url),
            role: ask.role,
            operation,
            secret: credential.secret().cloned(),
            query: query_of(&url),
        };
        let mut request = self.client.get(url).headers(ask.about_the_body);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some((name, value)) = credential.header().map_err(|e| e.during(operation))? {
            request = request.header(name, value);
        }
        let late = format!("no answer from {} within {:?}", about.url, self.timeout);
        let exchange = async {
            let response = request.send().await.map_err(|e| broken(&about.url, &e))?;
            match response.status().is_success() {
                true => Ok(ResponseStream { response, about }),
                false => Err(refused(&about, response).await),
            }
        };
        match timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Error::api(Code::RequestTimeout, late)),
        }
        .map_err(|e| e.during(operation))
    }
}

impl ResponseStream {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// How many bytes the body has, as announced.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// What comes next, which must not take longer than `patience`; None at
    /// the end.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Error> {
        let url = &self.about.url;
        match timeout(patience, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|e| broken(url, &e)),
            Err(_) => {
                let message = format!("nothing more came from {url} within {patience:?}");
                Err(Error::api(Code::RequestTimeout, message))
            }
        }
        .map_err(|e| e.during(self.about.operation))
    }

    /// All of it, which must not be more than `limit` bytes, nor take longer
    /// than `patience`.
    pub async fn whole(mut self, limit: usize, patience: Duration) -> Result<Vec<u8>, Error> {
        let url = self.about.url.clone();
        let operation = self.about.operation;
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.next(patience).await? {
                if body.len() + chunk.len() > limit {
                    let message = format!("{url}: the answer is larger than {limit} bytes");
                    return Err(Error::api(Code::DecodeFailed, message));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        match timeout(patience, read).await {
            Ok(body) => body,
            Err(_) => {
                let message = format!("no complete answer from {url} within {patience:?}");
                Err(Error::api(Code::RequestTimeout, message))
            }
        }
        .map_err(|e| e.during(operation))
    }
}

/// A query as it is sent, and as a server that repeats it may write it.
fn query_of(url: &Url) -> Vec<Secret> {
    let Some(query) = url.query() else {
        return Vec::new();
    };
    let decoded = percent_decode_str(query).decode_utf8_lossy();
    vec![Secret::new(query), Secret::new(decoded)]
}
