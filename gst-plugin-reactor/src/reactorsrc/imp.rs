// SPDX-License-Identifier: MIT

use std::{
    sync::{Arc, LazyLock, Mutex, OnceLock, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    events::SourceEvent,
    gap_filler::{self, OnGap},
    pads::TrackPad,
    track_stream::TrackStream,
};
use crate::{
    element::{SessionMembership, event_thread, gobject, lifecycle::Lifecycle, lock, templates},
    platform::{
        Code, Error,
        track::{Kind, Track},
    },
    session::ParticipantRole,
};

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactorsrc",
        gst::DebugColorFlags::empty(),
        Some("Reactor source"),
    )
});

#[derive(Default)]
#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorSrc {
    pub(super) membership: SessionMembership,
    running: Mutex<Option<Running>>,
    on_gap: Mutex<OnGap>,
}

/// From READY to PAUSED and back.
struct Running {
    events: mpsc::Sender<SourceEvent>,
    tracks: Vec<Arc<TrackPad>>,
    since: Instant,
    /// Ends the watch for gaps when it is dropped.
    _gaps: Option<mpsc::Sender<()>>,
}

impl ReactorSrc {
    pub(super) fn tracks(&self) -> Vec<Arc<TrackPad>> {
        lock(&self.running)
            .as_ref()
            .map(|r| r.tracks.clone())
            .unwrap_or_default()
    }

    /// A track flows when somebody takes it, now.
    pub(super) fn flowing(&self, pad: &impl IsA<gst::Pad>) -> bool {
        self.membership.state.is_playing() && pad.is_linked()
    }

    fn watch_gaps(&self) -> Option<mpsc::Sender<()>> {
        let weak = self.obj().downgrade();
        gap_filler::watch(move || {
            let Some(element) = weak.upgrade() else {
                return false;
            };
            let now = element.current_running_time();
            let Some(now) = now.filter(|_| element.imp().membership.state.is_playing()) else {
                return false;
            };
            let tracks = element.imp().tracks();
            let gaps = tracks.iter().map(|track| track.feed.fill(now));
            gaps.fold(false, |any, gap| any | gap)
        })
    }

    /// Makes pads for the tracks; the caller adds them to the element.
    pub(super) fn add_tracks(&self, tracks: Vec<Track>) -> Result<Vec<Arc<TrackPad>>, Error> {
        let element = self.obj();
        let session_id = self.membership.state.session_id();
        let session = self.membership.session();
        let group = gst::GroupId::next();
        let mut running = lock(&self.running);
        let (Some(running), Some(session)) = (running.as_mut(), session) else {
            return Err(Error::api(Code::Aborted, "stopped"));
        };
        for track in tracks {
            let feed = Arc::new(TrackStream::new(
                track,
                element.upcast_ref(),
                Arc::downgrade(&session),
                running.events.clone(),
                running.since,
            ));
            let pad = self.make_pad(feed, session_id.as_deref(), group)?;
            running.tracks.push(Arc::new(pad));
        }
        Ok(running.tracks.clone())
    }

    fn make_pad(
        &self,
        feed: Arc<TrackStream>,
        session_id: Option<&str>,
        group: gst::GroupId,
    ) -> Result<TrackPad, Error> {
        let element = self.obj();
        let template = element
            .pad_template(match feed.track.kind {
                Kind::Video => "video_%s",
                Kind::Audio => "audio_%s",
            })
            .ok_or_else(|| Error::api(Code::Internal, "no pad template"))?;
        let weak = element.downgrade();
        let latency = move || {
            weak.upgrade().map_or(gst::ClockTime::ZERO, |element| {
                element.imp().membership.latency()
            })
        };
        let weak = element.downgrade();
        let name = feed.track.name.clone();
        let linked = move |_: &gst::Pad, linked: bool| {
            if let Some(element) = weak.upgrade() {
                let membership = &element.imp().membership;
                if let Some(session) = membership.session() {
                    session.want(&name, linked && membership.state.is_playing());
                }
            }
        };
        let weak = element.downgrade();
        let steer = move |event: &gst::EventRef, size| {
            let Some(element) = weak.upgrade() else {
                return false;
            };
            let again = weak.clone();
            let flush = move || {
                if let Some(element) = again.upgrade() {
                    element
                        .imp()
                        .membership
                        .flush_navigation(element.upcast_ref());
                }
            };
            let membership = &element.imp().membership;
            membership.handle_upstream_event(element.upcast_ref(), event, size, flush)
        };
        let pad = TrackPad::new(feed, &template, session_id, group, latency, linked, steer)
            .filling(*lock(&self.on_gap));
        let _ = pad.pad.set_active(true);
        Ok(pad)
    }

