// SPDX-License-Identifier: MIT

//! The private pipeline around webrtcbin.
//!
//! A thread of its own carries out what the driver asks for, in order: it may
//! block where webrtcbin blocks (state changes above all), and nothing else
//! waits for it. webrtcbin's callbacks only send [`Input`]s.

mod channels;
mod estimator;
mod ice;
pub(super) mod metadata;
mod patience;
mod peer;
mod receive;
mod repair;
mod send;
mod timeline;
mod timing;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    Report,
    budget::Limits,
    codecs::Codec,
    machine::Input,
    members::Offer,
    port::{Consumers, Outlets},
};
use crate::platform::{
    Code, Error,
    sdp::{Fingerprint, NegotiatedAnswer, NegotiatedTrack},
    signaling::IceServer,
    wire::{Channel, Frame},
};
use patience::Patience;
use peer::Peer;

pub(super) static CAT: std::sync::LazyLock<gst::DebugCategory> = std::sync::LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactor-transport",
        gst::DebugColorFlags::empty(),
        Some("Reactor peer connection"),
    )
});

/// webrtcbin may never report that gathering is complete; with what has been
/// gathered by then a host on the same network is reachable.
const GATHERING_LIMIT: Duration = Duration::from_secs(2);

/// The server reports what it misses about once a second.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);

/// How the peer connection is to be made.
#[derive(Debug, Clone)]
pub struct Config {
    /// Jitter buffer, in milliseconds.
    pub latency: u32,
    /// How far it may grow, and has grown so far.
    pub max_latency: u32,
    pub latency_now: u32,
    pub relay_only: bool,
}

enum Command {
    Build {
        ice_servers: Vec<IceServer>,
        offer: Vec<Offer>,
    },
    Apply(NegotiatedAnswer),
    Verify(Fingerprint),
    OpenMedia,
    Send(Channel, Vec<Frame>),
    SetLatency(u32),
    Limit(Limits),
    RequestKeyframe(String),
    OpenSender(String, &'static Codec, u8),
    CloseSender(String),
    Close,
    // From webrtcbin's callbacks.
    Latency,
    /// Time to look at the server's reports, and at what is missed.
    Feedback,
    LocalDescriptionSet,
    Gathered,
}

/// The driver's end of the transport thread. Dropping it closes everything.
#[derive(Debug)]
pub struct Transport {
    commands: mpsc::Sender<Command>,
    heard: Arc<Heard>,
    gate: Gate,
}

/// What the callbacks share with the thread: messages and atomics, no lock.
#[derive(Clone)]
struct Link {
    inputs: InputSender,
    reports: Reporter,
    consumers: Consumers,
    outlets: Outlets,
    commands: mpsc::Sender<Command>,
    heard: Arc<Heard>,
    gate: Gate,
    /// What the answer says that each m-section will carry.
    answered: Arc<OnceLock<Vec<NegotiatedTrack>>>,
    /// Video frames may end in a trailer.
    trailers: Arc<AtomicBool>,
    timeline: timing::SharedTimeline,
    jitter_buffers: repair::Buffers,
    /// The timeline hears what the sender reports.
    reported: Arc<AtomicBool>,
}

/// How the transport tells the driver something.
pub(super) type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// The same for what the state machine has to hear.
type InputSender = Arc<dyn Fn(Input) + Send + Sync>;

/// Whether media may pass.
#[derive(Debug, Default, Clone)]
struct Gate {
    /// The peer is who it should be.
    open: Arc<AtomicBool>,
    /// The connection is given up.
    closed: Arc<AtomicBool>,
}

impl Gate {
    fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && !self.is_closed()
    }
}

/// When media was last received.
#[derive(Debug)]
pub struct Heard {
    epoch: Instant,
    /// Milliseconds since `epoch`, 0 for never.
    at: AtomicU64,
}

impl Heard {
    fn mark(&self) {
        let now = self.epoch.elapsed().as_millis() as u64;
        self.at.store(now.max(1), Ordering::Relaxed);
    }

    fn at(&self) -> Option<Duration> {
        match self.at.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }
}

