// SPDX-License-Identifier: MIT

//! The messages that elements, HTTP tasks and the transport send to the driver.
//! They may be sent from any thread; the driver's task alone receives them.

use super::{
    codecs::Codec,
    command_queue::QueuedCommand,
    events::{EventSender, MediaPlan},
    machine::Input,
    participants::Participant,
    replies::ReplyCallback,
};
use crate::platform::{Error, wire::ClientMessage};

/// A message to the driver. The number of an element is the one that it joined
/// with.
pub(super) enum DriverMessage {
    Input(Input),
    /// The result of a signaling request for the connection with this number.
    SignalingReply(u64, Input),
    Join(u64, Participant, EventSender),
    Leave(u64),
    Plan(u64, Result<MediaPlan, Error>),
    Request(ClientMessage, ReplyCallback),
    QueuedCommand(QueuedCommand),
    /// Of the jitter buffer, in milliseconds.
    SetLatency(u32),
    RequestKeyframe(String),
    /// The codec in which an element will send a track.
    SetCodec(String, &'static Codec),
    /// The server's reply to `publish-track`.
    PublishReply(String, Result<(), Error>),
    /// Publishes an input track again, or unpublishes it.
    SetPublished(String, bool),
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
}
