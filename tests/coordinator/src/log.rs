// SPDX-License-Identifier: MIT

//! The log of all requests, without the secrets in them.

use axum::{
    body::Bytes,
    http::{HeaderMap, Uri, header, request::Parts},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::{presign, routes::ApiRoute, tokens::KEY_HEADER};

/// Which of the two servers received a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    Api,
    Storage,
}

/// A request as it was received, and the status of its reply.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRequest {
    pub face: Endpoint,
    pub route: ApiRoute,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names are in lower case. A secret is replaced by its [`digest`].
    pub headers: Vec<(String, String)>,
    /// The body as text; empty for uploaded bytes.
    pub body: String,
    pub size: usize,
    /// None until the request is answered.
    pub status: Option<u16>,
}

impl RecordedRequest {
    pub(crate) fn new(face: Endpoint, route: ApiRoute, parts: &Parts, body: &Bytes) -> Self {
        let text = match face {
            Endpoint::Api => String::from_utf8_lossy(body).into_owned(),
            Endpoint::Storage => String::new(),
        };
        Self {
            face,
            route,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: query(&parts.uri),
            headers: headers(&parts.headers),
            body: text,
            size: body.len(),
            status: None,
        }
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Identifies a secret without revealing it: the log stores it in place of the secret.
pub fn digest(secret: &str) -> String {
    let sum = Sha256::digest(secret.as_bytes());
    let hex: String = sum
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs
        .map(|(name, value)| match name.as_ref() {
            presign::SIGNATURE => (name.into_owned(), digest(&value)),
            _ => (name.into_owned(), value.into_owned()),
        })
        .collect()
}

fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let pairs = headers.iter().map(|(name, value)| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = if name == header::AUTHORIZATION {
            match text.split_once(' ') {
                Some((scheme, secret)) => format!("{scheme} {}", digest(secret)),
                None => digest(&text),
            }
        } else if name == KEY_HEADER {
            digest(&text)
        } else {
            text.into_owned()
        };
        (name.to_string(), text)
    });
    pairs.collect()
}
