// SPDX-License-Identifier: MIT

//! `reactor_wire.v1` as of runtime 3.10: the parts of it that a streaming
//! client needs. Older runtimes have a subset with equal numbers.
//! Steps (data field 11), and stages of messages (field 4 of
//! `ClientConnectionStat`) are left out; unknown fields are skipped.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};
use prost_types::Struct;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MessageKind {
    Unspecified = 0,
    Request = 1,
    Response = 2,
    Notification = 3,
}

#[derive(Clone, PartialEq, Message)]
pub struct ControlClientMessage {
    #[prost(string, tag = "1")]
    pub request_id: String,
    #[prost(enumeration = "MessageKind", tag = "2")]
    pub kind: i32,
    #[prost(
        oneof = "ControlClientPayload",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19"
    )]
    pub payload: Option<ControlClientPayload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ControlClientPayload {
    #[prost(message, tag = "10")]
    Ping(Empty),
    #[prost(message, tag = "11")]
    RequestSchema(Empty),
    #[prost(message, tag = "12")]
    FileUploaded(UploadReference),
    #[prost(message, tag = "13")]
    RequestClip(RequestClip),
    #[prost(message, tag = "14")]
    RequestRecording(Empty),
    #[prost(message, tag = "15")]
    PublishTrack(TrackName),
    #[prost(message, tag = "16")]
    PauseTrack(TrackName),
    #[prost(message, tag = "17")]
    ResumeTrack(TrackName),
    #[prost(message, tag = "18")]
    UnpublishTrack(TrackName),
    #[prost(message, tag = "19")]
    ClientStats(ClientStats),
}

