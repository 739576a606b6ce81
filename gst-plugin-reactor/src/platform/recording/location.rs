// SPDX-License-Identifier: MIT

//! Where a clip's playlist is, and the requests to it. Called by the tasks of
//! a download. Never sends a credential to another server, nor shows a query,
//! which may be a signature.

use std::fmt;

use reqwest::header::HeaderMap;
use url::Url;

use super::errors::{OPERATION, clip_error};
use crate::platform::{
    Code, Error,
    auth::TokenProvider,
    endpoint::Endpoint,
    http::{
        API_HEADERS, Credential, HttpClient, ResponseStream, ServerRole, StaticHeader,
        StreamRequest, display_url,
    },
    secret::Secret,
    url_policy::{self, Trust},
};

/// The longest address of a playlist or of a segment, in bytes. A signed one has one or two
/// thousand; each segment that has none of its own takes that of the playlist.
pub(super) const MAX_ADDRESS: usize = 8 << 10;

/// The address of a clip's media playlist, and the credentials for it.
#[derive(Clone)]
pub struct PlaylistLocation {
    http: HttpClient,
    pub(super) url: Url,
    /// Goes to the playlist's own server only.
    token_provider: Option<TokenProvider>,
    /// The headers of each call to the platform, if the server is one of its
    /// own.
    headers: &'static [StaticHeader],
    pub(super) trust: Trust,
}

// The address may hold a signature.
impl fmt::Debug for PlaylistLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaylistLocation")
            .field("url", &self.display_url())
            .field("bearer", &self.token_provider.is_some())
            .finish_non_exhaustive()
    }
}

/// Fails with what is wrong with an address of more than [`MAX_ADDRESS`] bytes.
pub(super) fn check_length(url: &Url) -> Result<(), String> {
    match url.as_str().len() > MAX_ADDRESS {
        true => Err(format!("is longer than {MAX_ADDRESS} bytes")),
        false => Ok(()),
    }
}

impl PlaylistLocation {
    /// The clip that a live session's server announced.
    ///
    /// Scheme, host and port are replaced by those of that server: old servers
    /// give their own, by a host name that need not resolve here.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidPlaylist`] if `path` is not an address, or a very long one.
    pub fn of_clip(endpoint: &Endpoint, path: &str) -> Result<Self, Error> {
        let base = endpoint.base();
        let refused = |what: &str| {
            let message = format!("the address that the server gives for the clip {what}");
            clip_error(Code::InvalidPlaylist, message)
        };
        let mut url = base
            .join(path.trim())
            .map_err(|_| refused("is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("holds a user name or password"));
        }
        if path.trim().is_empty() || url_policy::replace_origin(&mut url, base).is_err() {
            return Err(refused("is not an HTTP URL"));
        }
        check_length(&url).map_err(|what| refused(&what))?;
        Ok(Self {
            http: endpoint.http().clone(),
            url,
            token_provider: endpoint.token_provider().cloned(),
            headers: &API_HEADERS,
            trust: endpoint.trust(),
        })
    }

    /// A URL that the user gives. The token is sent if it is for that server.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidSettings`] if it is not an HTTP URL, holds a password, or is very long.
    pub fn from_url(
        http: HttpClient,
        url: &str,
        token_provider: Option<TokenProvider>,
    ) -> Result<Self, Error> {
        let refused = |what: &str| {
            let message = format!(
                "the clip's playlist {what}; expected a URL such as https://example.com/clip.m3u8"
            );
            clip_error(Code::InvalidSettings, message)
        };
        let mut url = Url::parse(url.trim()).map_err(|_| refused("has no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("is not at an HTTP URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("must not have a user name or password in its URL"));
        }
        url.set_fragment(None);
        check_length(&url).map_err(|what| refused(&format!("has a URL that {what}")))?;
        Ok(Self {
            http,
            token_provider: token_provider
                .filter(|token_provider| token_provider.base().origin() == url.origin()),
            url,
            headers: &[],
            trust: Trust::Server,
        })
    }

    /// The address, which may hold a signature.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The values of `start` and `end` in the query, in seconds of recorded
    /// time, if they are a window.
    pub fn window(&self) -> Option<(f64, f64)> {
        let parameter = |name: &str| {
            let mut pairs = self.url.query_pairs();
            let (_, value) = pairs.find(|(key, _)| key == name)?;
            value.parse::<f64>().ok().filter(|time| time.is_finite())
        };
        let (start, end) = (parameter("start")?, parameter("end")?);
        (start >= 0.0 && end > start).then_some((start, end))
    }

    /// The address for messages, without its query.
    pub fn display_url(&self) -> String {
        display_url(&self.url)
    }

    /// Requests the playlist, or an address in it. The token is sent to the
    /// playlist's own server only: others must not see it, and storage with
    /// signed addresses refuses it.
    pub(super) async fn get(
        &self,
        url: &Url,
        body_headers: HeaderMap,
        role: ServerRole,
    ) -> Result<ResponseStream, Error> {
        let own = url.origin() == self.url.origin();
        let request = || StreamRequest {
            headers: if own { self.headers } else { &[] },
            extra_headers: body_headers.clone(),
            role,
            operation: OPERATION,
        };
        match &self.token_provider {
            Some(token_provider) if own => {
                let send = async |token: Secret| {
                    let credential = Credential::Bearer(&token);
                    self.http.get(url.clone(), request(), credential).await
                };
                token_provider.send(send).await
            }
            _ => {
                let credential = Credential::None;
                self.http.get(url.clone(), request(), credential).await
            }
        }
    }
}
