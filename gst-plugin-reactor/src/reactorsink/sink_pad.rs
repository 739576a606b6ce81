// SPDX-License-Identifier: MIT

//! One sink pad and the way from it to the transport: a queue that never
//! blocks, an encoder where one is needed, an appsink.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gst::{glib, prelude::*};

use super::{encoder, events::SinkEvent, imp::CAT, loss_based_controller::LossBasedController};
use crate::{
    element::{clock_bridge::ClockBridge, lock},
    platform::{
        Code, Error,
        track::{Kind, Track},
    },
    session::{
        Session, bitrate_allocator::BitrateLimits, bridge::MediaUnit, bridge_clock, codecs::Codec,
    },
};

/// What waits for an encoder that is slower than the camera: then the oldest
/// is dropped.
const QUEUE_BUFFERS: u32 = 5;

pub struct SinkPad {
    pub pad: gst::GhostPad,
    pub kind: Kind,
    queue: gst::Element,
    sink: gst_app::AppSink,
    valve: Arc<Gate>,
    state: Mutex<State>,
}

/// What the pad's streaming threads look at.
#[derive(Default)]
struct Gate {
    /// What comes in goes through; until then a camera's pictures are
    /// dropped, and a file's wait.
    open: AtomicBool,
    /// Upstream does not wait for anybody.
    live: AtomicBool,
    /// The running time of the first buffer that waits.
    waiting: Mutex<Option<gst::ClockTime>>,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The track it is bound to.
    track: Option<Track>,
    /// What upstream sends.
    caps: Option<gst::Caps>,
    /// What the server takes on the track.
    agreed: Option<Vec<&'static Codec>>,
    chain: Option<Chain>,
    /// The session knows in which codec we send.
    told: bool,
    /// Keeps back what is not live.
    hold: Option<gst::PadProbeId>,
}

/// What stands between queue and appsink.
struct Chain {
    codec: &'static Codec,
    elements: Vec<gst::Element>,
    controller: LossBasedController,
}

impl SinkPad {
    pub fn new(
        bin: &gst::Bin,
        template: &gst::PadTemplate,
        name: &str,
        kind: Kind,
        events: impl Fn(SinkEvent) + Send + Sync + Clone + 'static,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-buffers", QUEUE_BUFFERS)
            .property("max-size-bytes", 0u32)
            .property("max-size-time", 0u64)
            .property_from_str("leaky", "downstream")
            .build()?;
        let sink = gst_app::AppSink::builder()
            .sync(true)
            .async_(false)
            .qos(false)
            .enable_last_sample(false)
            .build();
        bin.add_many([&queue, sink.upcast_ref()])?;
        queue.link(&sink)?;
        let target = queue.static_pad("sink");
        let pad = gst::GhostPad::builder_from_template(template)
            .name(name)
            .build();
        pad.set_target(target.as_ref())?;
        let sink_pad = Arc::new(Self {
            pad,
            kind,
            queue,
            sink,
            valve: Arc::default(),
            state: Mutex::default(),
        });
        sink_pad.watch_liveness();
        sink_pad.watch(events);
        sink_pad.hold();
        for element in [sink_pad.sink.upcast_ref(), &sink_pad.queue] {
            element.sync_state_with_parent()?;
        }
        Ok(sink_pad)
    }

