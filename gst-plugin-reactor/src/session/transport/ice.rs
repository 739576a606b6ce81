// SPDX-License-Identifier: MIT

//! ICE (RFC 8445): sets webrtcbin's agent up, with the STUN and TURN servers in
//! the form that webrtcbin reads. Called once per connection, by the transport
//! thread, before negotiation. It opens no socket, and lets no password into
//! GStreamer's log.

use std::sync::Mutex;

use gst::{glib, prelude::*};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::handles::CAT;
use crate::platform::{Code, Error, lock, signaling::IceServer};

#[cfg(test)]
mod tests;

/// The time between two connectivity checks, and between two steps of gathering,
/// in ms. RFC 8445, 14.2 allows no less; libnice takes 20, and several of them pass
/// before a first connection.
const CHECK_INTERVAL_MS: u32 = 5;

/// Gives webrtcbin its STUN and TURN servers. One that it cannot use is left out:
/// there may be others, or none may be needed.
///
/// # Errors
///
/// `InvalidSettings` if only relays may be used, and there is none.
pub(super) fn configure_agent(
    webrtcbin: &gst::Element,
    servers: &[IceServer],
    relay_only: bool,
) -> Result<(), Error> {
    let ice = webrtcbin.property::<Option<gst::Object>>("ice-agent");
    let ice = ice.filter(|ice| ice.has_property("agent"));
    if let Some(agent) = ice.and_then(|ice| ice.property::<Option<glib::Object>>("agent")) {
        // Both are on by default. The first multicasts on every network, the
        // second only adds candidates that a server does not use.
        for property in ["upnp", "ice-tcp"] {
            if agent.has_property(property) {
                agent.set_property(property, false);
            }
        }
        if agent.has_property("stun-pacing-timer") {
            agent.set_property("stun-pacing-timer", CHECK_INTERVAL_MS);
        }
    }
    // webrtcbin takes one STUN server.
    if let Some(uri) = servers.iter().find_map(stun_uri) {
        webrtcbin.set_property("stun-server", uri);
    }
    let mut relays = 0;
    for server in servers {
        for uri in &server.uris {
            let relay = turn_uri(server, uri);
            // Not logged, for it contains the password.
            let used = relay.is_some_and(|relay| add_relay(webrtcbin, &relay));
            relays += usize::from(used);
            if let Some(address) = Address::parse(uri).filter(|a| !used && a.scheme != "stun") {
                let Address { scheme, host, .. } = address;
                gst::warning!(CAT, obj = webrtcbin, "cannot use the relay {scheme}:{host}");
            }
        }
    }
    if relay_only && relays == 0 {
        let message = "ice-transport-policy=relay, but the server names no relay that can be \
                       used here: that takes a turn: address, and credentials for it";
        return Err(Error::api(Code::InvalidSettings, message).during("ice_servers"));
    }
    Ok(())
}

/// Whether webrtcbin takes a relay.
///
/// webrtcbin 1.22 and its agent log the URI, password included, at DEBUG, during this
/// call only (`GST_DEBUG=*:9` and a connection through a real relay show no other
/// place), so their categories are limited to INFO meanwhile.
fn add_relay(webrtcbin: &gst::Element, uri: &str) -> bool {
    static LIMITED: Mutex<()> = Mutex::new(());
    let _in_turn = lock(&LIMITED);
    let categories = ["webrtcbin", "webrtcnice", "webrtcice"].into_iter();
    let levels: Vec<_> = categories
        .filter_map(gst::DebugCategory::get)
        .map(|category| (category, category.threshold()))
        .collect();
    for (category, level) in &levels {
        category.set_threshold((*level).min(gst::DebugLevel::Info));
    }
    let added = webrtcbin.emit_by_name::<bool>("add-turn-server", &[&uri]);
    for (category, level) in levels {
        category.set_threshold(level);
    }
    added
}

/// A server's address (RFC 7064, RFC 7065): `turn:host:port?transport=udp`.
struct Address<'a> {
    scheme: String,
    host: &'a str,
    transport: Option<&'a str>,
}

impl<'a> Address<'a> {
    fn parse(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.trim().split_once(':')?;
        let (host, query) = match rest.split_once('?') {
            Some((host, query)) => (host, query),
            None => (rest, ""),
        };
        // Some servers write `turn://`, as webrtcbin does.
        let host = host.trim_start_matches('/');
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
        if host.is_empty() || !host.chars().all(is_allowed) {
            return None;
        }
        let transport = query.split('&').find_map(|q| q.strip_prefix("transport="));
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host,
            transport,
        })
    }
}

pub(super) fn stun_uri(server: &IceServer) -> Option<String> {
    server.uris.iter().find_map(|uri| {
        let address = Address::parse(uri)?;
        (address.scheme == "stun").then(|| format!("stun://{}", address.host))
    })
}

/// `turn:host:port?transport=udp` and its credentials become
/// `turn://user:password@host:port?transport=udp`.
///
/// `None` for `turns:`, since libnice 0.1.21 sends TLS traffic in the clear, which
/// no such server answers; and for any URI that webrtcbin would refuse, since it
/// might log the password.
pub(super) fn turn_uri(server: &IceServer, uri: &str) -> Option<String> {
    let address = Address::parse(uri).filter(|address| address.scheme == "turn")?;
    let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let user = escape(server.username.as_deref()?);
    let password = escape(server.password.as_ref()?.expose());
    let base = format!("turn://{user}:{password}@{}", address.host);
    match address.transport {
        None => Some(base),
        Some(transport @ ("udp" | "tcp")) => Some(format!("{base}?transport={transport}")),
        Some(_) => None,
    }
}
