// SPDX-License-Identifier: MIT

//! The round trip of a connection that only receives, by RTCP extended reports
//! (RFC 3611): a receiver reference time report goes out with the regular RTCP,
//! and the server answers with the delay since its last one (DLRR), as libwebrtc
//! does without any negotiation. That takes about a second; until then, the DTLS
//! handshake gives an estimate that has the server's computing in it. Pure; probes
//! on streaming threads call it.

use std::{collections::VecDeque, time::Duration};

const EXTENDED_REPORT: u8 = 207;
const REFERENCE_TIME_BLOCK: u8 = 4;
const DLRR_BLOCK: u8 = 5;
/// The least time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of measurements of which the least counts.
const RECENT: usize = 10;
/// A report that is older than this is not answered any more.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// Times are since any fixed instant.
#[derive(Debug, Default)]
pub(super) struct RoundTripMeter {
    sent: Option<Duration>,
    latest: Option<Duration>,
    /// The last measurements, oldest first, with that of the handshake.
    recent: VecDeque<Duration>,
    /// When the last handshake record was sent that is not answered.
    handshake_sent: Option<Duration>,
}

impl RoundTripMeter {
    /// The last measurement.
    pub(super) fn latest(&self) -> Option<Duration> {
        self.latest
    }

    /// The round trip of a packet that no queue and no busy machine delays.
    pub(super) fn least(&self) -> Option<Duration> {
        self.recent.iter().min().copied()
    }

    fn push(&mut self, round_trip: Duration) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(round_trip);
    }

    /// Takes in a DTLS handshake packet that is sent or received.
    pub(super) fn observe_handshake(&mut self, sent: bool, now: Duration) {
        if sent {
            self.handshake_sent = Some(now);
        } else if let Some(sent) = self.handshake_sent.take() {
            self.push(now.saturating_sub(sent));
        }
    }

    /// The report to append to an outgoing RTCP packet, if one is due.
    pub(super) fn reference_time_report(
        &mut self,
        packet: &[u8],
        now: Duration,
    ) -> Option<[u8; 20]> {
        if self.sent.is_some_and(|sent| now < sent + INTERVAL) {
            return None;
        }
        let ssrc = packet.get(4..8)?;
        self.sent = Some(now);
        let mut report = [0; 20];
        // Version 2; the length is in 32-bit words after the first.
        report[..4].copy_from_slice(&[0x80, EXTENDED_REPORT, 0, 4]);
        report[4..8].copy_from_slice(ssrc);
        report[8..12].copy_from_slice(&[REFERENCE_TIME_BLOCK, 0, 0, 2]);
        report[12..].copy_from_slice(&ntp_time(now).to_be_bytes());
        Some(report)
    }

    /// Takes in an RTCP packet of the server.
    pub(super) fn observe(&mut self, packet: &[u8], now: Duration) {
        for (last_report, delay) in parse_dlrr(packet) {
            let arrived = (ntp_time(now) >> 16) as u32;
            let units = arrived.wrapping_sub(last_report).wrapping_sub(delay);
            // 1/65536 s.
            let round_trip = Duration::from_secs_f64(f64::from(units) / 65536.0);
            if last_report != 0 && round_trip < MAX_ROUND_TRIP {
                self.latest = Some(round_trip);
                self.push(round_trip);
            }
        }
    }
}

/// Whether a packet is of a DTLS handshake (RFC 6347, 4.1: the content type).
pub(super) fn is_handshake(packet: &[u8]) -> bool {
    packet.first() == Some(&22)
}

/// The 64-bit fixed-point seconds of RFC 3550, of any epoch: only we read it.
fn ntp_time(now: Duration) -> u64 {
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    now.as_secs() << 32 | fraction
}

/// The last reference time and the delay since, both in 1/65536 s, of each DLRR
/// entry in a compound packet. We send under one SSRC of the bundle at a time, so
/// every entry is ours.
fn parse_dlrr(packet: &[u8]) -> Vec<(u32, u32)> {
    let reports = chunks(packet, 0).filter(|report| report[1] == EXTENDED_REPORT);
    let blocks = reports.flat_map(|report| chunks(report.get(8..).unwrap_or_default(), 0));
    let entries = blocks
        .filter(|block| block[0] == DLRR_BLOCK)
        .flat_map(|block| block[4..].chunks_exact(12));
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u32::from(*byte))
    };
    entries
        .map(|entry| (word(&entry[4..8]), word(&entry[8..12])))
        .collect()
}

