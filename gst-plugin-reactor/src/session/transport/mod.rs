// SPDX-License-Identifier: MIT

//! The private pipeline around webrtcbin, as the driver's task sees it:
//! [`Transport`] only queues commands for the transport thread (`thread`) and
//! never waits for it. What happens comes back as [`TransportReport`]s, from
//! that thread, from streaming threads and from webrtcbin's own thread.
//!
//! [`TransportReport`]: super::messages::TransportReport

mod bandwidth_estimator;
mod data_channels;
mod frame_trailer;
mod handles;
mod ice;
mod jitter_latency;
mod peer_connection;
mod retransmission;
mod rtp_clock;
mod rtp_probes;
mod rtp_receivers;
mod rtp_senders;
mod thread;

use std::{
    sync::{Arc, mpsc},
    thread::Builder,
    time::{Duration, Instant},
};

use super::{
    bitrate_allocator::BitrateLimits,
    bridge::{TrackSenders, TrackTaps},
    codecs::Codec,
    participants::TransceiverInit,
};
use crate::{
    gst_helpers::internal,
    platform::{
        Error,
        sdp::{Fingerprint, NegotiatedAnswer},
        signaling::IceServer,
        wire::{Channel, WireFrame},
    },
};
use handles::{
    LastReceived, MediaGate, NegotiatedTracks, ReportSender, TransportCommand, TransportHandles,
};
use thread::TransportThread;

pub(super) use handles::Reporter;
pub use handles::{TransportConfig, bridge_clock};

/// The driver's end of the transport thread. Dropping it closes the connection.
pub struct Transport {
    handles: TransportHandles,
}

impl Transport {
    /// Starts the transport thread, which first warms up what the first
    /// connection of a process would otherwise wait for.
    ///
    /// # Errors
    ///
    /// `Internal` if the system starts no thread.
    pub(super) fn new(
        config: TransportConfig,
        epoch: Instant,
        reporter: Reporter,
        taps: TrackTaps,
        track_senders: TrackSenders,
    ) -> Result<Self, Error> {
        let (commands, receiver) = mpsc::channel();
        let handles = TransportHandles {
            reports: ReportSender(reporter),
            commands,
            taps,
            track_senders,
            last_received: Arc::new(LastReceived::new(epoch)),
            gate: MediaGate::default(),
            negotiated: NegotiatedTracks::default(),
            rtp_clock: Arc::default(),
            jitter_buffers: Arc::default(),
        };
        let thread = TransportThread::new(config, handles.clone());
        Builder::new()
            .name("reactor-peer".into())
            .spawn(move || thread.run(&receiver))
            .map_err(|error| internal(format!("no thread: {error}")))?;
        Ok(Self { handles })
    }

    /// When media was last received: the time since the `epoch` of
    /// [`Transport::new`].
    pub fn last_received(&self) -> Option<Duration> {
        self.handles.last_received.get()
    }

    /// Makes a peer connection with a transceiver per track; reports
    /// `OfferBuilt`.
    pub(super) fn create_offer(&self, ice_servers: Vec<IceServer>, offer: Vec<TransceiverInit>) {
        self.command(TransportCommand::CreateOffer { ice_servers, offer });
    }

    /// Sets the remote description; reports `TransportFailed` if webrtcbin
    /// refuses it.
    pub fn apply_answer(&self, answer: NegotiatedAnswer) {
        self.command(TransportCommand::ApplyAnswer(answer));
    }

    /// Compares the peer's DTLS certificate with the answer's fingerprint;
    /// reports `Verified`.
    pub fn verify_fingerprint(&self, fingerprint: Fingerprint) {
        self.command(TransportCommand::VerifyFingerprint(fingerprint));
    }

    /// Lets received media pass to the taps.
    pub fn open_media(&self) {
        self.command(TransportCommand::OpenMedia);
    }

    /// Reports `TransportFailed` if the channel does not take the frames.
    pub fn send(&self, channel: Channel, frames: Vec<WireFrame>) {
        self.command(TransportCommand::Send(channel, frames));
    }

    /// Builds a track's payloader for this codec, with the negotiated payload
    /// type; reports `SenderOpen`.
    pub fn open_sender(&self, track: String, codec: &'static Codec, payload_type: u8) {
        self.command(TransportCommand::OpenSender(track, codec, payload_type));
    }

    pub fn close_sender(&self, track: String) {
        self.command(TransportCommand::CloseSender(track));
    }

    /// Sets the jitter buffers' least latency; reports `Latency`.
    pub fn set_latency(&self, milliseconds: u32) {
        self.command(TransportCommand::SetLatency(milliseconds));
    }

    /// Bounds the bandwidth estimate of all tracks together, in bits per second.
    pub fn set_bitrate_limits(&self, limits: BitrateLimits) {
        self.command(TransportCommand::SetBitrateLimits(limits));
    }

    /// Sends a PLI (RFC 4585, 6.3.1) for a received track.
    pub fn request_keyframe(&self, track: String) {
        self.command(TransportCommand::RequestKeyframe(track));
    }

    /// Stops media at once; the transport thread takes the connection down and
    /// reports `TransportClosed`.
    pub fn close(&self) {
        self.handles.gate.close();
        self.command(TransportCommand::Close);
    }

    pub fn is_closed(&self) -> bool {
        self.handles.gate.is_closed()
    }

    fn command(&self, command: TransportCommand) {
        // A thread that has ended has reported `TransportClosed`.
        let _ = self.handles.commands.send(command);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}
