// SPDX-License-Identifier: MIT

//! One source pad and what stands behind it.

use std::{
    iter,
    sync::{Arc, Mutex},
};

use gst::prelude::*;

use super::{
    decode_chain::{Choice, DecodeChain, Output},
    gap_filler::{self, OnGap},
    track_stream::TrackStream,
};
use crate::{
    element::lock,
    platform::{Code, Error},
    session::codecs::Codec,
};

pub struct TrackPad {
    pub feed: Arc<TrackStream>,
    pub pad: gst::GhostPad,
    stream_id: String,
    group: gst::GroupId,
    on_gap: OnGap,
    branch: Mutex<Option<DecodeChain>>,
}

impl TrackPad {
    /// `linked` hears when something is linked to the pad, or no longer.
    pub fn new(
        feed: Arc<TrackStream>,
        template: &gst::PadTemplate,
        session_id: Option<&str>,
        group: gst::GroupId,
        latency: impl Fn() -> gst::ClockTime + Send + Sync + 'static,
        linked: impl Fn(&gst::Pad, bool) + Send + Sync + Clone + 'static,
        steer: impl Fn(&gst::EventRef, (u32, u32)) -> bool + Send + Sync + 'static,
    ) -> Self {
        let kind = feed.track.kind.as_str();
        let name = format!("{kind}_{}", feed.track.name);
        let pad = gst::GhostPad::builder_from_template(template)
            .name(&name)
            .query_function(move |pad, parent, query| query_pad(pad, parent, query, &latency))
            .event_function(move |pad, parent, event| {
                if event.is_upstream() && steer(&event, picture_size(pad)) {
                    return true;
                }
                gst::Pad::event_default(pad, parent, event)
            })
            .proxy_pad_chain_function(|pad, parent, buffer| {
                // An unlinked pad is no error: its track is being paused.
                match gst::ProxyPad::chain_default(pad, parent, buffer) {
                    Err(gst::FlowError::NotLinked) => Ok(gst::FlowSuccess::Ok),
                    other => other,
                }
            })
            .build();
        let on_link = linked.clone();
        pad.connect_linked(move |pad, _| on_link(pad.upcast_ref(), true));
        pad.connect_unlinked(move |pad, _| linked(pad.upcast_ref(), false));
        Self {
            stream_id: format!("{}/{name}", session_id.unwrap_or("reactor")),
            feed,
            pad,
            group,
            on_gap: OnGap::default(),
            branch: Mutex::default(),
        }
    }

    /// With what to fill gaps.
    pub fn filling(mut self, on_gap: OnGap) -> Self {
        self.on_gap = on_gap;
        self
    }

    /// What to receive for what is linked now; of one codec if that is known.
    ///
    /// # Errors
    ///
    /// The codecs that would do if something were installed.
    pub fn choose(&self, known: Option<&'static Codec>) -> Result<Choice, Vec<&'static Codec>> {
        let downstream = self.pad.is_linked().then(|| self.pad.peer_query_caps(None));
        match known {
            Some(codec) => Choice::new(iter::once(codec), downstream.as_ref()),
            None => Choice::new(Codec::of_kind(self.feed.track.kind), downstream.as_ref()),
        }
    }

    /// Makes the elements for a stream of these caps.
    ///
    /// # Errors
    ///
    /// When what arrives is nothing that downstream takes, or cannot be
    /// decoded here.
    pub fn open(
        &self,
        bin: &gst::Bin,
        caps: &gst::Caps,
        latency: gst::ClockTime,
    ) -> Result<(), Error> {
        let media_type = caps.structure(0).map_or("", |s| s.name().as_str());
        let output = match Codec::of_media_type(media_type) {
            None => Output::Rtp,
            Some(codec) => {
                let choice = self.choose(Some(codec)).map_err(|_| {
                    Error::gpu(
                        Code::TransportError,
                        format!(
                            "{} does not take {media_type}, which the model sends",
                            self.peer()
                        ),
                    )
                })?;
                choice.output
            }
        };
        let name = format!("{}_appsrc", self.pad.name());
        let branch = DecodeChain::new(bin, &name, caps, output, latency)?;
        if let Some(src) = branch.appsrc.static_pad("src") {
            self.watch(&src);
        }
        if let Some(src) = branch.src_pad() {
            if branch.output == Output::Raw {
                gap_filler::fill(&src, self.feed.track.kind, self.on_gap);
            }
            self.mark_gaps(&src);
        }
        let opened = self
            .pad
            .set_target(branch.src_pad().as_ref())
            .map_err(|error| Error::gpu(Code::Internal, error.to_string()))
            .and_then(|()| branch.start());
        if let Err(error) = opened {
            branch.remove(bin);
            return Err(error);
        }
        let appsrc = branch.appsrc.clone();
        *self.branch() = Some(branch);
        self.feed.install(&appsrc);
        Ok(())
    }

    fn peer(&self) -> String {
        let peer = self.pad.peer().and_then(|pad| pad.parent_element());
        peer.map_or_else(|| "downstream".into(), |element| element.name().to_string())
    }

    fn branch(&self) -> std::sync::MutexGuard<'_, Option<DecodeChain>> {
        lock(&self.branch)
    }

