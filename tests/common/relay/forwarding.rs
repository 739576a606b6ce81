// SPDX-License-Identifier: MIT

//! The sockets: one for the clients, and one towards the server for each address of a client.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::Result,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
    time::Instant,
};

use tokio::{
    net::UdpSocket,
    sync::mpsc::{Receiver, channel, error::TrySendError},
    time::sleep_until,
};

use super::{Direction, EmulatedLinks};

/// The most packets in flight: seconds of the traffic of a test.
const MAX_QUEUED_PACKETS: usize = 8192;
/// The most addresses that a client sends from.
const MAX_FLOWS: usize = 16;
/// The largest UDP packet.
const MAX_PACKET: usize = 65_536;

/// Receives in the server's place until the task is aborted.
pub(super) async fn forward_packets(
    server: SocketAddr,
    socket: StdSocket,
    links: Arc<EmulatedLinks>,
) -> Result<()> {
    socket.set_nonblocking(true)?;
    let front = Arc::new(UdpSocket::from_std(socket)?);
    let mut flows = HashMap::new();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        // An error is the ICMP reply to an earlier packet.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let packet = buffer[..length].to_vec();
        if !flows.contains_key(&client) && flows.len() == MAX_FLOWS {
            continue;
        }
        let flow = flows.entry(client).or_insert_with(|| {
            let (send, receive) = channel(MAX_QUEUED_PACKETS);
            let front = front.clone();
            tokio::spawn(forward_flow(front, client, server, receive, links.clone()));
            send
        });
        if let Err(TrySendError::Closed(_)) = flow.try_send(packet) {
            flows.remove(&client);
        }
    }
}

/// A packet in flight, ordered by arrival, then by number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    number: u64,
    server: bool,
    bytes: Vec<u8>,
}

/// Forwards between one address of a client and the server.
async fn forward_flow(
    front: Arc<UdpSocket>,
    client: SocketAddr,
    server: SocketAddr,
    mut from_client: Receiver<Vec<u8>>,
    links: Arc<EmulatedLinks>,
) -> Result<()> {
    let back = UdpSocket::bind((server.ip(), 0)).await?;
    back.connect(server).await?;
    let mut queue = BinaryHeap::<Reverse<Packet>>::new();
    let mut buffer = vec![0; MAX_PACKET];
    let mut number = 0;
    loop {
        let due = queue.peek().map(|Reverse(packet)| packet.due);
        let (direction, bytes) = tokio::select! {
            packet = from_client.recv() => match packet {
                Some(bytes) => (Direction::ToServer, bytes),
                None => return Ok(()),
            },
            length = back.recv(&mut buffer) => match length {
                Ok(length) => (Direction::ToClient, buffer[..length].to_vec()),
                // The server has closed its port.
                Err(_) => continue,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                deliver(&mut queue, &front, client, &back).await;
                continue;
            }
        };
        let mut link = links.of(direction);
        if let Some(due) = link.admit(&bytes, Instant::now()) {
            if queue.len() == MAX_QUEUED_PACKETS {
                link.overflow();
            } else {
                number += 1;
                queue.push(Reverse(Packet {
                    due,
                    number,
                    server: direction == Direction::ToServer,
                    bytes,
                }));
            }
        }
    }
}

/// Sends the packets that are due. A packet that the socket refuses is lost, as on any network.
async fn deliver(
    queue: &mut BinaryHeap<Reverse<Packet>>,
    front: &UdpSocket,
    client: SocketAddr,
    back: &UdpSocket,
) {
    let now = Instant::now();
    while queue.peek().is_some_and(|Reverse(next)| next.due <= now) {
        let Some(Reverse(packet)) = queue.pop() else {
            return;
        };
        let _ = if packet.server {
            back.send(&packet.bytes).await
        } else {
            front.send_to(&packet.bytes, client).await
        };
    }
}
