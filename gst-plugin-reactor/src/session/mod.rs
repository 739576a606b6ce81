// SPDX-License-Identifier: MIT

//! One live session of a model: the state machine that knows how it goes, the
//! driver that does what the machine says, and the private pipeline that
//! carries the media.

pub mod bitrate_allocator;
pub mod bridge;
pub mod codecs;
pub mod command_queue;
mod driver;
mod machine;
mod participants;
pub mod recordings;
mod registry;
pub mod settings;
mod transport;
pub mod warm_up;

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc};

pub use driver::{after, runtime};
pub use machine::{MachineEvent, NO_CLIP, Progress, Status, Timings, WireChoice};
pub use registry::{Participant, ParticipantRole};
pub use transport::bridge_clock;

pub use crate::platform::lock;

use crate::platform::{
    Error,
    track::Track,
    wire::{ClientMessage, ServerMessage},
};
use bridge::{Publication, Subscription, TrackSender, TrackSenders};
use codecs::Codec;
use command_queue::QueuedCommand;
use machine::Input;
use registry::SharedSession;
use settings::Settings;

/// What a session tells an element that takes part in it.
#[derive(Debug)]
pub enum SessionEvent {
    /// The model's tracks: answer with [`Session::plan`].
    Tracks(Vec<Track>),
    /// The claim to an input track was granted, with what the server takes on
    /// it, or refused.
    Claimed {
        track: String,
        result: Result<Vec<&'static Codec>, Error>,
    },
    /// What is pushed into the track's [`TrackSender`] goes to the model from now
    /// on, beginning with a keyframe.
    Open {
        track: String,
        result: Result<(), Error>,
    },
    /// The track is not fed any more: it was given up.
    Withdrawn(String),
    /// The server lost something of what was sent on this track.
    KeyframeWanted(String),
    /// The server's report: which part of this track's packets it missed.
    Loss {
        track: String,
        lost: f64,
    },
    /// This track's share of what the network takes, in bits per second.
    Share {
        track: String,
        bitrate: u32,
    },
    /// Who sent or received has left: only those are there that want what was
    /// recorded.
    Deserted,
    /// The jitter buffer is that long now, in milliseconds.
    Latency(u32),
    Machine(Box<MachineEvent>),
}

/// What an element takes and feeds.
#[derive(Debug, Default)]
pub struct MediaPlan {
    pub subscriptions: Vec<Subscription>,
    pub publications: Vec<Publication>,
}

/// Called on the driver's task: hands over and returns.
pub type EventSender = Box<dyn Fn(SessionEvent) + Send + Sync>;

/// Called once with the reply to a request.
pub type ReplyCallback = Box<dyn FnOnce(Result<ServerMessage, Error>) + Send>;

/// What the elements and the transport send to the driver.
enum DriverMessage {
    Input(Input),
    /// From a call for the connection with this number.
    Signaled(u64, Input),
    Join(u64, Participant, EventSender),
    Leave(u64),
    Plan(u64, Result<MediaPlan, Error>),
    Request(ClientMessage, ReplyCallback),
    QueuedCommand(QueuedCommand),
    SetLatency(u32),
    RequestKeyframe(String),
    /// What an element will send on a track.
    Format(String, &'static Codec),
    /// The answer to a claim.
    Claimed(String, Result<(), Error>),
    /// Claims an input track again, or gives it up.
    Publish(String, bool),
    /// From the transport with this number.
    Transport(u64, TransportReport),
}

/// What a transport tells the driver.
enum TransportReport {
    Input(Input),
    KeyframeWanted(String),
    SenderOpen(String, Result<(), Error>),
    Loss(String, f64),
    /// What the network takes of all tracks together, in bits per second.
    Estimate(u32),
    /// How long the jitter buffer is now, in milliseconds.
    Latency(u32),
}

/// What the driver shows to the elements.
#[derive(Debug, Default)]
struct SharedState {
    timings: Mutex<Timings>,
    track_senders: TrackSenders,
    closed: Mutex<bool>,
    closing: Condvar,
    /// The same for those who wait on a task.
    notify: Notify,
}

impl SharedState {
    fn set_closed(&self) {
        *lock(&self.closed) = true;
        self.closing.notify_all();
        self.notify.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        *lock(&self.closed)
    }

