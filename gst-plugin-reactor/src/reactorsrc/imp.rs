// SPDX-License-Identifier: MIT

//! The element as a GObject: properties, state changes, and its pads.
//!
//! Owns the tracks' pads. Called on the application's threads; what the session
//! reports comes through `event_handler`, on the event thread. It never waits
//! for the network, but for `close-timeout` in READY -> NULL.

use std::{
    sync::{Arc, LazyLock, Mutex, atomic::AtomicU64},
    time::Instant,
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    debug::CAT,
    decode_errors,
    event::SourceEvent,
    gap_filler::{self, OnGap},
    messages::{self, MessageStream},
    stream_info::{ModelInfo, stream_id_prefix},
    track_pad::TrackPad,
    track_stream::TrackStream,
    uri::SourceUri,
};
use crate::{
    element::{
        SessionMembership, command_children,
        event_thread::{self, EventQueue},
        gobject,
        lifecycle::Lifecycle,
        lock, pad_children, post, post_message, templates,
    },
    gst_helpers::{element_metadata, internal},
    platform::{
        Code, Error,
        track::{Kind, Track},
    },
    property::{self, settings},
    session::{MachineEvent, ParticipantRole, SessionEvent, Timer},
};

#[derive(Default)]
#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorSrc {
    pub(super) membership: SessionMembership,
    running: Mutex<Option<Running>>,
    settings: Mutex<SourceSettings>,
    /// The pad `messages`, if it was requested.
    messages: Arc<Mutex<Option<Arc<MessageStream>>>>,
    pub(super) model: Mutex<ModelInfo>,
    pub(super) uri: Mutex<SourceUri>,
    /// The generation that was asked to end and has: tracks that become known later end as well.
    pub(super) ended_generation: AtomicU64,
    /// Held while it is found out whether a track is needed and the session is told, so
    /// that what it is told last is what is true.
    need_order: Mutex<NeedOrder>,
}

/// Orders what the session is told of the tracks.
#[derive(Debug, Default)]
struct NeedOrder;

settings! {
    /// The properties that only this element has.
    #[derive(Debug)]
    pub struct SourceSettings {
        on_gap: OnGap = OnGap::None, "on-gap", "On gap",
            "What raw pads send while nothing is received, as after a lost connection";
    }
}

/// What exists in PAUSED and PLAYING only.
struct Running {
    events: EventQueue<SourceEvent>,
    tracks: Vec<Arc<TrackPad>>,
    /// Of all streams.
    group: gst::GroupId,
    started: Instant,
    /// Stops the timer when it is dropped.
    _gap_timer: Timer,
}

impl ReactorSrc {
    pub(super) fn tracks(&self) -> Vec<Arc<TrackPad>> {
        let running = lock(&self.running);
        running.as_ref().map_or_else(Vec::new, |r| r.tracks.clone())
    }

    /// Tells the session whether the model should send the track of this pad now; returns
    /// whether it should not.
    pub(super) fn update_need(&self, track: &str, pad: &impl IsA<gst::Pad>) -> bool {
        let session = self.membership.session();
        let _order = lock(&self.need_order);
        let paused = !(self.membership.state.is_playing() && pad.is_linked());
        if let Some(session) = session {
            session.set_track_paused(track, paused);
        }
        paused
    }

    fn start_gap_timer(&self) -> Result<Timer, Error> {
        let weak = self.downgrade();
        gap_filler::start_timer(move || {
            let Some(imp) = weak.upgrade() else {
                return false;
            };
            let now = imp.obj().current_running_time();
            let Some(now) = now.filter(|_| imp.membership.state.is_playing()) else {
                return false;
            };
            let tracks = imp.tracks();
            let gaps = tracks.iter().map(|track| track.send_gap(now));
            let messages = imp.messages().is_some_and(|stream| stream.send_gap(now));
            gaps.fold(messages, |any, gap| any | gap)
        })
    }

    /// The stream of the pad `messages`, if that was requested.
    pub(super) fn messages(&self) -> Option<Arc<MessageStream>> {
        lock(&self.messages).clone()
    }

