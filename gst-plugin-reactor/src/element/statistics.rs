// SPDX-License-Identifier: MIT

//! The fields of the property `stats` and of the message `reactor-stats`. Their
//! names are the W3C webrtc-stats identifiers in kebab-case, their units those of
//! W3C: seconds, bytes, bits per second. Called by any thread; never waits.

use gst::structure::Builder;

use crate::{
    platform::track::{Direction, Kind},
    session::{
        frame_counters::FrameStatistics,
        statistics::{ConnectionStatistics, TrackStatistics},
    },
};

/// The field `connection`.
pub fn connection(statistics: &ConnectionStatistics) -> gst::Structure {
    let pair = statistics.candidate_pair.as_ref();
    let (sent, received) = (statistics.sent, statistics.received);
    gst::Structure::builder("connection")
        .field_if_some("round-trip-time", statistics.round_trip_time)
        .field_if_some(
            "available-outgoing-bitrate",
            statistics.available_outgoing_bitrate.map(f64::from),
        )
        .field_if_some(
            "available-incoming-bitrate",
            statistics.available_incoming_bitrate.map(f64::from),
        )
        .field_if_some("incoming-bitrate", received.bitrate)
        .field_if_some("outgoing-bitrate", sent.bitrate)
        .field("packets-received", received.packets)
        .field("packets-sent", sent.packets)
        .field("bytes-received", received.bytes)
        .field("bytes-sent", sent.bytes)
        .field_if_some(
            "local-candidate-type",
            pair.map(|pair| pair.local_candidate_type.clone()),
        )
        .field_if_some(
            "remote-candidate-type",
            pair.map(|pair| pair.remote_candidate_type.clone()),
        )
        .field_if_some("protocol", pair.map(|pair| pair.protocol.clone()))
        .field_if_some("relay", pair.map(|pair| pair.is_relayed()))
        .field_if_some(
            "relay-protocol",
            pair.and_then(|pair| pair.relay_protocol.clone()),
        )
        .field_if_some("dtls-state", statistics.dtls_state.clone())
        .field_if_some("ice-state", statistics.ice_state.clone())
        .build()
}

/// Adds what the connection says of a track.
pub fn add_track(stats: Builder, track: &TrackStatistics, direction: Direction) -> Builder {
    let traffic = track.traffic;
    let stats = stats
        .field("packets-lost", track.packets_lost)
        .field_if_some("jitter", track.jitter)
        .field("nack-count", track.nack_count)
        .field("pli-count", track.pli_count)
        .field("fir-count", track.fir_count);
    let retransmitted = track.retransmitted_packets;
    match direction {
        Direction::RecvOnly => stats
            .field("packets-received", traffic.packets)
            .field("bytes-received", traffic.bytes)
            .field_if_some("incoming-bitrate", traffic.bitrate)
            .field("packets-discarded", track.packets_discarded)
            .field("retransmitted-packets-received", retransmitted)
            .field("jitter-buffer-delay", track.jitter_buffer_delay)
            .field(
                "jitter-buffer-emitted-count",
                track.jitter_buffer_emitted_count,
            ),
        Direction::SendOnly => stats
            .field("packets-sent", traffic.packets)
            .field("bytes-sent", traffic.bytes)
            .field_if_some("outgoing-bitrate", traffic.bitrate)
            .field("retransmitted-packets-sent", retransmitted)
            .field_if_some("fraction-lost", track.fraction_lost)
            .field_if_some("round-trip-time", track.round_trip_time),
    }
}

/// Adds what the element says of a track's frames. `is_raw` is whether it decodes
/// or encodes them.
pub fn add_frames(
    stats: Builder,
    frames: &FrameStatistics,
    direction: Direction,
    kind: Kind,
    is_raw: bool,
) -> Builder {
    let (total, implementation, power_efficient) = match direction {
        Direction::RecvOnly => (
            if is_raw {
                "frames-decoded"
            } else {
                "frames-received"
            },
            "decoder-implementation",
            "power-efficient-decoder",
        ),
        Direction::SendOnly => (
            "frames-sent",
            "encoder-implementation",
            "power-efficient-encoder",
        ),
    };
    let codec = frames.codec.as_ref();
    let stats = stats
        .field_if_some(implementation, codec.map(|codec| codec.name.clone()))
        .field_if_some(power_efficient, codec.map(|codec| codec.is_hardware));
    if kind == Kind::Audio {
        return stats;
    }
    let stats = stats
        .field(total, frames.frames)
        .field("frames-per-second", frames.frames_per_second)
        .field_if_some("frame-width", frames.size.map(|(width, _)| width))
        .field_if_some("frame-height", frames.size.map(|(_, height)| height));
    match direction {
        Direction::SendOnly => stats,
        Direction::RecvOnly => stats
            .field("frames-dropped", frames.dropped)
            .field("freeze-count", frames.freeze_count)
            .field(
                "total-freezes-duration",
                frames.total_freezes_duration.as_secs_f64(),
            ),
    }
}
