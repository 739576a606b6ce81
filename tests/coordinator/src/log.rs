// SPDX-License-Identifier: MIT

//! What was asked: every request, without the secrets in it.

use axum::{
    body::Bytes,
    http::{HeaderMap, Uri, header, request::Parts},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::{presign, routes::Route, tokens::KEY_HEADER};

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    Api,
    Storage,
}

/// A request as it came, and what it was answered with.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    pub face: Face,
    pub route: Route,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// The names are lower case. Of secrets there is a [`digest`].
    pub headers: Vec<(String, String)>,
    /// Text; nothing of what is stored.
    pub body: String,
    pub size: usize,
    /// None as long as it is not answered.
    pub status: Option<u16>,
}

impl Seen {
    pub(crate) fn new(face: Face, route: Route, parts: &Parts, body: &Bytes) -> Self {
        let text = match face {
            Face::Api => String::from_utf8_lossy(body).into_owned(),
            Face::Storage => String::new(),
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

/// Enough to know a secret again, and not to use it: what the log has in its
/// place.
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