    /// Makes the pad `messages`; the caller adds it. Fails as
    /// [`MessageStream::new`].
    fn make_messages_pad(
        &self,
        template: &gst::PadTemplate,
    ) -> Result<Arc<MessageStream>, glib::BoolError> {
        let element = self.obj();
        let weak = self.downgrade();
        let stream_start = move || {
            let imp = weak.upgrade();
            let prefix = imp.as_ref().map(|imp| imp.stream_id_prefix());
            let group = imp.and_then(|imp| Some(lock(&imp.running).as_ref()?.group));
            let id = format!("{}/{}", prefix.unwrap_or_default(), messages::PAD_NAME);
            let event = gst::event::StreamStart::builder(&id).flags(gst::StreamFlags::SPARSE);
            event
                .group_id(group.unwrap_or_else(gst::GroupId::next))
                .build()
        };
        let weak = self.downgrade();
        let report_dropped = move || {
            if let Some(events) = weak.upgrade().and_then(|imp| imp.events()) {
                events.send(SourceEvent::MessagesDropped);
            }
        };
        let stream =
            MessageStream::new(element.upcast_ref(), template, stream_start, report_dropped)?;
        let weak = self.downgrade();
        stream.pad.connect_linked(move |pad, _| {
            // Before, a state change says it.
            let events = weak.upgrade().and_then(|imp| {
                let is_running = imp.obj().current_state() > gst::State::Ready;
                imp.events().filter(|_| is_running)
            });
            if let (Some(events), Err(error)) = (events, messages::refuse_any_stream(pad)) {
                events.send(SourceEvent::Refused(error));
            }
        });
        Ok(stream)
    }

    /// What the ids of the session's streams begin with.
    fn stream_id_prefix(&self) -> String {
        let session_id = self.membership.state.session_id();
        let server = self.membership.session().map(|session| session.server());
        stream_id_prefix(&server.unwrap_or_default(), session_id.as_deref())
    }

    /// Makes pads for the tracks; the caller adds them to the element.
    /// Fails when the element was stopped meanwhile.
    pub(super) fn make_pads(&self, tracks: Vec<Track>) -> Result<Vec<Arc<TrackPad>>, Error> {
        let element = self.obj();
        let session = self.membership.session();
        let prefix = self.stream_id_prefix();
        let mut running = lock(&self.running);
        let (Some(running), Some(session)) = (running.as_mut(), session) else {
            return Err(Error::api(Code::Aborted, "stopped"));
        };
        for track in tracks {
            let stream = TrackStream::new(
                track,
                element.upcast_ref(),
                Arc::downgrade(&session),
                running.events.clone(),
                running.started,
            );
            let pad = self.make_pad(Arc::new(stream), (&prefix, running.group))?;
            running.tracks.push(Arc::new(pad));
        }
        Ok(running.tracks.clone())
    }

    fn make_pad(
        &self,
        stream: Arc<TrackStream>,
        stream_group: (&str, gst::GroupId),
    ) -> Result<TrackPad, Error> {
        let template = match stream.track.kind {
            Kind::Video => "video_%s",
            Kind::Audio => "audio_%s",
        };
        let template = self.obj().pad_template(template);
        let template = template.ok_or_else(|| internal("no pad template"))?;
        let weak = self.downgrade();
        let latency = move || {
            let imp = weak.upgrade();
            imp.map_or(gst::ClockTime::ZERO, |imp| imp.membership.latency())
        };
        let weak = self.downgrade();
        let name = stream.track.name.clone();
        let weak_stream = Arc::downgrade(&stream);
        let set_linked = move |pad: &gst::GhostPad, linked: bool| {
            if let Some(stream) = weak_stream.upgrade() {
                stream.set_linked(linked);
            }
            if let Some(imp) = weak.upgrade() {
                imp.update_need(&name, pad);
            }
        };
        let weak = self.downgrade();
        let handle_event = move |event: &gst::EventRef, size| {
            let Some(imp) = weak.upgrade() else {
                return false;
            };
            let weak = weak.clone();
            let flush = move || {
                if let Some(imp) = weak.upgrade() {
                    imp.membership.flush_navigation(imp.obj().upcast_ref());
                }
            };
            imp.membership
                .handle_upstream_event(imp.obj().upcast_ref(), event, size, flush)
        };
        let on_gap = lock(&self.settings).on_gap;
        let pad = TrackPad::new(
            stream,
            &template,
            stream_group,
            (on_gap, self.format_for_any()),
            latency,
            set_linked,
            handle_event,
        );
        command_children::follow_media(pad.pad.upcast_ref(), membership);
        let _ = pad.pad.set_active(true);
        Ok(pad)
    }

