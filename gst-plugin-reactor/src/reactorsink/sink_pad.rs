// SPDX-License-Identifier: MIT

//! One sink pad and its path to the transport: gate, encoder, appsink.
//!
//! Owns the elements and the binding to a track. Called on the element's event
//! thread and in state changes; the appsink's callback runs on a streaming
//! thread of the application's pipeline, and never waits for the transport.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use gst::{glib, prelude::*};

use super::{
    debug::CAT, encode_chain::EncodeChain, encoder::EncoderChoice, event::SinkEvent, gate::Gate,
    loss_based_controller::LossBasedController, settings::SinkSettings,
};
use crate::{
    element::{
        clock_bridge::ClockBridge,
        lock,
        statistics::{add_frames, add_track},
    },
    gst_helpers::{frame_size, keyframe_request, remove_elements},
    platform::{
        Code, Error,
        track::{Direction, Kind, Track},
    },
    session::{
        Session, bridge::MediaUnit, bridge_clock, codecs::Codec, frame_counters::FrameCounters,
        statistics::TrackStatistics,
    },
};

#[cfg(test)]
mod tests;

/// A request pad; it is bound to a track once the tracks are known.
pub struct SinkPad {
    pub pad: gst::GhostPad,
    pub kind: Kind,
    gate: Gate,
    sink: gst_app::AppSink,
    pub counters: Arc<FrameCounters>,
    state: Mutex<SinkPadState>,
}

#[derive(Default)]
struct SinkPadState {
    /// The track that the pad is bound to.
    track: Option<Track>,
    /// The caps that upstream sends.
    caps: Option<gst::Caps>,
    /// The codecs that the server accepts on the track.
    agreed: Option<Vec<&'static Codec>>,
    chain: Option<EncodeChain>,
    /// The session knows in which codec the track is sent.
    is_codec_reported: bool,
}

impl SinkPad {
    /// Makes the pad and its elements, in the bin's state; the caller adds the
    /// pad. `send_event` is called on a streaming thread.
    /// Fails when an element is not installed, or does not start.
    pub fn new(
        bin: &gst::Bin,
        template: &gst::PadTemplate,
        name: &str,
        kind: Kind,
        send_event: impl Fn(SinkEvent) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let pad = gst::GhostPad::builder_from_template(template)
            .name(name)
            .build();
        let name = pad.name();
        let on_caps = move |caps| send_event(SinkEvent::Caps(name.to_string(), caps));
        let gate = Gate::new(on_caps)?;
        let sink = gst_app::AppSink::builder()
            .sync(true)
            .async_(false)
            .qos(false)
            .enable_last_sample(false)
            .build();
        bin.add_many([&gate.queue, sink.upcast_ref()])?;
        gate.queue.link(&sink)?;
        pad.set_target(gate.queue.static_pad("sink").as_ref())?;
        gate.follow_liveness(&pad, &sink);
        gate.drop_early_allocation_queries(&pad, &sink);
        for element in [sink.upcast_ref(), &gate.queue] {
            element.sync_state_with_parent()?;
        }
        Ok(Arc::new(Self {
            pad,
            kind,
            gate,
            sink,
            counters: Arc::default(),
            state: Mutex::default(),
        }))
    }

    pub fn track(&self) -> Option<Track> {
        lock(&self.state).track.clone()
    }

    /// Whether its stream waits until the pad is open.
    pub fn is_held(&self) -> bool {
        self.pad.is_linked() && self.gate.is_holding()
    }

    /// Hands an event to the appsink.
    pub fn send_to_sink(&self, event: gst::Event) {
        self.sink.send_event(event);
    }

    pub fn bind(&self, track: Track) {
        lock(&self.state).track = Some(track);
    }

    /// Unbinds the pad, because the session has ended or was left: all buffers
    /// are dropped again.
    pub fn unbind(&self) {
        self.shut();
        lock(&self.state).track = None;
    }

    /// Suspends sending: a live stream is dropped, any other waits.
    pub fn suspend(&self) {
        self.shut();
        self.gate.hold();
    }

    /// The stream is to end: it waits for the session no longer.
    pub fn end(&self) {
        self.gate.end();
    }

    fn shut(&self) {
        self.gate.close();
        let mut state = lock(&self.state);
        state.agreed = None;
        state.is_codec_reported = false;
    }

