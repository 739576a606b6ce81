// SPDX-License-Identifier: MIT

//! The private pipeline around webrtcbin.
//!
//! A thread of its own carries out what the driver asks for, in order: it may
//! block where webrtcbin blocks (state changes above all), and nothing else
//! waits for it. webrtcbin's callbacks only send [`Input`]s.

mod bandwidth_estimator;
mod channels;
mod ice;
mod jitter_latency;
pub(super) mod metadata;
mod peer_connection;
mod receive;
mod retransmission;
mod rtp_clock;
mod rtp_probes;
mod send;

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
    TransportReport,
    bitrate_allocator::BitrateLimits,
    bridge::{TrackSenders, TrackTaps},
    codecs::Codec,
    machine::Input,
    participants::Offer,
};
use crate::platform::{
    Code, Error,
    sdp::{Fingerprint, NegotiatedAnswer, NegotiatedTrack},
    signaling::IceServer,
    wire::{Channel, WireFrame},
};
use jitter_latency::JitterLatencyController;
use peer_connection::PeerConnection;

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
pub struct TransportConfig {
    /// Jitter buffer, in milliseconds.
    pub latency: u32,
    /// How far it may grow, and has grown so far.
    pub max_latency: u32,
    pub latency_now: u32,
    pub relay_only: bool,
}

enum TransportCommand {
    Build {
        ice_servers: Vec<IceServer>,
        offer: Vec<Offer>,
    },
    Apply(NegotiatedAnswer),
    Verify(Fingerprint),
    OpenMedia,
    Send(Channel, Vec<WireFrame>),
    SetLatency(u32),
    Limit(BitrateLimits),
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
    commands: mpsc::Sender<TransportCommand>,
    last_received: Arc<LastReceived>,
    gate: MediaGate,
}

/// What the callbacks share with the thread: messages and atomics, no lock.
#[derive(Clone)]
struct TransportHandles {
    inputs: InputSender,
    reports: Reporter,
    taps: TrackTaps,
    track_senders: TrackSenders,
    commands: mpsc::Sender<TransportCommand>,
    last_received: Arc<LastReceived>,
    gate: MediaGate,
    /// What the answer says that each m-section will carry.
    answered: Arc<OnceLock<Vec<NegotiatedTrack>>>,
    /// Video frames may end in a trailer.
    trailers: Arc<AtomicBool>,
    rtp_clock: rtp_probes::SharedRtpClock,
    jitter_buffers: retransmission::JitterBuffers,
    /// The rtp_clock hears what the sender reports.
    reported: Arc<AtomicBool>,
}

/// How the transport tells the driver something.
pub(super) type Reporter = Arc<dyn Fn(TransportReport) + Send + Sync>;

/// The same for what the state machine has to hear.
type InputSender = Arc<dyn Fn(Input) + Send + Sync>;

/// Whether media may pass.
#[derive(Debug, Default, Clone)]
struct MediaGate {
    /// The peer is who it should be.
    open: Arc<AtomicBool>,
    /// The connection is given up.
    closed: Arc<AtomicBool>,
}

impl MediaGate {
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
pub struct LastReceived {
    epoch: Instant,
    /// Milliseconds since `epoch`, 0 for never.
    at: AtomicU64,
}

impl LastReceived {
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
        config: TransportConfig,
        epoch: Instant,
        reports: Reporter,
        taps: TrackTaps,
        track_senders: TrackSenders,
    ) -> Result<Self, Error> {
        let report = reports.clone();
        let inputs: InputSender = Arc::new(move |input| report(TransportReport::Input(input)));
        let (commands, receiver) = mpsc::channel();
        let gate = MediaGate::default();
        let last_received = Arc::new(LastReceived {
            epoch,
            at: AtomicU64::new(0),
        });
        let handles = TransportHandles {
            inputs,
            reports,
            taps,
            track_senders,
            commands: commands.clone(),
            last_received: last_received.clone(),
            gate: gate.clone(),
            answered: Arc::default(),
            trailers: Arc::default(),
            rtp_clock: Arc::default(),
            jitter_buffers: Arc::default(),
            reported: Arc::default(),
        };
        thread::Builder::new()
            .name("reactor-peer".into())
            .spawn(move || TransportThread::new(config, handles).run(&receiver))
            .map_err(|error| Error::gpu(Code::Internal, format!("no thread: {error}")))?;
        Ok(Self {
            commands,
            last_received,
            gate,
        })
    }

