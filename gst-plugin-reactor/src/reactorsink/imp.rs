// SPDX-License-Identifier: MIT

//! The element as a GObject: properties, request pads, state changes.
//!
//! Owns the pads. Called on the application's threads; what the session and the
//! pads report comes through `event_handler`, on the event thread. It never
//! waits for the network, but for `close-timeout` in READY -> NULL.

use std::sync::{Arc, LazyLock, Mutex};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    command_pad::{self, CommandStream},
    debug::CAT,
    event::SinkEvent,
    settings::SinkSettings,
    sink_pad::SinkPad,
};
use crate::{
    element::{
        SessionMembership, command_children,
        event_thread::{self, EventQueue},
        gobject,
        lifecycle::Lifecycle,
        lock, pad_children, post, templates,
    },
    gst_helpers::{element_metadata, end_inputs},
    platform::{
        Error,
        track::{Kind, Track},
    },
    property,
    session::ParticipantRole,
};

#[derive(Default)]
#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorSink {
    pub(super) membership: SessionMembership,
    pub(super) settings: Mutex<SinkSettings>,
    sink_pads: Mutex<Vec<Arc<SinkPad>>>,
    pub(super) command_streams: Mutex<Vec<Arc<CommandStream>>>,
    events: Mutex<Option<EventQueue<SinkEvent>>>,
    /// The model's tracks, once the session has announced them.
    pub(super) tracks: Mutex<Option<Vec<Track>>>,
    /// By how much the streams that were held are delayed, in ns.
    pub(super) hold_delay: Mutex<Option<i64>>,
}

impl ReactorSink {
    pub(super) fn sink_pads(&self) -> Vec<Arc<SinkPad>> {
        lock(&self.sink_pads).clone()
    }

    pub(super) fn find_pad(&self, matches: impl Fn(&SinkPad) -> bool) -> Option<Arc<SinkPad>> {
        self.sink_pads()
            .into_iter()
            .find(|sink_pad| matches(sink_pad))
    }

    pub(super) fn send_event(&self, event: SinkEvent) {
        if let Some(events) = &*lock(&self.events) {
            events.send(event);
        }
    }

    fn stats(&self) -> gst::Structure {
        let mut stats = self.membership.stats();
        let session = self
            .membership
            .session()
            .map(|session| session.statistics());
        for sink_pad in self.sink_pads() {
            let track = sink_pad.track();
            let of_session = session.as_ref().zip(track);
            let of_session =
                of_session.and_then(|(session, track)| session.tracks.get(&track.name));
            stats = stats.field(sink_pad.pad.name().as_str(), sink_pad.stats(of_session));
        }
        for stream in self.command_streams() {
            stats = stats.field(stream.pad.name().as_str(), stream.stats());
        }
        stats.build()
    }

    pub(super) fn post_stats(&self) {
        post(self.obj().upcast_ref(), self.stats());
    }

    /// Ends all streams for the application: neither what waits for the session nor
    /// what waits for its time keeps them from that.
    fn end_all_inputs(&self) {
        for sink_pad in self.sink_pads() {
            sink_pad.end();
        }
        self.end_commands(|element| end_inputs(element.upcast_ref()));
    }

    /// Generates a name for a pad that is requested without one.
    fn generate_pad_name(&self, kind: Kind) -> String {
        let names: Vec<_> = self.sink_pads().iter().map(|s| s.pad.name()).collect();
        let mut candidates = (0..=names.len()).map(|n| format!("{}_{n}", kind.as_str()));
        let free = candidates.find(|candidate| names.iter().all(|name| name != candidate));
        free.unwrap_or_default()
    }
}

impl Lifecycle for ReactorSink {
    fn membership(&self) -> &SessionMembership {
        &self.membership
    }

    fn start(&self) -> Result<(), Error> {
        let generation = self.membership.begin_generation();
        let handle = |element: &super::ReactorSink, event| element.imp().handle_event(event);
        let events = event_thread::start(&*self.obj(), handle)?;
        *lock(&self.events) = Some(events.clone());
        let replies = events.reply_executor();
        let sender = Box::new(move |event| {
            events.send(SinkEvent::Session(generation, event));
        });
        let joined = self.membership.join(
            self.obj().upcast_ref(),
            ParticipantRole::Sink,
            sender,
            replies,
        );
        joined.map(|_| ()).inspect_err(|_| self.stop())
    }

