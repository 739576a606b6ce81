// SPDX-License-Identifier: MIT

//! One live session of a model, shared by the elements that take part in it.
//!
//! [`Session`] is an element's handle, for any thread: its methods send a message
//! to the session's driver and return. `machine` decides what happens next,
//! `driver` carries it out, `transport` carries the media. Nothing here
//! knows an element.

pub mod bitrate_allocator;
pub mod bridge;
pub mod codecs;
pub mod command_queue;
mod driver;
mod events;
pub mod frame_counters;
mod headroom;
mod link_capacities;
mod log;
mod machine;
mod messages;
mod newest;
mod participants;
pub mod recording_endpoints;
mod registry;
mod replies;
mod runtime;
pub mod settings;
mod shared_state;
pub mod statistics;
mod track_state;
mod transport;
pub mod warm_up;

use std::{sync::Arc, time::Duration};

pub use events::{EventSender, MediaPlan, Retention, SessionEvent};
pub use log::log_http_exchanges;
pub use machine::{CLIP_FAILED, MachineEvent, Progress, Status, Timings};
pub use participants::{Participant, ParticipantRole};
pub use replies::{Reply, ReplyCallback, UploadCallback};
pub use runtime::{Timer, run_after, run_blocking, run_repeatedly, runtime};
pub use track_state::TrackState;
pub use transport::bridge_clock;
#[cfg(any(test, fuzzing))]
pub use transport::fuzzing;

pub use crate::platform::{Guard, assert_unlocked, lock};

use crate::platform::{Error, wire::ClientMessage};
use bridge::TrackSender;
use codecs::Codec;
use command_queue::QueuedCommand;
use machine::Input;
use messages::DriverMessage;
use registry::SharedSession;
use settings::Settings;
use statistics::ConnectionStatistics;

/// An element's part in a running session. Dropping it leaves the session,
/// which ends with the last one.
#[derive(Debug)]
pub struct Session {
    shared_session: Arc<SharedSession>,
    id: u64,
    without_effect: Vec<&'static str>,
}

impl Session {
    /// Joins the session with this key, or starts one, on threads of its own;
    /// `events` receives its events. Without a key the session is private.
    ///
    /// A new session on a server waits until the one before it there is closed:
    /// the server would take the two for one.
    ///
    /// # Errors
    ///
    /// If the settings are invalid, or contradict those of an element that is
    /// there already.
    pub fn join(
        key: Option<&str>,
        settings: &Settings,
        participant: Participant,
        events: EventSender,
    ) -> Result<Self, Error> {
        let joined = registry::join(key, settings, participant, events)?;
        Ok(Self {
            shared_session: joined.shared_session,
            id: joined.id,
            without_effect: joined.without_effect,
        })
    }

    /// The properties of the element that do not count, since another one started the
    /// session with other values.
    pub fn settings_without_effect(&self) -> &[&'static str] {
        &self.without_effect
    }

    /// Joins the session with this key, if there is one; never starts it.
    pub fn find(key: &str, participant: Participant, events: EventSender) -> Option<Self> {
        let (shared_session, id) = registry::find(key, participant, events)?;
        Some(Self {
            shared_session,
            id,
            without_effect: Vec::new(),
        })
    }

    /// The server's address.
    pub fn server(&self) -> String {
        self.shared_session.settings().server().to_owned()
    }

    /// Sets which of the announced tracks the element receives and sends, or
    /// why it cannot.
    pub fn set_media_plan(&self, plan: Result<MediaPlan, Error>) {
        self.send(DriverMessage::Plan(self.id, plan));
    }

    /// Whether the element needs one of its received tracks.
    pub fn set_track_paused(&self, track: &str, paused: bool) {
        self.send(DriverMessage::Input(Input::SetTrackPaused {
            track: track.to_owned(),
            paused,
        }));
    }

    /// Replaces the token for the cloud, for all elements.
    pub fn set_jwt(&self, token: Option<&str>) {
        self.shared_session.settings().jwt.set(token);
        self.send(DriverMessage::JwtReplaced);
    }

