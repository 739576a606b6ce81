// SPDX-License-Identifier: MIT

//! One direction of an emulated network: decides when, and whether, a packet arrives. Has no socket
//! and no clock of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{Rng, SeedableRng},
};

/// The conditions of one direction. The default is a perfect network.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkConditions {
    /// The probability that a packet is lost, 0 to 1.
    pub loss: f64,
    /// The mean number of packets that are lost one after the other: the bursts of the
    /// Gilbert-Elliott model, whose bad state loses all and whose good state none. 0 for losses that
    /// are independent of each other.
    pub loss_burst: f64,
    /// The delay of every packet.
    pub delay: Duration,
    /// The largest additional delay of a packet.
    pub jitter: Duration,
    pub shape: Jitter,
    /// A packet that would overtake another one arrives right after it.
    pub in_order: bool,
    pub rate: Option<RateLimit>,
}

/// The distribution of the jitter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Jitter {
    #[default]
    Uniform,
    /// Bell-shaped: the mean of four uniform values.
    Bell,
}

/// A token bucket with a tail-drop queue in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub bits_per_second: u32,
    /// Bytes that pass at once after a pause.
    pub burst: u32,
    /// Bytes that the queue holds.
    pub queue: u32,
}

impl RateLimit {
    fn time_of(self, bytes: u32) -> Duration {
        Duration::from_secs_f64(f64::from(bytes) * 8.0 / f64::from(self.bits_per_second.max(1)))
    }
}

/// The number of packets by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketCounts {
    pub passed: u64,
    /// Of RTP and RTCP packets that passed, without the headers of IP and UDP.
    pub passed_rtp_bytes: u64,
    /// At random.
    pub lost: u64,
    /// Dropped by the full queue, or because too many packets were in flight.
    pub overflowed: u64,
    pub dropped_while_down: u64,
    /// Packets of `passed` that arrive before one that was sent earlier.
    pub reordered: u64,
}

#[derive(Debug)]
pub(super) struct EmulatedLink {
    pub conditions: LinkConditions,
    pub down: bool,
    /// The payload types of packets that are all lost.
    pub dropped_payloads: Vec<u8>,
    pub counts: PacketCounts,
    pub payloads: BTreeMap<u8, u64>,
    /// RTP packets by the id of a header extension and the payload type.
    pub extended: BTreeMap<(u8, u8), u64>,
    pub rtcp: BTreeMap<RtcpType, u64>,
    random: Pcg64Mcg,
    /// The Gilbert-Elliott model is in its bad state.
    in_burst: bool,
    /// When the last packet has left the token bucket.
    free: Option<Instant>,
    /// The latest arrival so far.
    latest: Option<Instant>,
}

impl EmulatedLink {
    /// `stream` separates the random sequences of the two directions.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            conditions: LinkConditions::default(),
            down: false,
            dropped_payloads: Vec::new(),
            counts: PacketCounts::default(),
            payloads: BTreeMap::new(),
            extended: BTreeMap::new(),
            rtcp: BTreeMap::new(),
            random: Pcg64Mcg::seed_from_u64(seed.wrapping_mul(4).wrapping_add(stream)),
            in_burst: false,
            free: None,
            latest: None,
        }
    }

    /// When this packet arrives, if it does.
    pub fn admit(&mut self, packet: &[u8], now: Instant) -> Option<Instant> {
        if let Some(payload) = rtp_payload(packet) {
            *self.payloads.entry(payload).or_default() += 1;
            for id in extension_ids(packet) {
                *self.extended.entry((id, payload)).or_default() += 1;
            }
        }
        if let Some(rtcp) = rtcp_type(packet) {
            *self.rtcp.entry(rtcp).or_default() += 1;
        }
        // Always the same number of random values, so that a change of the conditions does not
        // change which packets are lost.
        let chance = self.draw();
        let is_dropped = rtp_payload(packet).is_some_and(|p| self.dropped_payloads.contains(&p));
        let is_lost = self.loses(chance) || is_dropped;
        let jitters = [self.draw(), self.draw(), self.draw(), self.draw()];
        if self.down {
            self.counts.dropped_while_down += 1;
            return None;
        }
        if is_lost {
            self.counts.lost += 1;
            return None;
        }
        let Some(leaves) = self.leave(packet.len() as u32, now) else {
            self.counts.overflowed += 1;
            return None;
        };
        self.counts.passed += 1;
        if packet.first().is_some_and(is_rtp_or_rtcp) {
            self.counts.passed_rtp_bytes += packet.len() as u64;
        }
        let part = match self.conditions.shape {
            Jitter::Uniform => jitters[0],
            Jitter::Bell => jitters.iter().sum::<f64>() / 4.0,
        };
        let jitter = self.conditions.jitter.mul_f64(part);
        Some(self.arrive(leaves + self.conditions.delay + jitter))
    }

    /// Corrects the counts for an admitted packet that could not be queued.
    pub fn overflow(&mut self) {
        self.counts.passed -= 1;
        self.counts.overflowed += 1;
    }

    /// Whether the network loses the next packet.
    fn loses(&mut self, chance: f64) -> bool {
        let LinkConditions {
            loss, loss_burst, ..
        } = self.conditions;
        if loss_burst < 1.0 {
            return chance < loss;
        }
        let ends = 1.0 / loss_burst;
        let begins = ends * loss / (1.0 - loss);
        self.in_burst = chance < if self.in_burst { 1.0 - ends } else { begins };
        self.in_burst
    }

    /// When a packet has left the token bucket, unless the queue is full.
    fn leave(&mut self, bytes: u32, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        // After a pause, the credit is the burst, and no more.
        let credit = now.checked_sub(rate.time_of(rate.burst)).unwrap_or(now);
        let begins = self.free.map_or(credit, |free| free.max(credit));
        if begins > now + rate.time_of(rate.queue) {
            return None;
        }
        let free = begins + rate.time_of(bytes);
        self.free = Some(free);
        Some(free.max(now))
    }

    fn arrive(&mut self, when: Instant) -> Instant {
        match self.latest {
            Some(latest) if when < latest && self.conditions.in_order => latest,
            Some(latest) if when < latest => {
                self.counts.reordered += 1;
                when
            }
            _ => {
                self.latest = Some(when);
                when
            }
        }
    }

    /// Uniform in 0..1.
    fn draw(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// RFC 7983, 7: neither STUN nor DTLS.
fn is_rtp_or_rtcp(first: &u8) -> bool {
    (128..192).contains(first)
}

/// What the first of the RTCP packets in a datagram is: SRTCP leaves its header readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RtcpType {
    pub packet_type: u8,
    /// Of feedback messages (RFC 4585, 6.1); the number of reports in others.
    pub format: u8,
}

