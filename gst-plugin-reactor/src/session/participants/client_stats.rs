// SPDX-License-Identifier: MIT

//! What the platform is told of each track: what the connection and the elements
//! count, under the names that the platform's own clients use (SDK 1.13.0). On the
//! driver's task; pure but for reading the elements' counters.

use std::time::Instant;

use super::{Participants, TransceiverInit};
use crate::{
    platform::{
        track::{Direction, Kind},
        wire::{ClientTrackStats, FrameStage, Metrics},
    },
    session::{
        frame_counters::{FrameCounters, FrameStatistics},
        statistics::{ConnectionStatistics, TrackStatistics},
    },
};

impl Participants {
    /// Whether the platform may be told: no element is against it.
    pub(in crate::session) fn report_stats(&self) -> bool {
        let mut states = self.by_id.values();
        states.all(|state| state.participant.report_stats)
    }

    /// The tracks of the offer. `before` is what was reported last, for what is
    /// reported since then.
    pub(in crate::session) fn client_track_stats(
        &self,
        statistics: &ConnectionStatistics,
        before: &ConnectionStatistics,
        is_paused: impl Fn(&str) -> bool,
    ) -> Vec<ClientTrackStats> {
        let transceivers = self.transceivers.iter().flatten();
        let negotiated = transceivers.filter(|init| self.negotiated.contains_key(&init.track.name));
        negotiated
            .map(|init| {
                let name = &init.track.name;
                let connection = statistics.tracks.get(name).cloned().unwrap_or_default();
                let before = before.tracks.get(name).cloned().unwrap_or_default();
                let counters = self.frame_counters(name);
                let frames = counters.map(|counters| counters.read(Instant::now()));
                let frames = frames.unwrap_or_default();
                ClientTrackStats {
                    name: name.clone(),
                    kind: init.track.kind,
                    direction: init.track.direction,
                    codec: self.codec_name(init),
                    paused: init.track.direction == Direction::RecvOnly && is_paused(name),
                    metrics: metrics(init, &connection, &frames),
                    stages: stages(init, &connection, &before),
                    hardware_codec: frames.codec.as_ref().map(|codec| codec.is_hardware),
                    codec_implementation: frames.codec.map_or_else(String::new, |c| c.name),
                }
            })
            .collect()
    }

    fn frame_counters(&self, track: &str) -> Option<&FrameCounters> {
        let mut states = self.by_id.values();
        states.find_map(|state| {
            let mut subscriptions = state.subscriptions.iter();
            let subscribed = subscriptions.find(|s| s.track.name == track);
            let subscribed = subscribed.map(|subscription| &*subscription.counters);
            subscribed.or_else(|| Some(&*state.publication(track)?.counters))
        })
    }

    /// The codec that the server sends, or the first that it takes.
    fn codec_name(&self, init: &TransceiverInit) -> String {
        let codecs = self.negotiated.get(&init.track.name);
        let codec = codecs.and_then(|codecs| match init.track.direction {
            Direction::RecvOnly => codecs.first().map(|(codec, _)| *codec),
            Direction::SendOnly => {
                let mut offered = init.codecs.iter().copied();
                offered.find(|offered| codecs.iter().any(|(codec, _)| codec == offered))
            }
        });
        codec.map_or_else(String::new, |codec| codec.encoding_name.to_owned())
    }
}

fn metrics(
    init: &TransceiverInit,
    connection: &TrackStatistics,
    frames: &FrameStatistics,
) -> Metrics {
    let traffic = connection.traffic;
    let milliseconds = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1000.0);
    let (width, height) = frames.size.unzip();
    let packets_lost = Some(connection.packets_lost as f64);
    let mut metrics = vec![
        ("nack_count", Some(connection.nack_count as f64)),
        ("bitrate_bps", traffic.bitrate),
    ];
    let packets = traffic.packets as f64;
    match init.track.direction {
        Direction::RecvOnly => metrics.extend([
            ("packets_received", Some(packets)),
            ("packets_lost", packets_lost),
            ("jitter_ms", milliseconds(connection.jitter)),
        ]),
        Direction::SendOnly => metrics.extend([
            ("packets_sent", Some(packets)),
            (
                "retransmitted_packets_sent",
                Some(connection.retransmitted_packets as f64),
            ),
            ("packets_lost", packets_lost.filter(|_| packets > 0.0)),
            (
                "round_trip_time_ms",
                milliseconds(connection.round_trip_time),
            ),
        ]),
    }
    if init.track.kind == Kind::Video {
        let requests = connection.pli_count + connection.fir_count;
        metrics.extend([
            ("keyframe_requests", Some(requests as f64)),
            ("frames_per_second", Some(frames.frames_per_second)),
            ("frame_width", width.map(f64::from)),
            ("frame_height", height.map(f64::from)),
        ]);
        if init.track.direction == Direction::RecvOnly {
            metrics.extend([
                ("frames_decoded", Some(frames.frames as f64)),
                ("frames_dropped", Some(frames.dropped as f64)),
            ]);
        }
    }
    let known = metrics.into_iter();
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The jitter buffer counts packets, which the platform takes for frames.
fn stages(
    init: &TransceiverInit,
    connection: &TrackStatistics,
    before: &TrackStatistics,
) -> Vec<FrameStage> {
    let emitted = connection.jitter_buffer_emitted_count;
    let frames = emitted.saturating_sub(before.jitter_buffer_emitted_count);
    if init.track.kind == Kind::Audio || frames == 0 {
        return Vec::new();
    }
    let seconds = connection.jitter_buffer_delay - before.jitter_buffer_delay;
    vec![FrameStage {
        name: "jitter_buffer",
        total_ms: seconds * 1000.0,
        frames,
    }]
}
