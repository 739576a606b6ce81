// SPDX-License-Identifier: MIT

//! ICE: what the agent may do, and the servers' addresses as webrtcbin
//! writes them.

use gst::{glib, prelude::*};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::platform::{Code, Error, signaling::IceServer};

pub(super) fn configure(webrtcbin: &gst::Element, servers: &[IceServer]) -> Result<(), Error> {
    let ice = webrtcbin.property::<Option<gst::Object>>("ice-agent");
    if let Some(agent) = ice.and_then(|ice| object_property(ice.upcast_ref(), "agent")) {
        // Both are on by default. The first multicasts on every network, the
        // second only adds candidates that a server does not use.
        for property in ["upnp", "ice-tcp"] {
            if agent.has_property(property) {
                agent.set_property(property, false);
            }
        }
    }
    for uri in servers.iter().flat_map(|server| &server.uris) {
        if let Some(rest) = uri.strip_prefix("stun:") {
            webrtcbin.set_property("stun-server", format!("stun://{rest}"));
        }
    }
    for uri in servers.iter().flat_map(turn_uris) {
        if !webrtcbin.emit_by_name::<bool>("add-turn-server", &[&uri]) {
            // The URI itself holds a password.
            let error = Error::api(Code::DecodeFailed, "webrtcbin refuses a TURN server's URI");
            return Err(error.during("ice_servers"));
        }
    }
    Ok(())
}

fn object_property(object: &glib::Object, name: &str) -> Option<glib::Object> {
    object
        .has_property(name)
        .then(|| object.property::<Option<glib::Object>>(name))
        .flatten()
}

/// `turn:host:port?transport=udp` with its credentials apart becomes
/// `turn://user:password@host:port?transport=udp`.
fn turn_uris(server: &IceServer) -> Vec<String> {
    let (Some(user), Some(password)) = (&server.username, &server.password) else {
        return Vec::new();
    };
    let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let with_credentials = |uri: &String| {
        let (scheme, rest) = uri.split_once(':')?;
        matches!(scheme, "turn" | "turns").then(|| {
            let (user, password) = (escape(user), escape(password.expose()));
            format!("{scheme}://{user}:{password}@{rest}")
        })
    };
    server.uris.iter().filter_map(with_credentials).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::secret::Secret;

    #[test]
    fn turn_credentials_are_escaped_into_the_uri() {
        let server = IceServer {
            uris: vec![
                "stun:10.0.0.1:3478".into(),
                "turn:10.0.0.1:3478?transport=udp".into(),
                "turns:relay.example:5349?transport=tcp".into(),
            ],
            username: Some("1700000000:ann".into()),
            password: Some(Secret::new("a/b+c=@")),
        };
        assert_eq!(
            turn_uris(&server),
            [
                "turn://1700000000%3Aann:a%2Fb%2Bc%3D%40@10.0.0.1:3478?transport=udp",
                "turns://1700000000%3Aann:a%2Fb%2Bc%3D%40@relay.example:5349?transport=tcp",
            ]
        );
    }

    #[test]
    fn a_relay_without_credentials_is_left_out() {
        let server = IceServer {
            uris: vec!["turn:10.0.0.1:3478".into()],
            username: None,
            password: None,
        };
        assert!(turn_uris(&server).is_empty());
    }
}
