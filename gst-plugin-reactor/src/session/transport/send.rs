// SPDX-License-Identifier: MIT

//! What is sent: from an appsrc through a payloader to webrtcbin.

use std::{collections::HashMap, sync::atomic::Ordering};

use gst::prelude::*;
use gst_webrtc::{WebRTCRTPTransceiver, WebRTCRTPTransceiverDirection};

use super::{CAT, TransportHandles, bandwidth_estimator, metadata, peer_connection};
use crate::{
    platform::{Code, Error, track::Kind},
    session::{
        TransportReport,
        bridge::TrackSender,
        codecs::{Codec, offer_caps},
        participants::Offer,
    },
};

/// libwebrtc's ceiling for media packets; larger ones are lost in tunnels.
const MTU: u32 = 1200;
/// More than that in front of the payloader is late anyway.
const QUEUE_LIMIT: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// The tracks that can be fed.
pub(super) struct Senders {
    senders: HashMap<String, Sender>,
    /// The server is asked to report on the packets.
    estimated: bool,
}

struct Sender {
    kind: Kind,
    appsrc: gst_app::AppSrc,
    /// webrtcbin's.
    sink: gst::Pad,
    /// Announced in the offer, kept as long as the connection.
    ssrc: u32,
    /// Made when it is known what will be sent.
    payloader: Option<(&'static Codec, gst::Element)>,
}

impl Senders {
    pub(super) fn new(estimated: bool) -> Self {
        Self {
            senders: HashMap::new(),
            estimated,
        }
    }

    /// Adds a sending transceiver. webrtcbin gives a requested sink pad the
    /// first free transceiver of its kind, so these come before the receiving
    /// ones.
    pub(super) fn add(
        &mut self,
        pipeline: &gst::Pipeline,
        webrtcbin: &gst::Element,
        offer: &Offer,
        handles: &TransportHandles,
    ) -> Result<(), Error> {
        let ssrc = gst::ClockTime::nseconds(gst::SystemClock::obtain().time()) as u32
            ^ (self.senders.len() as u32) << 24;
        let mut caps = offer_caps(offer.codecs.iter().copied());
        for structure in caps.make_mut().iter_mut() {
            structure.set("ssrc", ssrc);
        }
        if self.estimated {
            bandwidth_estimator::offer(caps.make_mut());
        }
        let template = webrtcbin
            .pad_template("sink_%u")
            .ok_or_else(|| peer_connection::internal("webrtcbin has no sink pads"))?;
        let sink = webrtcbin
            .request_pad(&template, None, Some(&caps))
            .ok_or_else(|| peer_connection::internal("webrtcbin gave no sink pad"))?;
        let transceiver: Option<WebRTCRTPTransceiver> = sink.property("transceiver");
        let transceiver = transceiver.ok_or_else(|| peer_connection::internal("no transceiver"))?;
        transceiver.set_direction(WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_codec_preferences(Some(&caps));
        if offer.track.kind == Kind::Video {
            transceiver.set_property("do-nack", true);
        }

        let appsrc = gst_app::AppSrc::builder()
            .is_live(true)
            .format(gst::Format::Time)
            .max_time(QUEUE_LIMIT)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        pipeline.add(&appsrc).map_err(peer_connection::internal)?;
        watch_keyframe_requests(&appsrc, &offer.track.name, handles);
        let sender = Sender {
            kind: offer.track.kind,
            appsrc,
            sink,
            ssrc,
            payloader: None,
        };
        self.senders.insert(offer.track.name.clone(), sender);
        Ok(())
    }

    /// Whose source is whose.
    pub(super) fn ssrcs(&self) -> HashMap<u32, String> {
        let tracks = self.senders.iter();
        tracks
            .map(|(track, sender)| (sender.ssrc, track.clone()))
            .collect()
    }

    /// Makes way for a track in this codec.
    pub(super) fn open(
        &mut self,
        pipeline: &gst::Pipeline,
        track: &str,
        (codec, payload): (&'static Codec, u8),
        numbered: bool,
        handles: &TransportHandles,
    ) -> Result<(), Error> {
        let unknown = || {
            let text = format!("track '{track}' was not offered to the server");
            Error::gpu(Code::TrackRejected, text)
        };
        let sender = self.senders.get_mut(track).ok_or_else(unknown)?;
        match &sender.payloader {
            None => sender.payload(pipeline, codec, payload, numbered)?,
            Some((old, _)) if *old == codec => {}
            Some((old, _)) => {
                let (old, new) = (old.encoding_name, codec.encoding_name);
                let text = format!("track '{track}' is sent in {old} and cannot change to {new}");
                return Err(Error::gpu(Code::TrackRejected, text));
            }
        }
        let base = pipeline
            .base_time()
            .ok_or_else(|| peer_connection::internal("no base time"))?;
        let trailers = handles.trailers.load(Ordering::Acquire) && metadata::fits(codec);
        let track_sender = TrackSender::new(sender.appsrc.clone(), base, trailers);
        handles.track_senders.set(track, track_sender);
        gst::debug!(CAT, "sending {track} in {}", codec.encoding_name);
        Ok(())
    }
}

impl Sender {
    fn payload(
        &mut self,
        pipeline: &gst::Pipeline,
        codec: &'static Codec,
        payload: u8,
        numbered: bool,
    ) -> Result<(), Error> {
        let payloader = peer_connection::make(codec.payloader)?;
        payloader.set_property("pt", u32::from(payload));
        payloader.set_property("ssrc", self.ssrc);
        payloader.set_property("mtu", MTU);
        // Parameter sets with each keyframe, and one picture id throughout.
        if payloader.has_property("config-interval") {
            payloader.set_property("config-interval", -1i32);
        }
        if payloader.has_property("picture-id-mode") {
            payloader.set_property_from_str("picture-id-mode", "15-bit");
        }
        if payloader.has_property("aggregate-mode") && self.kind == Kind::Video {
            payloader.set_property_from_str("aggregate-mode", "zero-latency");
        }
        if numbered {
            bandwidth_estimator::number(&payloader)?;
        }
        pipeline
            .add(&payloader)
            .map_err(peer_connection::internal)?;
        let src = payloader.static_pad("src");
        let src = src.ok_or_else(|| peer_connection::internal("a payloader without a pad"))?;
        self.appsrc
            .link(&payloader)
            .map_err(peer_connection::internal)?;
        src.link(&self.sink).map_err(peer_connection::internal)?;
        payloader
            .sync_state_with_parent()
            .map_err(peer_connection::internal)?;
        self.appsrc
            .sync_state_with_parent()
            .map_err(peer_connection::internal)?;
        self.payloader = Some((codec, payloader));
        Ok(())
    }
}

/// What the server's receiver reports say was lost lately, by track. Every
/// field may be missing: webrtcbin's statistics have changed a lot.
pub(super) fn losses(
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

/// A PLI comes out of webrtcbin as an upstream event.
fn watch_keyframe_requests(appsrc: &gst_app::AppSrc, track: &str, handles: &TransportHandles) {
    let Some(pad) = appsrc.static_pad("src") else {
        return;
    };
    let reports = handles.reports.clone();
    let track = track.to_owned();
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
        {
            reports(TransportReport::KeyframeWanted(track.clone()));
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}