    fn stop(&self) {
        self.membership.leave();
        lock(&self.events).take();
        lock(&self.hold_delay).take();
        lock(&self.tracks).take();
        let element = self.obj();
        for sink_pad in self.sink_pads() {
            sink_pad.reset(element.upcast_ref());
        }
        for stream in self.command_streams() {
            stream.reset();
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorSink {
    const NAME: &'static str = "GstReactorSink";
    type Type = super::ReactorSink;
    type ParentType = gst::Bin;
    type Interfaces = (gst::ChildProxy, gst::Preset);
}

impl ObjectImpl for ReactorSink {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        // A bin sends EOS to its sources: `gst-launch-1.0 -e` at Ctrl-C. This sink has
        // to hear of it first, because a file that it holds keeps its source from that.
        element.set_element_flags(gst::ElementFlags::SINK | gst::ElementFlags::SOURCE);
        let commands = &self.membership.commands;
        commands.attach(element.upcast_ref(), membership);
    }

    fn dispose(&self) {
        self.membership.commands.dispose();
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = gobject::properties();
            specs.extend(property::specs(SinkSettings::PROPERTIES));
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gobject::warn_if_late(self.obj().upcast_ref(), pspec);
        let name = pspec.name();
        match property::find(SinkSettings::PROPERTIES, name) {
            Some(property) => {
                (property.set)(&mut lock(&self.settings), value);
                if property
                    .info
                    .flags
                    .contains(gst::PARAM_FLAG_MUTABLE_PLAYING)
                {
                    self.send_event(SinkEvent::BitrateLimits);
                }
            }
            None => self
                .membership
                .set_property(self.obj().upcast_ref(), name, value),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match property::find(SinkSettings::PROPERTIES, pspec.name()) {
            Some(property) => (property.value)(&lock(&self.settings), &property.info),
            None if pspec.name() == "stats" => self.stats().to_value(),
            None => self.membership.state.property(pspec),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let mut signals = gobject::signals(membership);
            signals.push(encoder_setup_signal());
            signals
        });
        &SIGNALS
    }
}

impl GstObjectImpl for ReactorSink {}

impl PresetImpl for ReactorSink {}

impl ElementImpl for ReactorSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            element_metadata(
                "Reactor sink",
                "Sink/Network/WebRTC",
                "Feeds a Reactor real-time generative model",
                "gst-launch-1.0 videotestsrc is-live=true ! reactorsink local=true",
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
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        if template.name_template().starts_with("command") {
            return self.request_command_pad(template, name);
        }
        let element = self.obj();
        let kind = match template.name_template().starts_with("video") {
            true => Kind::Video,
            false => Kind::Audio,
        };
        let name = name.map_or_else(|| self.generate_pad_name(kind), str::to_owned);
        let weak = self.downgrade();
        let send_event = move |event| {
            if let Some(imp) = weak.upgrade() {
                imp.send_event(event);
            }
        };
        let sink_pad = SinkPad::new(element.upcast_ref(), template, &name, kind, send_event)
            .inspect_err(|error| gst::error!(CAT, imp = self, "no pad {name}: {error}"))
            .ok()?;
        command_children::follow_media(sink_pad.pad.upcast_ref(), membership);
        let _ = sink_pad
            .pad
            .set_active(element.current_state() > gst::State::Ready);
        lock(&self.sink_pads).push(sink_pad.clone());
        if element.add_pad(&sink_pad.pad).is_err() {
            self.release_pad(sink_pad.pad.upcast_ref());
            return None;
        }
        Some(sink_pad.pad.clone().upcast())
    }

    fn release_pad(&self, pad: &gst::Pad) {
        if self.release_command_pad(pad) {
            return;
        }
        let sink_pad = {
            let mut sink_pads = lock(&self.sink_pads);
            let position = sink_pads
                .iter()
                .position(|sink_pad| sink_pad.pad.upcast_ref::<gst::Pad>() == pad);
            position.map(|position| sink_pads.remove(position))
        };
        if let Some(sink_pad) = sink_pad {
            let element = self.obj();
            // First, because whoever pushes may wait in there.
            sink_pad.close(element.upcast_ref());
            let _ = sink_pad.pad.set_active(false);
            if let Some(track) = sink_pad.track() {
                self.send_event(SinkEvent::PadReleased(track));
            }
            let _ = element.remove_pad(&sink_pad.pad);
            self.membership.commands.restart_following();
        }
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Eos => self.end_all_inputs(),
            // Commands act at their running time: what comes from the model, and is
            // late, is no reason to send them later.
            gst::EventType::Latency => {
                for sink_pad in self.sink_pads() {
                    sink_pad.send_to_sink(event.clone());
                }
            }
            // A bin sends it to its sources, and from there it comes by the pads.
            _ if event.is_downstream() => {}
            _ => return self.parent_send_event(event),
        }
        true
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        self.perform_transition(transition)
    }

    fn set_context(&self, context: &gst::Context) {
        self.membership.context.set(context);
        self.parent_set_context(context);
    }
}

impl ChildProxyImpl for ReactorSink {
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

impl BinImpl for ReactorSink {}

/// Finds the session membership of an element.
fn membership(element: &gst::Element) -> Option<&SessionMembership> {
    let element = element.downcast_ref::<super::ReactorSink>()?;
    Some(&element.imp().membership)
}

/// `encoder-setup(track, encoder)`: before a new encoder starts.
pub(crate) fn encoder_setup_signal() -> glib::subclass::Signal {
    glib::subclass::Signal::builder("encoder-setup")
        .param_types([String::static_type(), gst::Element::static_type()])
        .build()
}

pub(crate) fn pad_templates() -> &'static [gst::PadTemplate] {
    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Request);
        let mut templates = templates::track_templates(direction, presence, templates::media_caps);
        templates.extend(command_pad::pad_templates());
        templates
    });
    &TEMPLATES
}
