// SPDX-License-Identifier: MIT

//! One webrtcbin in its private pipeline, from the offer to its end. The
//! transport thread owns and calls it, and may block in it. webrtcbin's callbacks
//! run on its own "pc" thread, and bus messages on any thread: both only queue
//! reports and commands. Nothing of this pipeline's bus reaches the user's.

use std::{sync::mpsc, time::Duration};

use gst::{glib, prelude::*};
use gst_webrtc::{
    WebRTCICEGatheringState, WebRTCPeerConnectionState, WebRTCRTPTransceiver,
    WebRTCRTPTransceiverDirection, WebRTCSCTPTransport, WebRTCSDPType, WebRTCSessionDescription,
};

use super::{
    bandwidth_estimator::BandwidthEstimator,
    counters,
    data_channels::{self, DataChannels},
    handles::{CAT, ReportSender, TransportCommand, TransportHandles, bridge_clock},
    ice, redundancy_probe,
    remb::Remb,
    retransmission,
    rtp_receivers::{self, RtpReceivers},
    rtp_senders::{self, RtpSenders},
    statistics,
    task_pool::TaskPool,
    transport_cc,
};
use crate::{
    gst_helpers::{error_source, internal, make, require},
    platform::{
        Code, Error,
        sdp::{Fingerprint, NegotiatedAnswer, without_secrets},
        signaling::IceServer,
        track::{Direction, Kind},
    },
    session::{
        bitrate_allocator::BitrateLimits,
        codecs::{Codec, codec_preferences},
        headroom,
        machine::Input,
        messages::TransportReport,
        participants::TransceiverInit,
    },
};

/// The elements that webrtcbin of 1.22 makes when it starts, but for codecs. It
/// says no more than that it cannot start where one is missing.
const WEBRTCBIN_PARTS: [&str; 7] = [
    "rtpbin",
    "nicesrc",
    "nicesink",
    "dtlssrtpdec",
    "dtlssrtpenc",
    "srtpdec",
    "sctpdec",
];

/// How long webrtcbin may take to make an offer and the elements for it: some
/// 5 ms on an idle machine.
const OFFER_LIMIT: Duration = Duration::from_secs(5);

/// Dropping it shuts the pipeline down.
pub(super) struct PeerConnection {
    // Dropped before webrtcbin, whose disposal would use the channels after
    // their end (fixed in 1.22.3).
    pub channels: DataChannels,
    pipeline: gst::Pipeline,
    webrtcbin: gst::Element,
    pub receivers: RtpReceivers,
    senders: RtpSenders,
    remb: Remb,
    bandwidth_estimator: Option<BandwidthEstimator>,
    /// Disconnected once the local description is set, or cannot be.
    offering: mpsc::Receiver<()>,
    handles: TransportHandles,
}

impl PeerConnection {
    /// Starts the pipeline and creates the offer; `latency` is in milliseconds.
    pub(super) fn new(
        latency: u32,
        relay_only: bool,
        handles: TransportHandles,
        ice_servers: &[IceServer],
        transceivers: Vec<TransceiverInit>,
    ) -> Result<Self, Error> {
        headroom::require()?;
        let mut parts = WEBRTCBIN_PARTS.iter();
        parts.try_for_each(|factory| require(factory))?;
        let webrtcbin = make("webrtcbin")?;
        webrtcbin.set_property_from_str("bundle-policy", "max-bundle");
        webrtcbin.set_property("latency", latency);
        if relay_only {
            webrtcbin.set_property_from_str("ice-transport-policy", "relay");
        }
        ice::configure_agent(&webrtcbin, ice_servers, relay_only)?;

        let pipeline = gst::Pipeline::builder().name("reactor-session").build();
        pipeline.use_clock(Some(&bridge_clock()));
        pipeline.add(&webrtcbin).map_err(internal)?;
        handle_bus(&pipeline, &handles);

        // It has to be in NULL when it is released.
        Self::start(pipeline.clone(), webrtcbin, handles, transceivers).inspect_err(|_| {
            let _ = pipeline.set_state(gst::State::Null);
        })
    }

