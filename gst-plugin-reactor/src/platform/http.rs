// SPDX-License-Identifier: MIT

//! The one place that sends HTTP requests, and that turns whatever can go
//! wrong with one into an [`Error`].

use std::{
    error::Error as _,
    io,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header, redirect};
use serde_json::Value;
use url::Url;

use super::{Code, Error};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// The longest one request may take, from name look-up to the last byte.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a TCP (and TLS) connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept. Shorter than the five seconds after
/// which the local runtime's HTTP server closes it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 4 << 20;

/// The most of a server's own words that goes into a message, in characters.
const MAX_DETAIL: usize = 300;

const USER_AGENT: &str = concat!("gst-plugin-reactor/", env!("CARGO_PKG_VERSION"));

/// A header and its value.
pub type Header = (&'static str, &'static str);

/// What every call of the platform carries.
pub const API_HEADERS: [Header; 2] = [
    ("Reactor-API-Version", "1"),
    ("Reactor-API-Accept-Version", "1"),
];

/// One request.
#[derive(Debug)]
pub struct Call<'a> {
    pub method: Method,
    /// Path segments below the endpoint's base.
    pub path: &'a [&'a str],
    /// What the call is for, as it appears in [`Error::operation`].
    pub operation: &'static str,
    pub headers: &'a [Header],
    /// Sent as JSON.
    pub body: Option<Value>,
}

/// A successful (2xx) answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    body: Vec<u8>,
    url: String,
    operation: &'static str,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Error> {
        serde_json::from_slice(&self.body).map_err(|_| self.unexpected("the answer is not JSON"))
    }

    /// The error for an answer that is not what the protocol says.
    pub fn unexpected(&self, what: &str) -> Error {
        decode_failed(&self.url, what, self.operation).with_status(self.status)
    }
}

/// The HTTP client that all sessions share.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    timeout: Duration,
}

impl Http {
    /// The process's client.
    pub fn shared() -> Result<Self, Error> {
        static SHARED: OnceLock<Http> = OnceLock::new();
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
                .pool_max_idle_per_host(2)
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

    async fn send(&self, url: Url, call: &Call<'_>) -> Result<Reply, Error> {
        let shown = shown(&url);
        let mut request = self.client.request(call.method.clone(), url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        finish(request, shown, self.timeout, call.operation).await
    }
}

/// Sends a request and waits for all of the answer, for at most `timeout`.
async fn finish(
    request: RequestBuilder,
    shown: String,
    timeout: Duration,
    operation: &'static str,
) -> Result<Reply, Error> {
    match tokio::time::timeout(timeout, exchange(request, shown.clone(), operation)).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("no complete answer from {shown} within {timeout:?}");
            Err(Error::api(Code::RequestTimeout, message))
        }
    }
    .map_err(|e| e.during(operation))
}

async fn exchange(
    request: RequestBuilder,
    shown: String,
    operation: &'static str,
) -> Result<Reply, Error> {
    let response = request.send().await.map_err(|e| broken(&shown, &e))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(&shown, status, response).await);
    }
    Ok(Reply {
        status: status.as_u16(),
        body: read_body(response, &shown).await?,
        url: shown,
        operation,
    })
}

/// A server: a client and the URL below which its calls live.
#[derive(Debug, Clone)]
pub struct Endpoint {
    http: Http,
    base: Url,
}

