// SPDX-License-Identifier: MIT

//! The events that a session sends to an element, and the plan with which the
//! element answers the announcement of the tracks. Created on the driver's
//! task. No state, and nothing that waits.

use std::sync::Arc;

use serde_json::Value;

use super::{
    bridge::{Publication, Subscription},
    codecs::Codec,
    machine::MachineEvent,
};
use crate::platform::{Error, schema::Schema, track::Track};

/// What a session tells an element that takes part in it.
#[derive(Debug)]
pub enum SessionEvent {
    /// The model's tracks: answer with
    /// [`Session::set_media_plan`](super::Session::set_media_plan).
    Tracks(Vec<Track>),
    /// The schema of the model, of a session that this element has just joined or
    /// that has replaced another one.
    Schema(Arc<Schema>),
    /// The server's reply to `publish-track`: the codecs that it accepts on the
    /// input track, or why it refused.
    Published {
        track: String,
        result: Result<Vec<&'static Codec>, Error>,
    },
    /// The track's [`TrackSender`](super::bridge::TrackSender) sends to the
    /// model from now on, beginning with a keyframe.
    SenderOpened {
        track: String,
        result: Result<(), Error>,
    },
    /// The track was unpublished: nothing is sent on it any more.
    Unpublished(String),
    /// The server lost packets of this track and needs a keyframe (RTCP PLI or
    /// FIR).
    KeyframeRequested(String),
    /// The server's receiver report: the fraction of this track's packets, from
    /// 0 to 1, that it missed.
    PacketLoss {
        track: String,
        fraction_lost: f64,
    },
    /// This track's part of the estimated bandwidth, in bits per second.
    TargetBitrate {
        track: String,
        bitrate: u32,
    },
    /// Every element that sent or received media has left; only those remain
    /// that want what was recorded.
    MediaParticipantsLeft,
    /// The present latency of the jitter buffer, in milliseconds.
    JitterBufferLatency(u32),
    /// The element's `stats-interval` has passed.
    StatisticsDue,
    Machine(Box<MachineEvent>),
}

/// What happens to an event that waits because its element is slow.
#[derive(Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is kept until it is handled.
    Kept,
    /// A later event with the same key takes its place.
    Latest(&'static str, String),
    /// It is dropped when too many wait; its size in bytes, roughly.
    Droppable(usize),
}

impl SessionEvent {
    pub fn retention(&self) -> Retention {
        match self {
            Self::KeyframeRequested(track) => Retention::Latest("keyframe", track.clone()),
            Self::PacketLoss { track, .. } => Retention::Latest("packet loss", track.clone()),
            Self::TargetBitrate { track, .. } => Retention::Latest("bitrate", track.clone()),
            Self::JitterBufferLatency(_) => Retention::Latest("latency", String::new()),
            Self::StatisticsDue => Retention::Latest("statistics", String::new()),
            Self::Machine(event) => match &**event {
                MachineEvent::Message { data, .. } | MachineEvent::RuntimeMessage { data, .. } => {
                    Retention::Droppable(json_size(data))
                }
                MachineEvent::Tracks(_) => Retention::Latest("tracks", String::new()),
                MachineEvent::SessionExpiration(_) => {
                    Retention::Latest("expiration", String::new())
                }
                MachineEvent::Warning(error) => Retention::Latest("warning", error.to_string()),
                _ => Retention::Kept,
            },
            _ => Retention::Kept,
        }
    }
}

/// The memory that a value takes, in bytes.
fn json_size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(json_size).sum(),
            Value::Object(members) => {
                let sizes = members
                    .iter()
                    .map(|(name, value)| name.len() + json_size(value));
                sizes.sum()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// The tracks that an element receives and sends.
#[derive(Default)]
pub struct MediaPlan {
    pub subscriptions: Vec<Subscription>,
    pub publications: Vec<Publication>,
}

/// Called on the driver's task: it must hand the event over and return.
pub type EventSender = Box<dyn Fn(SessionEvent) + Send + Sync>;
