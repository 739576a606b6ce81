// SPDX-License-Identifier: MIT

//! Reads the statistics of a connection: of webrtcbin, of its RTP session and
//! jitter buffers, and of our own counters. On webrtcbin's "pc" thread, where it
//! answers `get-stats`. Any field may be missing: versions differ.

use std::collections::{BTreeMap, HashMap};

use gst::{glib, prelude::*};
use gst_webrtc::{
    WebRTCDTLSTransportState, WebRTCICEConnectionState, WebRTCSCTPTransport,
    WebRTCSessionDescription, WebRTCStatsType,
};

use super::{
    counters::ReceiverCounts, handles::TransportHandles, rtp_probes::find_rtpbin,
    source_totals::SourceCounts,
};
use crate::{
    platform::lock,
    session::statistics::{CandidatePair, ConnectionStatistics, TrackStatistics, Traffic},
};

/// One reading. `sent` are the tracks of the senders' SSRCs.
pub(super) fn read(
    webrtcbin: &gst::Element,
    reply: Option<&gst::StructureRef>,
    sent: &HashMap<u32, String>,
    handles: &TransportHandles,
) -> ConnectionStatistics {
    let counters = &handles.counters;
    let reports: Vec<_> = reply.map(structures).unwrap_or_default();
    let sources = rtp_sources(webrtcbin);
    let rtx_ssrcs = rtx_ssrcs(webrtcbin);
    let mut tracks = BTreeMap::new();
    for (track, counts) in counters.receivers() {
        let mut received = received_track(jitter_buffers(handles, &counts.ssrcs), &counts);
        for ssrc in &counts.ssrcs {
            let source = sources.get(ssrc);
            let total = counters.source_total(*ssrc, source.map(received_counts));
            add_received(&mut received, total.unwrap_or_default());
            let jitter = source.and_then(|source| rtp_seconds(source, "jitter"));
            received.jitter = jitter.or(received.jitter);
        }
        tracks.insert(track, received);
    }
    let sent_total = |ssrc: &u32| {
        let current = sources.get(ssrc).map(sent_counts);
        counters.source_total(*ssrc, current)
    };
    for (ssrc, track) in sent {
        if let Some(total) = sent_total(ssrc) {
            let report = find_report(&reports, WebRTCStatsType::RemoteInboundRtp, *ssrc);
            let lost = report.and_then(|report| report.get::<i32>("packets-lost").ok());
            let lost = counters.reported_lost(*ssrc, lost);
            let rtx = rtx_ssrcs.get(ssrc).and_then(sent_total);
            tracks.insert(track.clone(), sent_track(total, rtx, lost, report));
        }
    }
    let measured = lock(&counters.round_trip).latest();
    let reported = tracks.values().filter_map(|track| track.round_trip_time);
    let round_trip_time = measured
        .map(|time| time.as_secs_f64())
        .or_else(|| reported.reduce(f64::min));
    let (dtls_state, ice_state) = states(webrtcbin);
    ConnectionStatistics {
        round_trip_time,
        available_outgoing_bitrate: None,
        available_incoming_bitrate: lock(&handles.receive_bandwidth).available(),
        candidate_pair: candidate_pair(&reports),
        dtls_state,
        ice_state,
        sent: counters.sent.read(),
        received: counters.received.read(),
        tracks,
    }
}

fn structures(structure: &gst::StructureRef) -> Vec<gst::Structure> {
    let values = structure.iter();
    values
        .filter_map(|(_, value)| value.get::<gst::Structure>().ok())
        .collect()
}

fn is_of_type(report: &gst::StructureRef, wanted: WebRTCStatsType) -> bool {
    report.get::<WebRTCStatsType>("type") == Ok(wanted)
}

fn find_report(
    reports: &[gst::Structure],
    wanted: WebRTCStatsType,
    ssrc: u32,
) -> Option<&gst::Structure> {
    let mut reports = reports.iter();
    reports.find(|report| is_of_type(report, wanted) && report.get::<u32>("ssrc") == Ok(ssrc))
}