    fn start(
        pipeline: gst::Pipeline,
        webrtcbin: gst::Element,
        handles: TransportHandles,
        transceivers: Vec<TransceiverInit>,
    ) -> Result<Self, Error> {
        set_state(&pipeline, gst::State::Ready)?;
        // The process may end as soon as `close-timeout` is over, and GStreamer with it:
        // webrtcbin would find no elements for what follows.
        if handles.gate.is_closed() {
            return Err(Error::gpu(Code::Aborted, "closed while it was being made"));
        }
        let bandwidth_estimator = BandwidthEstimator::install(&webrtcbin, &handles);
        let mut senders = RtpSenders::new(
            &pipeline,
            &webrtcbin,
            &handles,
            bandwidth_estimator.is_some(),
        );
        add_transceivers(&webrtcbin, &transceivers, &mut senders)?;
        let channels = DataChannels::create(&webrtcbin, &handles)?;
        counters::count_transport(&webrtcbin, &handles);
        redundancy_probe::install(&webrtcbin, &handles);
        retransmission::watch_jitter_buffers(&webrtcbin, &handles);
        let remb = Remb::default();
        remb.install(&webrtcbin);
        report_states(&webrtcbin, &handles);
        report_candidates(&webrtcbin, &handles);
        let receivers = RtpReceivers::new(transceivers.into_iter().map(|init| init.track));
        receivers.connect_pad_added(&pipeline, &webrtcbin, &handles);

        let (offered, offering) = mpsc::channel();
        let peer = Self {
            channels,
            pipeline,
            webrtcbin,
            receivers,
            senders,
            remb,
            bandwidth_estimator,
            offering,
            handles,
        };
        if let Err(error) = set_state(&peer.pipeline, gst::State::Playing) {
            // There is no offer that dropping `peer` could wait for.
            drop(offered);
            return Err(error);
        }
        peer.create_offer(offered);
        Ok(peer)
    }

    /// `offered` is dropped when that is over.
    fn create_offer(&self, offered: mpsc::Sender<()>) {
        let handles = self.handles.clone();
        let webrtcbin = self.webrtcbin.downgrade();
        let promise = gst::Promise::with_change_func(move |reply| {
            let offer = reply
                .ok()
                .flatten()
                .and_then(|s| s.get::<WebRTCSessionDescription>("offer").ok());
            let (Some(offer), Some(webrtcbin)) = (offer, webrtcbin.upgrade()) else {
                let error = internal("webrtcbin made no offer");
                return handles.reports.input(Input::OfferCreated(Err(error)));
            };
            let commands = handles.commands.clone();
            let set = gst::Promise::with_change_func(move |_| {
                let _ = commands.send(TransportCommand::LocalDescriptionSet);
                drop(offered);
            });
            webrtcbin.emit_by_name::<()>("set-local-description", &[&offer, &set]);
        });
        self.webrtcbin
            .emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
    }

    /// Whether all candidates are found.
    pub(super) fn has_gathered(&self) -> bool {
        has_gathered(&self.webrtcbin)
    }

    pub(super) fn local_description(&self) -> Result<String, Error> {
        let description: Option<WebRTCSessionDescription> =
            self.webrtcbin.property("local-description");
        let description = description.ok_or_else(|| internal("no local description"))?;
        description.sdp().as_text().map_err(internal)
    }

    /// Sets the remote description, and waits for webrtcbin to check it.
    pub(super) fn apply_answer(&self, answer: &NegotiatedAnswer) -> Result<(), Error> {
        gst::debug!(
            CAT,
            obj = self.webrtcbin,
            "answer:\n{}",
            without_secrets(&answer.sdp)
        );
        let sdp = gst_sdp::SDPMessage::parse_buffer(answer.sdp.as_bytes())
            .map_err(|_| Error::gpu(Code::DecodeFailed, "GStreamer cannot parse the answer"))?;
        let description = WebRTCSessionDescription::new(WebRTCSDPType::Answer, sdp);
        let promise = gst::Promise::new();
        self.webrtcbin
            .emit_by_name::<()>("set-remote-description", &[&description, &promise]);
        promise.wait();
        let reply = promise.get_reply();
        let Some(error) = reply.and_then(|reply| reply.get::<glib::Error>("error").ok()) else {
            return Ok(());
        };
        let text = format!("webrtcbin refuses the answer: {error}");
        Err(Error::gpu(Code::TransportError, text).during("sdp_params"))
    }

    /// Compares the peer's DTLS certificate with the answer's fingerprint (RFC
    /// 8122), which webrtcbin does not do before 1.28.5.
    pub(super) fn verify_fingerprint(&self, fingerprint: &Fingerprint) -> Result<(), Error> {
        let transport: Option<WebRTCSCTPTransport> = self.webrtcbin.property("sctp-transport");
        let certificate = transport
            .and_then(|sctp| sctp.transport())
            .and_then(|dtls| dtls.remote_certificate());
        let unknown =
            "the peer's DTLS certificate is not known, so its identity cannot be verified";
        let pem = certificate.ok_or_else(|| Error::gpu(Code::IdentityMismatch, unknown))?;
        fingerprint.matches_pem(&pem)
    }

