// SPDX-License-Identifier: MIT

//! A bad network where the kernel has none (`netem`): a relay on this machine
//! that all UDP between a client and the real runtime goes through, and that
//! loses, delays, reorders and narrows it on demand.
//!
//! It is put into the server's answer, in the place of the server's own
//! addresses, and the client's addresses are kept from the server, so that
//! neither has another way to the other. What is encrypted stays so: these are
//! the packets as they would be on a wire.

mod answer;
mod flow;
mod lane;

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::runtime::Runtime;

use crate::proxy::{Proxy, Route, Rule};

pub use lane::{Conditions, Counts, Jitter, Rate};

use lane::Lane;

/// More connections than any test makes; the oldest ends for another one.
const MOST_FRONTS: usize = 32;

/// Where to a packet is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Towards {
    Client,
    Server,
}

/// The two directions.
#[derive(Debug)]
struct Lanes {
    client: Mutex<Lane>,
    server: Mutex<Lane>,
}

impl Lanes {
    fn of(&self, towards: Towards) -> MutexGuard<'_, Lane> {
        let lane = match towards {
            Towards::Client => &self.client,
            Towards::Server => &self.server,
        };
        lane.lock().unwrap()
    }
}

/// A server's address, where the relay stands for it, and what does so.
#[derive(Debug)]
struct Front {
    server: SocketAddr,
    address: SocketAddr,
    task: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    lanes: Arc<Lanes>,
    fronts: Mutex<Vec<Front>>,
    runtime: tokio::runtime::Handle,
}

/// Relays until it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Relay {
    /// Stands between the server behind this proxy and its clients, of which
    /// it lets everything through at first. What becomes of the n-th packet of
    /// a direction depends on the seed, the conditions and nothing else.
    pub fn behind(proxy: &Proxy, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relay")
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared {
            lanes: Arc::new(Lanes {
                client: Mutex::new(Lane::new(seed, 1)),
                server: Mutex::new(Lane::new(seed, 2)),
            }),
            fronts: Mutex::default(),
            runtime: runtime.handle().clone(),
        });
        let at = shared.clone();
        let answer = move |body: String| answer::redirect(&body, |server| at.front(server));
        proxy.rule(Route::Answer, Rule::edit_reply(answer));
        proxy.rule(Route::Offer, Rule::edit_request(answer::hide_client));
        proxy.rule(Route::Candidates, Rule::edit_request(answer::forget));
        Self {
            shared,
            runtime: Some(runtime),
        }
    }

    /// From now on, for what comes in.
    pub fn set(&self, towards: Towards, conditions: Conditions) {
        self.shared.lanes.of(towards).conditions = conditions;
    }

    pub fn set_both(&self, conditions: Conditions) {
        self.set(Towards::Client, conditions);
        self.set(Towards::Server, conditions);
    }

    /// Whether nothing gets through at all, in neither direction. What is on its
    /// way arrives.
    pub fn black_out(&self, on: bool) {
        for towards in [Towards::Client, Towards::Server] {
            self.shared.lanes.of(towards).blackout = on;
        }
    }

    /// What became of the packets so far.
    pub fn counts(&self, towards: Towards) -> Counts {
        self.shared.lanes.of(towards).counts
    }

    /// How many RTP packets came in, lost ones too, by payload type: what the
    /// answer calls `rtx` is repair.
    pub fn payloads(&self, towards: Towards) -> BTreeMap<u8, u64> {
        self.shared.lanes.of(towards).payloads.clone()
    }

    /// How many connections went through here.
    pub fn connections(&self) -> usize {
        self.shared.fronts.lock().unwrap().len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Where clients find this server from now on. An answer may be asked for
    /// more than once.
    fn front(&self, server: SocketAddr) -> SocketAddr {
        let mut fronts = self.fronts.lock().unwrap();
        if let Some(front) = fronts.iter().find(|front| front.server == server) {
            return front.address;
        }
        // On the server's own address, so that it is reached the same way.
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a free port");
        let address = socket.local_addr().expect("an address");
        let task = flow::stand_for(server, socket, self.lanes.clone());
        let task = self.runtime.spawn(task).abort_handle();
        if fronts.len() == MOST_FRONTS {
            fronts.remove(0).task.abort();
        }
        fronts.push(Front {
            server,
            address,
            task,
        });
        address
    }
}

/// How many packets of each payload type an SDP calls by this name, such as
/// `rtx`.
pub fn of_format(sdp: &str, name: &str, payloads: &BTreeMap<u8, u64>) -> u64 {
    let formats = sdp.lines().filter_map(|line| {
        let (payload, rest) = line.trim().strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let payload: u8 = payload.parse().ok()?;
        Some((payload, rest.split('/').next()?.to_ascii_lowercase()))
    });
    let formats: HashMap<u8, String> = formats.collect();
    let counted = payloads.iter();
    let counted = counted.filter(|(payload, _)| formats.get(payload).is_some_and(|n| n == name));
    counted.map(|(_, count)| count).sum()
}