    /// The first unit of a track has come.
    pub(super) fn arrived(&self, name: &str, caps: &gst::Caps) -> Result<(), Error> {
        let element = self.obj();
        let tracks = self.tracks();
        let Some(track) = tracks.iter().find(|t| t.feed.track.name == name) else {
            return Ok(());
        };
        let generation = self.membership.state.generation();
        let result = track.open(element.upcast_ref(), caps, self.membership.latency());
        if !self.membership.state.is_current(generation) || lock(&self.running).is_none() {
            // Stopped meanwhile.
            track.close(element.upcast_ref());
            return Ok(());
        }
        gst::debug!(CAT, obj = track.pad, "{:?} of {caps}", track.output());
        let latency = gst::message::Latency::builder().src(&*element).build();
        let _ = element.post_message(latency);
        result
    }

    /// Ends all streams in order. Returns whether there are any.
    pub(super) fn end_streams(&self) -> bool {
        let tracks = self.tracks();
        for track in &tracks {
            track.end();
        }
        !tracks.is_empty()
    }

    fn set_latency(&self) {
        self.membership.set_grown_latency(0);
        if let Some(session) = self.membership.session() {
            session.set_latency(self.membership.latency().mseconds() as u32);
            self.tell_latency();
        }
    }

    /// The jitter buffer has another length.
    pub(super) fn tell_latency(&self) {
        for track in self.tracks() {
            track.set_latency(self.membership.latency());
        }
        let element = self.obj();
        let message = gst::message::Latency::builder().src(&*element).build();
        let _ = element.post_message(message);
    }

    fn stats(&self) -> gst::Structure {
        let latency = self.membership.latency().mseconds();
        let mut stats = self.membership.stats().field("latency-ms", latency as u32);
        for track in self.tracks() {
            let counters = &track.feed.counters;
            let times = &track.feed.times;
            let ms = |at: &OnceLock<Duration>| at.get().map(|at| at.as_secs_f64() * 1000.0);
            let of_track = gst::Structure::builder("track")
                .field("kind", track.feed.track.kind.as_str())
                .field("received", counters.received.load(Ordering::Relaxed))
                .field("bytes", counters.bytes.load(Ordering::Relaxed))
                .field("dropped", counters.dropped.load(Ordering::Relaxed))
                .field_if_some("first-unit-ms", ms(&times.unit))
                .field_if_some("first-frame-ms", ms(&times.frame))
                .build();
            stats = stats.field(track.pad.name().as_str(), of_track);
        }
        stats.build()
    }
}

impl Lifecycle for ReactorSrc {
    fn membership(&self) -> &SessionMembership {
        &self.membership
    }

    fn start(&self) -> Result<(), Error> {
        let element = self.obj();
        let generation = self.membership.begin_generation();
        let handle = |element: &super::ReactorSrc, event| element.imp().handle(event);
        let events = event_thread::spawn("reactorsrc", &*element, handle)?;
        *lock(&self.running) = Some(Running {
            events: events.clone(),
            tracks: Vec::new(),
            since: Instant::now(),
            _gaps: self.watch_gaps(),
        });
        let sender = Box::new(move |event| {
            let _ = events.send(SourceEvent::Session(generation, event));
        });
        let joined = self
            .membership
            .join(element.upcast_ref(), ParticipantRole::Source, sender);
        joined.map(|_| ()).inspect_err(|_| self.stop())
    }

