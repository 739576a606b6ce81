// SPDX-License-Identifier: MIT

//! Text and URLs of the other side, made fit for a message: pure functions,
//! called from any thread. None of them knows the secrets of a request; those
//! are taken out by [`super::error`].

use url::{Host, Url};

/// The most of a server's own words that goes into a message, in characters.
const MAX_DETAIL: usize = 300;

/// Text from the other side, made fit for a message: no control characters,
/// one line, at most 300 characters.
pub(crate) fn sanitize(text: &str) -> String {
    truncate(&strip_unprintable(text))
}

/// The printable part of a text, in one line.
pub(super) fn strip_unprintable(text: &str) -> String {
    let printable = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let spaced = text
        .trim()
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(printable).collect()
}

pub(super) fn truncate(text: &str) -> String {
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A URL with path segments appended.
pub(in crate::platform) fn append_path(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// A URL for messages: without user, password and query.
pub(in crate::platform) fn display_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether a request to the URL certainly stays on this machine.
pub(in crate::platform) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}
