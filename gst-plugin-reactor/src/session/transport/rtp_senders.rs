// SPDX-License-Identifier: MIT

//! The sending side: per track webrtcbin's sink pad, and once the codec is known
//! an appsrc and a payloader. A track that nobody feeds has no streaming thread.
//! The transport thread builds it; elements push into the appsrc through a
//! `TrackSender`, and requests for keyframes leave on a streaming thread. It
//! never encodes, and never waits for an element.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCRTPTransceiver, WebRTCRTPTransceiverDirection};

use super::{
    frame_trailer,
    handles::{CAT, TransportHandles},
    playout_delay, transport_cc,
};
use crate::{
    gst_helpers::{internal, make, remove_elements, sync_states},
    platform::{Code, Error, track::Kind},
    session::{
        bridge::{TrackSender, TrailerWriter},
        codecs::{Codec, codec_preferences},
        messages::TransportReport,
        participants::TransceiverInit,
    },
};

/// libwebrtc's limit for RTP packets, in bytes; larger ones are lost in tunnels.
const MTU_BYTES: u32 = 1200;
/// The appsrc's queue; media that waits longer is dropped, for it is late.
const MAX_QUEUE_TIME: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// The senders of a connection, by track.
pub(super) struct RtpSenders {
    senders: HashMap<String, RtpSender>,
    pipeline: gst::Pipeline,
    retransmitter: Retransmitter,
    handles: TransportHandles,
    /// An estimator reads the feedback about what is sent.
    has_estimator: bool,
}

struct RtpSender {
    webrtcbin_pad: gst::Pad,
    /// Announced in the offer, and kept as long as the connection.
    ssrc: u32,
    mline_index: usize,
    /// The appsrc in front of the payloader, and the codec, once it is open.
    source: Option<(gst_app::AppSrc, &'static Codec)>,
}

impl RtpSenders {
    pub(super) fn new(
        pipeline: &gst::Pipeline,
        webrtcbin: &gst::Element,
        handles: &TransportHandles,
        has_estimator: bool,
    ) -> Self {
        Self {
            senders: HashMap::new(),
            pipeline: pipeline.clone(),
            retransmitter: Retransmitter::hold(webrtcbin),
            handles: handles.clone(),
            has_estimator,
        }
    }

    /// Adds a sending transceiver. webrtcbin gives a requested sink pad the
    /// first free transceiver of its kind, so these come before the receiving
    /// ones.
    pub(super) fn add(
        &mut self,
        webrtcbin: &gst::Element,
        init: &TransceiverInit,
        mline_index: usize,
    ) -> Result<(), Error> {
        let ssrc = gst::ClockTime::nseconds(gst::SystemClock::obtain().time()) as u32
            ^ (self.senders.len() as u32) << 24;
        let mut caps = codec_preferences(init.codecs.iter().copied());
        for structure in caps.make_mut().iter_mut() {
            structure.set("ssrc", ssrc);
        }
        transport_cc::offer(caps.make_mut());
        if init.track.kind == Kind::Video {
            playout_delay::offer(caps.make_mut());
        }
        let template = webrtcbin
            .pad_template("sink_%u")
            .ok_or_else(|| internal("webrtcbin has no sink pads"))?;
        let webrtcbin_pad = webrtcbin
            .request_pad(&template, None, Some(&caps))
            .ok_or_else(|| internal("webrtcbin gave no sink pad"))?;
        let transceiver: Option<WebRTCRTPTransceiver> = webrtcbin_pad.property("transceiver");
        let transceiver = transceiver.ok_or_else(|| internal("no transceiver"))?;
        transceiver.set_direction(WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_codec_preferences(Some(&caps));
        if init.track.kind == Kind::Video {
            transceiver.set_property("do-nack", true);
        }

        let sender = RtpSender {
            webrtcbin_pad,
            ssrc,
            mline_index,
            source: None,
        };
        self.senders.insert(init.track.name.clone(), sender);
        Ok(())
    }

    /// The track of each SSRC.
    pub(super) fn tracks_by_ssrc(&self) -> HashMap<u32, String> {
        let tracks = self.senders.iter();
        tracks
            .map(|(track, sender)| (sender.ssrc, track.clone()))
            .collect()
    }

    /// Opens a track's sender in this codec, with this payload type.
    ///
    /// # Errors
    ///
    /// `TrackRejected` for a track that was not offered, and for another codec
    /// than before.
    pub(super) fn open(
        &mut self,
        track: &str,
        codec: &'static Codec,
        payload_type: u8,
    ) -> Result<(), Error> {
        let rejected =
            |reason: &str| Error::gpu(Code::TrackRejected, format!("track '{track}' {reason}"));
        let sender = self.senders.get_mut(track);
        let sender = sender.ok_or_else(|| rejected("was not offered to the server"))?;
        let appsrc = match &sender.source {
            None => {
                let agreed = self.handles.negotiated.track(sender.mline_index);
                let appsrc = make_appsrc();
                report_keyframe_requests(&appsrc, track, &self.handles);
                let payloader = sender.payloader(codec, payload_type)?;
                if self.has_estimator && agreed.is_some_and(|track| track.transport_cc) {
                    transport_cc::add_extension(&payloader)?;
                }
                if agreed.is_some_and(|track| track.playout_delay) {
                    playout_delay::add_extension(&payloader);
                }
                self.retransmitter.start()?;
                sender.link(&self.pipeline, &appsrc, payloader)?;
                sender.source = Some((appsrc.clone(), codec));
                appsrc
            }
            Some((appsrc, old)) if *old == codec => appsrc.clone(),
            Some((_, old)) => {
                let (old, new) = (old.encoding_name, codec.encoding_name);
                let reason = format!("is sent in {old} and cannot change to {new}");
                return Err(rejected(&reason));
            }
        };
        let base_time = self.pipeline.base_time();
        let base_time = base_time.ok_or_else(|| internal("no base time"))?;
        let sends_trailers =
            self.handles.negotiated.has_frame_trailers() && frame_trailer::is_kept_by(codec);
        let trailer_writer = sends_trailers.then_some(frame_trailer::write as TrailerWriter);
        let track_sender = TrackSender::new(appsrc, base_time, trailer_writer);
        self.handles.track_senders.set(track, track_sender);
        gst::debug!(CAT, "sending {track} in {}", codec.encoding_name);
        Ok(())
    }
}

impl RtpSender {
    fn payloader(&self, codec: &Codec, payload_type: u8) -> Result<gst::Element, Error> {
        let payloader = make(codec.payloader)?;
        payloader.set_property("pt", u32::from(payload_type));
        payloader.set_property("ssrc", self.ssrc);
        payloader.set_property("mtu", MTU_BYTES);
        // H.264: parameter sets with each keyframe. VP8 and VP9: picture ids.
        if payloader.has_property("config-interval") {
            payloader.set_property("config-interval", -1i32);
        }
        if payloader.has_property("picture-id-mode") {
            payloader.set_property_from_str("picture-id-mode", "15-bit");
        }
        if payloader.has_property("aggregate-mode") && codec.kind == Kind::Video {
            payloader.set_property_from_str("aggregate-mode", "zero-latency");
        }
        // It would add each one that it knows and that is in webrtcbin's caps.
        if payloader.has_property("auto-header-extension") {
            payloader.set_property("auto-header-extension", false);
        }
        Ok(payloader)
    }

