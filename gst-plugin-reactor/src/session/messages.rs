// SPDX-License-Identifier: MIT

//! The messages that elements, HTTP tasks and the transport send to the driver.
//! They may be sent from any thread; the driver's task alone receives them.

use std::time::Duration;

use super::{
    codecs::Codec,
    command_queue::QueuedCommand,
    events::{EventSender, MediaPlan},
    machine::Input,
    participants::Participant,
    replies::ReplyCallback,
    statistics::ConnectionStatistics,
};
use crate::platform::{Error, wire::ClientMessage};

/// A message to the driver. The number of an element is the one that it joined
/// with.
pub(super) enum DriverMessage {
    Input(Input),
    /// The result of a signaling request for the connection with this number.
    SignalingReply(u64, Input),
    Join(u64, Participant, EventSender),
    /// An element that joins wants the session to last no longer than this.
    LimitDuration(Duration),
    Leave(u64),
    Plan(u64, Result<MediaPlan, Error>),
    /// Private if the last is true, see [`Input::Request`].
    Request(ClientMessage, ReplyCallback, bool),
    QueuedCommand(QueuedCommand),
    /// The token for the cloud was replaced.
    JwtReplaced,
    /// Of the jitter buffer, in milliseconds.
    SetLatency(u32),
    RequestKeyframe(String),
    /// The codec in which an element will send a track.
    SetCodec(String, &'static Codec),
    /// The server's reply to `publish-track`.
    PublishReply(String, Result<(), Error>),
    /// Sends the element `StatisticsDue` at this interval, or never for 0.
    SetStatsInterval(u64, Duration),
    /// From the element's timer.
    StatisticsDue(u64),
    /// The track was refused, and is to be requested again.
    RetryPublish(String),
    /// Publishes an input track for the application, or unpublishes it.
    SetPublished(String, bool, ReplyCallback),
    /// Pauses a track for the application, or ends that.
    PauseTrack(String, bool, ReplyCallback),
    Reconnect(ReplyCallback),
    /// Takes the connection down; whether to keep the session.
    Disconnect(bool, ReplyCallback),
    /// From the transport with this number.
    Transport(u64, TransportReport),
}

/// What a transport reports to the driver.
pub(super) enum TransportReport {
    Input(Input),
    KeyframeRequested(String),
    SenderOpened(String, Result<(), Error>),
    /// The track and the fraction of its packets that was lost, from 0 to 1.
    PacketLoss(String, f64),
    /// The estimated bandwidth for all tracks together, in bits per second.
    BandwidthEstimate(u32),
    /// The present latency of the jitter buffer, in milliseconds.
    JitterBufferLatency(u32),
    /// A reading of the connection, about once a second.
    Statistics(Box<ConnectionStatistics>),
}
