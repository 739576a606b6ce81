// SPDX-License-Identifier: MIT

//! What a request consists of, and what messages may say about it. Plain
//! data, made in the task that sends the request; it sends nothing itself.

use reqwest::{
    Method,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use url::Url;

use super::text::display_url;
use crate::platform::{Code, Error, secret::Secret};

const API_KEY: HeaderName = HeaderName::from_static("reactor-api-key");

/// The name and the value of a header that never changes.
pub type StaticHeader = (&'static str, &'static str);

/// The headers of every call of the platform's API.
pub const API_HEADERS: [StaticHeader; 2] = [
    ("Reactor-API-Version", "1"),
    ("Reactor-API-Accept-Version", "1"),
];

/// A call of the platform's API, whose whole response is awaited.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    pub method: Method,
    /// Path segments below the endpoint's base.
    pub path: &'a [&'a str],
    /// The operation as it appears in [`Error::operation`].
    pub operation: &'static str,
    pub headers: &'a [StaticHeader],
    /// Sent as JSON.
    pub body: Option<Value>,
}

impl<'a> HttpRequest<'a> {
    /// A request with [`API_HEADERS`].
    pub fn new(
        method: Method,
        path: &'a [&'a str],
        operation: &'static str,
        body: Option<Value>,
    ) -> Self {
        Self {
            method,
            path,
            operation,
            headers: &API_HEADERS,
            body,
        }
    }
}

/// A GET request whose response body is read piece by piece.
#[derive(Debug)]
pub struct StreamRequest<'a> {
    pub headers: &'a [StaticHeader],
    /// Further headers, such as `Range`.
    pub extra_headers: HeaderMap,
    pub role: ServerRole,
    /// As it appears in [`Error::operation`].
    pub operation: &'static str,
}

/// What a server is to this client. It decides what a user can do about an
/// error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// A local runtime.
    Runtime,
    /// The cloud's API.
    Cloud,
    /// The storage to which the cloud, or a runtime, directs uploads.
    Storage,
    /// The server of a recorded clip's playlist.
    Playlist,
    /// The storage of a clip's segments.
    Segments,
}

/// How a request authenticates.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    None,
    ApiKey(&'a Secret),
    Bearer(&'a Secret),
}

impl<'a> Credential<'a> {
    pub(super) fn secret(self) -> Option<&'a Secret> {
        match self {
            Self::None => None,
            Self::ApiKey(secret) | Self::Bearer(secret) => Some(secret),
        }
    }

    pub(super) fn header(self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        let (name, value) = match self {
            Self::None => return Ok(None),
            Self::ApiKey(key) => (API_KEY, HeaderValue::from_str(key.expose())),
            Self::Bearer(token) => {
                let value = format!("Bearer {}", token.expose());
                (AUTHORIZATION, HeaderValue::from_str(&value))
            }
        };
        let mut value = value.map_err(|_| {
            let message = "the api-key or jwt holds characters that neither can have";
            Error::api(Code::InvalidSettings, message)
        })?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

/// A request, as far as messages about it are concerned.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    /// The URL without secrets.
    pub(super) url: String,
    pub(super) role: ServerRole,
    pub(super) operation: &'static str,
    /// The credential, which no message may repeat.
    pub(super) secret: Option<Secret>,
    /// The query of the URL, which may hold a signature, where it is a secret
    /// as well.
    pub(super) query: Vec<Secret>,
}

impl RequestContext {
    pub(super) fn new(
        url: &Url,
        role: ServerRole,
        operation: &'static str,
        credential: Credential<'_>,
    ) -> Self {
        Self {
            url: display_url(url),
            role,
            operation,
            secret: credential.secret().cloned(),
            query: Vec::new(),
        }
    }
}
