// SPDX-License-Identifier: MIT

//! What a train of packets tells of the link: packets that the server sends at once
//! leave a link at its rate. A large message of a data channel is such a train: SCTP
//! does not pace its first 10 packets (RFC 9260, 7.2.1), libwebrtc's media is paced.
//! Pure; `receive_bandwidth` shows it each packet.

use std::time::Duration;

/// The distance of smaller packets says more of the receiver than of the link.
pub(super) const MIN_SIZE: u32 = 500;
/// Packets that a receiver reads at once were this far apart, or less.
pub(super) const MIN_GAP: Duration = Duration::from_micros(20);
/// A longer pause is the sender's: it waits for acknowledgements.
const MAX_GAP: Duration = Duration::from_millis(120);
/// A link that was idle lets the first packets pass at once: a token bucket has
/// about two of them.
const BURST_GAPS: usize = 2;
/// The first ones count, in which all are sent at once.
const GAPS: usize = 4;
/// How far the packets may be from even: jitter, or a receiver that is late, else.
const UNEVENNESS: Duration = Duration::from_millis(5);

/// The present train.
#[derive(Debug, Default)]
pub(super) struct PacketTrain {
    last: Option<Duration>,
    /// The distance of each packet from the one before, and the bytes that the
    /// link carried meanwhile.
    gaps: Vec<(Duration, u32)>,
    /// The bytes of other packets since the last: of a long time, where messages are
    /// rare.
    between: u32,
}

impl PacketTrain {
    /// Takes in a packet that arrived; returns the rate of the link in bits per
    /// second, once for each train that is long enough.
    pub(super) fn observe(&mut self, at: Duration, size: u32, is_data: bool) -> Option<u32> {
        if !is_data || size < MIN_SIZE {
            self.between = self.between.saturating_add(size);
            return None;
        }
        let bytes = size.saturating_add(std::mem::take(&mut self.between));
        let gap = self.last.replace(at).map(|last| at.saturating_sub(last));
        match gap {
            Some(gap) if gap <= MAX_GAP => self.gaps.push((gap.max(MIN_GAP), bytes)),
            _ => self.gaps.clear(),
        }
        if self.gaps.len() != GAPS {
            return None;
        }
        self.rate().map(|rate| rate as u32)
    }

    fn rate(&self) -> Option<f64> {
        let rate = |(gap, bytes): &(Duration, u32)| f64::from(*bytes) * 8.0 / gap.as_secs_f64();
        let mut rates: Vec<f64> = self.gaps.iter().map(rate).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let median = rates[(rates.len() - 1) / 2];
        let is_even = self.gaps.iter().skip(BURST_GAPS).all(|(gap, bytes)| {
            let expected = f64::from(*bytes) * 8.0 / median;
            let tolerance = expected / 2.0 + UNEVENNESS.as_secs_f64();
            (gap.as_secs_f64() - expected).abs() <= tolerance
        });
        is_even.then_some(median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u32 = 1253;

    /// What packets with these distances show, in ms.
    fn rates(gaps: &[f64]) -> Vec<u32> {
        let mut train = PacketTrain::default();
        let mut at = Duration::from_secs(3);
        let mut rates = Vec::from_iter(train.observe(at, PACKET, true));
        for gap in gaps {
            at += Duration::from_secs_f64(gap / 1000.0);
            rates.extend(train.observe(at, PACKET, true));
        }
        rates
    }

    #[test]
    fn even_distance_is_the_rate_of_the_link() {
        // As measured, with tc htb: 400 kbit/s, 500 kbit/s, and 5 Mbit/s with what
        // its token bucket lets pass.
        for (gaps, expected) in [
            ([26.2, 26.0, 24.5, 33.1, 17.0], 400_000),
            ([20.0, 20.3, 20.5, 20.1, 20.3], 500_000),
            ([0.3, 1.1, 2.0, 2.0, 2.0], 5_000_000),
            ([0.5, 11.0, 25.0, 25.0, 25.0], 400_000),
        ] {
            let rates = rates(&gaps);
            assert_eq!(rates.len(), 1, "{gaps:?}");
            assert!(rates[0].abs_diff(expected) < expected / 10, "{rates:?}");
        }
    }

    #[test]
    fn short_or_uneven_train_says_nothing() {
        assert!(rates(&[25.0, 25.0, 25.0]).is_empty());
        // The receiver was late; the server waited for an acknowledgement.
        assert!(rates(&[25.0, 25.0, 0.1, 50.0]).is_empty());
        assert!(rates(&[25.0, 25.0, 130.0, 25.0]).is_empty());
        let mut train = PacketTrain::default();
        for n in 0..20 {
            let at = Duration::from_millis(n * 20);
            assert_eq!(train.observe(at, 150, true), None);
            assert_eq!(train.observe(at, PACKET, false), None);
        }
    }

    #[test]
    fn any_number_of_bytes_in_between_is_counted_safely() {
        let mut train = PacketTrain::default();
        train.observe(Duration::ZERO, PACKET, true);
        for _ in 0..2 {
            let at = Duration::from_millis(10);
            assert_eq!(train.observe(at, u32::MAX - 1, false), None);
        }
        assert_eq!(train.between, u32::MAX);
        train.observe(Duration::from_millis(20), PACKET, true);
        assert_eq!(train.gaps, [(Duration::from_millis(20), u32::MAX)]);
    }

    #[test]
    fn other_packets_in_between_count() {
        let mut train = PacketTrain::default();
        let mut rates = Vec::new();
        for n in 0..5 {
            let at = Duration::from_millis(n * 50);
            train.observe(at + Duration::from_millis(25), PACKET, false);
            rates.extend(train.observe(at + Duration::from_millis(50), PACKET, true));
        }
        assert!(rates[0].abs_diff(401_000) < 1_000, "{rates:?}");
    }
}
