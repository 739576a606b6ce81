// SPDX-License-Identifier: MIT

//! Addresses of network interfaces that come and go, in the namespace of `tests/netns.sh`.

use std::{fs, net::UdpSocket, process::Command};

use crate::link_down::in_own_namespace;

#[derive(Debug, Clone, Copy)]
pub enum Address {
    /// IPv4 on the first interface, that of `netns.sh`.
    First,
    /// IPv4 on a second interface.
    Second,
    /// IPv6 on the first interface. It cannot be used before the kernel has found that nobody else
    /// has it, which takes a second.
    Ipv6,
}

impl Address {
    /// As arguments of `ip address`.
    const fn arguments(self) -> &'static str {
        match self {
            Self::First => "10.77.0.1/24 dev reactor0",
            Self::Second => "10.78.0.1/24 dev reactor2",
            Self::Ipv6 => "fd00:77::1/64 dev reactor0",
        }
    }

    pub fn is_usable(self) -> bool {
        let address = self.arguments().split('/').next().unwrap();
        UdpSocket::bind((address, 0)).is_ok()
    }
}

/// A second interface beside that of `netns.sh`, without an address, and IPv6 without any but
/// `::1`; dropping it restores the network of before.
#[derive(Debug)]
pub struct Interfaces(());

impl Interfaces {
    /// `None` outside of the namespace, where the network is not ours. The caller holds
    /// [`crate::link_down::exclusive_network`].
    pub fn new() -> Option<Self> {
        if !in_own_namespace() {
            eprintln!("skipped: this is not the network of tests/netns.sh");
            return None;
        }
        let interfaces = Self(());
        ip("link add reactor2 type veth peer name reactor3");
        // No address of a link: candidates are of the addresses that are added.
        ip("link set reactor0 addrgenmode none");
        for interface in ["lo", "reactor0"] {
            assert!(enable_ipv6(interface, true), "IPv6 on {interface}");
        }
        ip("link set reactor2 up");
        ip("link set reactor3 up");
        Some(interfaces)
    }

    pub fn add(&self, address: Address) {
        ip(&format!("address add {}", address.arguments()));
    }

    pub fn remove(&self, address: Address) {
        ip(&format!("address del {}", address.arguments()));
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        run("link del reactor2");
        for interface in ["lo", "reactor0"] {
            enable_ipv6(interface, false);
        }
        run(&format!("address replace {}", Address::First.arguments()));
    }
}

/// `netns.sh` has disabled it.
fn enable_ipv6(interface: &str, enable: bool) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    fs::write(path, if enable { "0" } else { "1" }).is_ok()
}

fn ip(arguments: &str) {
    assert!(run(arguments), "ip {arguments}");
}

fn run(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status();
    status.is_ok_and(|status| status.success())
}