/// The sources of the bundle's RTP session, by SSRC.
fn rtp_sources(webrtcbin: &gst::Element) -> HashMap<u32, gst::Structure> {
    // max-bundle: there is one session.
    let session = find_rtpbin(webrtcbin).and_then(|rtpbin| {
        rtpbin.emit_by_name::<Option<glib::Object>>("get-internal-session", &[&0u32])
    });
    let Some(session) = session else {
        return HashMap::new();
    };
    let stats: gst::Structure = session.property("stats");
    let sources = stats.get::<glib::ValueArray>("source-stats");
    let sources = sources.ok().map(|sources| {
        let values = sources.as_slice().iter();
        let sources = values.filter_map(|value| value.get::<gst::Structure>().ok());
        sources
            .filter_map(|source| Some((source.get::<u32>("ssrc").ok()?, source)))
            .collect()
    });
    sources.unwrap_or_default()
}

/// The SSRCs of the retransmissions of each sent SSRC, by the local description
/// (RFC 5576, `ssrc-group:FID`).
fn rtx_ssrcs(webrtcbin: &gst::Element) -> HashMap<u32, u32> {
    let local: Option<WebRTCSessionDescription> = webrtcbin.property("local-description");
    let Some(local) = local else {
        return HashMap::new();
    };
    let medias = local.sdp().medias();
    let attributes = medias.flat_map(|media| media.attributes());
    let groups = attributes.filter(|attribute| attribute.key() == "ssrc-group");
    let pairs = groups.filter_map(|group| {
        let mut ssrcs = group.value()?.strip_prefix("FID ")?.split(' ');
        Some((ssrcs.next()?.parse().ok()?, ssrcs.next()?.parse().ok()?))
    });
    pairs.collect()
}

/// A counter of any integer type.
fn count(source: &gst::StructureRef, name: &str) -> u64 {
    let unsigned = source.get::<u64>(name).ok();
    let unsigned = unsigned.or_else(|| source.get::<u32>(name).ok().map(u64::from));
    unsigned
        .or_else(|| source.get::<i32>(name).ok()?.try_into().ok())
        .unwrap_or(0)
}

/// A time in units of the RTP clock, in seconds.
fn rtp_seconds(source: &gst::StructureRef, name: &str) -> Option<f64> {
    let clock_rate = source
        .get::<i32>("clock-rate")
        .ok()
        .filter(|rate| *rate > 0)?;
    let units = source.get::<u32>(name).ok()?;
    Some(f64::from(units) / f64::from(clock_rate))
}

fn jitter_buffers(handles: &TransportHandles, ssrcs: &[u32]) -> Vec<gst::Structure> {
    let buffers = lock(&handles.jitter_buffers).clone();
    let of_track = buffers.iter().filter(|(ssrc, _)| ssrcs.contains(ssrc));
    of_track
        .filter_map(|(_, buffer)| Some(buffer.upgrade()?.property("stats")))
        .collect()
}

fn received_counts(source: &gst::Structure) -> SourceCounts {
    SourceCounts {
        packets: count(source, "packets-received"),
        bytes: count(source, "octets-received"),
        // RTPSource counts one too few: the packet of its probation twice.
        lost: count(source, "packets-lost"),
        nacks: count(source, "sent-nack-count"),
        plis: count(source, "sent-pli-count"),
        firs: count(source, "sent-fir-count"),
    }
}

fn sent_counts(source: &gst::Structure) -> SourceCounts {
    SourceCounts {
        packets: count(source, "packets-sent"),
        bytes: count(source, "octets-sent"),
        // The server reports it.
        lost: 0,
        nacks: count(source, "recv-nack-count"),
        plis: count(source, "recv-pli-count"),
        firs: count(source, "recv-fir-count"),
    }
}

/// Without what is counted of its SSRCs.
fn received_track(jitter_buffers: Vec<gst::Structure>, counts: &ReceiverCounts) -> TrackStatistics {
    let mut track = TrackStatistics {
        jitter_buffer_delay: counts.jitter_buffer_delay.as_secs_f64(),
        jitter_buffer_emitted_count: counts.jitter_buffer_emitted_count,
        ..TrackStatistics::default()
    };
    for buffer in jitter_buffers {
        track.packets_discarded += count(&buffer, "num-late");
        track.retransmitted_packets += count(&buffer, "rtx-success-count");
    }
    track
}

/// Adds what was counted of one of its SSRCs.
fn add_received(track: &mut TrackStatistics, total: SourceCounts) {
    track.traffic.packets += total.packets;
    track.traffic.bytes += total.bytes;
    track.packets_lost += total.lost.cast_signed();
    track.nack_count += total.nacks;
    track.pli_count += total.plis;
    track.fir_count += total.firs;
}