fn rtcp_type(packet: &[u8]) -> Option<RtcpType> {
    let (first, packet_type) = (*packet.first()?, *packet.get(1)?);
    let is_rtcp = (128..192).contains(&first) && (192..224).contains(&packet_type);
    is_rtcp.then_some(RtcpType {
        packet_type,
        format: first & 0x1f,
    })
}

/// In the first byte of an RTP packet: header extensions follow the header (RFC 3550, 5.3.1).
const RTP_EXTENSION_BIT: u8 = 0x10;

/// The payload type of an RTP packet. SRTP leaves the header readable; STUN, DTLS and RTCP are told
/// apart by RFC 7983 and RFC 5761.
fn rtp_payload(packet: &[u8]) -> Option<u8> {
    let (first, second) = (*packet.first()?, *packet.get(1)?);
    let payload = second & 0x7f;
    ((128..192).contains(&first) && !(64..96).contains(&payload)).then_some(payload)
}

/// The ids of an RTP packet's header extensions in the one-byte form (RFC 8285, 4.2). SRTP leaves
/// them readable.
fn extension_ids(packet: &[u8]) -> Vec<u8> {
    let elements = || {
        let first = packet.first()?;
        let extension = packet.get(12 + 4 * usize::from(first & 0x0f)..)?;
        let (profile, rest) = extension.split_at_checked(2)?;
        let (words, rest) = rest.split_first_chunk::<2>()?;
        let is_one_byte = first & RTP_EXTENSION_BIT != 0 && profile == [0xbe, 0xde];
        is_one_byte.then(|| rest.get(..4 * usize::from(u16::from_be_bytes(*words))))?
    };
    let mut rest = elements().unwrap_or_default();
    let mut ids = Vec::new();
    while let Some((&header, behind)) = rest.split_first() {
        let (id, length) = (header >> 4, usize::from(header & 0x0f) + 1);
        if header == 0 {
            rest = behind;
            continue;
        }
        ids.push(id);
        rest = behind.get(length..).unwrap_or_default();
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 1000] = [0x80; 1000];

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The outcomes of a thousand packets, one per millisecond.
    fn fates(seed: u64, conditions: LinkConditions) -> (Vec<Option<Duration>>, PacketCounts) {
        let mut link = EmulatedLink::new(seed, 1);
        link.conditions = conditions;
        let start = Instant::now();
        let fates = (0..1000).map(|n| {
            let now = start + ms(n);
            link.admit(&PACKET, now).map(|arrival| arrival - now)
        });
        (fates.collect(), link.counts)
    }

    #[test]
    fn seed_determines_losses_and_delays() {
        let conditions = LinkConditions {
            loss: 0.05,
            jitter: ms(40),
            ..LinkConditions::default()
        };
        let (first, counts) = fates(7, conditions);
        assert_eq!(fates(7, conditions).0, first);
        assert_ne!(fates(8, conditions).0, first);
        assert!((20..100).contains(&counts.lost), "{counts:?}");
        assert_eq!(counts.passed + counts.lost, 1000);
        assert!(counts.reordered > 100, "{counts:?}");
        // Losses do not depend on the other conditions.
        let steady = LinkConditions {
            jitter: Duration::ZERO,
            ..conditions
        };
        let lost = |fates: &[Option<Duration>]| fates.iter().map(Option::is_none).collect();
        let (same, other): (Vec<_>, Vec<_>) = (lost(&first), lost(&fates(7, steady).0));
        assert_eq!(same, other);
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        for shape in [Jitter::Uniform, Jitter::Bell] {
            let conditions = LinkConditions {
                delay: ms(10),
                jitter: ms(40),
                shape,
                ..LinkConditions::default()
            };
            let (fates, _) = fates(1, conditions);
            let fates: Vec<_> = fates.into_iter().flatten().collect();
            assert_eq!(fates.len(), 1000);
            assert!(fates.iter().all(|&time| (ms(10)..ms(50)).contains(&time)));
            let mean = fates.iter().sum::<Duration>() / 1000;
            assert!((ms(28)..ms(32)).contains(&mean), "{shape:?}: {mean:?}");
            let far = fates.iter().filter(|&&time| time < ms(14)).count();
            let expected = match shape {
                Jitter::Uniform => 60..140,
                Jitter::Bell => 0..20,
            };
            assert!(expected.contains(&far), "{shape:?}: {far}");
        }
    }

    #[test]
    fn in_order_link_reorders_nothing() {
        let conditions = LinkConditions {
            jitter: ms(40),
            in_order: true,
            ..LinkConditions::default()
        };
        let (fates, counts) = fates(1, conditions);
        assert_eq!((counts.passed, counts.reordered), (1000, 0));
        let arrivals = fates.iter().zip(0..).map(|(fate, n)| fate.unwrap() + ms(n));
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn excess_traffic_is_queued_then_dropped() {
        // Half of the traffic, which is 8 Mbit/s.
        let rate = RateLimit {
            bits_per_second: 4_000_000,
            burst: 5_000,
            queue: 50_000,
        };
        let conditions = LinkConditions {
            rate: Some(rate),
            ..LinkConditions::default()
        };
        let (fates, counts) = fates(1, conditions);
        assert_eq!(fates[..5], [Some(Duration::ZERO); 5], "the burst");
        let longest = fates.iter().flatten().max().unwrap();
        assert!((ms(98)..=ms(104)).contains(longest), "{longest:?}");
        assert!((540..570).contains(&counts.passed), "{counts:?}");
        assert_eq!(counts.passed + counts.overflowed, 1000);
    }

    #[test]
    fn bursts_have_their_length_and_share() {
        let mut link = EmulatedLink::new(1, 1);
        link.conditions = LinkConditions {
            loss: 0.02,
            loss_burst: 8.0,
            ..LinkConditions::default()
        };
        let now = Instant::now();
        let fates: Vec<bool> = (0..100_000)
            .map(|_| link.admit(&PACKET, now).is_none())
            .collect();
        let lost = fates.iter().filter(|lost| **lost).count();
        let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((1500..2500).contains(&lost), "{lost}");
        let length = lost as f64 / bursts as f64;
        assert!((7.0..9.0).contains(&length), "{length}");
    }

    #[test]
    fn link_down_drops_every_packet() {
        let mut link = EmulatedLink::new(1, 1);
        link.down = true;
        assert_eq!(link.admit(&PACKET, Instant::now()), None);
        link.down = false;
        assert!(link.admit(&PACKET, Instant::now()).is_some());
        assert_eq!((link.counts.passed, link.counts.dropped_while_down), (1, 1));
    }

    #[test]
    fn header_extensions_are_read_by_id() {
        let mut packet = vec![0x90, 96, 0, 1];
        packet.resize(12, 0);
        assert!(extension_ids(&packet).is_empty());
        // Two words: id 1 with 2 bytes, padding, id 2 with 3 bytes.
        packet.extend([0xbe, 0xde, 0, 2, 0x11, 7, 7, 0, 0x22, 0, 0, 0, 0x55]);
        assert_eq!(extension_ids(&packet), [1, 2]);
        packet[0] = 0x80;
        assert!(extension_ids(&packet).is_empty());
    }

    #[test]
    fn rtp_payload_type_is_read_from_rtp_only() {
        assert_eq!(rtp_payload(&[0x80, 0xe2, 0, 1]), Some(98));
        assert_eq!(rtp_payload(&[0x81, 200, 0, 1]), None);
        assert_eq!(rtp_payload(&[22, 254, 253]), None);
        assert_eq!(rtp_payload(&[0, 1, 0, 8]), None);
    }
}
