// SPDX-License-Identifier: MIT

//! The statistics of a session: what the transport reads of a connection, and the
//! totals over all connections. Plain data and arithmetic, on the driver's task;
//! elements read the copy in the shared state. Names and units are those of
//! W3C webrtc-stats.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// One reading of a connection. Counters are since its start; in the shared state
/// they are since the start of the session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionStatistics {
    /// The last measurement, in seconds.
    pub round_trip_time: Option<f64>,
    /// The bandwidth estimate for what is sent, in bits per second.
    pub available_outgoing_bitrate: Option<u32>,
    /// What the link was last seen to carry down, in bits per second.
    pub available_incoming_bitrate: Option<u32>,
    pub candidate_pair: Option<CandidatePair>,
    /// As in `RTCDtlsTransportState`.
    pub dtls_state: Option<String>,
    /// As in `RTCIceConnectionState`.
    pub ice_state: Option<String>,
    pub sent: Traffic,
    pub received: Traffic,
    /// By name.
    pub tracks: BTreeMap<String, TrackStatistics>,
}

impl ConnectionStatistics {
    /// The address of the machine that the connection uses, if it is known.
    pub fn host_address(&self) -> Option<IpAddr> {
        let pair = self.candidate_pair.as_ref();
        pair.filter(|pair| pair.local_candidate_type == "host")?
            .local_address
    }
}

/// The selected pair of ICE candidates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CandidatePair {
    /// `host`, `srflx`, `prflx` or `relay`.
    pub local_candidate_type: String,
    pub local_address: Option<IpAddr>,
    pub remote_candidate_type: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Between this host and its TURN server: `udp`, `tcp` or `tls`.
    pub relay_protocol: Option<String>,
}

impl CandidatePair {
    /// Whether one of the candidates is that of a TURN server.
    pub fn is_relayed(&self) -> bool {
        [&self.local_candidate_type, &self.remote_candidate_type]
            .iter()
            .any(|kind| *kind == "relay")
    }
}

/// What passed in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    pub packets: u64,
    /// Of the payloads.
    pub bytes: u64,
    /// Since the reading before, in bits per second.
    pub bitrate: Option<f64>,
}

/// One track, received or sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrackStatistics {
    /// RTP packets without retransmissions, and their payload bytes.
    pub traffic: Traffic,
    /// Missed by the receiver, whether or not they were repaired (RFC 3550,
    /// `cumulative number of packets lost`).
    pub packets_lost: i64,
    /// Arrived too late to be used.
    pub packets_discarded: u64,
    /// Retransmissions that were sent, or that arrived in time.
    pub retransmitted_packets: u64,
    /// RTCP feedback: of received tracks sent from here, and vice versa.
    pub nack_count: u64,
    pub pli_count: u64,
    pub fir_count: u64,
    /// The sum over all packets, in seconds.
    pub jitter_buffer_delay: f64,
    pub jitter_buffer_emitted_count: u64,
    /// In seconds; of sent tracks, what the server reports.
    pub jitter: Option<f64>,
    /// Of a sent track, by the server's reports: in seconds.
    pub round_trip_time: Option<f64>,
    /// Of a sent track, since the report before: 0 to 1.
    pub fraction_lost: Option<f64>,
}

impl Traffic {
    fn add(&mut self, earlier: Self) {
        self.packets += earlier.packets;
        self.bytes += earlier.bytes;
    }

    fn set_bitrate(&mut self, before: Self, elapsed: Duration) {
        let bits = self.bytes.saturating_sub(before.bytes) as f64 * 8.0;
        let seconds = elapsed.as_secs_f64();
        self.bitrate = (seconds > 0.0).then(|| bits / seconds);
    }
}

impl TrackStatistics {
    fn add(&mut self, earlier: &Self) {
        self.traffic.add(earlier.traffic);
        self.packets_lost += earlier.packets_lost;
        self.packets_discarded += earlier.packets_discarded;
        self.retransmitted_packets += earlier.retransmitted_packets;
        self.nack_count += earlier.nack_count;
        self.pli_count += earlier.pli_count;
        self.fir_count += earlier.fir_count;
        self.jitter_buffer_delay += earlier.jitter_buffer_delay;
        self.jitter_buffer_emitted_count += earlier.jitter_buffer_emitted_count;
    }
}

impl ConnectionStatistics {
    /// Adds the counters of an earlier connection.
    fn add(&mut self, earlier: &Self) {
        self.sent.add(earlier.sent);
        self.received.add(earlier.received);
        for (name, track) in &earlier.tracks {
            self.tracks.entry(name.clone()).or_default().add(track);
        }
    }

    /// Only the counters.
    fn totals(&self) -> Self {
        let mut totals = Self::default();
        totals.add(self);
        totals
    }