    fn stop(&self) {
        self.membership.leave();
        let Some(running) = lock(&self.running).take() else {
            return;
        };
        let element = self.obj();
        for track in &running.tracks {
            track.close(element.upcast_ref());
            // Not there yet if this came in between.
            if track.pad.parent().as_ref() == Some(element.upcast_ref()) {
                let _ = element.remove_pad(&track.pad);
            }
        }
    }

    /// Lets all tracks flow that somebody takes, or none.
    fn set_playing(&self, playing: bool) {
        self.membership.state.set_playing(playing);
        if let Some(session) = self.membership.session() {
            for track in self.tracks() {
                session.want(&track.feed.track.name, self.flowing(&track.pad));
            }
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorSrc {
    const NAME: &'static str = "GstReactorSrc";
    type Type = super::ReactorSrc;
    type ParentType = gst::Bin;
}

impl ObjectImpl for ReactorSrc {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = gobject::properties();
            specs.push(on_gap());
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let name = pspec.name();
        if name == "on-gap" {
            *lock(&self.on_gap) = value.get().unwrap_or_default();
            return;
        }
        self.membership
            .set_property(self.obj().upcast_ref(), name, value);
        if name == "latency" {
            self.set_latency();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "on-gap" => lock(&self.on_gap).to_value(),
            "stats" => self.stats().to_value(),
            _ => self.membership.state.property(pspec),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> =
            LazyLock::new(|| gobject::signals(membership));
        &SIGNALS
    }
}

pub(crate) fn on_gap() -> glib::ParamSpec {
    glib::ParamSpecEnum::builder::<OnGap>("on-gap")
        .nick("On gap")
        .blurb("What raw pads send while nothing is received, as after a lost connection")
        .mutable_ready()
        .build()
}

/// For the signals, which know the element only.
pub(crate) fn membership(element: &gst::Element) -> Option<&SessionMembership> {
    let element = element.downcast_ref::<super::ReactorSrc>()?;
    Some(&element.imp().membership)
}

impl GstObjectImpl for ReactorSrc {}

impl ElementImpl for ReactorSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Reactor source",
                "Source/Network/WebRTC",
                "Receives what a Reactor real-time generative model streams",
                "the gst-plugin-reactor authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        pad_templates()
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let success = self.perform_transition(transition)?;
        Ok(match transition {
            gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused => {
                gst::StateChangeSuccess::NoPreroll
            }
            _ => success,
        })
    }

    fn set_context(&self, context: &gst::Context) {
        self.membership.context.set(context);
        self.parent_set_context(context);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos || lock(&self.running).is_none() {
            return self.parent_send_event(event);
        }
        gst::debug!(CAT, imp = self, "ending all streams");
        if !self.end_streams() {
            // Nothing is linked that could pass an EOS on: without this the
            // application would wait for one forever.
            self.fail(&Error::api(
                Code::Aborted,
                "ended before the session had any stream; nothing was received",
            ));
        }
        true
    }
}

impl BinImpl for ReactorSrc {}

pub(crate) fn pad_templates() -> &'static [gst::PadTemplate] {
    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Sometimes);
        templates::templates(direction, presence, template_caps)
    });
    &TEMPLATES
}

/// Raw (of video in any memory), each codec, or its packets.
fn template_caps(kind: Kind) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    {
        let caps = caps.make_mut();
        for structure in templates::media(kind).iter() {
            caps.append_structure(structure.to_owned());
            if structure.name() == "video/x-raw" {
                let any = gst::CapsFeatures::new_any();
                caps.append_structure_full(structure.to_owned(), Some(any));
            }
        }
        caps.append_structure(
            gst::Structure::builder("application/x-rtp")
                .field("media", kind.as_str())
                .build(),
        );
    }
    caps
}