    async fn wait_closed(&self) {
        loop {
            let notified = self.notify.notified();
            if self.is_closed() {
                return;
            }
            notified.await;
        }
    }
}

/// An element's part in a running session. Dropping it leaves the session,
/// which ends with the last one.
#[derive(Debug)]
pub struct Session {
    shared_session: Arc<SharedSession>,
    id: u64,
}

impl Session {
    /// Joins the session with this key, or starts one, on threads of its own;
    /// `events` hears how it goes. Without a key the session is private.
    ///
    /// A session on the same server that is being closed is given the time
    /// for that: the server would take the two for one.
    ///
    /// # Errors
    ///
    /// When the settings make no sense, or contradict those of an element that
    /// is there already.
    pub fn join(
        key: Option<&str>,
        settings: &Settings,
        participant: Participant,
        events: EventSender,
    ) -> Result<Self, Error> {
        let (shared_session, id) = registry::join(key, settings, participant, events)?;
        Ok(Self { shared_session, id })
    }

    /// Joins the session with this key, if there is one; never starts it.
    pub fn find(key: &str, participant: Participant, events: EventSender) -> Option<Self> {
        let (shared_session, id) = registry::find(key, participant, events)?;
        Some(Self { shared_session, id })
    }

    /// Says which of the announced tracks the element takes and feeds.
    pub fn plan(&self, plan: Result<MediaPlan, Error>) {
        self.shared_session.send(DriverMessage::Plan(self.id, plan));
    }

    /// Lets a track flow, or rest on the server.
    pub fn want(&self, track: &str, flowing: bool) {
        self.shared_session.send(DriverMessage::Input(Input::Want {
            track: track.to_owned(),
            flowing,
        }));
    }

    /// The cloud hears this token from now on, from all elements.
    pub fn set_jwt(&self, token: Option<&str>) {
        self.shared_session.settings().jwt.set(token);
    }

    /// Takes the connection down, and with `recoverable` keeps the session.
    pub fn disconnect(&self, recoverable: bool) {
        self.shared_session
            .send(DriverMessage::Input(Input::Disconnect { recoverable }));
    }

    /// Makes a new connection to the session.
    pub fn reconnect(&self) {
        self.shared_session
            .send(DriverMessage::Input(Input::Reconnect));
    }

    /// Claims an input track again that was given up, or gives it up.
    pub fn publish(&self, track: &str, publish: bool) {
        self.shared_session
            .send(DriverMessage::Publish(track.to_owned(), publish));
    }

    /// Says in which codec a claimed track will be fed.
    pub fn format(&self, track: &str, codec: &'static Codec) {
        self.shared_session
            .send(DriverMessage::Format(track.to_owned(), codec));
    }

    /// Where to push what goes to the model, once the track is open.
    pub fn track_sender(&self, track: &str) -> Option<TrackSender> {
        self.shared_session.shared.track_senders.get(track)
    }

    /// Sends a message to the model or the platform; waits its turn if the
    /// session is not ready yet.
    pub fn request(&self, message: ClientMessage, reply: ReplyCallback) {
        let sent = self
            .shared_session
            .messages
            .send(DriverMessage::Request(message, reply));
        if let Err(mpsc::error::SendError(DriverMessage::Request(_, reply))) = sent {
            reply(Err(closed()));
        }
    }

    /// Has something done in its turn, once the session is ready.
    pub fn command(&self, command: QueuedCommand) {
        let sent = self
            .shared_session
            .messages
            .send(DriverMessage::QueuedCommand(command));
        if let Err(mpsc::error::SendError(DriverMessage::QueuedCommand(command))) = sent {
            command.refuse(closed());
        }
    }

    pub fn request_keyframe(&self, track: &str) {
        self.shared_session
            .send(DriverMessage::RequestKeyframe(track.to_owned()));
    }

    /// Sets the jitter buffer, in milliseconds.
    pub fn set_latency(&self, milliseconds: u32) {
        self.shared_session
            .send(DriverMessage::SetLatency(milliseconds));
    }

    /// Leaves the session; [`Session::wait_closed`] waits for its end, if
    /// this was its last element.
    pub fn leave(&self) {
        self.shared_session.leave(self.id);
    }

    /// Waits until everything is closed, at most `limit`; not at all while
    /// other elements take part.
    pub fn wait_closed(&self, limit: Duration) -> bool {
        if self.shared_session.has_participants() {
            return true;
        }
        let shared = &self.shared_session.shared;
        let closed = lock(&shared.closed);
        let waited = shared
            .closing
            .wait_timeout_while(closed, limit, |closed| !*closed);
        let (closed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *closed
    }

    /// How long each step of connecting took.
    pub fn timings(&self) -> Timings {
        *lock(&self.shared_session.shared.timings)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

fn closed() -> Error {
    Error::gpu(crate::platform::Code::InvalidState, "the session is closed")
}