    /// Makes the elements behind a track's pad: its first unit has arrived.
    /// Fails as [`TrackPad::open`].
    pub(super) fn open_track(&self, name: &str, caps: &gst::Caps) -> Result<(), Error> {
        let element = self.obj();
        let tracks = self.tracks();
        let Some(track) = tracks.iter().find(|t| t.stream.track.name == name) else {
            return Ok(());
        };
        let generation = self.membership.state.generation();
        let model = lock(&self.model).clone();
        let tags = model.tags(self.membership.state.session_id().as_deref());
        let latency = self.membership.latency();
        let result = track.open(
            element.upcast_ref(),
            caps,
            latency,
            (tags, model.emission_fps),
        );
        if !self.membership.state.is_current(generation) || self.events().is_none() {
            // The element was stopped meanwhile.
            track.close(element.upcast_ref());
            return Ok(());
        }
        gst::debug!(CAT, obj = track.pad, "{:?} of {caps}", track.format());
        // It may have changed before there was an appsrc to tell.
        track.set_latency(self.membership.latency());
        self.post_latency();
        result
    }

    /// Sends events to this start's event thread; `None` in READY and NULL.
    pub(super) fn events(&self) -> Option<EventQueue<SourceEvent>> {
        let running = lock(&self.running);
        running.as_ref().map(|running| running.events.clone())
    }

    /// Passes the `latency` property on to the session.
    fn apply_latency(&self) {
        self.membership.set_grown_latency(0);
        if let Some(session) = self.membership.session() {
            session.set_latency(self.membership.latency().mseconds() as u32);
            self.update_latency();
        }
    }

    /// Reports the current length of the jitter buffer to the pipeline.
    pub(super) fn update_latency(&self) {
        for track in self.tracks() {
            track.set_latency(self.membership.latency());
        }
        self.post_latency();
    }

    fn post_latency(&self) {
        let element = self.obj();
        let message = gst::message::Latency::builder().src(&*element).build();
        post_message(element.upcast_ref(), message);
    }

    fn stats(&self) -> gst::Structure {
        let latency = self.membership.latency().mseconds();
        let mut stats = self.membership.stats().field("latency-ms", latency as u32);
        let session = self
            .membership
            .session()
            .map(|session| session.statistics());
        for track in self.tracks() {
            let of_session = session
                .as_ref()
                .and_then(|session| session.tracks.get(&track.stream.track.name));
            stats = stats.field(track.pad.name().as_str(), track.stats(of_session));
        }
        if let Some(stream) = self.messages() {
            stats = stats.field(messages::PAD_NAME, stream.stats());
        }
        stats.build()
    }

    pub(super) fn post_stats(&self) {
        post(self.obj().upcast_ref(), self.stats());
    }
}

impl Lifecycle for ReactorSrc {
    fn membership(&self) -> &SessionMembership {
        &self.membership
    }

