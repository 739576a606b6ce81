// SPDX-License-Identifier: MIT

//! One webrtcbin from offer to end.

use gst::{glib, prelude::*};
use gst_webrtc::{
    WebRTCICEGatheringState, WebRTCPeerConnectionState, WebRTCRTPTransceiver,
    WebRTCRTPTransceiverDirection, WebRTCSCTPTransport, WebRTCSDPType, WebRTCSessionDescription,
};

use super::{
    CAT, TransportCommand, TransportConfig, TransportHandles, bandwidth_estimator, bridge_clock,
    channels::Channels, ice, receive, retransmission, send,
};
use crate::{
    platform::{
        Code, Error,
        sdp::{Fingerprint, NegotiatedAnswer},
        signaling::IceServer,
        track::{Direction, Kind},
    },
    session::{
        TransportReport,
        bitrate_allocator::BitrateLimits,
        codecs::{Codec, offer_caps},
        machine::Input,
        participants::Offer,
    },
};

pub(super) struct PeerConnection {
    pipeline: gst::Pipeline,
    webrtcbin: gst::Element,
    channels: Channels,
    /// The sink pad that each track's stream ends in.
    receivers: receive::Receivers,
    senders: send::Senders,
    bandwidth_estimator: Option<bandwidth_estimator::BandwidthEstimator>,
}

impl PeerConnection {
    pub(super) fn new(
        config: &TransportConfig,
        latency: u32,
        handles: &TransportHandles,
        ice_servers: &[IceServer],
        offer: Vec<Offer>,
    ) -> Result<Self, Error> {
        let webrtcbin = make("webrtcbin")?;
        webrtcbin.set_property_from_str("bundle-policy", "max-bundle");
        webrtcbin.set_property("latency", latency);
        if config.relay_only {
            webrtcbin.set_property_from_str("ice-transport-policy", "relay");
        }
        ice::configure(&webrtcbin, ice_servers, config.relay_only)?;

        let pipeline = gst::Pipeline::builder().name("reactor-session").build();
        pipeline.use_clock(Some(&bridge_clock()));
        pipeline.add(&webrtcbin).map_err(internal)?;
        watch_bus(&pipeline, handles);

        set_state(&pipeline, gst::State::Ready)?;
        let bandwidth_estimator =
            bandwidth_estimator::BandwidthEstimator::install(&webrtcbin, handles);
        let mut senders = send::Senders::new(bandwidth_estimator.is_some());
        add_transceivers(&pipeline, &webrtcbin, &offer, handles, &mut senders)?;
        let channels = Channels::create(&webrtcbin, handles)?;
        retransmission::install(&webrtcbin, handles);
        let receivers = receive::Receivers::default();
        watch(&webrtcbin, handles);
        let tracks = offer.into_iter().map(|offer| offer.track).collect();
        receive::connect(&pipeline, &webrtcbin, handles, &receivers, tracks);

        let peer = Self {
            pipeline,
            webrtcbin,
            channels,
            receivers,
            senders,
            bandwidth_estimator,
        };
        set_state(&peer.pipeline, gst::State::Playing).inspect_err(|_| peer.stop())?;
        peer.create_offer(handles);
        Ok(peer)
    }

    fn create_offer(&self, handles: &TransportHandles) {
        let handles = handles.clone();
        let webrtcbin = self.webrtcbin.downgrade();
        let promise = gst::Promise::with_change_func(move |reply| {
            let offer = reply
                .ok()
                .flatten()
                .and_then(|s| s.get::<WebRTCSessionDescription>("offer").ok());
            let (Some(offer), Some(webrtcbin)) = (offer, webrtcbin.upgrade()) else {
                return (handles.inputs)(Input::OfferBuilt(Err(internal(
                    "webrtcbin made no offer",
                ))));
            };
            let commands = handles.commands.clone();
            let set = gst::Promise::with_change_func(move |_| {
                let _ = commands.send(TransportCommand::LocalDescriptionSet);
            });
            webrtcbin.emit_by_name::<()>("set-local-description", &[&offer, &set]);
        });
        self.webrtcbin
            .emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
    }

