// SPDX-License-Identifier: MIT

//! What arrives: from webrtcbin's pads through a depayloader to the port.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use gst::prelude::*;
use gst_webrtc::WebRTCRTPTransceiver;

use super::{
    CAT, LastReceived, MediaGate, TransportHandles, metadata, peer_connection, rtp_probes,
};
use crate::{
    platform::{
        Code, Error,
        track::{Direction, Track},
    },
    session::{
        bridge::{MediaConsumer, MediaUnit, TrackTaps},
        codecs::Codec,
        machine::Input,
    },
};

/// Where each track's stream ends, for events that go upstream.
#[derive(Default, Clone)]
pub(super) struct Receivers(Arc<HashMapOnce>);

type HashMapOnce = OnceLock<HashMap<String, OnceLock<gst::glib::WeakRef<gst::Pad>>>>;

impl Receivers {
    fn slot(&self, track: &str) -> Option<&OnceLock<gst::glib::WeakRef<gst::Pad>>> {
        self.0.get()?.get(track)
    }

    /// Becomes a PLI on its way through webrtcbin.
    pub(super) fn request_keyframe(&self, track: &str) {
        let pad = self.slot(track).and_then(|slot| slot.get()?.upgrade());
        if let Some(pad) = pad {
            let event = gst_video::UpstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build();
            pad.push_event(event);
        }
    }
}

pub(super) fn connect(
    pipeline: &gst::Pipeline,
    webrtcbin: &gst::Element,
    handles: &TransportHandles,
    receivers: &Receivers,
    tracks: Vec<Track>,
) {
    let slots = tracks.iter().map(|t| (t.name.clone(), OnceLock::new()));
    let _ = receivers.0.set(slots.collect());
    let handles = handles.clone();
    let receivers = receivers.clone();
    let pipeline = pipeline.downgrade();
    webrtcbin.connect_pad_added(move |_, pad| {
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let Some(pipeline) = pipeline.upgrade() else {
            return;
        };
        let result = match find(pad, &handles, &receivers, &tracks) {
            Some(track) => receive(&pipeline, pad, &handles, &receivers, &track.name),
            None => Err(peer_connection::internal(
                "a track came that was not asked for",
            )),
        };
        if let Err(error) = result {
            (handles.inputs)(Input::TransportFailed(error));
        }
    });
}

/// Whose stream a new pad has. webrtcbin 1.22 takes a source that the answer
/// does not announce for one of the first m-line; the payload type knows
/// better.
fn find<'a>(
    pad: &gst::Pad,
    handles: &TransportHandles,
    receivers: &Receivers,
    tracks: &'a [Track],
) -> Option<&'a Track> {
    let payload = payload(pad);
    let answered = handles.answered.get().map_or(&[][..], Vec::as_slice);
    // The m-lines are in the order of the tracks.
    let fits = |mline: &usize| {
        let is_output = |t: &Track| t.direction == Direction::RecvOnly;
        let carries = |c: &crate::platform::sdp::Codec| Some(i32::from(c.payload)) == payload;
        let mut answer = answered.iter().filter(|t| t.mline_index == *mline);
        tracks.get(*mline).is_some_and(is_output) && answer.any(|t| t.codecs.iter().any(carries))
    };
    let is_free = |mline: &usize| {
        let slot = tracks
            .get(*mline)
            .and_then(|track| receivers.slot(&track.name));
        slot.is_some_and(|slot| slot.get().is_none())
    };
    let transceiver: Option<WebRTCRTPTransceiver> = pad.property("transceiver");
    let told = transceiver.map(|t| t.mlineindex() as usize);
    let mline = told
        .filter(fits)
        .or_else(|| (0..tracks.len()).find(|mline| fits(mline) && is_free(mline)))?;
    tracks.get(mline)
}

fn payload(pad: &gst::Pad) -> Option<i32> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0)?.get("payload").ok()
}

fn receive(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    handles: &TransportHandles,
    receivers: &Receivers,
    track: &str,
) -> Result<(), Error> {
    listen(pad, handles.last_received.clone());
    rtp_probes::place(pad, handles.rtp_clock.clone());
    divert_packets(pipeline, pad, handles, track);
    let sink = appsink(pipeline, handles, track);
    if let Some(pad) = sink.static_pad("sink")
        && let Some(slot) = receivers.slot(track)
    {
        let _ = slot.set(pad.downgrade());
    }
    // Packets can be had of what cannot be depayloaded here.
    let packets = handles.taps.get(track).is_some_and(|tap| tap.rtp);
    let mut chain = vec![sink.upcast::<gst::Element>()];
    match depayloader(pad, track) {
        Ok(depayloader) => chain.insert(0, depayloader),
        Err(_) if packets => {}
        Err(error) => return Err(error),
    }
    pipeline
        .add_many(&chain)
        .map_err(peer_connection::internal)?;
    gst::Element::link_many(&chain).map_err(peer_connection::internal)?;
    for element in chain.iter().rev() {
        element
            .sync_state_with_parent()
            .map_err(peer_connection::internal)?;
    }
    let first = chain.first().and_then(|first| first.static_pad("sink"));
    let first = first.ok_or_else(|| peer_connection::internal("no sink pad"))?;
    pad.link(&first).map_err(peer_connection::internal)?;
    gst::debug!(CAT, obj = pad, "receiving {track}");
    Ok(())
}

