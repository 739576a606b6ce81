// SPDX-License-Identifier: MIT

//! The receiving side: a new webrtcbin source pad is matched with its track and
//! linked to a depayloader and an appsink, which hands frames to the track's
//! tap. Pads are added on webrtcbin's streaming threads, and probes and appsink
//! run there; nothing here waits or locks, but to read a tap.

use std::sync::{Arc, Mutex, OnceLock};

use gst::{glib, prelude::*};
use gst_webrtc::WebRTCRTPTransceiver;

use super::{
    frame_trailer,
    h264_access_units::PictureJoiner,
    handles::{CAT, MediaGate, NegotiatedTracks, TrackReceived, TransportHandles, bridge_clock},
    keyframe_requests::KeyframeRequests,
    rtp_probes::{self, PACKETS},
    vp9_superframes,
};
use crate::{
    gst_helpers::{error_source, internal, keyframe_request, make, sync_states},
    platform::{
        Code, Error, lock,
        track::{Direction, Kind, Track},
    },
    session::{
        bridge::{MediaConsumer, MediaUnit, TapSlot},
        codecs::Codec,
    },
};

/// The tracks of a connection, in the order of the m-lines, that is of the
/// offer.
#[derive(Clone)]
pub(super) struct RtpReceivers(Arc<[RtpReceiver]>);

struct RtpReceiver {
    track: Track,
    /// The appsink's pad, for upstream events; set when the stream arrives.
    sink_pad: OnceLock<glib::WeakRef<gst::Pad>>,
}

impl RtpReceivers {
    pub(super) fn new(tracks: impl Iterator<Item = Track>) -> Self {
        let receiver = |track| RtpReceiver {
            track,
            sink_pad: OnceLock::new(),
        };
        Self(tracks.map(receiver).collect())
    }

    /// Pushes an upstream event that webrtcbin turns into a PLI.
    pub(super) fn request_keyframe(&self, track: &str) {
        let mut receivers = self.0.iter().filter(|r| r.track.name == track);
        if let Some(pad) = receivers.find_map(|r| r.sink_pad.get()?.upgrade()) {
            pad.push_event(keyframe_request());
        }
    }

    /// Links each source pad that webrtcbin adds; reports `TransportFailed` for
    /// one that cannot be.
    pub(super) fn connect_pad_added(
        &self,
        pipeline: &gst::Pipeline,
        webrtcbin: &gst::Element,
        handles: &TransportHandles,
    ) {
        let receivers = self.clone();
        let handles = handles.clone();
        let pipeline = pipeline.downgrade();
        webrtcbin.connect_pad_added(move |_, pad| {
            if pad.direction() != gst::PadDirection::Src {
                return;
            }
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            let receiver = receivers.find(pad, &handles.negotiated).ok_or_else(|| {
                let caps = pad_caps(pad);
                internal(format!(
                    "a track came that was not asked for: {}, {caps}",
                    pad.name()
                ))
            });
            let linked = receiver.and_then(|receiver| receiver.link(&pipeline, pad, &handles));
            if let Err(error) = linked {
                handles.reports.fail(error);
            }
        });
    }

    /// The receiver of a new pad. webrtcbin 1.22 gives an SSRC that the answer
    /// does not announce to the first m-line; the payload type tells which
    /// m-lines are possible.
    fn find(&self, pad: &gst::Pad, negotiated: &NegotiatedTracks) -> Option<&RtpReceiver> {
        let payload_type = pad_caps(pad).structure(0)?.get::<i32>("payload").ok()?;
        let possible = |mline: &usize| {
            let receiver = self.0.get(*mline);
            receiver.is_some_and(|receiver| receiver.track.direction == Direction::RecvOnly)
        };
        let mut mlines: Vec<usize> = negotiated
            .find_payload_type(payload_type.try_into().ok()?)
            .map(|(track, _)| track.mline_index)
            .filter(possible)
            .collect();
        mlines.sort_unstable();
        let transceiver: Option<WebRTCRTPTransceiver> = pad.property("transceiver");
        let reported = transceiver.map(|t| t.mlineindex() as usize);
        let is_free = |mline: &usize| self.0[*mline].sink_pad.get().is_none();
        let mline = reported
            .filter(|mline| mlines.contains(mline))
            .or_else(|| mlines.iter().copied().find(is_free))?;
        self.0.get(mline)
    }
}

