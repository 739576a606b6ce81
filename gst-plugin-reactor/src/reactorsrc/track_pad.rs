// SPDX-License-Identifier: MIT

//! One source pad: a ghost pad, its track's stream and the elements behind it.
//!
//! Owns the elements. The event thread opens it, a state change closes it;
//! queries, events and probes run on threads of the application's pipeline. It
//! never touches the session: it has callbacks for that.

use std::{
    iter,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use gst::prelude::*;

use super::{
    clock_step,
    debug::CAT,
    decode_chain::{DecodeChain, FormatChoice, OutputFormat},
    force_key_unit, frame_rate,
    gap_filler::{self, OnGap},
    output_caps,
    track_stream::TrackStream,
};
use crate::{
    element::{
        Guard, assert_unlocked, lock,
        statistics::{add_frames, add_track},
    },
    gst_helpers::{frame_size, internal, peer_name},
    platform::{
        Code, Error,
        track::{Direction, Kind},
    },
    session::{codecs::Codec, statistics::TrackStatistics},
};

/// A source pad, named `video_NAME` or `audio_NAME` after its track.
pub struct TrackPad {
    pub stream: Arc<TrackStream>,
    pub pad: gst::GhostPad,
    stream_id: String,
    group: gst::GroupId,
    on_gap: OnGap,
    /// What a peer gets that takes anything.
    for_any: OutputFormat,
    chain: Mutex<Option<DecodeChain>>,
    /// The stream ended while the pad was not linked.
    eos_unheard: Arc<AtomicBool>,
}

impl TrackPad {
    /// Makes the pad; the caller activates and adds it.
    ///
    /// `for_any` is the format for a peer that takes anything.
    /// `latency` answers LATENCY queries while there is no element behind the
    /// pad. `set_linked` is called when the pad is linked or unlinked.
    /// `handle_event` gets the upstream events and the picture size in pixels
    /// (0 if unknown), and returns whether it consumed the event.
    pub fn new(
        stream: Arc<TrackStream>,
        template: &gst::PadTemplate,
        (stream_id_prefix, group): (&str, gst::GroupId),
        (on_gap, for_any): (OnGap, OutputFormat),
        latency: impl Fn() -> gst::ClockTime + Send + Sync + 'static,
        set_linked: impl Fn(&gst::GhostPad, bool) + Send + Sync + Clone + 'static,
        handle_event: impl Fn(&gst::EventRef, (u32, u32)) -> bool + Send + Sync + 'static,
    ) -> Self {
        let name = format!("{}_{}", stream.track.kind.as_str(), stream.track.name);
        let pad = gst::GhostPad::builder_from_template(template)
            .name(&name)
            .query_function(move |pad, parent, query| answer_query(pad, parent, query, &latency))
            .event_function(move |pad, parent, event| {
                if event.is_upstream() && handle_event(&event, picture_size(pad)) {
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
        let set_unlinked = set_linked.clone();
        pad.connect_linked(move |pad, _| set_linked(pad, true));
        pad.connect_unlinked(move |pad, _| set_unlinked(pad, false));
        Self {
            stream_id: format!("{stream_id_prefix}/{name}"),
            stream,
            pad,
            group,
            on_gap,
            for_any,
            chain: Mutex::default(),
            eos_unheard: Arc::default(),
        }
    }

    /// Chooses the format for the pad's peer; among all codecs of the track's
    /// kind unless the codec is known.
    /// Fails as [`FormatChoice::new`].
    pub fn choose_format(
        &self,
        known: Option<&'static Codec>,
    ) -> Result<FormatChoice, Vec<&'static Codec>> {
        let downstream = self.pad.is_linked().then(|| self.pad.peer_query_caps(None));
        match known {
            Some(codec) => FormatChoice::new(iter::once(codec), downstream.as_ref(), self.for_any),
            None => {
                let codecs = Codec::of_kind(self.stream.track.kind);
                FormatChoice::new(codecs, downstream.as_ref(), self.for_any)
            }
        }
    }

    /// Has the stream send a GAP event, if there is a gap and it is to be seen.
    /// Returns whether there is.
    pub fn send_gap(&self, now: gst::ClockTime) -> bool {
        self.on_gap != OnGap::Stall && self.stream.send_gap(now)
    }

    /// Makes the elements for a stream of these caps, and starts the stream with
    /// these tags; `emission_fps` is the model's nominal frame rate, if it is known.
    /// Fails when downstream does not accept the stream, or when no installed
    /// element decodes it.
    pub fn open(
        &self,
        bin: &gst::Bin,
        caps: &gst::Caps,
        latency: gst::ClockTime,
        (tags, emission_fps): (gst::TagList, Option<f64>),
    ) -> Result<(), Error> {
        self.stream.set_latency(latency);
        let media_type = caps.structure(0).map_or("", |s| s.name().as_str());
        let format = match Codec::by_media_type(media_type) {
            None => OutputFormat::Rtp,
            Some(codec) => {
                let refused = |_| {
                    let peer = peer_name(&self.pad);
                    let text = format!("{peer} does not take {media_type}, which the model sends");
                    Error::gpu(Code::TransportError, text)
                };
                self.choose_format(Some(codec)).map_err(refused)?.format
            }
        };
        let chain = DecodeChain::new(bin, &self.appsrc_name(), caps, format, latency)?;
        if let Some(src) = chain.appsrc.static_pad("src") {
            self.install_appsrc_probes(&src);
        }
        if format != OutputFormat::Rtp {
            self.set_frame_rate(&chain, emission_fps);
        }
        if let Some(media) = &chain.media_pad {
            match format {
                OutputFormat::Raw => {
                    gap_filler::install(media, self.stream.track.kind, self.on_gap);
                }
                OutputFormat::Encoded => output_caps::complete_encoded(media),
                OutputFormat::Rtp => {}
            }
            let stream = Arc::downgrade(&self.stream);
            output_caps::refuse_misfit(media, &self.pad, format, move |error| {
                if let Some(stream) = stream.upgrade() {
                    stream.refuse(error);
                }
            });
        }
        if let Some(src) = chain.src_pad() {
            self.install_output_probe(&src);
        }
        let appsrc = self.start_chain(bin, chain)?;
        // RTP packets have none.
        if format != OutputFormat::Rtp {
            appsrc.send_event(gst::event::Tag::new(tags));
        }
        self.stream.start(&appsrc);
        Ok(())
    }

    /// Has the nominal frame rate of a video track written into caps and
    /// durations.
    fn set_frame_rate(&self, chain: &DecodeChain, emission_fps: Option<f64>) {
        if self.stream.track.kind != Kind::Video {
            return;
        }
        let downstream = self.pad.is_linked().then(|| self.pad.peer_query_caps(None));
        let rate = frame_rate::nominal(emission_fps, downstream.as_ref());
        gst::debug!(
            CAT,
            obj = self.pad,
            "nominally {} frames per second",
            frame_rate::text(rate)
        );
        if let Some(src) = chain.appsrc.static_pad("src") {
            let rate = self.stream.set_frame_rate(rate);
            output_caps::add_frame_rate(&src, rate);
        }
    }

    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    fn appsrc_name(&self) -> String {
        format!("{}_appsrc", self.pad.name())
    }

    /// Has the next caps say the frame rate that is measured. Returns a warning if
    /// downstream takes no such caps.
    pub fn adopt_frame_rate(&self, measured: gst::Fraction) -> Option<Error> {
        let (media_pad, format) = {
            let chain = self.chain();
            let chain = chain.as_ref()?;
            (chain.media_pad.clone()?, chain.format)
        };
        let mut caps = media_pad.current_caps()?;
        caps.make_mut().set("framerate", measured);
        let misfit = output_caps::misfit(&self.pad, &caps, format);
        if misfit.is_none() {
            self.stream.set_next_frame_rate(measured);
        }
        misfit
    }

    /// Starts the elements behind the pad.
    fn start_chain(&self, bin: &gst::Bin, chain: DecodeChain) -> Result<gst_app::AppSrc, Error> {
        let opened = self.pad.set_target(chain.src_pad().as_ref());
        let opened = opened.map_err(internal).and_then(|()| chain.start());
        if let Err(error) = opened {
            chain.remove(bin);
            return Err(error);
        }
        self.stream.counters.set_codec(chain.decoder.clone());
        let appsrc = chain.appsrc.clone();
        *self.chain() = Some(chain);
        Ok(appsrc)
    }

    fn chain(&self) -> Guard<'_, Option<DecodeChain>> {
        lock(&self.chain)
    }

    /// Replaces the appsrc's STREAM_START, tells the stream when no GAP event waits
    /// in the appsrc any more, and turns force-key-unit events into keyframe
    /// requests to the model.
    fn install_appsrc_probes(&self, src: &gst::Pad) {
        let start = self.stream_start();
        let stream = Arc::downgrade(&self.stream);
        let mask = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        src.add_probe(mask, move |src, info| {
            let Some(gst::PadProbeData::Event(event)) = &mut info.data else {
                return gst::PadProbeReturn::Ok;
            };
            match event.type_() {
                gst::EventType::StreamStart => *event = start.clone(),
                gst::EventType::CustomDownstream => clock_step::replace_event(src, event),
                // A flush throws away what waits.
                gst::EventType::Gap | gst::EventType::FlushStop => {
                    if let Some(stream) = stream.upgrade() {
                        stream.gap_has_left();
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        let stream = Arc::downgrade(&self.stream);
        force_key_unit::watch(src, move || {
            if let Some(stream) = stream.upgrade() {
                stream.request_keyframe();
            }
        });
    }

    fn install_output_probe(&self, src: &gst::Pad) {
        let stream = Arc::downgrade(&self.stream);
        let (pad, eos_unheard) = (self.pad.downgrade(), self.eos_unheard.clone());
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        src.add_probe(mask, move |_, info| {
            let Some(stream) = stream.upgrade() else {
                return gst::PadProbeReturn::Ok;
            };
            match &mut info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => stream.record_output(buffer),
                Some(gst::PadProbeData::Event(event)) => {
                    if let gst::EventView::Caps(caps) = event.view()
                        && let Some((width, height)) = frame_size(caps.caps())
                    {
                        stream.counters.set_size(width, height);
                    }
                    if event.type_() == gst::EventType::Eos
                        && let Some(pad) = pad.upgrade()
                    {
                        eos_unheard.store(!pad.is_linked(), Ordering::Release);
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn stream_start(&self) -> gst::Event {
        gst::event::StreamStart::builder(&self.stream_id)
            .group_id(self.group)
            .build()
    }

    /// The pad's part of the element's `stats` property; `of_session` is what the
    /// connection says of the track.
    pub fn stats(&self, of_session: Option<&TrackStatistics>) -> gst::Structure {
        let mut stats = self.stream.stats();
        let kind = self.stream.track.kind;
        let frames = self.stream.counters.read(Instant::now());
        let is_raw = self.format() == Some(OutputFormat::Raw);
        if self.format() != Some(OutputFormat::Rtp) {
            stats = add_frames(stats, &frames, Direction::RecvOnly, kind, is_raw);
        }
        if let Some(track) = of_session {
            stats = add_track(stats, track, Direction::RecvOnly);
        }
        stats.build()
    }

    /// The latency that the appsrc reports, if there is one.
    pub fn set_latency(&self, latency: gst::ClockTime) {
        self.stream.set_latency(latency);
        let appsrc = self.chain().as_ref().map(|chain| chain.appsrc.clone());
        if let Some(appsrc) = appsrc {
            // It posts a message, and the application may ask for something then.
            assert_unlocked();
            appsrc.set_latency(latency, gst::ClockTime::NONE);
        }
    }

    /// Ends the stream; also one of which no unit has arrived.
    /// Fails when an element does not reach the bin's state.
    pub fn end(&self, bin: &gst::Bin) -> Result<(), Error> {
        if self.stream.end() {
            return Ok(());
        }
        if !self.pad.is_linked() {
            self.eos_unheard.store(true, Ordering::Release);
            return Ok(());
        }
        self.push_eos(bin)
    }

    /// Ends the stream once more, for a peer that was linked after its end.
    /// Fails when an element does not reach the bin's state.
    pub fn end_for_new_peer(&self, bin: &gst::Bin) -> Result<(), Error> {
        match self.eos_unheard.swap(false, Ordering::AcqRel) {
            true => self.push_eos(bin),
            false => Ok(()),
        }
    }

    /// Has an appsrc of its own push EOS, since a sink that waits for its first
    /// buffer keeps the thread that pushes.
    fn push_eos(&self, bin: &gst::Bin) -> Result<(), Error> {
        let mut chain = DecodeChain::without_media(bin, &self.appsrc_name())?;
        if let Some(src) = chain.src_pad() {
            self.install_appsrc_probes(&src);
            self.install_output_probe(&src);
        }
        let before = self.chain().take();
        if let Some(before) = before {
            chain.replace(before);
        }
        let appsrc = self.start_chain(bin, chain)?;
        // Fails only while the element stops.
        let _ = appsrc.end_of_stream();
        Ok(())
    }

    /// Removes the elements behind the pad.
    pub fn close(&self, bin: &gst::Bin) {
        let chain = self.chain().take();
        if let Some(chain) = chain {
            let _ = self.pad.set_target(None::<&gst::Pad>);
            chain.remove(bin);
        }
    }

    /// The format that the pad sends; `None` while it is not open.
    pub fn format(&self) -> Option<OutputFormat> {
        self.chain().as_ref().map(|chain| chain.format)
    }
}

/// Width and height of the pad's pictures in pixels, 0 if unknown.
fn picture_size(pad: &gst::GhostPad) -> (u32, u32) {
    let caps = pad.current_caps();
    caps.and_then(|caps| frame_size(&caps)).unwrap_or_default()
}

/// Answers LATENCY queries itself while no element behind the pad can.
fn answer_query(
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
