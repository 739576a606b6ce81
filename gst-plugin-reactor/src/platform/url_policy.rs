// SPDX-License-Identifier: MIT

//! The policy for URLs that a response names: which ones this client may follow.
//! Pure functions, called where a response is read; no URL appears in an error.

use std::net::IpAddr;

use url::{Host, Url};

/// How far the server that names a URL is trusted to know its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A local runtime, which may not know its address as seen from here.
    Runtime,
    /// A server that knows its address.
    Server,
}

/// The URL to use for the text that a server at `base` names, relative to
/// `below`.
///
/// One that names this very machine, as a local runtime behind a proxy or in a
/// container gives for itself, is meant to be the runtime's: its scheme, host
/// and port are replaced by those of `base`. The cloud's URLs are used as they
/// are, but must not name this machine unless the cloud's own does, nor be
/// unencrypted where the cloud's own is encrypted.
///
/// An error continues the sentence "the address for ...". It never holds the
/// URL, which may contain a signature.
pub(super) fn resolve(
    text: &str,
    below: &Url,
    base: &Url,
    trust: Trust,
) -> Result<Url, &'static str> {
    let mut url = below.join(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an HTTP URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password");
    }
    match trust {
        Trust::Runtime if is_this_machine(&url) => {
            replace_origin(&mut url, base).map_err(|()| "cannot be used")?;
            Ok(url)
        }
        Trust::Runtime => Ok(url),
        Trust::Server if is_this_machine(base) => Ok(url),
        Trust::Server if is_this_machine(&url) => Err("is this machine's"),
        Trust::Server if is_downgrade(&url, base) => Err("is not encrypted"),
        Trust::Server => Ok(url),
    }
}

/// Whether an HTTPS server names a URL that is not encrypted.
pub(super) fn is_downgrade(url: &Url, base: &Url) -> bool {
    base.scheme() == "https" && url.scheme() != "https"
}

/// Replaces scheme, host and port, and keeps path and query.
pub(super) fn replace_origin(url: &mut Url, base: &Url) -> Result<(), ()> {
    url.set_scheme(base.scheme())?;
    url.set_host(base.host_str()).map_err(|_| ())?;
    url.set_port(base.port())
}

/// Whether a URL certainly names this machine.
pub fn is_this_machine(url: &Url) -> bool {
    let own = |ip: IpAddr| {
        let ip = ip.to_canonical();
        ip.is_loopback() || ip.is_unspecified()
    };
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => own(ip.into()),
        Some(Host::Ipv6(ip)) => own(ip.into()),
        None => false,
    }
}
