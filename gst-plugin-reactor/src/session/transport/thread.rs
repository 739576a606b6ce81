// SPDX-License-Identifier: MIT

//! The transport thread, "reactor-peer": it owns the [`PeerConnection`] and
//! carries out [`TransportCommand`]s in order. It may block where webrtcbin
//! blocks (state changes above all), and nothing waits for it. It never
//! touches media.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{
    address_watch::{AddressWatch, is_ours},
    handles::{CAT, TransportCommand, TransportConfig, TransportHandles},
    jitter_latency::{JitterBufferStats, JitterLatencyController, POLL_INTERVAL},
    peer_connection::PeerConnection,
    retransmission,
    retransmission_timing::RetransmissionTiming,
};
use crate::{
    platform::{Code, Error, lock, sdp::NegotiatedAnswer, signaling::IceServer},
    session::{
        codecs::Codec, machine::Input, messages::TransportReport, participants::TransceiverInit,
    },
};

/// The server sends receiver reports about once a second. Two intervals of
/// [`POLL_INTERVAL`].
const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

/// webrtcbin before 1.28 may never report that gathering is complete (seen once in some
/// ten connections of a test); it is taken to be this long after the offer.
const GATHERING_LIMIT: Duration = Duration::from_secs(5);

/// The offer waits for the candidates of this machine's own addresses, which take some
/// 2 ms. Each that follows the offer costs more: the server (runtime 3.10.0) answers 30 ms
/// after the offer if it has them all, else after 80 to 150 ms (measured, 48
/// connections).
const CANDIDATES_LIMIT: Duration = Duration::from_millis(20);

pub(super) struct TransportThread {
    config: TransportConfig,
    handles: TransportHandles,
    peer: Option<PeerConnection>,
    /// Gathering has begun, and has not been taken to be complete.
    gathering_since: Option<Instant>,
    /// When the offer is reported at the latest, if it is made.
    offer_due: Option<Instant>,
    address_watch: AddressWatch,
    jitter_latency: JitterLatencyController,
    jitter_polled: Instant,
    statistics_polled: Instant,
}

impl TransportThread {
    pub(super) fn new(config: TransportConfig, handles: TransportHandles) -> Self {
        let jitter_latency =
            JitterLatencyController::new(config.latency, config.max_latency, config.latency_now);
        Self {
            config,
            handles,
            peer: None,
            gathering_since: None,
            offer_due: None,
            address_watch: AddressWatch::default(),
            jitter_latency,
            jitter_polled: Instant::now(),
            statistics_polled: Instant::now(),
        }
    }