    /// Bounds what the server sends, in bits per second; `None` lifts the bound.
    pub(super) fn set_max_receive_bitrate(&self, bitrate: Option<u32>) {
        gst::debug!(CAT, obj = self.webrtcbin, "REMB: {bitrate:?}");
        self.remb.set(bitrate);
    }

    /// Distributes the pipeline's latency to the senders.
    pub(super) fn recalculate_latency(&self) {
        let _ = self.pipeline.recalculate_latency();
    }

    pub(super) fn set_bitrate_limits(&self, limits: BitrateLimits) {
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.set_limits(limits);
        }
    }

    pub(super) fn open_sender(
        &mut self,
        track: &str,
        codec: &'static Codec,
        payload_type: u8,
    ) -> Result<(), Error> {
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.start()?;
        }
        self.senders.open(track, codec, payload_type)
    }

    /// Reads the connection's statistics, and reports them and each track's loss.
    pub(super) fn report_statistics(&self) {
        let tracks = self.senders.tracks_by_ssrc();
        let handles = self.handles.clone();
        let webrtcbin = self.webrtcbin.downgrade();
        let promise = gst::Promise::with_change_func(move |reply| {
            let reply = reply.ok().flatten();
            for (track, lost) in rtp_senders::fractions_lost(reply, &tracks) {
                let report = TransportReport::PacketLoss(track, lost);
                handles.reports.send(report);
            }
            if let Some(webrtcbin) = webrtcbin.upgrade() {
                let reading = statistics::read(&webrtcbin, reply, &tracks, &handles);
                let address = reading.host_address();
                let _ = handles
                    .commands
                    .send(TransportCommand::WatchAddress(address));
                let report = TransportReport::Statistics(Box::new(reading));
                handles.reports.send(report);
            }
        });
        self.webrtcbin
            .emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
    }

    pub(super) fn close_channels(&self) {
        self.channels.close(&self.webrtcbin);
    }
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
            bus.set_flushing(true);
        }
        // webrtcbin's own thread adds elements for the local description. One that it
        // starts while webrtcbin stops is never freed: nicesrc, and with it libnice's
        // agent and three descriptors (1.22).
        let _ = self.offering.recv_timeout(OFFER_LIMIT);
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.unlock_state();
        }
        data_channels::detach(&self.webrtcbin);
        if self.pipeline.set_state(gst::State::Null).is_err() {
            gst::warning!(CAT, obj = self.pipeline, "could not be shut down");
        }
    }
}

/// Adds one transceiver per track, in the order of the offer, which is that of
/// the m-lines.
fn add_transceivers(
    webrtcbin: &gst::Element,
    transceivers: &[TransceiverInit],
    senders: &mut RtpSenders,
) -> Result<(), Error> {
    for (mline_index, init) in transceivers.iter().enumerate() {
        if init.track.direction == Direction::SendOnly {
            senders.add(webrtcbin, init, mline_index)?;
            continue;
        }
        let mut caps = codec_preferences(init.codecs.iter().copied());
        transport_cc::offer(caps.make_mut());
        let transceiver = webrtcbin.emit_by_name::<Option<WebRTCRTPTransceiver>>(
            "add-transceiver",
            &[&WebRTCRTPTransceiverDirection::Recvonly, &caps],
        );
        let transceiver = transceiver.ok_or_else(|| internal("webrtcbin made no transceiver"))?;
        if init.track.kind == Kind::Video {
            transceiver.set_property("do-nack", true);
            transceiver.set_property_from_str("fec-type", "ulp-red");
        }
    }
    Ok(())
}

/// Reports webrtcbin's connection state, from its "pc" thread.
fn report_states(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let reports = handles.reports.clone();
    webrtcbin.connect_notify(Some("connection-state"), move |webrtcbin, _| {
        let state: WebRTCPeerConnectionState = webrtcbin.property("connection-state");
        gst::debug!(CAT, obj = webrtcbin, "connection is {state:?}");
        match state {
            WebRTCPeerConnectionState::Connected => reports.input(Input::PeerConnected),
            WebRTCPeerConnectionState::Failed => reports.fail(Error::gpu(
                Code::Disconnected,
                "ICE found no way to the server's media port, or lost it",
            )),
            _ => {}
        }
    });
}

fn has_gathered(webrtcbin: &gst::Element) -> bool {
    let state: WebRTCICEGatheringState = webrtcbin.property("ice-gathering-state");
    state == WebRTCICEGatheringState::Complete
}