impl RtpReceiver {
    fn link(
        &self,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        handles: &TransportHandles,
    ) -> Result<(), Error> {
        let tap = handles.taps.slot(&self.track.name);
        let forwarder = Forwarder {
            pipeline: pipeline.downgrade(),
            gate: handles.gate.clone(),
            negotiated: handles.negotiated.clone(),
            is_video: self.track.kind == Kind::Video,
            tap: tap.clone(),
            keyframe_requests: Arc::default(),
        };
        let counters = &handles.counters;
        counters.find_receiver(&self.track.name, pad);
        let received = handles.last_received.track(&self.track.name);
        probe_packets(pad, forwarder.clone(), received, handles);
        if forwarder.is_video {
            space_keyframe_requests(pad, &forwarder.keyframe_requests, handles);
        }
        let sink = appsink(forwarder);
        if let Some(pad) = sink.static_pad("sink") {
            let _ = self.sink_pad.set(pad.downgrade());
        }
        let chain = match depayloader(pad, &self.track.name, &sink) {
            Ok(depayloader) => vec![depayloader, sink.upcast()],
            // Packets are handed over even if they cannot be depayloaded here.
            Err(_) if tap.consumer(true).is_some() => vec![sink.upcast()],
            Err(error) => return Err(error),
        };
        pipeline.add_many(&chain).map_err(internal)?;
        gst::Element::link_many(&chain).map_err(internal)?;
        sync_states(&chain)?;
        let first = chain[0].static_pad("sink");
        let first = first.ok_or_else(|| internal("no sink pad"))?;
        pad.link(&first).map_err(internal)?;
        gst::debug!(CAT, obj = pad, "receiving {}", self.track.name);
        Ok(())
    }
}

