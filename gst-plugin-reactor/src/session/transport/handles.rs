// SPDX-License-Identifier: MIT

//! What the threads of one transport share: message senders, atomics, and two
//! short locks. Used by the transport thread, by pad probes on streaming
//! threads and by webrtcbin's callbacks. Never waits for webrtcbin, and imports
//! no module that does.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{
    counters::TransportCounters, receive_bandwidth::ReceiveBandwidthEstimator,
    retransmission_timing::SharedTiming, rtp_clock::RtpClock,
};
use crate::{
    gst_helpers::debug_category,
    platform::{
        Error, lock, sdp,
        sdp::{Fingerprint, NegotiatedAnswer, NegotiatedTrack, RedundancyFormat},
        signaling::IceServer,
        wire::{Channel, WireFrame},
    },
    session::{
        bitrate_allocator::BitrateLimits,
        bridge::{TrackSenders, TrackTaps},
        codecs::Codec,
        machine::Input,
        messages::TransportReport,
        participants::TransceiverInit,
    },
};

pub(super) static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactor-transport", "Reactor peer connection"));

/// Of all video codecs, in Hz.
const VIDEO_CLOCK_RATE: u32 = 90_000;

/// The clock of the private pipeline, and of the times that cross the bridge to
/// the elements.
pub fn bridge_clock() -> gst::Clock {
    gst::SystemClock::obtain().upcast()
}

/// How a peer connection is made. All latencies are in milliseconds.
#[derive(Debug, Clone)]
pub(in crate::session) struct TransportConfig {
    /// The least latency of the jitter buffer.
    pub latency: u32,
    /// The most that it may grow to.
    pub max_latency: u32,
    /// What it had grown to in the connection before.
    pub latency_now: u32,
    /// Only relay candidates may be used.
    pub relay_only: bool,
}

/// What the transport thread carries out, in the order of sending. What comes of
/// it is reported.
pub(in crate::session) enum TransportCommand {
    /// Makes a peer connection with a transceiver per track; reports
    /// `OfferCreated`, and candidates as they are found.
    CreateOffer {
        ice_servers: Vec<IceServer>,
        transceivers: Vec<TransceiverInit>,
    },
    /// Sets the remote description; reports `TransportFailed` if webrtcbin
    /// refuses it.
    ApplyAnswer(NegotiatedAnswer),
    /// Compares the peer's DTLS certificate with the answer's fingerprint;
    /// reports `PeerVerified`.
    VerifyFingerprint(Fingerprint),
    /// Lets received media pass to the taps.
    OpenMedia,
    /// Reports `TransportFailed` if the channel does not take the frames.
    Send(Channel, Vec<WireFrame>),
    /// Sets the least latency of the jitter buffers, in milliseconds; reports
    /// `JitterBufferLatency`.
    SetLatency(u32),
    /// Bounds the bandwidth estimate of all tracks together, in bits per second.
    SetBitrateLimits(BitrateLimits),
    /// Bounds what the server sends on all tracks together, in bits per second;
    /// `None` lifts the bound.
    SetMaxReceiveBitrate(Option<u32>),
    /// Sends a PLI (RFC 4585, 6.3.1) for a received track.
    RequestKeyframe(String),
    /// Makes a track's payloader for its codec and negotiated payload type;
    /// reports `SenderOpened`.
    OpenSender(String, &'static Codec, u8),
    CloseSender(String),
    /// Ends the connection and the thread; reports `TransportClosed`.
    Close,
    /// Closes the data channels once what was sent has arrived.
    CloseChannels,
    // From webrtcbin's callbacks and the private pipeline's bus:
    LocalDescriptionSet,
    CandidatesGathered,
    /// The address of the selected host candidate.
    WatchAddress(Option<IpAddr>),
    RecalculateLatency,
    /// The offer waits no longer for candidates. From the thread's own timer, as the next.
    ReportOffer,
    PollStatistics,
}

/// Called from any thread: queues a report for the driver and returns.
pub(in crate::session) type Reporter = Arc<dyn Fn(TransportReport) + Send + Sync>;

/// A [`Reporter`] with a short form for inputs of the state machine.
#[derive(Clone)]
pub(super) struct ReportSender(pub Reporter);

impl ReportSender {
    pub(super) fn send(&self, report: TransportReport) {
        (self.0)(report);
    }

    pub(super) fn input(&self, input: Input) {
        self.send(TransportReport::Input(input));
    }

    /// The server took the connection down.
    pub(super) fn closed(&self, error: Error) {
        self.input(Input::ConnectionClosed(error));
    }