    fn set_bitrates(&mut self, before: &Self, elapsed: Duration) {
        self.sent.set_bitrate(before.sent, elapsed);
        self.received.set_bitrate(before.received, elapsed);
        for (name, track) in &mut self.tracks {
            let before = before.tracks.get(name).map(|track| track.traffic);
            track
                .traffic
                .set_bitrate(before.unwrap_or_default(), elapsed);
        }
    }
}

/// Keeps the totals of a session while connections come and go.
#[derive(Debug, Default)]
pub(super) struct StatisticsTotals {
    /// Of the connections that are over.
    earlier: ConnectionStatistics,
    /// When the present connection was read last, and that reading.
    current: Option<(Duration, ConnectionStatistics)>,
    available_outgoing_bitrate: Option<u32>,
    /// There is a connection. What the transport still measures of one that is over
    /// belongs to no other.
    is_connected: bool,
}

impl StatisticsTotals {
    pub(super) fn begin_connection(&mut self) {
        self.is_connected = true;
    }

    /// Takes in a reading of the present connection; returns the session's
    /// statistics, unless it came too late. `now` is since any fixed instant.
    pub(super) fn update(
        &mut self,
        now: Duration,
        reading: ConnectionStatistics,
    ) -> Option<ConnectionStatistics> {
        if !self.is_connected {
            return None;
        }
        let mut total = reading.clone();
        if let Some((at, before)) = &self.current {
            total.set_bitrates(before, now.saturating_sub(*at));
        }
        total.available_outgoing_bitrate = self.available_outgoing_bitrate;
        total.add(&self.earlier);
        self.current = Some((now, reading));
        Some(total)
    }

    /// The transport's bandwidth estimate, in bits per second.
    pub(super) fn set_available_outgoing_bitrate(&mut self, bitrate: u32) {
        self.available_outgoing_bitrate = self.is_connected.then_some(bitrate);
    }

    /// The connection is over: returns what remains, the counters.
    pub(super) fn end_connection(&mut self) -> ConnectionStatistics {
        self.is_connected = false;
        self.available_outgoing_bitrate = None;
        if let Some((_, last)) = self.current.take() {
            self.earlier.add(&last);
        }
        self.earlier.totals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(packets: u64) -> ConnectionStatistics {
        let traffic = Traffic {
            packets,
            bytes: packets * 100,
            bitrate: None,
        };
        let track = TrackStatistics {
            traffic,
            packets_lost: 1,
            jitter: Some(0.01),
            ..TrackStatistics::default()
        };
        ConnectionStatistics {
            round_trip_time: Some(0.05),
            received: traffic,
            tracks: BTreeMap::from([("video".to_owned(), track)]),
            ..ConnectionStatistics::default()
        }
    }

    #[test]
    fn totals_continue_on_next_connection_and_gauges_do_not() {
        let mut totals = StatisticsTotals::default();
        totals.begin_connection();
        totals.set_available_outgoing_bitrate(500_000);
        let first = totals.update(Duration::from_secs(1), reading(10)).unwrap();
        assert_eq!(first.received.bitrate, None);
        assert_eq!(first.available_outgoing_bitrate, Some(500_000));
        let second = totals.update(Duration::from_secs(3), reading(30)).unwrap();
        assert_eq!(second.received.bitrate, Some(8000.0));
        assert_eq!(second.tracks["video"].traffic.bitrate, Some(8000.0));

        let over = totals.end_connection();
        assert_eq!((over.received.packets, over.round_trip_time), (30, None));
        assert_eq!(over.tracks["video"].jitter, None);
        assert_eq!(over, totals.end_connection());
        // What was still measured of it comes too late.
        assert_eq!(totals.update(Duration::from_secs(4), reading(31)), None);
        totals.set_available_outgoing_bitrate(400_000);
        assert_eq!(over, totals.end_connection());

        totals.begin_connection();
        let third = totals.update(Duration::from_secs(9), reading(5)).unwrap();
        assert_eq!(third.received.packets, 35);
        assert_eq!(third.received.bitrate, None);
        assert_eq!(third.tracks["video"].packets_lost, 2);
        assert_eq!(third.round_trip_time, Some(0.05));
        assert_eq!(third.available_outgoing_bitrate, None);
    }

    #[test]
    fn candidate_pair_with_relay_on_either_side_is_relayed() {
        let pair = |local: &str, remote: &str| CandidatePair {
            local_candidate_type: local.into(),
            remote_candidate_type: remote.into(),
            ..CandidatePair::default()
        };
        assert!(!pair("host", "srflx").is_relayed());
        assert!(pair("relay", "host").is_relayed());
        assert!(pair("host", "relay").is_relayed());
    }
}
