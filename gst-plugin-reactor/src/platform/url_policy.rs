// SPDX-License-Identifier: MIT

//! Addresses that an answer gives, and where they may lead.

use std::net::IpAddr;

use url::{Host, Url};

/// Whose word an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A local runtime's, which may not know where it is.
    Runtime,
    /// That of a server which knows.
    Server,
}

/// Where an address leads that a server at `base` gives, relative to `below`.
///
/// One that names this very machine, as a local runtime behind a proxy or in a
/// container gives for itself, is meant to be the runtime's: its scheme, host
/// and port are replaced by those of `base`. The cloud means what it says, but
/// cannot mean this machine unless it is here itself, nor that what came to be
/// sent encrypted leaves in the clear.
///
/// What is said in an error goes on from "the address for ...". It never holds
/// the address, for that may contain a signature.
pub(super) fn target(
    text: &str,
    below: &Url,
    base: &Url,
    word: Trust,
) -> Result<Url, &'static str> {
    let mut url = below.join(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an HTTP URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password");
    }
    match word {
        Trust::Runtime if is_here(&url) => {
            move_to(&mut url, base).map_err(|()| "cannot be used")?;
            Ok(url)
        }
        Trust::Runtime => Ok(url),
        Trust::Server if is_here(base) => Ok(url),
        Trust::Server if is_here(&url) => Err("is this machine's"),
        Trust::Server if in_the_clear(&url, base) => Err("is not encrypted"),
        Trust::Server => Ok(url),
    }
}

/// Whether what came encrypted leads to what is not.
pub(super) fn in_the_clear(url: &Url, base: &Url) -> bool {
    base.scheme() == "https" && url.scheme() != "https"
}

/// The same path and query on another server.
pub(super) fn move_to(url: &mut Url, base: &Url) -> Result<(), ()> {
    url.set_scheme(base.scheme())?;
    url.set_host(base.host_str()).map_err(|_| ())?;
    url.set_port(base.port())
}

/// Whether an address is one of this machine's, for certain.
fn is_here(url: &Url) -> bool {
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