    /// The connection is lost.
    pub(super) fn fail(&self, error: Error) {
        self.input(Input::TransportFailed(error));
    }
}

/// The SSRC of a jitter buffer, and the buffer.
pub(super) type JitterBuffer = (u32, glib::WeakRef<gst::Element>);

#[derive(Clone)]
pub(super) struct TransportHandles {
    pub reports: ReportSender,
    pub commands: mpsc::Sender<TransportCommand>,
    pub taps: TrackTaps,
    pub track_senders: TrackSenders,
    pub last_received: Arc<LastReceived>,
    pub gate: MediaGate,
    pub negotiated: NegotiatedTracks,
    /// Locked per packet by the streaming threads, to look a time up.
    pub rtp_clock: Arc<Mutex<RtpClock>>,
    /// All jitter buffers of the connection with their SSRCs. Locked to copy or
    /// extend the list.
    pub jitter_buffers: Arc<Mutex<Vec<JitterBuffer>>>,
    /// Of jitter buffers that are still to come.
    pub retransmission_timing: Arc<SharedTiming>,
    pub counters: Arc<TransportCounters>,
    /// Locked for each packet that arrives.
    pub receive_bandwidth: Arc<Mutex<ReceiveBandwidthEstimator>>,
}

impl TransportHandles {
    pub(super) fn new(
        commands: mpsc::Sender<TransportCommand>,
        epoch: Instant,
        reports: ReportSender,
        taps: TrackTaps,
        track_senders: TrackSenders,
    ) -> Self {
        Self {
            reports,
            commands,
            taps,
            track_senders,
            last_received: Arc::new(LastReceived::new(epoch)),
            gate: MediaGate::default(),
            negotiated: NegotiatedTracks::default(),
            rtp_clock: Arc::default(),
            jitter_buffers: Arc::default(),
            retransmission_timing: Arc::default(),
            counters: Arc::default(),
            receive_bandwidth: Arc::default(),
        }
    }
}

/// Whether media may pass.
#[derive(Default, Clone)]
pub(super) struct MediaGate {
    /// The peer's identity is verified.
    open: Arc<AtomicBool>,
    /// The connection is given up.
    closed: Arc<AtomicBool>,
}

impl MediaGate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && !self.is_closed()
    }
}

/// When media of each track was last received.
pub(super) struct LastReceived {
    epoch: Instant,
    /// Locked to add a track or to read them all.
    tracks: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

/// The time of one track: milliseconds since `epoch`.
pub(super) struct TrackReceived {
    epoch: Instant,
    milliseconds: Arc<AtomicU64>,
}

impl TrackReceived {
    pub(super) fn mark(&self) {
        let now = self.epoch.elapsed().as_millis() as u64;
        self.milliseconds.store(now, Ordering::Relaxed);
    }
}

impl LastReceived {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            tracks: Mutex::default(),
        }
    }

    /// Where to mark the times of a track whose first packet is here.
    pub(super) fn track(&self, name: &str) -> TrackReceived {
        let received = TrackReceived {
            epoch: self.epoch,
            milliseconds: lock(&self.tracks)
                .entry(name.to_owned())
                .or_default()
                .clone(),
        };
        received.mark();
        received
    }

    /// The time of each track that has any media, since `epoch`.
    pub(super) fn tracks(&self) -> Vec<(String, Duration)> {
        let tracks = lock(&self.tracks);
        let times = tracks.iter().map(|(name, milliseconds)| {
            let milliseconds = milliseconds.load(Ordering::Relaxed);
            (name.clone(), Duration::from_millis(milliseconds))
        });
        times.collect()
    }

    /// The time since `epoch`.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// What the answer accepts: set once by the transport thread, then read without
/// a lock.
#[derive(Default, Clone)]
pub(super) struct NegotiatedTracks(Arc<OnceLock<NegotiatedAnswer>>);

impl NegotiatedTracks {
    pub(super) fn set(&self, answer: &NegotiatedAnswer) {
        let _ = self.0.set(answer.clone());
    }

    /// Video frames may end in a trailer, in both directions.
    pub(super) fn has_frame_trailers(&self) -> bool {
        self.0.get().is_some_and(|answer| answer.frame_metadata)
    }

    /// The track of an m-section.
    pub(super) fn track(&self, mline_index: usize) -> Option<&NegotiatedTrack> {
        let mut tracks = self.0.get()?.tracks.iter();
        tracks.find(|track| track.mline_index == mline_index)
    }

    /// The forward error correction that wraps packets of this payload type.
    pub(super) fn redundancy(&self, red: u8) -> Option<RedundancyFormat> {
        let mut tracks = self.0.get()?.tracks.iter();
        tracks.find_map(|track| track.redundancy.filter(|format| format.red == red))
    }

    /// The clock rate of the media in packets of this payload type, in Hz.
    pub(super) fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        if self.redundancy(payload_type).is_some() {
            return Some(VIDEO_CLOCK_RATE);
        }
        let mut codecs = self.find_payload_type(payload_type);
        codecs.next().map(|(_, codec)| codec.clock_rate)
    }

    /// Each track in which the answer gives this RTP payload type a codec, and
    /// that codec. Empty before the answer.
    pub(super) fn find_payload_type(
        &self,
        payload_type: u8,
    ) -> impl Iterator<Item = (&NegotiatedTrack, &sdp::Codec)> {
        let tracks = self.0.get().into_iter().flat_map(|answer| &answer.tracks);
        let codecs = tracks.flat_map(|track| track.codecs.iter().map(move |codec| (track, codec)));
        codecs.filter(move |(_, codec)| codec.payload == payload_type)
    }
}
