// SPDX-License-Identifier: MIT

//! What a client tells the platform of the quality it sees (`ClientStats`), and
//! its encoding in v1; v0 has no such message. Plain data and pure functions.

use std::collections::BTreeMap;

use super::proto;
use crate::platform::track::{Direction, Kind};

/// The server drops what has more (runtime 3.10).
const MAX_TRACKS: usize = 32;
const MAX_METRICS: usize = 64;

/// By the names of the platform's own clients, such as `packets_received`.
pub type Metrics = BTreeMap<&'static str, f64>;

/// One report, with the Unix time in milliseconds at which it was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientStats {
    pub timestamp: i64,
    pub tracks: Vec<ClientTrackStats>,
    pub connection: Metrics,
    pub environment: ClientEnvironment,
}

/// One track, received or sent.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientTrackStats {
    pub name: String,
    pub kind: Kind,
    pub direction: Direction,
    /// The encoding name, such as `VP9`.
    pub codec: String,
    pub paused: bool,
    pub metrics: Metrics,
    /// Where frames spent their time since the report before.
    pub stages: Vec<FrameStage>,
    /// Of the decoder or encoder.
    pub codec_implementation: String,
    pub hardware_codec: Option<bool>,
}

/// A stage on the way of the frames, such as `jitter_buffer`.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameStage {
    pub name: &'static str,
    pub total_ms: f64,
    pub frames: u64,
}

/// The client's program and machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientEnvironment {
    pub sdk_type: String,
    pub sdk_version: String,
    pub os: String,
    pub os_version: String,
    pub arch: String,
}

impl ClientEnvironment {
    /// That of this process. `os_version` is unknown to it.
    pub fn of_process(os_version: String) -> Self {
        Self {
            sdk_type: "gstreamer".into(),
            sdk_version: env!("CARGO_PKG_VERSION").into(),
            os: std::env::consts::OS.into(),
            os_version,
            arch: std::env::consts::ARCH.into(),
        }
    }
}

/// The message of the wire.
pub(super) fn to_proto(stats: &ClientStats) -> proto::ClientStats {
    let tracks = stats.tracks.iter().take(MAX_TRACKS);
    let environment = stats.environment.clone();
    proto::ClientStats {
        track_stats: tracks.map(|track| to_proto_track(stats, track)).collect(),
        connection_stat: Some(proto::ClientConnectionStat {
            timestamp: stats.timestamp,
            metrics: to_proto_metrics(&stats.connection),
            environment: Some(proto::ClientEnvironment {
                sdk_type: environment.sdk_type,
                sdk_version: environment.sdk_version,
                os: environment.os,
                os_version: environment.os_version,
                arch: environment.arch,
                device_model: String::new(),
            }),
        }),
    }
}

fn to_proto_track(stats: &ClientStats, track: &ClientTrackStats) -> proto::ClientTrackStat {
    let stages = track.stages.iter().map(|stage| proto::FrameStage {
        name: stage.name.to_owned(),
        total_ms: stage.total_ms,
        frames: stage.frames,
    });
    proto::ClientTrackStat {
        timestamp: stats.timestamp,
        track_name: track.name.clone(),
        kind: match track.kind {
            Kind::Video => proto::TrackKind::Video,
            Kind::Audio => proto::TrackKind::Audio,
        }
        .into(),
        direction: match track.direction {
            Direction::RecvOnly => proto::TrackDirection::Recvonly,
            Direction::SendOnly => proto::TrackDirection::Sendonly,
        }
        .into(),
        codec: to_proto_codec(track.kind, &track.codec),
        paused: track.paused,
        metrics: to_proto_metrics(&track.metrics),
        frame_stages: stages.collect(),
        codec_implementation: track.codec_implementation.clone(),
        hardware_codec: track.hardware_codec,
    }
}