#[derive(Clone, PartialEq, Message)]
pub struct ControlServerMessage {
    #[prost(string, tag = "1")]
    pub request_id: String,
    #[prost(enumeration = "MessageKind", tag = "2")]
    pub kind: i32,
    #[prost(oneof = "ControlServerPayload", tags = "10, 11, 12, 13, 14, 15, 40")]
    pub payload: Option<ControlServerPayload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ControlServerPayload {
    #[prost(message, tag = "10")]
    ModelSchema(ModelSchema),
    #[prost(message, tag = "11")]
    ClipReady(ClipReady),
    #[prost(message, tag = "12")]
    ClipFailed(Reason),
    #[prost(message, tag = "13")]
    Moderation(Moderation),
    #[prost(message, tag = "14")]
    PublishTrack(TrackName),
    #[prost(message, tag = "15")]
    SessionEnded(Reason),
    #[prost(message, tag = "40")]
    Error(Error),
}

#[derive(Clone, PartialEq, Message)]
pub struct DataClientMessage {
    #[prost(string, tag = "1")]
    pub request_id: String,
    #[prost(enumeration = "MessageKind", tag = "2")]
    pub kind: i32,
    #[prost(oneof = "DataClientPayload", tags = "10")]
    pub payload: Option<DataClientPayload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum DataClientPayload {
    #[prost(message, tag = "10")]
    Command(Command),
}

#[derive(Clone, PartialEq, Message)]
pub struct DataServerMessage {
    #[prost(string, tag = "1")]
    pub request_id: String,
    #[prost(enumeration = "MessageKind", tag = "2")]
    pub kind: i32,
    #[prost(oneof = "DataServerPayload", tags = "10, 40")]
    pub payload: Option<DataServerPayload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum DataServerPayload {
    #[prost(message, tag = "10")]
    Message(ModelMessage),
    #[prost(message, tag = "40")]
    Error(Error),
}

/// `Ping`, `RequestSchema` and `RequestRecording`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct Error {
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Command {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub data: Option<Struct>,
    #[prost(btree_map = "string, message", tag = "3")]
    pub uploads: BTreeMap<String, UploadReference>,
}

/// `UploadReference`, and `FileUploaded`, which has equal fields.
#[derive(Clone, PartialEq, Message)]
pub struct UploadReference {
    #[prost(string, tag = "1")]
    pub upload_id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub mime_type: String,
    #[prost(int64, tag = "4")]
    pub size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelMessage {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub data: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelSchema {
    #[prost(message, optional, tag = "1")]
    pub openapi: Option<Struct>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct RequestClip {
    #[prost(double, tag = "1")]
    pub duration_seconds: f64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClipReady {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, tag = "2")]
    pub kind: String,
    #[prost(double, tag = "3")]
    pub start_marker: f64,
    #[prost(double, tag = "4")]
    pub end_marker: f64,
    #[prost(double, tag = "5")]
    pub now_marker: f64,
    #[prost(int64, tag = "6")]
    pub predicted_ready_at_ms: i64,
    #[prost(string, tag = "7")]
    pub playlist_url: String,
}

/// `ClipFailed` and `SessionEnded`.
#[derive(Clone, PartialEq, Message)]
pub struct Reason {
    #[prost(string, tag = "1")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Moderation {
    #[prost(string, tag = "1")]
    pub action: String,
    #[prost(string, tag = "2")]
    pub input_kind: String,
    #[prost(string, tag = "3")]
    pub command: String,
    #[prost(string, repeated, tag = "4")]
    pub categories: Vec<String>,
    #[prost(string, tag = "5")]
    pub message: String,
}

/// `PublishTrack` and its relatives, and `PublishTrackResponse`, whose name
/// the server leaves empty.
#[derive(Clone, PartialEq, Message)]
pub struct TrackName {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClientStats {
    #[prost(message, repeated, tag = "1")]
    pub track_stats: Vec<ClientTrackStat>,
    #[prost(message, optional, tag = "2")]
    pub connection_stat: Option<ClientConnectionStat>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClientTrackStat {
    /// Unix time in milliseconds.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    #[prost(string, tag = "2")]
    pub track_name: String,
    #[prost(enumeration = "TrackKind", tag = "3")]
    pub kind: i32,
    #[prost(enumeration = "TrackDirection", tag = "4")]
    pub direction: i32,
    #[prost(oneof = "TrackCodec", tags = "5, 6")]
    pub codec: Option<TrackCodec>,
    #[prost(bool, tag = "7")]
    pub paused: bool,
    #[prost(btree_map = "string, double", tag = "8")]
    pub metrics: BTreeMap<String, f64>,
    #[prost(message, repeated, tag = "9")]
    pub frame_stages: Vec<FrameStage>,
    #[prost(string, tag = "10")]
    pub codec_implementation: String,
    #[prost(bool, optional, tag = "11")]
    pub hardware_codec: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum TrackCodec {
    #[prost(enumeration = "VideoCodec", tag = "5")]
    Video(i32),
    #[prost(enumeration = "AudioCodec", tag = "6")]
    Audio(i32),
}

#[derive(Clone, PartialEq, Message)]
pub struct FrameStage {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(double, tag = "2")]
    pub total_ms: f64,
    #[prost(uint64, tag = "3")]
    pub frames: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClientConnectionStat {
    /// Unix time in milliseconds.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    #[prost(btree_map = "string, double", tag = "2")]
    pub metrics: BTreeMap<String, f64>,
    #[prost(message, optional, tag = "3")]
    pub environment: Option<ClientEnvironment>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClientEnvironment {
    #[prost(string, tag = "1")]
    pub sdk_type: String,
    #[prost(string, tag = "2")]
    pub sdk_version: String,
    #[prost(string, tag = "3")]
    pub os: String,
    #[prost(string, tag = "4")]
    pub os_version: String,
    #[prost(string, tag = "5")]
    pub arch: String,
    #[prost(string, tag = "6")]
    pub device_model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TrackKind {
    Unspecified = 0,
    Video = 1,
    Audio = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TrackDirection {
    Unspecified = 0,
    Recvonly = 1,
    Sendonly = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum VideoCodec {
    Unspecified = 0,
    Vp8 = 1,
    Vp9 = 2,
    Av1 = 3,
    H264 = 4,
    H265 = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum AudioCodec {
    Unspecified = 0,
    Opus = 1,
}