/// Holds requests for keyframes back that come too soon, and sends the last of them
/// when a packet comes after its time.
fn space_keyframe_requests(
    pad: &gst::Pad,
    requests: &Arc<Mutex<KeyframeRequests>>,
    handles: &TransportHandles,
) {
    let times = {
        let handles = handles.clone();
        move || {
            let round_trip = lock(&handles.counters.round_trip).latest();
            (handles.last_received.now(), round_trip)
        }
    };
    let (held_back, now) = (requests.clone(), times.clone());
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |pad, info| {
        let event = info.event();
        if event.is_none_or(|event| gst_video::ForceKeyUnitEvent::parse(event).is_err()) {
            return gst::PadProbeReturn::Ok;
        }
        let (now, round_trip) = now();
        if lock(&held_back).request(now, round_trip) {
            return gst::PadProbeReturn::Ok;
        }
        gst::trace!(CAT, obj = pad, "keyframe request postponed");
        gst::PadProbeReturn::Handled
    });
    let requests = requests.clone();
    pad.add_probe(PACKETS, move |pad, _| {
        // Seldom: what follows is not for each packet.
        let is_postponed = lock(&requests).is_postponed();
        if is_postponed {
            let (now, round_trip) = times();
            let is_due = lock(&requests).is_due(now, round_trip);
            if is_due {
                pad.send_event(keyframe_request());
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Before the depayloader: marks packets for stall detection, sets their times,
/// and diverts them to a tap that wants packets instead of frames.
fn probe_packets(
    pad: &gst::Pad,
    forwarder: Forwarder,
    received: TrackReceived,
    handles: &TransportHandles,
) {
    let rtp_clock = handles.rtp_clock.clone();
    pad.add_probe(PACKETS, move |pad, info| {
        received.mark();
        rtp_probes::retime_packets(&rtp_clock, info);
        let Some(consumer) = forwarder.consumer(true) else {
            return gst::PadProbeReturn::Ok;
        };
        let caps = pad.current_caps();
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.as_ref().map(|event| event.segment());
        let hand_over = |buffer: gst::Buffer| {
            if let Some(unit) = forwarder.media_unit(buffer, caps.clone(), segment) {
                consumer.consume(unit);
            }
        };
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => hand_over(buffer.clone()),
            Some(gst::PadProbeData::BufferList(list)) => {
                list.iter_owned().for_each(hand_over);
            }
            _ => {}
        }
        gst::PadProbeReturn::Handled
    });
}

fn pad_caps(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}

/// The depayloader of the pad's codec, whose frames `sink` takes.
fn depayloader(
    pad: &gst::Pad,
    track: &str,
    sink: &gst_app::AppSink,
) -> Result<gst::Element, Error> {
    let caps = pad_caps(pad);
    let name = caps
        .structure(0)
        .and_then(|s| s.get::<&str>("encoding-name").ok());
    let codec = name.and_then(Codec::by_encoding_name).ok_or_else(|| {
        Error::gpu(
            Code::TransportError,
            format!("track '{track}' came in a codec that was not offered: {name:?}"),
        )
    })?;
    let depayloader = make(codec.depayloader)?;
    sink.set_caps(Some(&codec.depayloaded_caps()));
    // Nothing reads the header extensions of received packets here.
    if depayloader.has_property("auto-header-extension") {
        depayloader.set_property("auto-header-extension", false);
    }
    // Both are off by default; a loss then damages frames until the next
    // keyframe.
    for property in ["request-keyframe", "wait-for-keyframe"] {
        if depayloader.has_property(property) {
            depayloader.set_property(property, true);
        }
    }
    Ok(depayloader)
}

/// Whether an error is a depayloader's about a packet that it leaves out: rtph264depay
/// posts one for a NAL unit of an unknown type and goes on. It is a loss like any other,
/// so a keyframe is asked for. Called on the streaming thread.
pub fn tolerate(error: &gst::message::Error) -> bool {
    let is_ours = |factory: &gst::ElementFactory| {
        factory.has_type(gst::ElementFactoryType::DEPAYLOADER)
            && error.error().matches(gst::StreamError::Format)
    };
    let source = error_source(error).filter(|(_, factory)| is_ours(factory));
    let Some((depayloader, _)) = source else {
        return false;
    };
    request_keyframe(depayloader);
    true
}

/// Asks the sender for a keyframe, from this element of the track's on.
fn request_keyframe(element: &impl IsA<gst::Element>) {
    if let Some(sink) = element.static_pad("sink") {
        sink.push_event(keyframe_request());
    }
}

fn appsink(forwarder: Forwarder) -> gst_app::AppSink {
    let mut h264 = PictureJoiner::default();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let media_type = sample.caps().and_then(|caps| caps.structure(0));
        let whole = |buffer| match media_type.map(|media| media.name().as_str()) {
            Some("video/x-h264") => h264.join(buffer),
            Some("video/x-vp9") => valid_superframe(sink, buffer),
            _ => Some(buffer),
        };
        if let Some(consumer) = forwarder.consumer(false)
            && let Some(buffer) = sample.buffer_owned().and_then(whole)
            && let Some(frame) = forwarder.frame(buffer)
            && let Some(unit) = forwarder.media_unit(frame, sample.caps_owned(), sample.segment())
        {
            consumer.consume(unit);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .callbacks(callbacks.build())
        .build()
}

/// One that would mislead vp9parse is lost, and a keyframe asked for.
fn valid_superframe(sink: &gst_app::AppSink, buffer: gst::Buffer) -> Option<gst::Buffer> {
    // What cannot be read is not judged.
    let is_valid = buffer
        .map_readable()
        .map_or(true, |data| vp9_superframes::has_valid_index(&data));
    if !is_valid {
        request_keyframe(sink);
    }
    is_valid.then_some(buffer)
}

/// Makes media units of a track's buffers, for its tap.
#[derive(Clone)]
struct Forwarder {
    pipeline: glib::WeakRef<gst::Pipeline>,
    gate: MediaGate,
    negotiated: NegotiatedTracks,
    is_video: bool,
    tap: TapSlot,
    keyframe_requests: Arc<Mutex<KeyframeRequests>>,
}

impl Forwarder {
    /// The tap's consumer, if it wants RTP packets (`rtp`) or frames, and media
    /// may pass.
    fn consumer(&self, rtp: bool) -> Option<Arc<dyn MediaConsumer>> {
        let consumer = self.gate.is_open().then(|| self.tap.consumer(rtp));
        consumer.flatten()
    }

    /// The frame without its trailer, which a decoder would take for a part of it.
    fn frame(&self, buffer: gst::Buffer) -> Option<gst::Buffer> {
        if self.is_video && !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            lock(&self.keyframe_requests).keyframe_received();
        }
        if self.is_video && self.negotiated.has_frame_trailers() {
            return frame_trailer::strip(buffer);
        }
        Some(buffer)
    }

    fn media_unit(
        &self,
        buffer: gst::Buffer,
        caps: Option<gst::Caps>,
        segment: Option<&gst::Segment>,
    ) -> Option<MediaUnit> {
        let base = self.pipeline.upgrade()?.base_time();
        let running = segment?
            .downcast_ref::<gst::ClockTime>()
            .zip(buffer.pts())
            .and_then(|(segment, pts)| segment.to_running_time(pts));
        Some(MediaUnit {
            buffer,
            caps: caps?,
            arrived: bridge_clock().time(),
            time: base.zip(running).map(|(base, running)| base + running),
        })
    }
}