    /// A camera must never wait; a file can, and is sent whole, at its pace.
    fn watch_liveness(&self) {
        let Some(entry) = self.queue.static_pad("sink") else {
            return;
        };
        let (pad, queue, sink) = (
            self.pad.downgrade(),
            self.queue.downgrade(),
            self.sink.downgrade(),
        );
        let valve = self.valve.clone();
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some(gst::PadProbeData::Event(event)) = &info.data else {
                return gst::PadProbeReturn::Ok;
            };
            if event.type_() == gst::EventType::Segment
                && let (Some(pad), Some(queue), Some(sink)) =
                    (pad.upgrade(), queue.upgrade(), sink.upgrade())
            {
                let mut query = gst::query::Latency::new();
                let live = !pad.peer_query(&mut query) || query.result().0;
                valve.live.store(live, Ordering::Release);
                queue.set_property_from_str("leaky", if live { "downstream" } else { "no" });
                sink.set_sync(!live);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Lets what is not live wait for the session.
    fn hold(&self) {
        let Some(src) = self.queue.static_pad("src") else {
            return;
        };
        if lock(&self.state).hold.is_some() {
            return;
        }
        let valve = self.valve.clone();
        let hold = src.add_probe(
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST,
            move |pad, info| {
                if valve.live.load(Ordering::Acquire) || valve.open.load(Ordering::Acquire) {
                    return gst::PadProbeReturn::Pass;
                }
                let pts = match &info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts(),
                    Some(gst::PadProbeData::BufferList(list)) => list.get(0).and_then(|b| b.pts()),
                    _ => None,
                };
                *lock(&valve.waiting) = running_time(pad, pts);
                gst::PadProbeReturn::Ok
            },
        );
        lock(&self.state).hold = hold;
    }

    /// What waited goes on now. Its running times are those of the moment it
    /// was to go, so they are moved by `delay`, or to `now`; returns by how
    /// much.
    fn release(&self, now: gst::ClockTime, delay: Option<i64>) -> Option<i64> {
        let src = self.queue.static_pad("src")?;
        let hold = lock(&self.state).hold.take();
        let waiting = lock(&self.valve.waiting).take();
        let delay = waiting.map(|time| {
            delay.unwrap_or(now.nseconds().cast_signed() - time.nseconds().cast_signed())
        });
        if let Some(delay) = delay {
            src.set_offset(delay);
        }
        if let Some(hold) = hold {
            src.remove_probe(hold);
        }
        delay
    }

    /// Drops what comes before its time, and tells of the format.
    fn watch(&self, events: impl Fn(SinkEvent) + Send + Sync + 'static) {
        let Some(src) = self.queue.static_pad("src") else {
            return;
        };
        let valve = self.valve.clone();
        let name = self.pad.name();
        src.add_probe(
            gst::PadProbeType::BUFFER
                | gst::PadProbeType::BUFFER_LIST
                | gst::PadProbeType::EVENT_DOWNSTREAM,
            move |_, info| match &info.data {
                Some(gst::PadProbeData::Event(event)) => {
                    if let gst::EventView::Caps(caps) = event.view() {
                        events(SinkEvent::Caps(name.to_string(), caps.caps_owned()));
                    }
                    gst::PadProbeReturn::Ok
                }
                _ => {
                    valve.received.fetch_add(1, Ordering::Relaxed);
                    if valve.open.load(Ordering::Acquire) {
                        return gst::PadProbeReturn::Ok;
                    }
                    valve.dropped.fetch_add(1, Ordering::Relaxed);
                    gst::PadProbeReturn::Drop
                }
            },
        );
    }

    pub fn track(&self) -> Option<Track> {
        lock(&self.state).track.clone()
    }

    pub fn bind(&self, track: Track) {
        lock(&self.state).track = Some(track);
    }

    /// The session is over or was left: everything is dropped again.
    pub fn unbind(&self) {
        self.shut();
        lock(&self.state).track = None;
    }

    /// Nothing can be sent for now: a camera's pictures are dropped, a file
    /// waits.
    pub fn suspend(&self) {
        self.shut();
        self.hold();
    }

    fn shut(&self) {
        self.valve.open.store(false, Ordering::Release);
        let mut state = lock(&self.state);
        state.agreed = None;
        state.told = false;
    }

    /// What may be offered for this pad's track: what upstream sends, if it
    /// is encoded already, else what can be encoded here. What will be sent,
    /// if the server takes it, comes first: webrtcbin before 1.24.12 offers to
    /// repeat that only.
    pub fn codecs(&self, wanted: Option<&str>) -> Result<Vec<&'static Codec>, Error> {
        let upstream = lock(&self.state).caps.clone();
        let upstream =
            upstream.or_else(|| self.pad.is_linked().then(|| self.pad.peer_query_caps(None)));
        let of_kind = || Codec::of_kind(self.kind).filter(|codec| codec.can_payload());
        if let Some(caps) = upstream.filter(|caps| !caps.is_any() && !caps.is_empty()) {
            let raw = caps.iter().any(|s| s.name().ends_with("/x-raw"));
            if !raw {
                let encoded: Vec<_> = of_kind()
                    .filter(|c| c.caps().can_intersect(&caps))
                    .collect();
                if !encoded.is_empty() {
                    return Ok(encoded);
                }
                return Err(Error::gpu(
                    Code::TrackRejected,
                    format!(
                        "pad {} is fed {caps}, which no model takes",
                        self.pad.name()
                    ),
                ));
            }
        }
        let mut encodable: Vec<_> = of_kind().filter(|codec| codec.can_encode()).collect();
        let choice = encoder::Choice::new(self.kind, &encodable, wanted)?;
        encodable.sort_by_key(|codec| *codec != choice.codec);
        Ok(encodable)
    }