    /// Returns after [`TransportCommand::Close`], when the connection is down.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<TransportCommand>) {
        loop {
            match self.next_command(commands) {
                TransportCommand::Close => break,
                command => self.execute(command),
            }
        }
        drop(self.peer.take());
        self.handles.reports.input(Input::TransportClosed);
    }

    fn next_command(&self, commands: &mpsc::Receiver<TransportCommand>) -> TransportCommand {
        if self.peer.is_none() {
            return commands.recv().unwrap_or(TransportCommand::Close);
        }
        let poll = POLL_INTERVAL.saturating_sub(self.jitter_polled.elapsed());
        let due = self.offer_due.map_or(poll, |due| {
            due.saturating_duration_since(Instant::now()).min(poll)
        });
        match commands.recv_timeout(due) {
            Ok(command) => command,
            Err(mpsc::RecvTimeoutError::Timeout) if due < poll => TransportCommand::ReportOffer,
            Err(mpsc::RecvTimeoutError::Timeout) => TransportCommand::PollStatistics,
            Err(mpsc::RecvTimeoutError::Disconnected) => TransportCommand::Close,
        }
    }

    fn execute(&mut self, command: TransportCommand) {
        match command {
            TransportCommand::CreateOffer {
                ice_servers,
                transceivers,
            } => return self.create_offer(&ice_servers, transceivers),
            TransportCommand::LocalDescriptionSet => return self.await_candidates(),
            TransportCommand::CandidatesGathered => return self.report_offer(true),
            TransportCommand::ReportOffer => return self.report_offer(false),
            TransportCommand::ApplyAnswer(answer) => return self.apply_answer(&answer),
            TransportCommand::OpenMedia => return self.open_media(),
            TransportCommand::OpenSender(track, codec, payload_type) => {
                return self.open_sender(track, codec, payload_type);
            }
            TransportCommand::CloseSender(track) => {
                return self.handles.track_senders.remove(&track);
            }
            TransportCommand::SetLatency(milliseconds) => return self.set_latency(milliseconds),
            TransportCommand::PollStatistics => return self.poll_statistics(),
            TransportCommand::WatchAddress(address) => return self.address_watch.set(address),
            _ => {}
        }
        let Some(peer) = &self.peer else {
            return;
        };
        match command {
            TransportCommand::VerifyFingerprint(fingerprint) => {
                let verified = peer.verify_fingerprint(&fingerprint);
                self.handles.reports.input(Input::PeerVerified(verified));
            }
            TransportCommand::Send(channel, frames) => {
                if let Err(error) = peer.channels.send(channel, frames) {
                    self.handles.reports.fail(error);
                }
            }
            TransportCommand::CloseChannels => peer.close_channels(),
            TransportCommand::SetMaxReceiveBitrate(bitrate) => {
                peer.set_max_receive_bitrate(bitrate);
            }
            TransportCommand::SetBitrateLimits(limits) => peer.set_bitrate_limits(limits),
            TransportCommand::RequestKeyframe(track) => peer.receivers.request_keyframe(&track),
            TransportCommand::RecalculateLatency => peer.recalculate_latency(),
            _ => {}
        }
    }

    fn create_offer(&mut self, ice_servers: &[IceServer], transceivers: Vec<TransceiverInit>) {
        self.set_retransmission_timing(&JitterBufferStats::default());
        let latency = self.jitter_latency.latency_ms();
        let relay_only = self.config.relay_only;
        let handles = self.handles.clone();
        match PeerConnection::new(latency, relay_only, handles, ice_servers, transceivers) {
            Ok(peer) => self.peer = Some(peer),
            Err(_) if self.handles.gate.is_closed() => {}
            Err(error) => self.handles.reports.input(Input::OfferCreated(Err(error))),
        }
    }

    /// Gathering has begun, and goes on.
    fn await_candidates(&mut self) {
        let now = Instant::now();
        self.gathering_since = Some(now);
        self.offer_due = Some(now + CANDIDATES_LIMIT);
        if self.peer.as_ref().is_some_and(PeerConnection::has_gathered) {
            self.report_offer(true);
        }
    }

    /// Reports the offer with the candidates so far, once. If it `needs_candidates`, not
    /// without any: webrtcbin 1.22 may say too early that it has gathered them.
    fn report_offer(&mut self, needs_candidates: bool) {
        let (Some(peer), Some(_)) = (&self.peer, self.offer_due) else {
            return;
        };
        let offer = peer.local_description();
        let has_candidates = |offer: &String| offer.contains("\na=candidate:");
        if needs_candidates && !offer.as_ref().is_ok_and(has_candidates) {
            return;
        }
        self.offer_due = None;
        self.handles.reports.input(Input::OfferCreated(offer));
    }

    fn apply_answer(&self, answer: &NegotiatedAnswer) {
        self.handles.negotiated.set(answer);
        if let Some(peer) = &self.peer
            && let Err(error) = peer.apply_answer(answer)
        {
            self.handles.reports.fail(error);
        }
    }

    /// The handshake is done, and jitter buffers are made with the first packets.
    fn open_media(&self) {
        self.set_retransmission_timing(&JitterBufferStats::default());
        self.handles.gate.open();
    }

    fn open_sender(&mut self, track: String, codec: &'static Codec, payload_type: u8) {
        if let Some(peer) = &mut self.peer
            && !self.handles.gate.is_closed()
        {
            let result = peer.open_sender(&track, codec, payload_type);
            peer.recalculate_latency();
            let report = TransportReport::SenderOpened(track, result);
            self.handles.reports.send(report);
        }
    }

    fn set_latency(&mut self, milliseconds: u32) {
        self.jitter_latency.set_min_latency(milliseconds);
        let stats = retransmission::read_jitter_buffer_stats(&self.handles);
        self.apply_latency(milliseconds, &stats);
    }

    fn apply_latency(&self, milliseconds: u32, stats: &JitterBufferStats) {
        self.set_retransmission_timing(stats);
        let report = TransportReport::JitterBufferLatency(milliseconds);
        self.handles.reports.send(report);
    }

    fn set_retransmission_timing(&self, stats: &JitterBufferStats) {
        let round_trip = lock(&self.handles.counters.round_trip).least();
        let latency = self.jitter_latency.latency_ms();
        let timing =
            RetransmissionTiming::choose(latency, self.config.max_latency, round_trip, stats);
        retransmission::set_timing(&self.handles, timing);
    }

    /// Reads the connection's statistics, once it is verified, and those of the
    /// jitter buffers.
    fn poll_statistics(&mut self) {
        self.jitter_polled = Instant::now();
        let Some(peer) = &self.peer else {
            return;
        };
        let gathered = |since: &mut Instant| since.elapsed() >= GATHERING_LIMIT;
        if self.gathering_since.take_if(gathered).is_some() {
            self.handles.reports.input(Input::CandidatesGathered);
        }
        // A poll that is a little early counts.
        let due = self.statistics_polled.elapsed() + POLL_INTERVAL / 2 >= STATISTICS_INTERVAL;
        if due && self.handles.gate.is_open() {
            self.statistics_polled = Instant::now();
            peer.report_statistics();
        }
        if let Some(address) = self.address_watch.look(is_ours) {
            let text = format!("{address}, which the connection uses, has left this machine");
            self.handles
                .reports
                .fail(Error::gpu(Code::Disconnected, text));
        }
        let stats = retransmission::read_jitter_buffer_stats(&self.handles);
        self.set_retransmission_timing(&stats);
        let now = self.handles.last_received.now();
        if let Some(latency) = self.jitter_latency.update(now, stats) {
            gst::info!(CAT, "jitter buffer latency is {latency} ms after {stats:?}");
            self.apply_latency(latency, &stats);
        }
    }
}
