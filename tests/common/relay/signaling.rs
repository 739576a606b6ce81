// SPDX-License-Identifier: MIT

//! Rewrites addresses in the signaling that passes the proxy.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// Keeps one candidate of the server's answer, with the address `front` gives for it.
pub(super) fn replace_server_address(
    body: &str,
    front: impl Fn(SocketAddr) -> SocketAddr,
) -> String {
    edit(body, "sdp_answer", |sdp| {
        let mut chosen = None;
        lines(sdp, |line| {
            let Some(candidate) = line.strip_prefix("a=candidate:") else {
                return Some(line.to_owned());
            };
            let server = address(candidate)?;
            let only = *chosen.get_or_insert(server);
            (only == server).then(|| at(line, front(server)))
        })
    })
}

/// Removes the client's candidates from its offer: the server learns the relay's addresses from the
/// packets (peer-reflexive candidates).
pub(super) fn remove_client_candidates(body: String) -> String {
    edit(&body, "sdp_offer", |sdp| {
        lines(sdp, |line| {
            let tells = ["a=candidate:", "a=end-of-candidates"];
            (!tells.iter().any(|tell| line.starts_with(tell))).then(|| line.to_owned())
        })
    })
}

/// Removes the candidates that are trickled after the offer.
pub(super) fn remove_trickled_candidates(body: String) -> String {
    let Ok(mut json) = serde_json::from_str::<Value>(&body) else {
        return body;
    };
    json["candidates"] = json!([]);
    json.to_string()
}

/// Edits a field of a JSON body, if it exists.
fn edit(body: &str, field: &str, edit: impl FnOnce(&str) -> String) -> String {
    let json = serde_json::from_str::<Value>(body);
    let Ok(mut json) = json else {
        return body.to_owned();
    };
    if let Some(sdp) = json[field].as_str().map(edit) {
        json[field] = sdp.into();
    }
    json.to_string()
}

fn lines(sdp: &str, edit: impl FnMut(&str) -> Option<String>) -> String {
    let edited = sdp.lines().filter_map(edit);
    edited.map(|line| line + "\r\n").collect()
}

/// The address of a host candidate for UDP over IPv4: `foundation component transport priority
/// address port typ host ...`.
fn address(candidate: &str) -> Option<SocketAddr> {
    let fields: Vec<_> = candidate.split_ascii_whitespace().collect();
    let [_, "1", transport, _, address, port, "typ", "host", ..] = fields[..] else {
        return None;
    };
    let address: IpAddr = address.parse().ok()?;
    let fits = transport.eq_ignore_ascii_case("udp") && address.is_ipv4();
    fits.then_some(SocketAddr::new(address, port.parse().ok()?))
}

/// The candidate line with another address.
fn at(line: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut fields: Vec<_> = line.split_ascii_whitespace().collect();
    (fields[4], fields[5]) = (&ip, &port);
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "a=candidate:1 1 udp 2122194687 192.0.2.2 46354 typ host generation 0";
    const OTHER: &str = "a=candidate:1 1 udp 2122194687 192.0.2.3 46354 typ host generation 0";
    const V6: &str = "a=candidate:2 1 udp 2122265343 fd00::2 56813 typ host generation 0";
    const TCP: &str = "a=candidate:3 1 tcp 1518214911 192.0.2.2 9 typ host tcptype passive";

    #[test]
    fn answer_keeps_one_candidate_with_relay_address() {
        let sdp = [V6, TCP, UDP, OTHER, "a=end-of-candidates", UDP, ""].join("\r\n");
        let body = json!({"sdp_answer": sdp, "other": 1}).to_string();
        let front = "192.0.2.2:7".parse().unwrap();
        let edited: Value = serde_json::from_str(&replace_server_address(&body, |server| {
            assert_eq!(server, "192.0.2.2:46354".parse().unwrap());
            front
        }))
        .unwrap();
        let there = UDP.replace(" 46354 ", " 7 ");
        let expected = [&there, "a=end-of-candidates", &there, ""].join("\r\n");
        assert_eq!(edited, json!({"sdp_answer": expected, "other": 1}));
    }

    #[test]
    fn offer_and_trickled_candidates_are_removed() {
        let offer = ["v=0", UDP, TCP, "a=mid:0", ""].join("\r\n");
        let body = json!({ "sdp_offer": offer }).to_string();
        let edited: Value = serde_json::from_str(&remove_client_candidates(body)).unwrap();
        assert_eq!(edited, json!({"sdp_offer": "v=0\r\na=mid:0\r\n"}));
        let body = json!({"candidates": [{"candidate": "candidate:1"}], "is_final": true});
        let edited: Value =
            serde_json::from_str(&remove_trickled_candidates(body.to_string())).unwrap();
        assert_eq!(edited, json!({"candidates": [], "is_final": true}));
    }
}