    pub fn set_caps(&self, caps: gst::Caps) {
        lock(&self.state).caps = Some(caps);
    }

    pub fn set_agreed(&self, codecs: Vec<&'static Codec>) {
        lock(&self.state).agreed = Some(codecs);
    }

    /// Once it is known what comes and what the server takes: makes the way.
    /// Returns in which codec, the first time.
    pub fn prepare(
        &self,
        bin: &gst::Bin,
        wanted: Option<&str>,
        bitrate: BitrateLimits,
        setup: impl Fn(&gst::Element),
    ) -> Result<Option<&'static Codec>, Error> {
        let mut state = lock(&self.state);
        let (Some(caps), Some(agreed)) = (&state.caps, &state.agreed) else {
            return Ok(None);
        };
        let media_type = caps
            .structure(0)
            .map(|s| s.name().to_string())
            .unwrap_or_default();
        if let Some(chain) = &state.chain {
            let raw = media_type.ends_with("/x-raw");
            let same = agreed.contains(&chain.codec)
                && (raw != chain.elements.is_empty())
                && (raw || chain.codec.media_type == media_type);
            if same {
                let codec = chain.codec;
                let first = !std::mem::replace(&mut state.told, true);
                return Ok(first.then_some(codec));
            }
            return Err(Error::gpu(
                Code::TrackRejected,
                format!(
                    "pad {} cannot change to {media_type} in mid-stream",
                    self.pad.name()
                ),
            ));
        }
        let chain = match Codec::by_media_type(&media_type) {
            Some(codec) if agreed.contains(&codec) => Chain {
                codec,
                elements: Vec::new(),
                controller: LossBasedController::new(bitrate),
            },
            Some(codec) => {
                let names: Vec<_> = agreed.iter().map(|c| c.encoding_name).collect();
                let (sent, taken) = (codec.encoding_name, names.join(", "));
                let text = format!(
                    "pad {} is fed {sent}, the server takes {taken}",
                    self.pad.name()
                );
                return Err(Error::gpu(Code::TrackRejected, text));
            }
            None => self.encoding(agreed, wanted, bitrate, setup)?,
        };
        self.insert(bin, &chain)?;
        let codec = chain.codec;
        state.chain = Some(chain);
        state.told = true;
        Ok(Some(codec))
    }

    fn encoding(
        &self,
        agreed: &[&'static Codec],
        wanted: Option<&str>,
        bitrate: BitrateLimits,
        setup: impl Fn(&gst::Element),
    ) -> Result<Chain, Error> {
        let choice = encoder::Choice::new(self.kind, agreed, wanted)?;
        let controller = LossBasedController::new(bitrate);
        let elements = choice.elements(controller.target())?;
        if let Some(encoder) = elements.last() {
            setup(encoder);
        }
        Ok(Chain {
            codec: choice.codec,
            elements,
            controller,
        })
    }

    /// Puts the elements between queue and appsink. Buffers do not pass yet;
    /// events wait in the meantime.
    fn insert(&self, bin: &gst::Bin, chain: &Chain) -> Result<(), Error> {
        let (Some(first), Some(last)) = (chain.elements.first(), chain.elements.last()) else {
            return Ok(());
        };
        let internal = |error: glib::BoolError| Error::gpu(Code::Internal, error.to_string());
        bin.add_many(&chain.elements).map_err(internal)?;
        gst::Element::link_many(&chain.elements).map_err(internal)?;
        last.link(&self.sink)
            .or_else(|_| {
                // Still linked to the queue.
                self.queue.unlink(&self.sink);
                last.link(&self.sink)
            })
            .map_err(internal)?;
        for element in chain.elements.iter().rev() {
            element.sync_state_with_parent().map_err(internal)?;
        }
        self.queue.link(first).map_err(internal)
    }

    /// Lets what comes in pass, beginning with a keyframe. What waited is
    /// moved by `delay`, or to `now`; returns by how much.
    pub fn open(
        &self,
        session: &Arc<Session>,
        now: gst::ClockTime,
        delay: Option<i64>,
    ) -> Option<i64> {
        let track = self.track()?;
        self.deliver(session, track.name);
        self.valve.open.store(true, Ordering::Release);
        let delay = self.release(now, delay);
        self.request_keyframe();
        delay
    }

    fn deliver(&self, session: &Arc<Session>, track: String) {
        let session = Arc::downgrade(session);
        let valve = self.valve.clone();
        let timing = Mutex::new(ClockBridge::default());
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let track_sender = session
                .upgrade()
                .and_then(|session| session.track_sender(&track));
            let sent = track_sender.zip(unit(sink, &sample, &mut lock(&timing)));
            let sent = sent.is_some_and(|(track_sender, unit)| track_sender.push(unit));
            let counter = if sent { &valve.sent } else { &valve.dropped };
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(gst::FlowSuccess::Ok)
        });
        self.sink.set_callbacks(callbacks.build());
    }

    /// Takes what is known of the network.
    pub fn adapt(&self, steer: impl FnOnce(&mut LossBasedController) -> Option<u32>) {
        let mut state = lock(&self.state);
        let Some(chain) = &mut state.chain else {
            return;
        };
        // What is encoded upstream is not ours to change.
        if let Some(encoder) = chain.elements.last()
            && self.kind == Kind::Video
            && let Some(bitrate) = steer(&mut chain.controller)
        {
            gst::debug!(CAT, obj = self.pad, "{bitrate} bit/s");
            encoder::set_bitrate(encoder, bitrate);
        }
    }

    /// From our encoder, or from whoever encodes upstream.
    pub fn request_keyframe(&self) {
        if self.kind == Kind::Video
            && let Some(pad) = self.sink.static_pad("sink")
        {
            let event = gst_video::UpstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build();
            gst::debug!(CAT, obj = self.pad, "asking for a keyframe");
            pad.push_event(event);
        }
    }

    /// Takes everything down that belongs to the pad.
    pub fn close(&self, bin: &gst::Bin) {
        self.valve.open.store(false, Ordering::Release);
        let chain = lock(&self.state).chain.take();
        let elements = chain.into_iter().flat_map(|chain| chain.elements);
        let own = [self.queue.clone(), self.sink.clone().upcast()];
        for element in elements.chain(own) {
            let _ = element.set_state(gst::State::Null);
            // A bin that is being disposed of has let go of them already.
            if element.parent().as_ref() == Some(bin.upcast_ref()) {
                let _ = bin.remove(&element);
            }
        }
    }

    /// Takes the encoder out again, for a new session.
    pub fn reset(&self, bin: &gst::Bin) {
        self.unbind();
        self.release(gst::ClockTime::ZERO, None);
        if let Some(src) = self.queue.static_pad("src") {
            src.set_offset(0);
        }
        self.hold();
        let chain = lock(&self.state).chain.take();
        let Some(chain) = chain.filter(|chain| !chain.elements.is_empty()) else {
            return;
        };
        for element in &chain.elements {
            let _ = element.set_state(gst::State::Null);
            let _ = bin.remove(element);
        }
        let _ = self.queue.link(&self.sink);
    }

    pub fn stats(&self) -> gst::Structure {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = lock(&self.state);
        // What is encoded upstream follows nothing.
        let adapted = |chain: &&Chain| self.kind == Kind::Video && !chain.elements.is_empty();
        let chain = state.chain.as_ref().filter(adapted);
        let source = chain.map(|chain| chain.controller.source().as_str());
        gst::Structure::builder("track")
            .field("kind", self.kind.as_str())
            .field("track", state.track.as_ref().map(|t| t.name.clone()))
            .field("codec", state.chain.as_ref().map(|c| c.codec.encoding_name))
            .field_if_some(
                "bitrate",
                state.chain.as_ref().map(|c| c.controller.target()),
            )
            .field_if_some("bitrate-from", source)
            .field("received", count(&self.valve.received))
            .field("sent", count(&self.valve.sent))
            .field("dropped", count(&self.valve.dropped))
            .build()
    }
}

/// Where a time stands in the stream that passes a pad.
fn running_time(pad: &gst::Pad, pts: Option<gst::ClockTime>) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment
        .segment()
        .downcast_ref::<gst::ClockTime>()?
        .to_owned();
    segment.to_running_time(pts?)
}

/// A sample with its time on the bridge's clock.
fn unit(
    sink: &gst_app::AppSink,
    sample: &gst::Sample,
    bridge: &mut ClockBridge,
) -> Option<MediaUnit> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let buffer = sample.buffer_owned()?;
    let running = segment.to_running_time(buffer.pts()?)?;
    Some(MediaUnit {
        arrived: bridge_clock().time(),
        time: bridge.bridge_time(sink.upcast_ref(), running),
        caps: sample.caps_owned()?,
        buffer,
    })
}