    /// When media was last heard, on the clock of `epoch`.
    pub fn last_received(&self) -> Option<Duration> {
        self.last_received.at()
    }

    pub(super) fn build(&self, ice_servers: Vec<IceServer>, offer: Vec<Offer>) {
        self.command(TransportCommand::Build { ice_servers, offer });
    }

    /// Makes way for a track that is fed in this codec, with the payload type
    /// that was agreed on for it.
    pub fn open_sender(&self, track: String, codec: &'static Codec, payload: u8) {
        self.command(TransportCommand::OpenSender(track, codec, payload));
    }

    pub fn close_sender(&self, track: String) {
        self.command(TransportCommand::CloseSender(track));
    }

    pub fn apply(&self, answer: NegotiatedAnswer) {
        self.command(TransportCommand::Apply(answer));
    }

    pub fn verify(&self, fingerprint: Fingerprint) {
        self.command(TransportCommand::Verify(fingerprint));
    }

    pub fn open_media(&self) {
        self.command(TransportCommand::OpenMedia);
    }

    pub fn send(&self, channel: Channel, frames: Vec<WireFrame>) {
        self.command(TransportCommand::Send(channel, frames));
    }

    pub fn set_latency(&self, milliseconds: u32) {
        self.command(TransportCommand::SetLatency(milliseconds));
    }

    /// Between which limits to estimate how much may be sent.
    pub fn limit(&self, limits: BitrateLimits) {
        self.command(TransportCommand::Limit(limits));
    }

    pub fn request_keyframe(&self, track: String) {
        self.command(TransportCommand::RequestKeyframe(track));
    }

