// SPDX-License-Identifier: MIT

//! The errors of an exchange: from the transport, from the status of a response
//! and from its content, each with advice for the user. Pure functions, but for
//! the advice on an unknown authority, which looks at its files; they take every
//! secret of the request out of the server's words.

use std::{
    error::Error as _,
    io, iter,
    time::{Duration, SystemTime},
};

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use serde_json::Value;

use super::{
    authorities,
    request::{RequestContext, ServerRole},
    text::{sanitize, strip_unprintable, truncate},
};
use crate::platform::{Code, Error};

/// The error for a response that does not follow the protocol.
pub(super) fn protocol_error(context: &RequestContext, what: &str) -> Error {
    let expected = match context.role {
        ServerRole::Runtime => "a Reactor runtime",
        ServerRole::Cloud => "Reactor's API",
        ServerRole::Storage => "a place for uploads",
        ServerRole::Playlist | ServerRole::Segments => "a recorded clip",
    };
    let what = redact(context, what);
    let message = format!(
        "{}: {what}; this does not look like {expected}",
        context.url
    );
    Error::api(Code::DecodeFailed, message).during(context.operation)
}

/// The error for a response whose status is no success.
pub(super) fn status_error(
    context: &RequestContext,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Error {
    let code = Code::from_status(status.as_u16());
    let header = |name| headers.get(name).and_then(|v| v.to_str().ok());
    // Waiting makes neither side newer.
    let retry_after = header(RETRY_AFTER)
        .filter(|_| code != Code::VersionMismatch)
        .and_then(|value| parse_retry_after(value, SystemTime::now()));
    let plain = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/plain"));
    let reason = status.canonical_reason().unwrap_or("unknown status");
    let mut message = format!("{} answered {} {reason}", context.url, status.as_u16());
    let detail = match plain {
        true => Some(String::from_utf8_lossy(body).into_owned()),
        false => error_detail(body),
    };
    let detail = detail.map(|text| redact(context, &text));
    if let Some(detail) = detail.filter(|text| !text.is_empty()) {
        message.push_str(": ");
        message.push_str(&detail);
    }
    if let Some(advice) = advice_for_status(context, status.as_u16()) {
        message.push_str("; ");
        message.push_str(advice);
    }
    Error::api(code, message)
        .with_status(status.as_u16())
        .with_retry_after(retry_after)
}

/// The part of a server's words that is searched for secrets, in characters.
/// The rest is dropped.
const MAX_READ: usize = 4096;

/// The server's words without the request's secrets. Those are removed before
/// the text is cut short, which might leave a part that is not recognised.
fn redact(context: &RequestContext, text: &str) -> String {
    let text: String = strip_unprintable(text).chars().take(MAX_READ).collect();
    let secrets = context.secret.iter().chain(&context.query);
    truncate(&secrets.fold(text, |text, secret| secret.redact(&text)))
}

/// What the user can do about an answer.
fn advice_for_status(context: &RequestContext, status: u16) -> Option<&'static str> {
    Some(match (context.role, status) {
        (ServerRole::Segments, 300..=399) => "redirects are not followed",
        (_, 300..=399) => "redirects are not followed, give the final address",
        (ServerRole::Runtime, 401 | 403) => {
            "a local runtime asks for no key: is api-url the right address?"
        }
        (ServerRole::Runtime, 404) => "is api-url the address of a Reactor runtime?",
        (ServerRole::Cloud, 401 | 403) => advice_for_refusal(context.operation, status),
        (ServerRole::Cloud, 404) => match context.operation {
            "start_session" => "is there a model of that name, and is api-url right?",
            "tokens" => "is api-url the address of Reactor's API, and the model or session there?",
            _ => "the session is over, or is another account's",
        },
        (ServerRole::Cloud, 402) => "check the account's quota",
        (ServerRole::Cloud, 429) => {
            "the account's quota is used up or this is too often, try again later"
        }
        (ServerRole::Storage, 401 | 403) => "the permission to upload may have expired, try again",
        (ServerRole::Playlist, 401 | 403) => {
            "check jwt or api-key, which go to the server of api-url only; a signed address may have expired"
        }
        (ServerRole::Playlist, 404 | 410) => "the clip is unknown there, or too old to be kept",
        (_, 426) => "this plugin is too old for the server",
        (_, 501) => "the server is too old for this plugin",
        (_, 429 | 503) => "the server is busy, try again later",
        _ => return None,
    })
}

