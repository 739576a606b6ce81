// SPDX-License-Identifier: MIT

//! The events that a session sends to an element, and the plan with which the
//! element answers the announcement of the tracks. Created on the driver's
//! task. No state, and nothing that waits.

use super::{
    bridge::{Publication, Subscription},
    codecs::Codec,
    machine::MachineEvent,
};
use crate::platform::{Error, track::Track};

/// What a session tells an element that takes part in it.
#[derive(Debug)]
pub enum SessionEvent {
    /// The model's tracks: answer with
    /// [`Session::set_media_plan`](super::Session::set_media_plan).
    Tracks(Vec<Track>),
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

/// The tracks that an element receives and sends.
#[derive(Default)]
pub struct MediaPlan {
    pub subscriptions: Vec<Subscription>,
    pub publications: Vec<Publication>,
}

/// Called on the driver's task: it must hand the event over and return.
pub type EventSender = Box<dyn Fn(SessionEvent) + Send + Sync>;
