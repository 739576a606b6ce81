// SPDX-License-Identifier: MIT

//! STUN and TURN servers that take packets and connections, and never answer.

use std::net::{IpAddr, TcpListener, UdpSocket};

use serde_json::{Value, json};

#[derive(Debug)]
pub struct SilentIceServers {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl SilentIceServers {
    /// On this address of the machine's.
    pub fn bind(address: IpAddr) -> Self {
        Self {
            udp: UdpSocket::bind((address, 0)).expect("a socket"),
            tcp: TcpListener::bind((address, 0)).expect("a socket"),
        }
    }

    /// As the platform lists them.
    pub fn list(&self) -> Value {
        let udp = self.udp.local_addr().expect("an address");
        let tcp = self.tcp.local_addr().expect("an address");
        let turn = [
            format!("turn:{udp}?transport=udp"),
            format!("turn:{tcp}?transport=tcp"),
        ];
        let credentials = json!({"username": "u", "password": "p"});
        json!([
            {"uris": [format!("stun:{udp}")]},
            {"uris": turn, "credentials": credentials},
        ])
    }

    /// Whether a client has asked one over UDP.
    pub fn were_asked(&self) -> bool {
        self.udp.set_nonblocking(true).expect("a socket");
        self.udp.recv(&mut [0; 1500]).is_ok()
    }
}
