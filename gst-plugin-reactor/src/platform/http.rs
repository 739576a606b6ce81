// SPDX-License-Identifier: MIT

//! The one place that sends HTTP requests, and that turns whatever can go
//! wrong with one into an [`Error`].

use std::{fmt, sync::OnceLock, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value;
use url::{Host, Url};

use super::{Code, Error, secret::Secret};

mod failure;
mod incoming;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(super) use failure::retry_after;
use failure::{broken, decode_failed, refused, root_cause};
pub(super) use incoming::{ResponseStream, StreamRequest};

/// The longest one request may take, from name look-up to the last byte.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a TCP (and TLS) connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept. Shorter than the five seconds after
/// which the local runtime's HTTP server closes it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many of those are kept for each server: what is fetched side by side
/// needs that many again in a moment.
const IDLE_CONNECTIONS: usize = 8;

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 4 << 20;

/// The most of a server's own words that goes into a message, in characters.
const MAX_DETAIL: usize = 300;

const USER_AGENT: &str = concat!("gst-plugin-reactor/", env!("CARGO_PKG_VERSION"));

const API_KEY: HeaderName = HeaderName::from_static("reactor-api-key");

/// A header and its value.
pub type StaticHeader = (&'static str, &'static str);

/// What every call of the platform carries.
pub const API_HEADERS: [StaticHeader; 2] = [
    ("Reactor-API-Version", "1"),
    ("Reactor-API-Accept-Version", "1"),
];

/// One request.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    pub method: Method,
    /// Path segments below the endpoint's base.
    pub path: &'a [&'a str],
    /// What the call is for, as it appears in [`Error::operation`].
    pub operation: &'static str,
    pub headers: &'a [StaticHeader],
    /// Sent as JSON.
    pub body: Option<Value>,
}

/// What a server is to us: that decides what the user can do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// A local runtime.
    Runtime,
    /// The cloud's API.
    Cloud,
    /// Where the cloud, or a runtime, wants files to be put.
    Storage,
    /// Who has the playlist of a recorded clip.
    Clips,
    /// Where the pieces of a clip lie.
    Pieces,
}