    pub(super) fn is_gathered(&self) -> bool {
        let state: WebRTCICEGatheringState = self.webrtcbin.property("ice-gathering-state");
        state == WebRTCICEGatheringState::Complete
    }

    pub(super) fn local_description(&self) -> Result<String, Error> {
        let description: Option<WebRTCSessionDescription> =
            self.webrtcbin.property("local-description");
        let description = description.ok_or_else(|| internal("no local description"))?;
        description.sdp().as_text().map_err(internal)
    }

    pub(super) fn apply(&self, answer: &NegotiatedAnswer) -> Result<(), Error> {
        gst::debug!(CAT, obj = self.webrtcbin, "answer:\n{}", answer.sdp);
        let sdp = gst_sdp::SDPMessage::parse_buffer(answer.sdp.as_bytes())
            .map_err(|_| Error::gpu(Code::DecodeFailed, "GStreamer cannot parse the answer"))?;
        let description = WebRTCSessionDescription::new(WebRTCSDPType::Answer, sdp);
        let promise = gst::Promise::new();
        self.webrtcbin
            .emit_by_name::<()>("set-remote-description", &[&description, &promise]);
        promise.wait();
        let failure = promise
            .get_reply()
            .and_then(|reply| reply.get::<glib::Error>("error").ok());
        match failure {
            None => Ok(()),
            Some(error) => Err(Error::gpu(
                Code::TransportError,
                format!("webrtcbin refuses the answer: {error}"),
            )
            .during("sdp_params")),
        }
    }

    /// webrtcbin before 1.28.5 takes any certificate, whatever the answer's
    /// fingerprint says.
    pub(super) fn verify(&self, fingerprint: &Fingerprint) -> Result<(), Error> {
        let transport: Option<WebRTCSCTPTransport> = self.webrtcbin.property("sctp-transport");
        let certificate = transport
            .and_then(|sctp| sctp.transport())
            .and_then(|dtls| dtls.remote_certificate());
        match certificate {
            Some(pem) => fingerprint.matches_pem(&pem),
            None => Err(Error::gpu(
                Code::IdentityMismatch,
                "the peer's DTLS certificate is not known, so its identity cannot be verified",
            )),
        }
    }

    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(super) fn set_latency(&self, milliseconds: u32) {
        self.webrtcbin.set_property("latency", milliseconds);
    }

    /// What is sent needs to know the pipeline's latency.
    pub(super) fn recalculate_latency(&self) {
        let _ = self.pipeline.recalculate_latency();
    }

    pub(super) fn limit(&self, limits: BitrateLimits) {
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.limit(limits);
        }
    }

    pub(super) fn request_keyframe(&self, track: &str) {
        self.receivers.request_keyframe(track);
    }

    pub(super) fn open_sender(
        &mut self,
        track: &str,
        codec: &'static Codec,
        payload: u8,
        handles: &TransportHandles,
    ) -> Result<(), Error> {
        let answer: Option<WebRTCSessionDescription> =
            self.webrtcbin.property("remote-description");
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.wake()?;
        }
        let numbered = self.bandwidth_estimator.is_some()
            && answer.is_some_and(|answer| bandwidth_estimator::is_agreed(answer.sdp()));
        self.senders
            .open(&self.pipeline, track, (codec, payload), numbered, handles)
    }

    /// Passes the server's reports of loss on.
    pub(super) fn read_feedback(&self, handles: &TransportHandles) {
        let tracks = self.senders.ssrcs();
        let reports = handles.reports.clone();
        let promise = gst::Promise::with_change_func(move |reply| {
            for (track, lost) in send::losses(reply.ok().flatten(), &tracks) {
                reports(TransportReport::Loss(track, lost));
            }
        });
        self.webrtcbin
            .emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
    }

    fn stop(&self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
            bus.set_flushing(true);
        }
        if let Some(bandwidth_estimator) = &self.bandwidth_estimator {
            bandwidth_estimator.unlock();
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            gst::warning!(CAT, obj = self.pipeline, "could not be shut down");
        }
    }

    pub(super) fn close(self) {
        self.stop();
        // The channels must not outlive webrtcbin: its disposal would use
        // them after their end (fixed in 1.22.3).
        let Self {
            pipeline, channels, ..
        } = self;
        drop(channels);
        drop(pipeline);
    }
}