    /// Adds the elements in front of webrtcbin's pad, and starts them.
    fn link(
        &self,
        pipeline: &gst::Pipeline,
        appsrc: &gst_app::AppSrc,
        payloader: gst::Element,
    ) -> Result<(), Error> {
        let elements = [appsrc.clone().upcast(), payloader];
        pipeline.add_many(&elements).map_err(internal)?;
        gst::Element::link_many(&elements).map_err(internal)?;
        let src = elements[1].static_pad("src");
        let src = src.ok_or_else(|| internal("a payloader without a pad"));
        let linked = src.and_then(|src| src.link(&self.webrtcbin_pad).map_err(internal));
        let started = linked.and_then(|_| sync_states(&elements));
        started.inspect_err(|_| remove_elements(pipeline.upcast_ref(), &elements))
    }
}

/// webrtcbin's element that sends packets again. It has a task of its own from
/// its start on, so it does not start before there is something to send.
#[derive(Default)]
struct Retransmitter(Arc<OnceLock<glib::WeakRef<gst::Element>>>);

impl Retransmitter {
    /// webrtcbin makes it when it connects the first sending transceiver, of
    /// which all share one transport.
    fn hold(webrtcbin: &gst::Element) -> Self {
        let this = Self::default();
        if let Some(webrtcbin) = webrtcbin.downcast_ref::<gst::Bin>() {
            let held = this.0.clone();
            webrtcbin.connect_deep_element_added(move |_, _, element| {
                let factory = element.factory();
                if factory.is_some_and(|factory| factory.name() == "rtprtxsend")
                    && held.set(element.downgrade()).is_ok()
                {
                    element.set_locked_state(true);
                }
            });
        }
        this
    }

    fn start(&self) -> Result<(), Error> {
        let Some(element) = self.0.get().and_then(glib::WeakRef::upgrade) else {
            return Ok(());
        };
        element.set_locked_state(false);
        element.sync_state_with_parent().map_err(internal)
    }
}

fn make_appsrc() -> gst_app::AppSrc {
    gst_app::AppSrc::builder()
        .is_live(true)
        .format(gst::Format::Time)
        .max_time(MAX_QUEUE_TIME)
        .leaky_type(gst_app::AppLeakyType::Downstream)
        .build()
}

/// The fraction lost (0 to 1) of each track since the server's previous receiver
/// report (RFC 3550, 6.4.1). Any field may be missing: webrtcbin's statistics
/// differ between versions.
pub(super) fn fractions_lost(
    stats: Option<&gst::StructureRef>,
    tracks: &HashMap<u32, String>,
) -> Vec<(String, f64)> {
    let structures = stats.into_iter().flat_map(|stats| stats.iter());
    let reports = structures.filter_map(|(_, value)| value.get::<gst::Structure>().ok());
    let loss = |report: gst::Structure| {
        let kind = report.get::<gst_webrtc::WebRTCStatsType>("type").ok()?;
        if kind != gst_webrtc::WebRTCStatsType::RemoteInboundRtp {
            return None;
        }
        let track = tracks.get(&report.get::<u32>("ssrc").ok()?)?;
        Some((track.clone(), report.get::<f64>("fraction-lost").ok()?))
    };
    reports.filter_map(loss).collect()
}

/// Reports the server's PLIs, which webrtcbin turns into upstream events.
fn report_keyframe_requests(appsrc: &gst_app::AppSrc, track: &str, handles: &TransportHandles) {
    let Some(pad) = appsrc.static_pad("src") else {
        return;
    };
    let reports = handles.reports.clone();
    let track = track.to_owned();
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
        {
            reports.send(TransportReport::KeyframeRequested(track.clone()));
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}