/// `rtx` is what was counted of its retransmissions (RFC 4588).
fn sent_track(
    total: SourceCounts,
    rtx: Option<SourceCounts>,
    packets_lost: i64,
    report: Option<&gst::Structure>,
) -> TrackStatistics {
    let seconds = |name| report.and_then(|report| report.get::<f64>(name).ok());
    TrackStatistics {
        traffic: Traffic {
            packets: total.packets,
            bytes: total.bytes,
            bitrate: None,
        },
        packets_lost,
        retransmitted_packets: rtx.map_or(0, |rtx| rtx.packets),
        nack_count: total.nacks,
        pli_count: total.plis,
        fir_count: total.firs,
        jitter: seconds("jitter"),
        round_trip_time: seconds("round-trip-time"),
        fraction_lost: seconds("fraction-lost"),
        ..TrackStatistics::default()
    }
}

/// The pair that the transport's report names, since 1.22.
fn candidate_pair(reports: &[gst::Structure]) -> Option<CandidatePair> {
    let by_id = |id: &str| {
        let mut reports = reports.iter();
        reports.find(|report| report.get::<&str>("id") == Ok(id))
    };
    let transports = reports
        .iter()
        .filter(|report| is_of_type(report, WebRTCStatsType::Transport));
    let pair = transports
        .filter_map(|transport| transport.get::<&str>("selected-candidate-pair-id").ok())
        .find_map(by_id)?;
    let candidate = |name| by_id(pair.get::<&str>(name).ok()?);
    let local = candidate("local-candidate-id")?;
    let remote = candidate("remote-candidate-id")?;
    let text = |report: &gst::Structure, name| {
        let text = report.get::<String>(name).unwrap_or_default();
        text.to_ascii_lowercase()
    };
    Some(CandidatePair {
        local_candidate_type: text(local, "candidate-type"),
        local_address: text(local, "address").parse().ok(),
        remote_candidate_type: text(remote, "candidate-type"),
        protocol: text(local, "protocol"),
        relay_protocol: relay_protocol(local),
    })
}

/// How the relay of a local candidate is reached: `udp`, `tcp` or `tls`.
///
/// webrtcbin 1.22 reports `none` for relays that were added by `add-turn-server`. The
/// candidate's priority tells it: its type preference (RFC 8445, 5.1.2.1) in libnice
/// 0.1.21 is 30 for a relay over UDP, 20 for another.
fn relay_protocol(local: &gst::Structure) -> Option<String> {
    if local.get::<&str>("candidate-type") != Ok("relay") {
        return None;
    }
    let reported = local.get::<&str>("relay-protocol").ok();
    let known = reported.filter(|protocol| !matches!(*protocol, "" | "none"));
    let by_priority = || match local.get::<u32>("priority").ok()? >> 24 {
        30 => Some("udp"),
        20 => Some("tcp"),
        _ => None,
    };
    known.or_else(by_priority).map(str::to_ascii_lowercase)
}

/// Of DTLS and ICE.
fn states(webrtcbin: &gst::Element) -> (Option<String>, Option<String>) {
    let ice: WebRTCICEConnectionState = webrtcbin.property("ice-connection-state");
    let sctp: Option<WebRTCSCTPTransport> = webrtcbin.property("sctp-transport");
    let dtls = sctp.and_then(|sctp| sctp.transport());
    let dtls = dtls.map(|dtls| dtls.property::<WebRTCDTLSTransportState>("state"));
    (dtls.as_ref().and_then(nick), nick(&ice))
}

fn nick(state: &impl ToValue) -> Option<String> {
    let value = state.to_value();
    let (_, value) = glib::EnumValue::from_value(&value)?;
    Some(value.nick().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_protocol_is_that_of_a_relay() {
        let protocol = |kind: &str, reported: &str, priority: u32| {
            let local = gst::Structure::builder("candidate")
                .field("candidate-type", kind)
                .field("relay-protocol", reported)
                .field("priority", priority)
                .build();
            relay_protocol(&local)
        };
        gst::init().unwrap();
        // Priorities that libnice 0.1.21 chose.
        assert_eq!(
            protocol("relay", "none", 505_413_887).as_deref(),
            Some("udp")
        );
        assert_eq!(
            protocol("relay", "none", 337_641_727).as_deref(),
            Some("tcp")
        );
        assert_eq!(
            protocol("relay", "tls", 337_641_727).as_deref(),
            Some("tls")
        );
        assert_eq!(protocol("relay", "none", 1), None);
        assert_eq!(protocol("host", "none", 505_413_887), None);
    }
}