impl Transport {
    /// Starts the thread and warms up what the first connection of a process
    /// would otherwise wait for.
    pub(super) fn new(
        config: Config,
        epoch: Instant,
        reports: Reporter,
        consumers: Consumers,
        outlets: Outlets,
    ) -> Result<Self, Error> {
        let report = reports.clone();
        let inputs: InputSender = Arc::new(move |input| report(Report::Input(input)));
        let (commands, receiver) = mpsc::channel();
        let gate = Gate::default();
        let heard = Arc::new(Heard {
            epoch,
            at: AtomicU64::new(0),
        });
        let link = Link {
            inputs,
            reports,
            consumers,
            outlets,
            commands: commands.clone(),
            heard: heard.clone(),
            gate: gate.clone(),
            answered: Arc::default(),
            trailers: Arc::default(),
            timeline: Arc::default(),
            jitter_buffers: Arc::default(),
            reported: Arc::default(),
        };
        thread::Builder::new()
            .name("reactor-peer".into())
            .spawn(move || Worker::new(config, link).run(&receiver))
            .map_err(|error| Error::gpu(Code::Internal, format!("no thread: {error}")))?;
        Ok(Self {
            commands,
            heard,
            gate,
        })
    }

    /// When media was last heard, on the clock of `epoch`.
    pub fn heard(&self) -> Option<Duration> {
        self.heard.at()
    }

    pub(super) fn build(&self, ice_servers: Vec<IceServer>, offer: Vec<Offer>) {
        self.command(Command::Build { ice_servers, offer });
    }

    /// Makes way for a track that is fed in this codec, with the payload type
    /// that was agreed on for it.
    pub fn open_sender(&self, track: String, codec: &'static Codec, payload: u8) {
        self.command(Command::OpenSender(track, codec, payload));
    }

    pub fn close_sender(&self, track: String) {
        self.command(Command::CloseSender(track));
    }

    pub fn apply(&self, answer: NegotiatedAnswer) {
        self.command(Command::Apply(answer));
    }

    pub fn verify(&self, fingerprint: Fingerprint) {
        self.command(Command::Verify(fingerprint));
    }

    pub fn open_media(&self) {
        self.command(Command::OpenMedia);
    }

    pub fn send(&self, channel: Channel, frames: Vec<Frame>) {
        self.command(Command::Send(channel, frames));
    }

    pub fn set_latency(&self, milliseconds: u32) {
        self.command(Command::SetLatency(milliseconds));
    }

    /// Between which limits to estimate how much may be sent.
    pub fn limit(&self, limits: Limits) {
        self.command(Command::Limit(limits));
    }

    pub fn request_keyframe(&self, track: String) {
        self.command(Command::RequestKeyframe(track));
    }