impl Endpoint {
    /// Takes a base URL as a user writes it.
    pub fn new(http: Http, base: &str) -> Result<Self, Error> {
        let invalid = |what: &str| {
            let message = format!("{what}; expected a URL such as http://127.0.0.1:8080");
            Err(Error::api(Code::InvalidSettings, message))
        };
        let base = base.trim();
        // What may hold a password is not repeated.
        let quoted = match base.split(['?', '#']).next() {
            Some(text) if !text.contains('@') => format!("\"{}\"", clean(text)),
            _ => "the server's address".to_owned(),
        };
        let Ok(url) = Url::parse(base) else {
            return invalid(&format!("{quoted} is not a URL"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("the server's URL must not hold a user name or password");
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return invalid(&format!("{quoted} is not an HTTP URL"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return invalid("the server's URL must not have a query or a fragment");
        }
        Ok(Self { http, base: url })
    }

    /// The URL for messages: without user, password and query.
    pub fn shown(&self) -> String {
        shown(&self.base)
    }

    /// The URL below which the calls live.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Puts bytes where an answer said to, which need not be this server: so
    /// nothing goes along that is meant for the API, and no secret. Anything
    /// but a 2xx answer within `timeout` is an error.
    pub(super) async fn put(
        &self,
        url: Url,
        content_type: &str,
        body: Bytes,
        timeout: Duration,
        operation: &'static str,
    ) -> Result<Reply, Error> {
        let shown = shown(&url);
        let request = self.http.client.put(url);
        let request = request.header(header::CONTENT_TYPE, content_type);
        finish(request.body(body), shown, timeout, operation).await
    }

    /// Sends one request. Anything but a 2xx answer is an error.
    pub async fn send(&self, call: Call<'_>) -> Result<Reply, Error> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path);
        }
        self.http.send(url, &call).await
    }
}

/// Text from the other side, made fit for a message: no control characters,
/// one line, at most 300 characters.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::new();
    let readable = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let spaced = text
        .trim()
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    for (n, c) in spaced.filter(readable).enumerate() {
        if n == MAX_DETAIL {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn decode_failed(url: &str, what: &str, operation: &'static str) -> Error {
    let message = format!("{url}: {what}; this does not look like a Reactor runtime");
    Error::api(Code::DecodeFailed, message).during(operation)
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

/// The error for an answer that is not a success.
async fn refused(shown: &str, status: StatusCode, response: Response) -> Error {
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, SystemTime::now()));
    let reason = status.canonical_reason().unwrap_or("unknown status");
    let mut message = format!("{shown} answered {} {reason}", status.as_u16());
    let body = read_body(response, shown).await.unwrap_or_default();
    if let Some(detail) = detail(&body) {
        message.push_str(": ");
        message.push_str(&detail);
    }
    if let Some(advice) = advice(status) {
        message.push_str("; ");
        message.push_str(advice);
    }
    Error::api(Code::from_status(status.as_u16()), message)
        .with_status(status.as_u16())
        .with_retry_after(retry_after)
}

/// What the user can do about an answer.
fn advice(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        300..=399 => "redirects are not followed, give the final address",
        401 | 403 => "a local runtime asks for no key: is api-url the right address?",
        404 => "is api-url the address of a Reactor runtime?",
        426 => "this plugin is too old for the server",
        501 => "the server is too old for this plugin",
        429 | 503 => "the server is busy, try again later",
        _ => return None,
    })
}

/// The server's own words: `{"detail": "text"}`, or for status 422 a list of
/// `{"loc": [..], "msg": ".."}`.
fn detail(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = match value.get("detail")? {
        Value::String(text) => clean(text),
        Value::Array(list) => {
            let lines: Vec<_> = list.iter().filter_map(complaint).collect();
            clean(&lines.join("; "))
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn complaint(entry: &Value) -> Option<String> {
    let text = entry.get("msg")?.as_str()?;
    let place: Vec<_> = entry
        .get("loc")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|part| match part {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        })
        .collect();
    Some(match place.is_empty() {
        true => text.to_owned(),
        false => format!("{}: {text}", place.join(".")),
    })
}

/// The error for an exchange that did not get as far as an answer.
fn broken(shown: &str, e: &reqwest::Error) -> Error {
    let cause = clean(&root_cause(e));
    let (code, message) = if e.is_timeout() {
        let text = format!("cannot connect to {shown} in time");
        (Code::RequestTimeout, text)
    } else if e.is_connect() && io_kind(e) == Some(io::ErrorKind::ConnectionRefused) {
        let text = format!("nothing answers at {shown} ({cause}); is the server running?");
        (Code::NetworkError, text)
    } else if e.is_connect() {
        let text = format!("cannot connect to {shown}: {cause}");
        (Code::NetworkError, text)
    } else {
        let text = format!("the exchange with {shown} broke off: {cause}");
        (Code::NetworkError, text)
    };
    Error::api(code, message)
}

fn root_cause(e: &reqwest::Error) -> String {
    let Some(mut cause) = e.source() else {
        return if e.is_builder() {
            "unusable request"
        } else {
            "unknown cause"
        }
        .to_owned();
    };
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn io_kind(e: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = e.source();
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<io::Error>()
            && e.kind() != io::ErrorKind::Other
        {
            return Some(e.kind());
        }
        cause = e.source();
    }
    None
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}