/// `None` for a codec that the wire has no number for.
fn to_proto_codec(kind: Kind, name: &str) -> Option<proto::TrackCodec> {
    let video = match name.to_ascii_uppercase().as_str() {
        "VP8" => proto::VideoCodec::Vp8,
        "VP9" => proto::VideoCodec::Vp9,
        "AV1" => proto::VideoCodec::Av1,
        "H264" => proto::VideoCodec::H264,
        "H265" => proto::VideoCodec::H265,
        "OPUS" if kind == Kind::Audio => {
            return Some(proto::TrackCodec::Audio(proto::AudioCodec::Opus.into()));
        }
        _ => return None,
    };
    (kind == Kind::Video).then(|| proto::TrackCodec::Video(video.into()))
}

fn to_proto_metrics(metrics: &Metrics) -> BTreeMap<String, f64> {
    let finite = metrics.iter().filter(|(_, value)| value.is_finite());
    finite
        .take(MAX_METRICS)
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Channel, ClientMessage, WireFrame, WireVersion, encode, testing::hex};
    use super::*;

    /// What the server's own library makes of `stats`.
    const ENCODED: &str = "10039a01d1010a70088794e2b6a134120a6d61696e5f766964656f180120012802\
                           380142140a096a69747465725f6d7311000000000000f83f42170a0c7061636b6574\
                           735f6c6f73741100000000000000404a1a0a0d6a69747465725f6275666665721100\
                           000000000025401807520676703964656358000a12088794e2b6a13412036d696318\
                           02200230011249088794e2b6a134121d0a1274696d655f746f5f636f6e6e6563745f\
                           6d73110000000000406f401a210a096773747265616d65721201311a056c696e7578\
                           220231322a067838365f3634";

    fn stats() -> ClientStats {
        let video = ClientTrackStats {
            name: "main_video".into(),
            kind: Kind::Video,
            direction: Direction::RecvOnly,
            codec: "VP9".into(),
            paused: true,
            metrics: Metrics::from([("packets_lost", 2.0), ("jitter_ms", 1.5)]),
            stages: vec![FrameStage {
                name: "jitter_buffer",
                total_ms: 10.5,
                frames: 7,
            }],
            codec_implementation: "vp9dec".into(),
            hardware_codec: Some(false),
        };
        let audio = ClientTrackStats {
            name: "mic".into(),
            kind: Kind::Audio,
            direction: Direction::SendOnly,
            codec: "OPUS".into(),
            paused: false,
            metrics: Metrics::new(),
            stages: Vec::new(),
            codec_implementation: String::new(),
            hardware_codec: None,
        };
        ClientStats {
            timestamp: 1_795_679_619_591,
            tracks: vec![video, audio],
            connection: Metrics::from([("time_to_connect_ms", 250.0)]),
            environment: ClientEnvironment {
                sdk_type: "gstreamer".into(),
                sdk_version: "1".into(),
                os: "linux".into(),
                os_version: "12".into(),
                arch: "x86_64".into(),
            },
        }
    }

    fn encoded(stats: ClientStats) -> (Channel, WireFrame) {
        let message = ClientMessage::ClientStats(Box::new(stats));
        encode(WireVersion::V1, &message, None).unwrap()
    }

    #[test]
    fn client_stats_match_server_bytes_and_have_no_v0_form() {
        let (channel, frame) = encoded(stats());
        assert_eq!(channel, Channel::Control);
        assert_eq!(frame, WireFrame::Binary(hex(ENCODED)));
        let message = ClientMessage::ClientStats(Box::new(stats()));
        assert!(encode(WireVersion::V0, &message, None).is_err());
    }

    #[test]
    fn more_tracks_than_server_takes_are_left_out() {
        let mut many = stats();
        many.tracks = vec![many.tracks[0].clone(); MAX_TRACKS + 5];
        let mut most = many.clone();
        most.tracks.truncate(MAX_TRACKS);
        assert_eq!(encoded(many), encoded(most));
    }

    #[test]
    fn value_that_is_no_number_is_left_out() {
        let mut odd = stats();
        odd.connection.insert("rate", f64::NAN);
        assert_eq!(encoded(odd), encoded(stats()));
    }
}