/// Reports the ICE candidates as libnice finds them, from webrtcbin's "pc" thread.
fn report_candidates(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let reports = handles.reports.clone();
    webrtcbin.connect("on-ice-candidate", false, move |values| {
        let mline = values.get(1)?.get::<u32>().ok()?;
        let candidate = values.get(2)?.get::<Option<String>>().ok()??;
        // An empty one would be the end.
        if candidate.starts_with("candidate:") {
            reports.input(Input::CandidateFound { mline, candidate });
        }
        None
    });
    let (reports, commands) = (handles.reports.clone(), handles.commands.clone());
    webrtcbin.connect_notify(Some("ice-gathering-state"), move |webrtcbin, _| {
        if has_gathered(webrtcbin) {
            let _ = commands.send(TransportCommand::CandidatesGathered);
            reports.input(Input::CandidatesGathered);
        }
    });
}

/// Drops all messages of the private pipeline, on the thread that posts them:
/// when the server hangs up, sctpenc posts a fatal error.
fn handle_bus(pipeline: &gst::Pipeline, handles: &TransportHandles) {
    let Some(bus) = pipeline.bus() else {
        return;
    };
    let reports = handles.reports.clone();
    let commands = handles.commands.clone();
    let task_pool = TaskPool::new();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::StreamStatus(status) = message.view() {
            task_pool.adopt(status);
        }
        if let gst::MessageView::Latency(_) = message.view() {
            // Not here, since this may be a streaming thread.
            let _ = commands.send(TransportCommand::RecalculateLatency);
        }
        if let gst::MessageView::Error(error) = message.view() {
            gst::debug!(CAT, "{} {:?}", error.error(), error.debug());
            if !rtp_receivers::tolerate(error) {
                report_error(error, &reports);
            }
        }
        gst::BusSyncReply::Drop
    });
}

/// When the server takes the connection down, it aborts the SCTP association.
fn report_error(error: &gst::message::Error, reports: &ReportSender) {
    let name = error_source(error).map(|(_, factory)| factory.name());
    match name.as_deref() {
        Some("sctpenc" | "sctpdec" | "dtlsenc" | "dtlsdec") => {
            let text = "the server closed the connection";
            reports.closed(Error::gpu(Code::Disconnected, text));
        }
        name => {
            let text = format!("{}: {}", name.unwrap_or("transport"), error.error());
            reports.fail(Error::gpu(Code::TransportError, text));
        }
    }
}

fn set_state(pipeline: &gst::Pipeline, state: gst::State) -> Result<(), Error> {
    pipeline
        .set_state(state)
        .map(|_| ())
        .map_err(|_| internal(format!("the private pipeline does not go to {state:?}")))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        thread::sleep,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::session::{
        bridge::{TrackSenders, TrackTaps},
        transport::handles::ReportSender,
    };

    const SLOW: Duration = Duration::from_millis(200);
    const LIMIT: Duration = Duration::from_secs(30);

    /// Of a transport whose thread is gone.
    fn handles() -> TransportHandles {
        TransportHandles::new(
            mpsc::channel().0,
            Instant::now(),
            ReportSender(Arc::new(|_| {})),
            TrackTaps::default(),
            TrackSenders::default(),
        )
    }

    #[test]
    fn webrtcbin_that_adds_elements_for_the_offer_is_not_stopped_meanwhile() {
        gst::init().unwrap();
        let webrtcbin = make("webrtcbin").unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add(&webrtcbin).unwrap();
        let (sender, states) = mpsc::channel();
        let bin = webrtcbin.downcast_ref::<gst::Bin>().unwrap();
        bin.connect_deep_element_added(move |bin, _, element| {
            if element.factory().is_some_and(|f| f.name() == "nicesrc") {
                let states = || (bin.current_state(), bin.pending_state());
                let _ = sender.send(states());
                sleep(SLOW);
                let _ = sender.send(states());
            }
        });
        let peer = PeerConnection::start(pipeline, webrtcbin, handles(), Vec::new()).unwrap();
        let before = states.recv_timeout(LIMIT).unwrap();
        drop(peer);
        assert_eq!(before.0, gst::State::Playing);
        assert_eq!(states.recv_timeout(LIMIT), Ok(before));
    }

    #[test]
    fn pipeline_that_does_not_start_waits_for_no_offer() {
        gst::init().unwrap();
        let pipeline = gst::Pipeline::new();
        let webrtcbin = make("webrtcbin").unwrap();
        // It has no file to open.
        let elements = [webrtcbin.clone(), make("filesrc").unwrap()];
        pipeline.add_many(&elements).unwrap();
        let begun = Instant::now();
        let started = PeerConnection::start(pipeline, webrtcbin, handles(), Vec::new());
        assert!(started.is_err());
        let elapsed = begun.elapsed();
        assert!(elapsed < OFFER_LIMIT, "{elapsed:?}");
    }
}