/// One transceiver per track, in the order of the offer: that is the order of
/// the m-lines.
fn add_transceivers(
    pipeline: &gst::Pipeline,
    webrtcbin: &gst::Element,
    offer: &[Offer],
    handles: &TransportHandles,
    senders: &mut send::Senders,
) -> Result<(), Error> {
    for offer in offer {
        if offer.track.direction == Direction::SendOnly {
            senders.add(pipeline, webrtcbin, offer, handles)?;
            continue;
        }
        let caps = offer_caps(offer.codecs.iter().copied());
        let transceiver = webrtcbin.emit_by_name::<Option<WebRTCRTPTransceiver>>(
            "add-transceiver",
            &[&WebRTCRTPTransceiverDirection::Recvonly, &caps],
        );
        let transceiver = transceiver.ok_or_else(|| internal("webrtcbin made no transceiver"))?;
        if offer.track.kind == Kind::Video {
            transceiver.set_property("do-nack", true);
        }
    }
    Ok(())
}

/// Turns webrtcbin's states into inputs.
fn watch(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let inputs = handles.inputs.clone();
    webrtcbin.connect_notify(Some("connection-state"), move |webrtcbin, _| {
        let state: WebRTCPeerConnectionState = webrtcbin.property("connection-state");
        gst::debug!(CAT, obj = webrtcbin, "connection is {state:?}");
        match state {
            WebRTCPeerConnectionState::Connected => inputs(Input::PeerConnected),
            WebRTCPeerConnectionState::Failed => inputs(Input::TransportFailed(Error::gpu(
                Code::Disconnected,
                "ICE found no way to the server's media port, or lost it",
            ))),
            _ => {}
        }
    });
    let commands = handles.commands.clone();
    webrtcbin.connect_notify(Some("ice-gathering-state"), move |webrtcbin, _| {
        let state: WebRTCICEGatheringState = webrtcbin.property("ice-gathering-state");
        if state == WebRTCICEGatheringState::Complete {
            let _ = commands.send(TransportCommand::Gathered);
        }
    });
}

/// Nothing of the private pipeline's bus reaches the user's: when the server
/// hangs up, sctpenc posts a fatal error there.
fn watch_bus(pipeline: &gst::Pipeline, handles: &TransportHandles) {
    let Some(bus) = pipeline.bus() else {
        return;
    };
    let inputs = handles.inputs.clone();
    let commands = handles.commands.clone();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Latency(_) = message.view() {
            // Not here: this may be a streaming thread.
            let _ = commands.send(TransportCommand::Latency);
        }
        if let gst::MessageView::Error(error) = message.view() {
            gst::debug!(CAT, "{} {:?}", error.error(), error.debug());
            inputs(Input::TransportFailed(classify(error)));
        }
        gst::BusSyncReply::Drop
    });
}

fn classify(error: &gst::message::Error) -> Error {
    let source = error.src();
    let factory = source
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .and_then(|element| element.factory());
    match factory.as_ref().map(|f| f.name()).as_deref() {
        Some("sctpenc" | "sctpdec" | "dtlsenc" | "dtlsdec") => {
            Error::gpu(Code::Disconnected, "the server closed the connection")
        }
        name => Error::gpu(
            Code::TransportError,
            format!("{}: {}", name.unwrap_or("transport"), error.error()),
        ),
    }
}

fn set_state(pipeline: &gst::Pipeline, state: gst::State) -> Result<(), Error> {
    pipeline
        .set_state(state)
        .map(|_| ())
        .map_err(|_| internal(format!("the private pipeline does not go to {state:?}")))
}

pub(super) fn make(factory: &str) -> Result<gst::Element, Error> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        Error::gpu(
            Code::TransportError,
            format!("the GStreamer element '{factory}' is not installed"),
        )
    })
}

pub(super) fn internal(what: impl std::fmt::Display) -> Error {
    Error::gpu(Code::Internal, what.to_string())
}