    /// The codecs that may be offered for the pad's track: that of upstream if
    /// it encodes, else those that can be encoded here. The one that will be
    /// sent, if the server accepts it, comes first: webrtcbin before 1.24.12
    /// offers retransmission (RFC 4588) for the first one only.
    /// Fails when upstream's format cannot be sent, and as [`EncoderChoice::new`].
    pub fn codecs(&self, settings: &SinkSettings) -> Result<Vec<&'static Codec>, Error> {
        let caps = lock(&self.state).caps.clone();
        let caps = caps.or_else(|| self.pad.is_linked().then(|| self.pad.peer_query_caps(None)));
        let sendable = || Codec::of_kind(self.kind).filter(|codec| codec.can_payload());
        if let Some(caps) = caps.filter(|caps| !caps.is_any() && !caps.is_empty())
            && !caps.iter().any(|s| s.name().ends_with("/x-raw"))
        {
            let encoded: Vec<_> = sendable()
                .filter(|codec| codec.caps().can_intersect(&caps))
                .collect();
            if encoded.is_empty() {
                let text = format!(
                    "pad {} is fed {caps}, which no model takes",
                    self.pad.name()
                );
                return Err(Error::gpu(Code::TrackRejected, text));
            }
            return Ok(encoded);
        }
        let encoder_name = settings.encoder_name(self.kind);
        // The encoder that is named may be the only one for its codec, and has no rank.
        let can_encode =
            |codec: &Codec| codec.can_encode() || !codec.encoders(encoder_name).is_empty();
        let mut encodable: Vec<_> = sendable().filter(|codec| can_encode(codec)).collect();
        let choice = EncoderChoice::new(self.kind, &encodable, encoder_name)?;
        encodable.sort_by_key(|codec| *codec != choice.codec);
        Ok(encodable)
    }

    pub fn set_caps(&self, caps: gst::Caps) {
        if let Some((width, height)) = frame_size(&caps) {
            self.counters.set_size(width, height);
        }
        lock(&self.state).caps = Some(caps);
    }

    pub fn set_agreed(&self, codecs: Vec<&'static Codec>) {
        lock(&self.state).agreed = Some(codecs);
    }

    /// Makes the encode chain once upstream's caps and the agreed codecs are
    /// known. Returns the codec, if the session does not know it yet.
    /// Fails when the server does not accept what upstream sends, when upstream
    /// changes its media type in mid-stream, and as [`EncodeChain::encoding`].
    pub fn prepare(
        &self,
        bin: &gst::Bin,
        settings: &SinkSettings,
        setup: impl Fn(&gst::Element),
    ) -> Result<Option<&'static Codec>, Error> {
        let (caps, agreed) = {
            let state = lock(&self.state);
            match (&state.caps, &state.agreed) {
                (Some(caps), Some(agreed)) => (caps.clone(), agreed.clone()),
                _ => return Ok(None),
            }
        };
        let media_type = caps.structure(0).map_or("", |s| s.name().as_str());
        let accepts = |chain: &EncodeChain| chain.accepts(media_type, &agreed);
        let accepted = lock(&self.state).chain.as_ref().map(accepts);
        if accepted == Some(false) {
            let change = format!("cannot change to {media_type} in mid-stream");
            return Err(self.rejected(&change));
        }
        if accepted.is_none() {
            // Without the lock: the application's code runs in here.
            let chain = match Codec::by_media_type(media_type) {
                Some(codec) if agreed.contains(&codec) => EncodeChain::passthrough(codec, settings),
                Some(codec) => {
                    let names: Vec<_> = agreed.iter().map(|c| c.encoding_name).collect();
                    let (sent, taken) = (codec.encoding_name, names.join(", "));
                    return Err(self.rejected(&format!("is fed {sent}, the server takes {taken}")));
                }
                None => EncodeChain::encoding(self.kind, &agreed, settings, setup)?,
            };
            self.adopt(bin, chain)?;
        }
        let mut state = lock(&self.state);
        let codec = state.chain.as_ref().map(|chain| chain.codec);
        let is_reported = codec.is_some() && std::mem::replace(&mut state.is_codec_reported, true);
        Ok(codec.filter(|_| !is_reported))
    }

    /// Puts the encode chain into the bin, unless the pad is closed meanwhile. Of one
    /// that does not start nothing is left: the next start may have another encoder.
    fn adopt(&self, bin: &gst::Bin, chain: EncodeChain) -> Result<(), Error> {
        let inserted = chain.insert(bin, &self.gate.queue, &self.sink);
        let mut state = lock(&self.state);
        let is_closed = state.agreed.is_none();
        if is_closed || inserted.is_err() {
            drop(state);
            self.remove_chain(bin, chain);
            return if is_closed { Ok(()) } else { inserted };
        }
        self.counters.set_codec(chain.encoder());
        state.chain = Some(chain);
        Ok(())
    }

    fn remove_chain(&self, bin: &gst::Bin, chain: EncodeChain) {
        if chain.remove(bin) {
            let _ = self.gate.queue.link(&self.sink);
        }
    }

    fn rejected(&self, problem: &str) -> Error {
        let text = format!("pad {} {problem}", self.pad.name());
        Error::gpu(Code::TrackRejected, text)
    }

    /// Opens the pad for a session that takes its track, with a keyframe first.
    /// `now`, `delay` and the result are those of [`Gate::open`]. Not before its codec is
    /// known: the sender may have been opened for the pad that fed the track before.
    pub fn open(
        &self,
        session: &Arc<Session>,
        now: gst::ClockTime,
        delay: Option<i64>,
    ) -> Option<i64> {
        let track = self.track()?;
        if !lock(&self.state).is_codec_reported {
            return None;
        }
        self.forward_samples(session, track.name);
        let delay = self.gate.open(now, delay);
        self.request_keyframe();
        delay
    }

    fn forward_samples(&self, session: &Arc<Session>, track: String) {
        let session = Arc::downgrade(session);
        let flow = self.gate.flow.clone();
        let counters = self.counters.clone();
        let clock_bridge = Mutex::new(ClockBridge::default());
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let session = session.upgrade();
            let sender = session.and_then(|session| session.track_sender(&track));
            let sent = sender.zip(media_unit(sink, &sample, &mut lock(&clock_bridge)));
            let is_sent = sent.is_some_and(|(sender, unit)| sender.push(unit));
            flow.count_sample(is_sent);
            match is_sent {
                true => counters.record_frame(Instant::now(), None),
                false => counters.count_dropped(),
            }
            Ok(gst::FlowSuccess::Ok)
        });
        self.sink.set_callbacks(callbacks.build());
    }

    /// Has `adapt` update the bitrate, and sets the encoder to a new one.
    pub fn adapt(&self, adapt: impl FnOnce(&mut LossBasedController) -> Option<u32>) {
        let changed = {
            let mut state = lock(&self.state);
            state.chain.as_mut().and_then(|chain| chain.adapt(adapt))
        };
        // Without the lock: the application's code runs in here.
        if let Some((encoder, target)) = changed {
            gst::debug!(CAT, obj = self.pad, "{} bit/s", target.bitrate);
            target.set(&encoder);
        }
    }

    /// Asks the encoder for a keyframe, ours or upstream's.
    pub fn request_keyframe(&self) {
        if self.kind == Kind::Video
            && let Some(pad) = self.sink.static_pad("sink")
        {
            gst::debug!(CAT, obj = self.pad, "asking for a keyframe");
            pad.push_event(keyframe_request());
        }
    }

    /// Removes all elements of the pad, the sink first: in PAUSED it keeps the others
    /// from stopping.
    pub fn close(&self, bin: &gst::Bin) {
        self.gate.close();
        remove_elements(bin, &[self.sink.clone().upcast()]);
        let chain = {
            let mut state = lock(&self.state);
            state.agreed = None;
            state.chain.take()
        };
        if let Some(chain) = chain {
            chain.remove(bin);
        }
        remove_elements(bin, std::slice::from_ref(&self.gate.queue));
    }

    /// Unbinds the pad and removes the encoder, for a new session.
    pub fn reset(&self, bin: &gst::Bin) {
        self.unbind();
        self.gate.reset();
        let chain = lock(&self.state).chain.take();
        if let Some(chain) = chain {
            self.remove_chain(bin, chain);
        }
    }

    /// The pad's part of the element's `stats` property; `of_session` is what the
    /// connection says of the track.
    pub fn stats(&self, of_session: Option<&TrackStatistics>) -> gst::Structure {
        let state = lock(&self.state);
        let chain = state.chain.as_ref();
        let mut stats = gst::Structure::builder("track")
            .field("kind", self.kind.as_str())
            .field("track", state.track.as_ref().map(|t| t.name.clone()))
            .field("codec", chain.map(|chain| chain.codec.encoding_name));
        if let Some(chain) = chain {
            stats = chain.add_stats(stats);
        }
        stats = self.gate.add_stats(stats);
        let frames = self.counters.read(Instant::now());
        let is_raw = frames.codec.is_some();
        stats = add_frames(stats, &frames, Direction::SendOnly, self.kind, is_raw);
        if let Some(track) = of_session {
            stats = add_track(stats, track, Direction::SendOnly);
        }
        stats.build()
    }
}

/// A sample as a unit with its time on the bridge's clock; `None` without a
/// timestamp.
fn media_unit(
    sink: &gst_app::AppSink,
    sample: &gst::Sample,
    clock_bridge: &mut ClockBridge,
) -> Option<MediaUnit> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let buffer = sample.buffer_owned()?;
    let running = segment.to_running_time(buffer.pts()?)?;
    Some(MediaUnit {
        arrived: bridge_clock().time(),
        time: clock_bridge.bridge_time(sink.upcast_ref(), running),
        caps: sample.caps_owned()?,
        buffer,
    })
}
