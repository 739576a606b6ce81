// SPDX-License-Identifier: MIT

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::mpsc,
    thread,
    time::Duration,
};

use gst_webrtc::WebRTCSessionDescription;

use super::*;
use crate::platform::secret::Secret;

fn server(uris: &[&str], user: &str, password: &str) -> IceServer {
    IceServer {
        uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        username: Some(user.to_owned()),
        password: Some(Secret::new(password)),
    }
}

fn turn_uris(server: &IceServer) -> Vec<String> {
    let uris = server.uris.iter();
    uris.filter_map(|uri| turn_uri(server, uri)).collect()
}

fn webrtcbin() -> gst::Element {
    gst::init().unwrap();
    gst::ElementFactory::make("webrtcbin").build().unwrap()
}

#[test]
fn turn_uri_contains_escaped_credentials() {
    let server = server(
        &[
            "stun:10.0.0.1:3478",
            "turn:10.0.0.1:3478?transport=udp",
            "turn:relay.example:443?transport=tcp",
            "TURN://relay.example",
            "turns:relay.example:5349?transport=tcp",
            "turn:",
            "turn:a@b",
            "turn:a b",
            "turn",
        ],
        "1700000000:ann",
        "a/b+c=@",
    );
    assert_eq!(
        turn_uris(&server),
        [
            "turn://1700000000%3Aann:a%2Fb%2Bc%3D%40@10.0.0.1:3478?transport=udp",
            "turn://1700000000%3Aann:a%2Fb%2Bc%3D%40@relay.example:443?transport=tcp",
            "turn://1700000000%3Aann:a%2Fb%2Bc%3D%40@relay.example",
        ]
    );
    assert_eq!(stun_uri(&server).unwrap(), "stun://10.0.0.1:3478");
}

#[test]
fn special_characters_in_uri_are_accepted_by_webrtcbin() {
    let webrtcbin = webrtcbin();
    for uri in [
        "turn:[2001:db8::1]:3478?transport=udp",
        "turn:[2001:db8::1]",
        "turn:10.0.0.1",
        "turn:relay.example:80?transport=tcp",
    ] {
        for odd in [
            "", ":", "@", "/", "%", "%41", "?#[]&", "é€", "a b", "\"<\\>",
        ] {
            let uri = turn_uri(&server(&[], &format!("u{odd}"), &format!("{odd}p")), uri).unwrap();
            assert!(
                webrtcbin.emit_by_name::<bool>("add-turn-server", &[&uri]),
                "{uri}"
            );
        }
    }
}

#[test]
fn relay_without_credentials_is_left_out() {
    let mut server = server(&["turn:10.0.0.1:3478"], "u", "p");
    server.password = None;
    assert!(turn_uris(&server).is_empty());
}

#[test]
fn unusable_servers_fail_only_relay_policy() {
    let unusable = || {
        server(
            &["turn:h?transport=sctp", "turns:h", "bad", "stun:h"],
            "u",
            "p",
        )
    };
    configure_agent(&webrtcbin(), &[unusable()], false).unwrap();
    for servers in [vec![], vec![unusable()]] {
        let error = configure_agent(&webrtcbin(), &servers, true).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
        assert!(error.message.contains("no relay"), "{error}");
    }
    let bin = webrtcbin();
    configure_agent(
        &bin,
        &[unusable(), server(&["turn:10.0.0.1"], "u", "p")],
        true,
    )
    .unwrap();
    assert_eq!(bin.property::<String>("stun-server"), "stun://h");
}

#[test]
fn password_is_not_in_gstreamer_log() {
    const PASSWORD: &str = "unloggedsecret";
    let webrtcbin = webrtcbin();
    let (sender, lines) = mpsc::channel();
    let logger = gst::log::add_log_function(move |_, _, _, _, _, _, message| {
        let text = message.get().map(|text| text.to_string());
        let _ = sender.send(text.unwrap_or_default());
    });
    let category = |name| gst::DebugCategory::get(name).unwrap();
    let categories = ["webrtcbin", "webrtcnice"].map(category);
    for category in categories {
        category.set_threshold(gst::DebugLevel::Log);
    }
    let relay = server(&["turn:10.0.0.1"], "u", PASSWORD);
    configure_agent(&webrtcbin, &[relay], true).unwrap();
    let levels = categories.map(gst::DebugCategory::threshold);
    for category in categories {
        category.set_threshold(gst::DebugLevel::None);
    }
    gst::log::remove_log_function(logger);
    for line in lines.try_iter() {
        assert!(!line.contains(PASSWORD), "{line}");
    }
    assert_eq!(levels, [gst::DebugLevel::Log; 2]);
}

