// SPDX-License-Identifier: MIT

//! One live session of a model: the state machine that knows how it goes, the
//! driver that does what the machine says, and the private pipeline that
//! carries the media.

pub mod codecs;
mod driver;
mod machine;
pub mod port;
pub mod properties;
pub mod settings;
mod transport;
pub mod warm_up;

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

pub use machine::{Event as MachineEvent, Progress, Status, Timings};
pub use transport::bridge_clock;

use crate::platform::{
    Error,
    track::Track,
    wire::{ClientMessage, ServerMessage},
};
use machine::Input;
use port::Subscription;
use settings::Settings;

/// What a session tells the element that started it.
#[derive(Debug)]
pub enum Event {
    /// The model's tracks: answer with [`Session::plan`].
    Tracks(Vec<Track>),
    Machine(Box<MachineEvent>),
}

/// Called on the driver's task: hands over and returns.
pub type EventSender = Box<dyn Fn(Event) + Send + Sync>;

/// Called once with the reply to a request.
pub type Reply = Box<dyn FnOnce(Result<ServerMessage, Error>) + Send>;

/// A handle on a running session. Dropping it stops the session.
#[derive(Debug)]
pub struct Session {
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

/// What the handles send to the driver.
enum Message {
    Input(Input),
    Plan(Result<Vec<Subscription>, Error>),
    Request(ClientMessage, Reply),
    SetLatency(u32),
    RequestKeyframe(String),
}

/// What the driver shows to the handles.
#[derive(Debug, Default)]
struct Shared {
    timings: Mutex<Timings>,
    closed: Mutex<bool>,
    closing: Condvar,
    /// The same for those who wait on a task.
    notify: Notify,
}

impl Shared {
    fn set_closed(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closing.notify_all();
        self.notify.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Session {
    /// Begins to connect, on threads of its own; `events` hears how it goes.
    /// A session `before` it that is being closed is given the time for that:
    /// the server would take the two for one.
    ///
    /// # Errors
    ///
    /// When the settings make no sense or the process has no threads left.
    pub fn start(
        settings: &Settings,
        before: Option<Arc<Session>>,
        events: EventSender,
    ) -> Result<Self, Error> {
        let (messages, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let before = before.map(|session| session.shared.clone());
        let driver = driver::Driver::new(settings, events, messages.clone(), shared.clone())?;
        driver.launch(receiver, before)?;
        let session = Self { messages, shared };
        session.send(Message::Input(Input::Start));
        Ok(session)
    }

    /// Says which of the announced tracks to receive, and how.
    pub fn plan(&self, plan: Result<Vec<Subscription>, Error>) {
        self.send(Message::Plan(plan));
    }

    /// Lets a track flow, or rest on the server.
    pub fn want(&self, track: &str, flowing: bool) {
        self.send(Message::Input(Input::Want {
            track: track.to_owned(),
            flowing,
        }));
    }

    /// Sends a message to the model or the platform; waits its turn if the
    /// session is not ready yet.
    pub fn request(&self, message: ClientMessage, reply: Reply) {
        if let Err(mpsc::error::SendError(Message::Request(_, reply))) =
            self.messages.send(Message::Request(message, reply))
        {
            reply(Err(closed()));
        }
    }

    pub fn request_keyframe(&self, track: &str) {
        self.send(Message::RequestKeyframe(track.to_owned()));
    }

    /// Sets the jitter buffer, in milliseconds.
    pub fn set_latency(&self, milliseconds: u32) {
        self.send(Message::SetLatency(milliseconds));
    }

    /// Begins to close; [`Session::wait_closed`] waits for the end of it.
    pub fn stop(&self) {
        self.send(Message::Input(Input::Stop));
    }

    /// Waits until everything is closed, at most `limit`.
    pub fn wait_closed(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut closed = self
            .shared
            .closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.closing.wait_timeout(closed, left);
            closed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// How long each step of connecting took.
    pub fn timings(&self) -> Timings {
        *self
            .shared
            .timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) {
        // A driver that is gone has emitted `Closed`.
        let _ = self.messages.send(message);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

fn closed() -> Error {
    Error::gpu(crate::platform::Code::InvalidState, "the session is closed")
}