    /// Takes the connection down, and with `recoverable` keeps the session.
    pub fn disconnect(&self, recoverable: bool, reply: ReplyCallback) {
        self.send(DriverMessage::Disconnect(recoverable, reply));
    }

    /// Makes a new connection to the session.
    pub fn reconnect(&self, reply: ReplyCallback) {
        self.send(DriverMessage::Reconnect(reply));
    }

    /// Publishes an input track again that was unpublished, or unpublishes it.
    pub fn set_published(&self, track: &str, publish: bool, reply: ReplyCallback) {
        self.send(DriverMessage::SetPublished(
            track.to_owned(),
            publish,
            reply,
        ));
    }

    /// Pauses one of the model's tracks for the application, however much it is
    /// needed, or ends that.
    pub fn pause_track(&self, track: &str, paused: bool, reply: ReplyCallback) {
        self.send(DriverMessage::PauseTrack(track.to_owned(), paused, reply));
    }

    /// Sets the codec in which a published track will be sent.
    pub fn set_codec(&self, track: &str, codec: &'static Codec) {
        self.send(DriverMessage::SetCodec(track.to_owned(), codec));
    }

    /// The sender of a track to the model, once it is open.
    pub fn track_sender(&self, track: &str) -> Option<TrackSender> {
        self.shared_session.shared.track_senders.get(track)
    }

    /// Sends a message to the model or the platform, once the session is ready.
    pub fn request(&self, message: ClientMessage, reply: ReplyCallback) {
        self.send(DriverMessage::Request(message, reply, false));
    }

    /// As [`Session::request`], but the elements hear nothing of the clip that
    /// the platform answers with.
    pub fn request_privately(&self, message: ClientMessage, reply: ReplyCallback) {
        self.send(DriverMessage::Request(message, reply, true));
    }

    /// Queues commands, which are sent in order, or an upload, once the session
    /// is ready.
    pub fn queue_command(&self, command: QueuedCommand) {
        self.send(DriverMessage::QueuedCommand(command));
    }

    /// Asks the model for a keyframe of an output track (RTCP PLI).
    pub fn request_keyframe(&self, track: &str) {
        self.send(DriverMessage::RequestKeyframe(track.to_owned()));
    }

    /// Sets the latency of the jitter buffer, in milliseconds.
    pub fn set_latency(&self, milliseconds: u32) {
        self.send(DriverMessage::SetLatency(milliseconds));
    }

    /// Bounds received video of all tracks together, in bits per second; 0 lifts
    /// the bound.
    pub fn set_max_receive_bitrate(&self, bitrate: u32) {
        let bitrate = (bitrate != 0).then_some(bitrate);
        self.send(DriverMessage::Input(Input::SetMaxReceiveBitrate(bitrate)));
    }

    /// Leaves the session; [`Session::wait_closed`] waits for its end, if
    /// this was its last element.
    pub fn leave(&self) {
        self.shared_session.leave(self.id);
    }

    /// Blocks until everything is closed: the session at most for `limit`, then the
    /// connection for 6 s. Not at all while other elements take part.
    pub fn wait_closed(&self, limit: Duration) -> bool {
        let limit = limit + driver::TEARDOWN_LIMIT;
        self.shared_session.has_participants() || self.shared_session.shared.wait_closed(limit)
    }

    /// When each step of connecting was reached.
    pub fn timings(&self) -> Timings {
        *lock(&self.shared_session.shared.timings)
    }

    /// Whether the server learns from transport-wide feedback how all received
    /// tracks arrive; `None` before its answer, and if none is received.
    pub fn has_receive_feedback(&self) -> Option<bool> {
        *lock(&self.shared_session.shared.has_receive_feedback)
    }

    /// The statistics of the connection, at most about a second old; counters are
    /// those of the session.
    pub fn statistics(&self) -> Arc<ConnectionStatistics> {
        lock(&self.shared_session.shared.statistics).clone()
    }

    /// Sets how often the element gets [`SessionEvent::StatisticsDue`]; 0 for
    /// never.
    pub fn set_stats_interval(&self, interval: Duration) {
        self.send(DriverMessage::SetStatsInterval(self.id, interval));
    }

    fn send(&self, message: DriverMessage) {
        self.shared_session.send(message);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}