/// Splits what has a 4-byte header with its length in words after that.
fn chunks(bytes: &[u8], from: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(from..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [_, _, l0, l1, ..] = *rest else {
            return None;
        };
        let length = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let chunk;
        (chunk, rest) = rest.split_at_checked(length)?;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER_REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 9];

    fn answer(last_report: u32, delay: u32) -> Vec<u8> {
        let mut packet = RECEIVER_REPORT.to_vec();
        packet.extend([0x80, EXTENDED_REPORT, 0, 5, 0, 0, 0, 7]);
        packet.extend([DLRR_BLOCK, 0, 0, 3, 0, 0, 0, 9]);
        packet.extend(last_report.to_be_bytes());
        packet.extend(delay.to_be_bytes());
        packet
    }

    #[test]
    fn round_trip_is_time_to_answer_without_its_delay() {
        let mut meter = RoundTripMeter::default();
        let start = Duration::from_millis(70_000);
        let report = meter
            .reference_time_report(&RECEIVER_REPORT, start)
            .unwrap();
        assert_eq!(report[4..8], [0, 0, 0, 9]);
        // The middle 32 bits of the 64.
        let middle: [u8; 4] = report[14..18].try_into().unwrap();
        let delay = 65536 / 2;
        let packet = answer(u32::from_be_bytes(middle), delay);
        meter.observe(&packet, start + Duration::from_millis(580));
        let measured = meter.latest().unwrap().as_secs_f64();
        assert!((measured - 0.080).abs() < 0.001, "{measured}");
        for length in 0..packet.len() {
            meter.observe(&packet[..length], start);
        }
        assert!((meter.latest().unwrap().as_secs_f64() - measured).abs() < 1e-9);
    }

    #[test]
    fn report_is_sent_once_per_interval() {
        let mut meter = RoundTripMeter::default();
        let at = |meter: &mut RoundTripMeter, ms| {
            let now = Duration::from_millis(ms);
            meter.reference_time_report(&RECEIVER_REPORT, now).is_some()
        };
        assert_eq!(
            [5000, 5100, 5999, 6000, 6500].map(|ms| at(&mut meter, ms)),
            [true, false, false, true, false]
        );
        assert!(
            RoundTripMeter::default()
                .reference_time_report(&[0; 7], INTERVAL)
                .is_none()
        );
    }

    #[test]
    fn least_is_of_handshake_then_of_recent_reports() {
        let mut meter = RoundTripMeter::default();
        let at = Duration::from_millis;
        // The client's first flight, two packets of ours, and three of its answer.
        meter.observe_handshake(false, at(5));
        assert_eq!(meter.least(), None);
        for (sent, ms) in [(true, 10), (true, 11), (false, 91), (false, 92)] {
            meter.observe_handshake(sent, at(ms));
        }
        assert_eq!(meter.least(), Some(at(80)));
        assert_eq!(meter.latest(), None);
        // Reports of 50 ms, then of 90 ms.
        for (n, expected) in (1..=21).zip([50; 20].into_iter().chain([90])) {
            let sent = at(1000 * n);
            let report = meter.reference_time_report(&RECEIVER_REPORT, sent);
            let middle: [u8; 4] = report.unwrap()[14..18].try_into().unwrap();
            let round_trip = if n <= 11 { 50 } else { 90 };
            meter.observe(
                &answer(u32::from_be_bytes(middle), 0),
                sent + at(round_trip),
            );
            let least = meter.least().unwrap().as_secs_f64() * 1000.0;
            assert!((least - f64::from(expected)).abs() < 1.0, "{n}: {least}");
        }
        assert!(is_handshake(&[22, 254, 253]) && !is_handshake(&[128, 200]) && !is_handshake(&[]));
    }

    #[test]
    fn answer_without_report_is_no_measurement() {
        let mut meter = RoundTripMeter::default();
        meter.observe(&answer(0, 0), Duration::from_secs(5));
        // 100 s ago.
        meter.observe(&answer(5 << 16, 0), Duration::from_secs(105));
        assert_eq!(meter.latest(), None);
    }
}
