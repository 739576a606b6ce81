// SPDX-License-Identifier: MIT

//! A TURN server (RFC 8656), coturn, as a child process of the test, on the machine's own address.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{TIMEOUT, pipeline::wait_until, scratch, server::free_port};

const USER: &str = "ann";
/// Characters that a URI would have to escape.
const PASSWORD: &str = "p@/%25?#w";

/// Does not outlive its test.
#[derive(Debug)]
pub struct Coturn {
    child: Child,
    address: SocketAddr,
}

impl Coturn {
    /// Takes requests over UDP and TCP.
    pub fn start() -> Self {
        let address = SocketAddr::from((own_address(), free_port()));
        let root = std::env::var_os("REACTOR_COTURN").map_or_else(|| "/".into(), PathBuf::from);
        let libraries = root.join("usr/lib").join(multiarch());
        let mut command = Command::new(root.join("usr/bin/turnserver"));
        command
            .env("LD_LIBRARY_PATH", libraries)
            // No TLS and no DTLS, as there is no certificate; coturn 4.18 refuses the options for it.
            .args(["-n", "--no-cli", "--log-file=stdout"])
            .args(["--lt-cred-mech", "--realm=reactor.test"])
            .arg(format!("--user={USER}:{PASSWORD}"))
            .arg(format!("--listening-ip={}", address.ip()))
            .arg(format!("--relay-ip={}", address.ip()))
            .arg(format!("--listening-port={}", address.port()))
            .arg(format!(
                "--pidfile={}",
                scratch::path("coturn.pid").display()
            ))
            .arg(format!("--userdb={}", scratch::path("coturn.db").display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("coturn, which tests/run.sh unpacks; REACTOR_COTURN says where");
        let coturn = Self { child, address };
        wait_until("coturn listens", TIMEOUT, || {
            TcpStream::connect(address).is_ok()
        });
        coturn
    }

    /// As the platform lists it; `transport` is `udp` or `tcp`.
    pub fn list(&self, transport: &str) -> Value {
        json!([{
            "uris": [format!("turn:{}?transport={transport}", self.address)],
            "credentials": {"username": USER, "password": PASSWORD},
        }])
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of the machine's libraries, by Debian's multiarch.
pub(crate) fn multiarch() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// The address that the machine has on its network (that of `netns.sh` in a namespace), where its
/// host candidates are.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    // This sends nothing.
    socket.connect(("10.77.0.2", 9)).expect("a route");
    socket.local_addr().expect("an address").ip()
}