/// What the user can do when the cloud answers 401 or 403.
fn advice_for_refusal(operation: &str, status: u16) -> &'static str {
    match (operation, status) {
        ("tokens", 401) => "check api-key",
        ("tokens", _) => "check api-key, and whether it may use that model or session",
        (_, 401) => "check api-key; a jwt may have expired or be for another server",
        _ => "check the model's name, and whether this api-key or jwt may use it",
    }
}

/// The server's own words: a text under one of the usual names, or for status
/// 422 of a runtime a list of `{"loc": [..], "msg": ".."}`.
fn error_detail(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let names = ["/detail", "/message", "/error/message", "/error", "/title"];
    names.iter().find_map(|name| match value.pointer(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let lines: Vec<_> = list.iter().filter_map(format_validation_error).collect();
            Some(lines.join("; "))
        }
        _ => None,
    })
}

fn format_validation_error(entry: &Value) -> Option<String> {
    let text = entry.get("msg")?.as_str()?;
    let place = entry.get("loc").and_then(Value::as_array);
    let place = place.into_iter().flatten().map(|part| match part {
        Value::String(name) => name.clone(),
        other => other.to_string(),
    });
    let place: Vec<_> = place.collect();
    Some(match place.is_empty() {
        true => text.to_owned(),
        false => format!("{}: {text}", place.join(".")),
    })
}

/// The error for an exchange that ended before a response.
pub(super) fn transport_error(url: &str, e: &reqwest::Error) -> Error {
    let cause = sanitize(&root_cause(e));
    let refused = e.is_connect() && find_io_kind(e) == Some(io::ErrorKind::ConnectionRefused);
    let message = if e.is_timeout() {
        let message = format!("cannot connect to {url} in time");
        return Error::api(Code::RequestTimeout, message);
    } else if refused {
        format!("nothing answers at {url} ({cause}); is the server running?")
    } else if let Some(advice) = certificate_advice(e) {
        format!("{url} cannot be trusted: {cause}; {advice}")
    } else if is_name_unknown(e) {
        format!("cannot find the host of {url}: {cause}; is api-url right, and the network up?")
    } else if e.is_connect() {
        format!("cannot connect to {url}: {cause}")
    } else {
        format!("the exchange with {url} broke off: {cause}")
    };
    let mut error = Error::api(Code::NetworkError, message);
    error.is_refused_connection = refused;
    error
}

/// Whether the look-up of the host's name failed. hyper-util has no kind for it.
fn is_name_unknown(e: &reqwest::Error) -> bool {
    causes(e).any(|cause| cause.to_string().starts_with("dns error"))
}

/// What the user can do about a certificate that is no good, if that is it.
fn certificate_advice(e: &reqwest::Error) -> Option<String> {
    use rustls::CertificateError as Bad;
    let tls_error = causes(e).find_map(|e| e.downcast_ref());
    let rustls::Error::InvalidCertificate(bad) = tls_error? else {
        return None;
    };
    let advice = match bad {
        Bad::UnknownIssuer => return Some(authorities::advice()),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "is api-url right?",
        Bad::Expired
        | Bad::ExpiredContext { .. }
        | Bad::NotValidYet
        | Bad::NotValidYetContext { .. } => {
            "is this machine's clock right? If it is, the server needs another certificate"
        }
        _ => "the server needs another certificate",
    };
    Some(advice.to_owned())
}

/// The causes of an error, the nearest first. What is in an I/O error is not
/// its source.
fn causes(e: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    iter::successors(e.source(), |&e| {
        let inside = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inside = inside.map(|e| e as &(dyn std::error::Error + 'static));
        inside.or_else(|| e.source())
    })
}

pub(super) fn root_cause(e: &reqwest::Error) -> String {
    match causes(e).last() {
        Some(cause) => cause.to_string(),
        None if e.is_builder() => "unusable request".to_owned(),
        None => "unknown cause".to_owned(),
    }
}

fn find_io_kind(e: &reqwest::Error) -> Option<io::ErrorKind> {
    let io_errors = causes(e).filter_map(|e| e.downcast_ref());
    let mut kinds = io_errors.map(io::Error::kind);
    kinds.find(|kind| *kind != io::ErrorKind::Other)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub(in crate::platform) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}