/// Notes for the watchdog that something came.
fn listen(pad: &gst::Pad, last_received: Arc<LastReceived>) {
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(what, move |_, _| {
        last_received.mark();
        gst::PadProbeReturn::Ok
    });
}

/// Hands the packets themselves to a consumer that wants them.
fn divert_packets(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    handles: &TransportHandles,
    track: &str,
) {
    let way = Way::new(pipeline, handles, track);
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(what, move |pad, info| {
        let Some(consumer) = way.consumer(true) else {
            return gst::PadProbeReturn::Ok;
        };
        let caps = pad.current_caps();
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.map(|event| event.segment().clone());
        let hand_over = |buffer: gst::Buffer| {
            if let Some(unit) = way.unit(buffer, caps.clone(), segment.as_ref()) {
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
        gst::PadProbeReturn::Drop
    });
}

fn depayloader(pad: &gst::Pad, track: &str) -> Result<gst::Element, Error> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps
        .structure(0)
        .and_then(|s| s.get::<&str>("encoding-name").ok());
    let codec = name.and_then(Codec::find).ok_or_else(|| {
        Error::gpu(
            Code::TransportError,
            format!("track '{track}' came in a codec that was not offered: {name:?}"),
        )
    })?;
    let depayloader = peer_connection::make(codec.depayloader)?;
    // Off by default, and then a loss smears until the next keyframe.
    for property in ["request-keyframe", "wait-for-keyframe"] {
        if depayloader.has_property(property) {
            depayloader.set_property(property, true);
        }
    }
    Ok(depayloader)
}

fn appsink(pipeline: &gst::Pipeline, handles: &TransportHandles, track: &str) -> gst_app::AppSink {
    let way = Way::new(pipeline, handles, track);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(consumer) = way.consumer(false)
            && let Some(buffer) = way.frame(&sample)
            && let Some(unit) = way.unit(buffer, sample.caps_owned(), sample.segment())
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

/// What stands between a track's stream and whoever takes it.
struct Way {
    track: String,
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    gate: MediaGate,
    trailers: Arc<AtomicBool>,
    taps: TrackTaps,
}

impl Way {
    fn new(pipeline: &gst::Pipeline, handles: &TransportHandles, track: &str) -> Self {
        Self {
            track: track.to_owned(),
            pipeline: pipeline.downgrade(),
            gate: handles.gate.clone(),
            trailers: handles.trailers.clone(),
            taps: handles.taps.clone(),
        }
    }

    /// Who takes the packets, or what is in them.
    fn consumer(&self, rtp: bool) -> Option<Arc<dyn MediaConsumer>> {
        if !self.gate.is_open() {
            return None;
        }
        let tap = self.taps.get(&self.track)?;
        (tap.rtp == rtp).then_some(tap.consumer)
    }

    /// The frame of a sample without its trailer, which no decoder may see.
    fn frame(&self, sample: &gst::Sample) -> Option<gst::Buffer> {
        let buffer = sample.buffer_owned()?;
        let caps = sample.caps()?;
        let is_video = caps
            .structure(0)
            .is_some_and(|s| s.name().starts_with("video/"));
        if is_video && self.trailers.load(Ordering::Acquire) {
            return metadata::detach(buffer, caps);
        }
        Some(buffer)
    }

    fn unit(
        &self,
        buffer: gst::Buffer,
        caps: Option<gst::Caps>,
        segment: Option<&gst::Segment>,
    ) -> Option<MediaUnit> {
        let base = self.pipeline.upgrade()?.base_time();
        let segment = segment?.downcast_ref::<gst::ClockTime>();
        let running = segment
            .zip(buffer.pts())
            .and_then(|(segment, pts)| segment.to_running_time(pts));
        Some(MediaUnit {
            buffer,
            caps: caps?,
            arrived: super::bridge_clock().time(),
            time: base.zip(running).map(|(base, running)| base + running),
        })
    }
}