    /// Nothing passes from now on; the rest is done in time.
    pub fn close(&self) {
        self.gate.close();
        self.command(Command::Close);
    }

    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    fn command(&self, command: Command) {
        // A thread that is gone has reported [`Input::TransportClosed`].
        let _ = self.commands.send(command);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's own state.
struct Worker {
    config: Config,
    link: Link,
    peer: Option<Peer>,
    gathering: Option<Instant>,
    /// Something is sent, of which the server reports the loss.
    sending: bool,
    patience: Patience,
    /// When was last looked at what is missed here, and there.
    looked: Instant,
    read: Instant,
}

impl Worker {
    fn new(config: Config, link: Link) -> Self {
        let patience = Patience::new(config.latency, config.max_latency, config.latency_now);
        Self {
            config,
            link,
            peer: None,
            gathering: None,
            sending: false,
            patience,
            looked: Instant::now(),
            read: Instant::now(),
        }
    }

    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        super::warm_up::wait();
        loop {
            let command = match self.wait() {
                None => commands.recv().unwrap_or(Command::Close),
                Some(wait) => match commands.recv_timeout(wait) {
                    Ok(command) => command,
                    Err(mpsc::RecvTimeoutError::Timeout) if self.gathering.is_some() => {
                        Command::Gathered
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => Command::Feedback,
                    Err(mpsc::RecvTimeoutError::Disconnected) => Command::Close,
                },
            };
            if matches!(command, Command::Close) {
                break;
            }
            self.execute(command);
        }
        if let Some(peer) = self.peer.take() {
            peer.close();
        }
        (self.link.inputs)(Input::TransportClosed);
    }

    /// For how long, if nothing is asked for.
    fn wait(&self) -> Option<Duration> {
        let gathering = self.gathering;
        let wait = gathering.map(|since| GATHERING_LIMIT.saturating_sub(since.elapsed()));
        let looks = self.peer.is_some() && (self.sending || !self.patience.is_fixed());
        let look = patience::LOOK.saturating_sub(self.looked.elapsed());
        wait.or(looks.then_some(look))
    }

    fn feedback(&mut self) {
        self.looked = Instant::now();
        let Some(peer) = &self.peer else {
            return;
        };
        if self.sending && self.read.elapsed() >= FEEDBACK_INTERVAL {
            self.read = Instant::now();
            peer.read_feedback(&self.link);
        }
        let counts = repair::counts(&self.link);
        let now = self.link.heard.epoch.elapsed();
        if let Some(latency) = self.patience.look(now, counts) {
            gst::info!(
                CAT,
                "the jitter buffer waits for {latency} ms after {counts:?}"
            );
            peer.set_latency(latency);
            (self.link.reports)(Report::Latency(latency));
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Build { ice_servers, offer } => {
                match Peer::new(
                    &self.config,
                    self.patience.latency(),
                    &self.link,
                    &ice_servers,
                    offer,
                ) {
                    Ok(peer) => self.peer = Some(peer),
                    Err(error) => (self.link.inputs)(Input::OfferBuilt(Err(error))),
                }
            }
            Command::LocalDescriptionSet => {
                let gathered = self.peer.as_ref().is_none_or(Peer::is_gathered);
                self.gathering = (!gathered).then(Instant::now);
                if gathered {
                    self.offer_built();
                }
            }
            Command::Gathered => {
                if self.gathering.take().is_some() {
                    self.offer_built();
                }
            }
            Command::SetLatency(milliseconds) => {
                self.patience.set_floor(milliseconds);
                (self.link.reports)(Report::Latency(milliseconds));
                if let Some(peer) = &self.peer {
                    peer.set_latency(milliseconds);
                }
            }
            Command::Limit(limits) => {
                if let Some(peer) = &self.peer {
                    peer.limit(limits);
                }
            }
            Command::OpenMedia => self.link.gate.open(),
            Command::Verify(fingerprint) => {
                if let Some(peer) = &self.peer {
                    (self.link.inputs)(Input::Verified(peer.verify(&fingerprint)));
                }
            }
            Command::Apply(answer) => {
                let _ = self.link.answered.set(answer.tracks.clone());
                let trailers = answer.frame_metadata;
                self.link.trailers.store(trailers, Ordering::Release);
                if let Some(peer) = &self.peer
                    && let Err(error) = peer.apply(&answer)
                {
                    (self.link.inputs)(Input::TransportFailed(error));
                }
            }
            Command::Send(channel, frames) => {
                if let Some(peer) = &self.peer
                    && let Err(error) = peer.channels().send(channel, frames)
                {
                    (self.link.inputs)(Input::TransportFailed(error));
                }
            }
            Command::OpenSender(track, codec, payload) => {
                if let Some(peer) = self.peer.as_mut().filter(|_| !self.link.gate.is_closed()) {
                    let result = peer.open_sender(&track, codec, payload, &self.link);
                    self.sending |= result.is_ok();
                    peer.recalculate_latency();
                    (self.link.reports)(Report::SenderOpen(track, result));
                }
            }
            Command::CloseSender(track) => self.link.outlets.remove(&track),
            Command::RequestKeyframe(track) => {
                if let Some(peer) = &self.peer {
                    peer.request_keyframe(&track);
                }
            }
            Command::Feedback => self.feedback(),
            Command::Latency => {
                if let Some(peer) = &self.peer {
                    peer.recalculate_latency();
                }
            }
            Command::Close => {}
        }
    }

    fn offer_built(&self) {
        if let Some(peer) = &self.peer {
            (self.link.inputs)(Input::OfferBuilt(peer.local_description()));
        }
    }
}

/// The clock whose time crosses the bridge to the elements.
pub fn bridge_clock() -> gst::Clock {
    gst::SystemClock::obtain().upcast()
}
