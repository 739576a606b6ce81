// SPDX-License-Identifier: MIT

//! A bad network where the kernel has no `netem`: a UDP relay on this machine between a client and
//! the real runtime that loses, delays, reorders and rate-limits packets on demand.
//!
//! It replaces the server's addresses in the answer, and removes the client's addresses from the
//! offer, so that neither has another way to the other. It does not decrypt: these are the packets
//! as they would be on a wire.

mod emulated_link;
mod forwarding;
mod signaling;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::runtime::Runtime;

use crate::proxy::{Proxy, Rule, RuntimeRoute};

pub use emulated_link::{Jitter, LinkConditions, PacketCounts, RateLimit, RtcpType};

use emulated_link::EmulatedLink;

/// More connections than any test makes; the oldest is closed for another one.
const MAX_SERVERS: usize = 32;

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    ToClient,
    ToServer,
}

/// The two directions.
#[derive(Debug)]
struct EmulatedLinks {
    client: Mutex<EmulatedLink>,
    server: Mutex<EmulatedLink>,
}

impl EmulatedLinks {
    fn of(&self, direction: Direction) -> MutexGuard<'_, EmulatedLink> {
        let link = match direction {
            Direction::ToClient => &self.client,
            Direction::ToServer => &self.server,
        };
        link.lock().unwrap()
    }
}

/// A server's address, the relay's address in its place, and the task that forwards.
#[derive(Debug)]
struct RelayedServer {
    server: SocketAddr,
    address: SocketAddr,
    task: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct RelayState {
    links: Arc<EmulatedLinks>,
    servers: Mutex<Vec<RelayedServer>>,
    runtime: tokio::runtime::Handle,
}

/// Relays until it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<RelayState>,
    runtime: Option<Runtime>,
}

impl Relay {
    /// Relays between the server behind this proxy and its clients; perfect at first. What happens
    /// to the n-th packet of a direction depends on the seed and the conditions only.
    pub fn behind(proxy: &Proxy, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relay")
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(RelayState {
            links: Arc::new(EmulatedLinks {
                client: Mutex::new(EmulatedLink::new(seed, 1)),
                server: Mutex::new(EmulatedLink::new(seed, 2)),
            }),
            servers: Mutex::default(),
            runtime: runtime.handle().clone(),
        });
        let at = shared.clone();
        let answer = move |body: String| {
            signaling::replace_server_address(&body, |server| at.relay_address(server))
        };
        proxy.rule(RuntimeRoute::Answer, Rule::edit_reply(answer));
        proxy.rule(
            RuntimeRoute::Offer,
            Rule::edit_request(signaling::remove_client_candidates),
        );
        proxy.rule(
            RuntimeRoute::Candidates,
            Rule::edit_request(signaling::remove_trickled_candidates),
        );
        Self {
            shared,
            runtime: Some(runtime),
        }
    }

    /// Applies to packets that arrive from now on.
    pub fn set(&self, direction: Direction, conditions: LinkConditions) {
        self.shared.links.of(direction).conditions = conditions;
    }

    pub fn set_both(&self, conditions: LinkConditions) {
        self.set(Direction::ToClient, conditions);
        self.set(Direction::ToServer, conditions);
    }

    /// Drops all packets in both directions. Packets in flight arrive.
    pub fn set_down(&self, on: bool) {
        for direction in [Direction::ToClient, Direction::ToServer] {
            self.shared.links.of(direction).down = on;
        }
    }

    /// Loses all RTP packets of these payload types, and none for an empty list.
    pub fn drop_payloads(&self, direction: Direction, payloads: Vec<u8>) {
        self.shared.links.of(direction).dropped_payloads = payloads;
    }

    /// The packet counts so far.
    pub fn counts(&self, direction: Direction) -> PacketCounts {
        self.shared.links.of(direction).counts
    }

    /// The number of RTP packets received, lost ones included, by payload type: those that the
    /// answer calls `rtx` are retransmissions.
    pub fn payloads(&self, direction: Direction) -> BTreeMap<u8, u64> {
        self.shared.links.of(direction).payloads.clone()
    }

    /// As [`Self::payloads`], only packets with the header extension of this id.
    pub fn extended_payloads(&self, direction: Direction, id: u8) -> BTreeMap<u8, u64> {
        let link = self.shared.links.of(direction);
        let counts = link.extended.iter();
        let of_this_id = counts.filter(|((extension, _), _)| *extension == id);
        of_this_id.map(|((_, payload), n)| (*payload, *n)).collect()
    }

    /// The number of RTCP datagrams received that begin with this, lost ones included.
    pub fn rtcp_packets(&self, direction: Direction, rtcp: RtcpType) -> u64 {
        let link = self.shared.links.of(direction);
        link.rtcp.get(&rtcp).copied().unwrap_or_default()
    }

    /// The number of connections relayed.
    pub fn connections(&self) -> usize {
        self.shared.servers.lock().unwrap().len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl RelayState {
    /// The address at which clients find this server from now on. An answer may be requested more
    /// than once.
    fn relay_address(&self, server: SocketAddr) -> SocketAddr {
        let mut servers = self.servers.lock().unwrap();
        if let Some(relayed) = servers.iter().find(|relayed| relayed.server == server) {
            return relayed.address;
        }
        // On the server's own address, so that packets take the route that they took to the server.
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a free port");
        let address = socket.local_addr().expect("an address");
        let task = forwarding::forward_packets(server, socket, self.links.clone());
        let task = self.runtime.spawn(task).abort_handle();
        if servers.len() == MAX_SERVERS {
            servers.remove(0).task.abort();
        }
        servers.push(RelayedServer {
            server,
            address,
            task,
        });
        address
    }
}

/// The payload types that an SDP maps to this codec name, such as `rtx`.
pub fn codec_payloads(sdp: &str, name: &str) -> Vec<u8> {
    let formats = sdp.lines().filter_map(|line| {
        let (payload, rest) = line.trim().strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let is_wanted = rest.split('/').next()?.eq_ignore_ascii_case(name);
        is_wanted.then(|| payload.parse().ok())?
    });
    formats.collect()
}

/// The number of packets whose payload type an SDP maps to this codec name.
pub fn count_codec_packets(sdp: &str, name: &str, payloads: &BTreeMap<u8, u64>) -> u64 {
    let wanted = codec_payloads(sdp, name);
    let counted = payloads.iter();
    let counted = counted.filter(|(payload, _)| wanted.contains(payload));
    counted.map(|(_, count)| count).sum()
}