    /// Names the stream, and passes requests for keyframes on to the model.
    fn watch(&self, src: &gst::Pad) {
        let start = self.stream_start();
        src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &mut info.data
                && event.type_() == gst::EventType::StreamStart
            {
                *event = start.clone();
            }
            gst::PadProbeReturn::Ok
        });
        let feed = Arc::downgrade(&self.feed);
        src.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
                && let Some(feed) = feed.upgrade()
            {
                feed.request_keyframe();
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The first buffer after a gap says so, whatever the decoder makes of it.
    fn mark_gaps(&self, src: &gst::Pad) {
        let feed = Arc::downgrade(&self.feed);
        src.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let (Some(feed), Some(buffer)) = (feed.upgrade(), info.buffer_mut()) {
                feed.times.note(&feed.times.frame);
                if feed.ends_gap(buffer) {
                    buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn stream_start(&self) -> gst::Event {
        gst::event::StreamStart::builder(&self.stream_id)
            .group_id(self.group)
            .build()
    }

    pub fn set_latency(&self, latency: gst::ClockTime) {
        if let Some(branch) = &*self.branch() {
            branch.appsrc.set_latency(latency, gst::ClockTime::NONE);
        }
    }

    /// Ends the stream; also one that never began.
    pub fn end(&self) {
        if !self.feed.end() {
            self.pad.push_event(self.stream_start());
            self.pad.push_event(gst::event::Eos::new());
        }
    }

    /// Takes down what stands behind the pad.
    pub fn close(&self, bin: &gst::Bin) {
        let branch = self.branch().take();
        if let Some(branch) = branch {
            let _ = self.pad.set_target(None::<&gst::Pad>);
            branch.remove(bin);
        }
    }

    pub fn output(&self) -> Option<Output> {
        self.branch().as_ref().map(|branch| branch.output)
    }
}

/// Of what the pad sends, where that is known.
fn picture_size(pad: &gst::GhostPad) -> (u32, u32) {
    let caps = pad.current_caps();
    let structure = caps.as_ref().and_then(|caps| caps.structure(0));
    let field = |name| structure.and_then(|s| s.get::<i32>(name).ok()).unwrap_or(0);
    (field("width").max(0) as u32, field("height").max(0) as u32)
}

/// Before the first unit there is nothing behind the pad to answer.
fn query_pad(
    pad: &gst::GhostPad,
    parent: Option<&gst::Object>,
    query: &mut gst::QueryRef,
    latency: &impl Fn() -> gst::ClockTime,
) -> bool {
    if pad.target().is_none()
        && let gst::QueryViewMut::Latency(query) = query.view_mut()
    {
        query.set(true, latency(), gst::ClockTime::NONE);
        return true;
    }
    gst::Pad::query_default(pad, parent, query)
}