/// The offset and value of a STUN message's attribute (RFC 8489, 5 and 14).
fn attribute(message: &[u8], wanted: u16) -> Option<(usize, &[u8])> {
    let mut at = 20;
    while let Some(&[a, b, c, d]) = message.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([c, d]));
        if u16::from_be_bytes([a, b]) == wanted {
            return Some((at, &message[at + 4..at + 4 + length]));
        }
        at += 4 + length.next_multiple_of(4);
    }
    None
}

const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;

/// A relay's answer to a request without credentials: 401, realm and nonce.
fn unauthorized_response(request: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0, 9, 0, 4, 0, 0, 4, 1];
    attributes.extend(b"\x00\x14\x00\x05realm\0\0\0\x00\x15\x00\x05nonce\0\0\0");
    let mut answer = vec![0x01, 0x13, 0, u8::try_from(attributes.len()).unwrap()];
    answer.extend(&request[4..20]);
    answer.extend(attributes);
    answer
}

/// The user of a request, if its MESSAGE-INTEGRITY proves the password (RFC 8489, 9.2.2 and 14.5).
fn authenticated_user(request: &[u8], password: &str) -> Option<String> {
    let user = String::from_utf8(attribute(request, USERNAME)?.1.to_vec()).ok()?;
    let (at, proof) = attribute(request, INTEGRITY)?;
    let md5 = |text: &str| {
        let hex = glib::compute_checksum_for_data(glib::ChecksumType::Md5, text.as_bytes())?;
        Some(bytes(&hex))
    };
    let key = md5(&format!("{user}:realm:{password}"))?;
    let mut covered = request[..at].to_vec();
    let length = u16::try_from(at - 20 + 24).ok()?;
    covered[2..4].copy_from_slice(&length.to_be_bytes());
    let hmac = glib::compute_hmac_for_data(glib::ChecksumType::Sha1, &key, &covered);
    (bytes(&hmac) == proof).then_some(user)
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A relay on this machine, and the users who prove the password to it.
fn start_relay(
    transport: &'static str,
    password: &'static str,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    let respond = move |request: &[u8]| {
        if let Some(user) = authenticated_user(request, password) {
            let _ = sender.send(user);
        }
        unauthorized_response(request)
    };
    let mut buffer = [0; 2048];
    let address = if transport == "udp" {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&respond(&buffer[..n]), from).unwrap();
            }
        });
        address
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while let Ok(n @ 20..) = stream.read(&mut buffer) {
                stream.write_all(&respond(&buffer[..n])).unwrap();
            }
        });
        address
    };
    (address, receiver)
}

/// Makes webrtcbin gather candidates, on the loopback interface only.
fn gather(webrtcbin: &gst::Element) {
    let ice = webrtcbin.property::<gst::Object>("ice-agent");
    assert!(ice.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]));
    webrtcbin.set_state(gst::State::Ready).unwrap();
    webrtcbin.emit_by_name::<Option<glib::Object>>(
        "create-data-channel",
        &[&"data", &None::<gst::Structure>],
    );
    webrtcbin.set_state(gst::State::Playing).unwrap();
    let promise = gst::Promise::new();
    webrtcbin.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
    promise.wait();
    let offer = promise.get_reply().unwrap();
    let offer: WebRTCSessionDescription = offer.get("offer").unwrap();
    webrtcbin.emit_by_name::<()>("set-local-description", &[&offer, &None::<gst::Promise>]);
}

#[test]
fn relay_receives_configured_credentials() {
    const USER: &str = "1700000000:a@b/c%41 é";
    const PASSWORD: &str = "p:@/%25?#[é]=";
    for transport in ["udp", "tcp"] {
        let (address, receiver) = start_relay(transport, PASSWORD);
        let uri = format!("turn:{address}?transport={transport}");
        let webrtcbin = webrtcbin();
        configure_agent(&webrtcbin, &[server(&[&uri], USER, PASSWORD)], true).unwrap();
        gather(&webrtcbin);
        let user = receiver
            .recv_timeout(Duration::from_secs(20))
            .expect(transport);
        webrtcbin.set_state(gst::State::Null).unwrap();
        assert_eq!(user, USER);
    }
}
