// SPDX-License-Identifier: MIT

//! What arrives: from webrtcbin's pads through a depayloader to the port.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use gst::prelude::*;
use gst_webrtc::WebRTCRTPTransceiver;

use super::{CAT, Heard, Link, peer};
use crate::{
    platform::{Code, Error},
    session::{
        codecs::Codec,
        machine::Input,
        port::{Subscription, Unit},
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
    link: &Link,
    receivers: &Receivers,
    subscriptions: Vec<Subscription>,
) {
    let slots = subscriptions
        .iter()
        .map(|s| (s.track.name.clone(), OnceLock::new()))
        .collect();
    let _ = receivers.0.set(slots);
    let link = link.clone();
    let receivers = receivers.clone();
    let pipeline = pipeline.downgrade();
    webrtcbin.connect_pad_added(move |_, pad| {
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let Some(pipeline) = pipeline.upgrade() else {
            return;
        };
        let result = match find(pad, &link, &receivers, &subscriptions) {
            Some(subscription) => receive(&pipeline, pad, &link, &receivers, subscription),
            None => Err(peer::internal("a track came that was not asked for")),
        };
        if let Err(error) = result {
            (link.inputs)(Input::TransportFailed(error));
        }
    });
}

/// Whose stream a new pad has. webrtcbin 1.22 takes a source that the answer
/// does not announce for one of the first m-line; the payload type knows
/// better.
fn find<'a>(
    pad: &gst::Pad,
    link: &Link,
    receivers: &Receivers,
    subscriptions: &'a [Subscription],
) -> Option<&'a Subscription> {
    let payload = payload(pad);
    let tracks = link.answered.get().map_or(&[][..], Vec::as_slice);
    // The m-lines are in the order of the subscriptions.
    let fits = |mline: &usize| {
        let mut track = tracks.iter().filter(|t| t.mline_index == *mline);
        track.any(|t| {
            t.codecs
                .iter()
                .any(|c| Some(i32::from(c.payload)) == payload)
        })
    };
    let is_free = |mline: &usize| {
        let track = subscriptions.get(*mline).map(|s| &s.track.name);
        let slot = track.and_then(|name| receivers.slot(name));
        slot.is_some_and(|slot| slot.get().is_none())
    };
    let transceiver: Option<WebRTCRTPTransceiver> = pad.property("transceiver");
    let told = transceiver.map(|t| t.mlineindex() as usize);
    let mline = told
        .filter(fits)
        .or_else(|| (0..subscriptions.len()).find(|mline| fits(mline) && is_free(mline)))?;
    subscriptions.get(mline)
}

fn payload(pad: &gst::Pad) -> Option<i32> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0)?.get("payload").ok()
}

fn receive(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    link: &Link,
    receivers: &Receivers,
    subscription: &Subscription,
) -> Result<(), Error> {
    listen(pad, link.heard.clone());
    let mut chain = Vec::new();
    if !subscription.rtp {
        chain.push(depayloader(pad, &subscription.track.name)?);
    }
    let sink = appsink(pipeline, link, subscription);
    if let Some(pad) = sink.static_pad("sink")
        && let Some(slot) = receivers.slot(&subscription.track.name)
    {
        let _ = slot.set(pad.downgrade());
    }
    chain.push(sink.upcast());

    pipeline.add_many(&chain).map_err(peer::internal)?;
    gst::Element::link_many(&chain).map_err(peer::internal)?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(peer::internal)?;
    }
    let first = chain.first().and_then(|e| e.static_pad("sink"));
    let first = first.ok_or_else(|| peer::internal("no sink pad"))?;
    pad.link(&first).map_err(peer::internal)?;
    gst::debug!(CAT, obj = pad, "receiving {}", subscription.track.name);
    Ok(())
}

/// Notes for the watchdog that something came.
fn listen(pad: &gst::Pad, heard: Arc<Heard>) {
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(what, move |_, _| {
        heard.mark();
        gst::PadProbeReturn::Ok
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
    let depayloader = peer::make(codec.depayloader)?;
    // Off by default, and then a loss smears until the next keyframe.
    for property in ["request-keyframe", "wait-for-keyframe"] {
        if depayloader.has_property(property) {
            depayloader.set_property(property, true);
        }
    }
    Ok(depayloader)
}

fn appsink(pipeline: &gst::Pipeline, link: &Link, subscription: &Subscription) -> gst_app::AppSink {
    let consumer = subscription.consumer.clone();
    let open = link.open.clone();
    let pipeline = pipeline.downgrade();
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if open.load(Ordering::Acquire)
                        && let Some(pipeline) = pipeline.upgrade()
                        && let Some(unit) = unit(&sample, &pipeline)
                    {
                        consumer.consume(unit);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        )
        .build()
}

fn unit(sample: &gst::Sample, pipeline: &gst::Pipeline) -> Option<Unit> {
    let buffer = sample.buffer_owned()?;
    let caps = sample.caps_owned()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>();
    let running = segment
        .zip(buffer.pts())
        .and_then(|(segment, pts)| segment.to_running_time(pts));
    let time = pipeline.base_time().zip(running).map(|(base, t)| base + t);
    Some(Unit { buffer, caps, time })
}
