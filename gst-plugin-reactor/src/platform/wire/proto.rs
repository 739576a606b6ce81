// SPDX-License-Identifier: MIT

//! `reactor_wire.v1` as of runtime 3.10: the parts of it that a streaming
//! client needs. Older runtimes have a subset with equal numbers.
//! Statistics (client field 19) and steps (data field 11) are left out;
//! unknown fields are skipped.

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
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18"
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