    /// Nothing passes from now on; the rest is done in time.
    pub fn close(&self) {
        self.gate.close();
        self.command(TransportCommand::Close);
    }

    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    fn command(&self, command: TransportCommand) {
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
struct TransportThread {
    config: TransportConfig,
    handles: TransportHandles,
    peer: Option<PeerConnection>,
    gathering: Option<Instant>,
    /// Something is sent, of which the server reports the loss.
    sending: bool,
    jitter_latency: JitterLatencyController,
    /// When was last looked at what is missed here, and there.
    looked: Instant,
    read: Instant,
}

impl TransportThread {
    fn new(config: TransportConfig, handles: TransportHandles) -> Self {
        let jitter_latency =
            JitterLatencyController::new(config.latency, config.max_latency, config.latency_now);
        Self {
            config,
            handles,
            peer: None,
            gathering: None,
            sending: false,
            jitter_latency,
            looked: Instant::now(),
            read: Instant::now(),
        }
    }

    fn run(mut self, commands: &mpsc::Receiver<TransportCommand>) {
        super::warm_up::wait();
        loop {
            let command = match self.wait() {
                None => commands.recv().unwrap_or(TransportCommand::Close),
                Some(wait) => match commands.recv_timeout(wait) {
                    Ok(command) => command,
                    Err(mpsc::RecvTimeoutError::Timeout) if self.gathering.is_some() => {
                        TransportCommand::Gathered
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => TransportCommand::Feedback,
                    Err(mpsc::RecvTimeoutError::Disconnected) => TransportCommand::Close,
                },
            };
            if matches!(command, TransportCommand::Close) {
                break;
            }
            self.execute(command);
        }
        if let Some(peer) = self.peer.take() {
            peer.close();
        }
        (self.handles.inputs)(Input::TransportClosed);
    }

    /// For how long, if nothing is asked for.
    fn wait(&self) -> Option<Duration> {
        let gathering = self.gathering;
        let wait = gathering.map(|since| GATHERING_LIMIT.saturating_sub(since.elapsed()));
        let looks = self.peer.is_some() && (self.sending || !self.jitter_latency.is_fixed());
        let look = jitter_latency::LOOK.saturating_sub(self.looked.elapsed());
        wait.or(looks.then_some(look))
    }

    fn feedback(&mut self) {
        self.looked = Instant::now();
        let Some(peer) = &self.peer else {
            return;
        };
        if self.sending && self.read.elapsed() >= FEEDBACK_INTERVAL {
            self.read = Instant::now();
            peer.read_feedback(&self.handles);
        }
        let counts = retransmission::counts(&self.handles);
        let now = self.handles.last_received.epoch.elapsed();
        if let Some(latency) = self.jitter_latency.look(now, counts) {
            gst::info!(
                CAT,
                "the jitter buffer waits for {latency} ms after {counts:?}"
            );
            peer.set_latency(latency);
            (self.handles.reports)(TransportReport::Latency(latency));
        }
    }

    fn execute(&mut self, command: TransportCommand) {
        match command {
            TransportCommand::Build { ice_servers, offer } => {
                match PeerConnection::new(
                    &self.config,
                    self.jitter_latency.latency(),
                    &self.handles,
                    &ice_servers,
                    offer,
                ) {
                    Ok(peer) => self.peer = Some(peer),
                    Err(error) => (self.handles.inputs)(Input::OfferBuilt(Err(error))),
                }
            }
            TransportCommand::LocalDescriptionSet => {
                let gathered = self.peer.as_ref().is_none_or(PeerConnection::is_gathered);
                self.gathering = (!gathered).then(Instant::now);
                if gathered {
                    self.offer_built();
                }
            }
            TransportCommand::Gathered => {
                if self.gathering.take().is_some() {
                    self.offer_built();
                }
            }
            TransportCommand::SetLatency(milliseconds) => {
                self.jitter_latency.set_floor(milliseconds);
                (self.handles.reports)(TransportReport::Latency(milliseconds));
                if let Some(peer) = &self.peer {
                    peer.set_latency(milliseconds);
                }
            }
            TransportCommand::Limit(limits) => {
                if let Some(peer) = &self.peer {
                    peer.limit(limits);
                }
            }
            TransportCommand::OpenMedia => self.handles.gate.open(),
            TransportCommand::Verify(fingerprint) => {
                if let Some(peer) = &self.peer {
                    (self.handles.inputs)(Input::Verified(peer.verify(&fingerprint)));
                }
            }
            TransportCommand::Apply(answer) => {
                let _ = self.handles.answered.set(answer.tracks.clone());
                let trailers = answer.frame_metadata;
                self.handles.trailers.store(trailers, Ordering::Release);
                if let Some(peer) = &self.peer
                    && let Err(error) = peer.apply(&answer)
                {
                    (self.handles.inputs)(Input::TransportFailed(error));
                }
            }
            TransportCommand::Send(channel, frames) => {
                if let Some(peer) = &self.peer
                    && let Err(error) = peer.channels().send(channel, frames)
                {
                    (self.handles.inputs)(Input::TransportFailed(error));
                }
            }
            TransportCommand::OpenSender(track, codec, payload) => {
                if let Some(peer) = self
                    .peer
                    .as_mut()
                    .filter(|_| !self.handles.gate.is_closed())
                {
                    let result = peer.open_sender(&track, codec, payload, &self.handles);
                    self.sending |= result.is_ok();
                    peer.recalculate_latency();
                    (self.handles.reports)(TransportReport::SenderOpen(track, result));
                }
            }
            TransportCommand::CloseSender(track) => self.handles.track_senders.remove(&track),
            TransportCommand::RequestKeyframe(track) => {
                if let Some(peer) = &self.peer {
                    peer.request_keyframe(&track);
                }
            }
            TransportCommand::Feedback => self.feedback(),
            TransportCommand::Latency => {
                if let Some(peer) = &self.peer {
                    peer.recalculate_latency();
                }
            }
            TransportCommand::Close => {}
        }
    }

    fn offer_built(&self) {
        if let Some(peer) = &self.peer {
            (self.handles.inputs)(Input::OfferBuilt(peer.local_description()));
        }
    }
}

/// The clock whose time crosses the bridge to the elements.
pub fn bridge_clock() -> gst::Clock {
    gst::SystemClock::obtain().upcast()
}