    fn start(&self) -> Result<(), Error> {
        let element = self.obj();
        if let Some(stream) = self.messages() {
            stream.start()?;
        }
        let generation = self.membership.begin_generation();
        let handle = |element: &super::ReactorSrc, event| element.imp().handle_event(event);
        let events = event_thread::start(&*element, handle)?;
        *lock(&self.running) = Some(Running {
            events: events.clone(),
            tracks: Vec::new(),
            group: gst::GroupId::next(),
            started: Instant::now(),
            _gap_timer: self.start_gap_timer()?,
        });
        let replies = events.reply_executor();
        let messages = self.messages.clone();
        let sender = Box::new(move |event| {
            // At once: the event thread may be busy with the application's code.
            if let SessionEvent::Machine(event) = &event
                && let MachineEvent::Message { name, data } = &**event
                && let Some(stream) = &*lock(&messages)
            {
                stream.push(name, data);
            }
            events.send(SourceEvent::Session(generation, event));
        });
        let joined = self.membership.join(
            element.upcast_ref(),
            ParticipantRole::Source,
            sender,
            replies,
        );
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
            // The event thread may not have added the pad yet.
            if track.pad.parent().as_ref() == Some(element.upcast_ref()) {
                let _ = element.remove_pad(&track.pad);
            }
        }
    }

    /// Resumes the tracks of the linked pads, or pauses all.
    fn set_playing(&self, playing: bool) {
        self.membership.state.set_playing(playing);
        for track in self.tracks() {
            if self.update_need(&track.stream.track.name, &track.pad) {
                track.stream.counters.begin_anew();
            }
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorSrc {
    const NAME: &'static str = "GstReactorSrc";
    type Type = super::ReactorSrc;
    type ParentType = gst::Bin;
    type Interfaces = (gst::ChildProxy, gst::Preset, gst::URIHandler);
}

impl ObjectImpl for ReactorSrc {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
        let commands = &self.membership.commands;
        commands.attach(element.upcast_ref(), membership);
    }

    fn dispose(&self) {
        self.membership.commands.dispose();
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = gobject::properties();
            specs.extend(property::specs(SourceSettings::PROPERTIES));
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gobject::warn_if_late(self.obj().upcast_ref(), pspec);
        let name = pspec.name();
        if let Some(property) = property::find(SourceSettings::PROPERTIES, name) {
            return (property.set)(&mut lock(&self.settings), value);
        }
        self.membership
            .set_property(self.obj().upcast_ref(), name, value);
        if name == "latency" {
            self.apply_latency();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match property::find(SourceSettings::PROPERTIES, pspec.name()) {
            Some(property) => (property.value)(&lock(&self.settings), &property.info),
            None if pspec.name() == "stats" => self.stats().to_value(),
            None => self.membership.state.property(pspec),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> =
            LazyLock::new(|| gobject::signals(membership));
        &SIGNALS
    }
}

/// Finds the session membership of an element, for the signals' class handlers.
pub(crate) fn membership(element: &gst::Element) -> Option<&SessionMembership> {
    let element = element.downcast_ref::<super::ReactorSrc>()?;
    Some(&element.imp().membership)
}

impl GstObjectImpl for ReactorSrc {}

impl PresetImpl for ReactorSrc {}

impl ElementImpl for ReactorSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            element_metadata(
                "Reactor source",
                "Source/Network/WebRTC",
                "Receives what a Reactor real-time generative model streams",
                "gst-launch-1.0 reactorsrc local=true ! autovideosink",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        pad_templates()
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        if self.messages().is_some() {
            gst::error!(
                CAT,
                imp = self,
                "there is a pad {} already",
                messages::PAD_NAME
            );
            return None;
        }
        let element = self.obj();
        let stream = self
            .make_messages_pad(template)
            .inspect_err(|error| gst::error!(CAT, imp = self, "no pad: {error}"))
            .ok()?;
        let _ = stream
            .pad
            .set_active(element.current_state() > gst::State::Ready);
        *lock(&self.messages) = Some(stream.clone());
        if pad_children::add(&*element, stream.pad.upcast_ref()).is_err() {
            self.release_pad(stream.pad.upcast_ref());
            return None;
        }
        if !self.tracks().is_empty() {
            stream.begin();
        }
        Some(stream.pad.clone().upcast())
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let stream = {
            let mut messages = lock(&self.messages);
            messages.take_if(|stream| stream.pad.upcast_ref::<gst::Pad>() == pad)
        };
        if let Some(stream) = stream {
            let element = self.obj();
            let _ = stream.pad.set_active(false);
            stream.close(element.upcast_ref());
            pad_children::remove(&*element, stream.pad.upcast_ref());
        }
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
        if event.type_() == gst::EventType::Eos && self.request_end() {
            gst::debug!(CAT, imp = self, "ending all streams");
            return true;
        }
        self.parent_send_event(event)
    }
}

impl ChildProxyImpl for ReactorSrc {
    fn child_by_name(&self, name: &str) -> Option<glib::Object> {
        pad_children::child_by_name(self, name)
    }

    fn child_by_index(&self, index: u32) -> Option<glib::Object> {
        pad_children::child_by_index(self, index)
    }

    fn children_count(&self) -> u32 {
        pad_children::children_count(self)
    }
}

impl BinImpl for ReactorSrc {
    fn handle_message(&self, message: gst::Message) {
        if !decode_errors::tolerate(&message) {
            self.parent_handle_message(message);
        }
    }
}

pub(crate) fn pad_templates() -> &'static [gst::PadTemplate] {
    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Sometimes);
        let mut templates = templates::track_templates(direction, presence, template_caps);
        templates.extend(messages::pad_template());
        templates
    });
    &TEMPLATES
}

/// Raw (video in any memory), encoded in any codec, or RTP packets.
fn template_caps(kind: Kind) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    {
        let caps = caps.make_mut();
        for structure in templates::media_caps(kind).iter() {
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