/// What a request says who is asking.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    Nothing,
    ApiKey(&'a Secret),
    Bearer(&'a Secret),
}

impl<'a> Credential<'a> {
    fn secret(self) -> Option<&'a Secret> {
        match self {
            Self::Nothing => None,
            Self::ApiKey(secret) | Self::Bearer(secret) => Some(secret),
        }
    }

    fn header(self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        let (name, value) = match self {
            Self::Nothing => return Ok(None),
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

/// An exchange, as far as messages about it go.
#[derive(Debug, Clone)]
struct RequestContext {
    /// The URL without secrets.
    url: String,
    role: ServerRole,
    operation: &'static str,
    /// What went along, and may not be repeated.
    secret: Option<Secret>,
    /// The same in the address: a query may hold a signature.
    query: Vec<Secret>,
}

/// A successful (2xx) answer.
pub struct HttpResponse {
    pub status: u16,
    body: Vec<u8>,
    about: RequestContext,
}

// The body may hold passwords and tokens.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("size", &self.body.len())
            .field("about", &self.about)
            .finish()
    }
}

impl HttpResponse {
    /// The body as JSON, without the secret that the request carried.
    pub fn json(&self) -> Result<Value, Error> {
        let mut value = self.json_as_it_is()?;
        if let Some(secret) = &self.about.secret {
            secret.cut_from_json(&mut value);
        }
        Ok(value)
    }

    /// The body as JSON, whatever is in it.
    pub(super) fn json_as_it_is(&self) -> Result<Value, Error> {
        serde_json::from_slice(&self.body).map_err(|_| self.unexpected("the answer is not JSON"))
    }

    /// The error for an answer that is not what the protocol says.
    pub fn unexpected(&self, what: &str) -> Error {
        decode_failed(&self.about, what).with_status(self.status)
    }

    /// The key or token that the request carried.
    pub(super) fn sent(&self) -> Option<&Secret> {
        self.about.secret.as_ref()
    }
}

/// The HTTP client that all sessions share.
///
/// HTTPS takes the certificate authorities that the system trusts (on Linux
/// also `SSL_CERT_FILE` and `SSL_CERT_DIR`), and nothing turns its checks off.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpClient {
    /// The process's client.
    pub fn shared() -> Result<Self, Error> {
        static SHARED: OnceLock<HttpClient> = OnceLock::new();
        if let Some(http) = SHARED.get() {
            return Ok(http.clone());
        }
        let http = Self::with_timeout(HTTP_TIMEOUT)?;
        Ok(SHARED.get_or_init(|| http).clone())
    }

    /// A client of its own, each of whose requests may take `timeout`.
    pub fn with_timeout(timeout: Duration) -> Result<Self, Error> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .no_proxy()
        };
        // A machine without root certificates can still speak plain HTTP to a
        // local runtime; HTTPS then fails for want of a trusted issuer.
        let client = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())
            .map_err(|e| {
                let cause = root_cause(&e);
                Error::api(Code::Internal, format!("cannot set up HTTP: {cause}"))
            })?;
        Ok(Self { client, timeout })
    }

    /// Sends one request. Anything but a 2xx answer is an error.
    pub(super) async fn send(
        &self,
        url: Url,
        call: &HttpRequest<'_>,
        role: ServerRole,
        credential: Credential<'_>,
    ) -> Result<HttpResponse, Error> {
        let about = RequestContext {
            url: shown(&url),
            role,
            operation: call.operation,
            secret: credential.secret().cloned(),
            query: Vec::new(),
        };
        let mut request = self.client.request(call.method.clone(), url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let credential = credential.header().map_err(|e| e.during(call.operation))?;
        if let Some((name, value)) = credential {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        finish(request, about, self.timeout).await
    }

    /// Puts bytes where an answer said to, and nothing else. Anything but a 2xx
    /// answer within `timeout` is an error.
    pub(super) async fn put(
        &self,
        url: Url,
        content_type: &str,
        body: Bytes,
        timeout: Duration,
        operation: &'static str,
    ) -> Result<HttpResponse, Error> {
        let about = RequestContext {
            url: shown(&url),
            role: ServerRole::Storage,
            operation,
            secret: None,
            query: Vec::new(),
        };
        let request = self.client.put(url).header(CONTENT_TYPE, content_type);
        finish(request.body(body), about, timeout).await
    }
}

/// Sends a request and waits for all of the answer, for at most `timeout`.
async fn finish(
    request: RequestBuilder,
    about: RequestContext,
    timeout: Duration,
) -> Result<HttpResponse, Error> {
    let operation = about.operation;
    let late = format!("no complete answer from {} within {timeout:?}", about.url);
    match tokio::time::timeout(timeout, exchange(request, about)).await {
        Ok(result) => result,
        Err(_) => Err(Error::api(Code::RequestTimeout, late)),
    }
    .map_err(|e| e.during(operation))
}

async fn exchange(request: RequestBuilder, about: RequestContext) -> Result<HttpResponse, Error> {
    let response = request.send().await.map_err(|e| broken(&about.url, &e))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(&about, response).await);
    }
    Ok(HttpResponse {
        status: status.as_u16(),
        body: read_body(response, &about.url).await?,
        about,
    })
}

/// Text from the other side, made fit for a message: no control characters,
/// one line, at most 300 characters.
pub(crate) fn clean(text: &str) -> String {
    shorten(&readable(text))
}

/// The part of text that can be read, in one line.
fn readable(text: &str) -> String {
    let readable = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let spaced = text
        .trim()
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(readable).collect()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A URL some path segments below another.
pub(super) fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// A URL for messages: without user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether what is sent there stays on this machine, for certain.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

async fn read_body(mut response: Response, shown: &str) -> Result<Vec<u8>, Error> {
    let too_large = || {
        let message = format!("{shown}: the answer is larger than {MAX_BODY} bytes");
        Error::api(Code::DecodeFailed, message)
    };
    if response.content_length() > Some(MAX_BODY as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| broken(shown, &e))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
