// SPDX-License-Identifier: MIT

//! The GObject of reactorfilter: a bin of a reactorsink and a reactorsrc that
//! share one session. Called by the application's and streaming threads; keeps
//! no state of the session, which the two elements have.

use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{repeated_errors::RepeatedErrors, request_pads};
use crate::{
    element::{command_children::CommandChildren, gobject, lifecycle::Lifecycle, lock},
    gst_helpers::{debug_category, element_metadata},
    platform::{Code, Error},
    property::{self, Property, settings},
    reactorsink::{SinkSettings, encoder_setup_signal},
    reactorsrc::{ReactorSrc, SourceSettings},
};

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactorfilter", "Reactor filter"));

#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorFilter {
    pub(super) sink: gst::Element,
    pub(super) src: gst::Element,
    sinkpad: gst::GhostPad,
    srcpad: gst::GhostPad,
    settings: Mutex<FilterSettings>,
    repeated_errors: RepeatedErrors,
}

/// What the sink posts of its own: statistics, and what becomes of the commands of
/// pads.
const OF_SINK: [&str; 3] = ["reactor-stats", "reactor-reply", "reactor-upload-progress"];

/// The name of a bin's message that has a message of an element inside.
const FORWARDED: &str = "GstBinForwarded";

/// `drain-time` that never ends.
const UNTIL_SESSION_ENDS: u32 = u32::MAX;

settings! {
    /// The properties that only this element has.
    #[derive(Debug)]
    pub struct FilterSettings {
        track_in: Option<String> = None, "track-in", "Input track",
            "The model's track to feed; its first video input if not set";
        track_out: Option<String> = None, "track-out", "Output track",
            "The model's track to receive; its first video output if not set";
        drain_time: u32 = 1000, "drain-time", "Drain time",
            "How long to receive after the input has ended, before the output ends too, in ms \
             (4294967295 = until the session ends)";
    }
}

impl ReactorFilter {
    /// Makes a pad of the source our own: the named one, or the first video.
    fn expose_source_pad(&self, pad: &gst::Pad) {
        let wanted = lock(&self.settings).track_out.clone();
        let name = pad.name();
        let fits = match wanted {
            Some(track) => name == format!("video_{track}"),
            None => name.starts_with("video_") && self.srcpad.target().is_none(),
        };
        if fits && let Err(error) = self.srcpad.set_target(Some(pad)) {
            gst::error!(CAT, imp = self, "{error}");
        }
    }

    /// Fails, all pads having been added, if none of them is ours.
    fn require_source_pad(&self) {
        if self.srcpad.target().is_some() {
            return;
        }
        let Some(src) = self.src.downcast_ref::<ReactorSrc>() else {
            return;
        };
        let names = src.src_pads().into_iter().map(|pad| pad.name());
        let videos = names.filter_map(|name| name.strip_prefix("video_").map(str::to_owned));
        let videos: Vec<_> = videos.collect();
        let choice = match videos.is_empty() {
            true => "it has no video output".to_owned(),
            false => format!("it may be {}", videos.join(", ")),
        };
        let wanted = lock(&self.settings).track_out.clone();
        let wanted = wanted.map_or_else(|| "for video".into(), |name| format!("'{name}'"));
        let text = format!("the model has no output track {wanted}: {choice}");
        src.imp()
            .fail_when_playing(&Error::api(Code::NotFound, text));
    }

    /// The input has ended: the output does once the model's last pictures have come.
    fn drain(&self) {
        let drain_time = lock(&self.settings).drain_time;
        if drain_time != UNTIL_SESSION_ENDS
            && let Some(src) = self.src.downcast_ref::<ReactorSrc>()
        {
            let delay = Duration::from_millis(drain_time.into());
            src.imp().request_end_after(delay);
        }
    }

    /// Requests the sink's pad, named after `track-in`, else as reactorsink would name it;
    /// anew if the property was set since.
    fn request_sink_pad(&self) -> Result<(), glib::BoolError> {
        let track = lock(&self.settings).track_in.clone();
        let name = format!("video_{}", track.as_deref().unwrap_or("0"));
        match self.sinkpad.target() {
            Some(pad) if pad.name() == name => return Ok(()),
            Some(_) => self.release_sink_pad(),
            None => {}
        }
        let template = self
            .sink
            .pad_template("video_%s")
            .ok_or_else(|| glib::bool_error!("reactorsink has no video pads"))?;
        let pad = self
            .sink
            .request_pad(&template, Some(&name), None)
            .ok_or_else(|| glib::bool_error!("reactorsink gave no pad"))?;
        self.sinkpad.set_target(Some(&pad))
    }

    /// Forwards the signals, and the source's property notifications.
    fn forward_signals(&self) {
        for (child, signal) in [
            (&self.src, "message"),
            (&self.src, "runtime-message"),
            (&self.src, "session-ended"),
            (&self.src, "session-expiration-changed"),
            (&self.sink, "encoder-setup"),
        ] {
            let weak = self.obj().downgrade();
            child.connect(signal, false, move |args| {
                if let Some(element) = weak.upgrade() {
                    element.emit_by_name_with_values(signal, &args[1..]);
                }
                None
            });
        }
        for (part, signal) in [
            (&self.src, "child-added"),
            (&self.src, "child-removed"),
            (&self.sink, "child-added"),
            (&self.sink, "child-removed"),
        ] {
            let weak = self.obj().downgrade();
            part.connect(signal, false, move |args| {
                let child = args.get(1)?.get::<glib::Object>().ok()?;
                let name = args.get(2)?.get::<String>().ok()?;
                let element = weak.upgrade()?;
                let from_src = args.first()?.get::<gst::Element>().ok()? == element.imp().src;
                // Both elements have the commands.
                let is_command = from_src && CommandChildren::is_command(&child);
                if !is_command && !child.is::<gst::Pad>() {
                    return None;
                }
                match signal {
                    "child-added" => element.child_added(&child, &name),
                    _ => element.child_removed(&child, &name),
                }
                None
            });
        }
        for name in [
            "status",
            "session-id",
            "capabilities",
            "session-info",
            "session-expiration",
            "tracks",
            "last-error",
        ] {
            let weak = self.obj().downgrade();
            self.src.connect_notify(Some(name), move |_, _| {
                if let Some(element) = weak.upgrade() {
                    element.notify(name);
                }
            });
        }
    }

    /// The commands as children, which the source makes.
    fn commands(&self) -> Option<&CommandChildren> {
        let membership = crate::reactorsrc::membership(&self.src);
        membership.map(|membership| &membership.commands)
    }

    fn pad_count(&self) -> u32 {
        u32::try_from(self.pads_with_properties().count()).unwrap_or(u32::MAX)
    }

    fn release_pads(&self) {
        let _ = self.srcpad.set_target(None::<&gst::Pad>);
        self.release_sink_pad();
    }

    fn release_sink_pad(&self) {
        let pad = self.sinkpad.target();
        let _ = self.sinkpad.set_target(None::<&gst::Pad>);
        if let Some(pad) = pad {
            self.sink.release_request_pad(&pad);
        }
    }
}

/// Makes a child with a fixed name, for applications that look it up.
fn named<T: IsA<glib::Object> + glib::object::IsClass>(name: &str) -> T {
    glib::Object::builder().property("name", name).build()
}

/// The properties of the sink, whose pad has video alone.
fn sink_properties() -> impl Iterator<Item = &'static Property<SinkSettings>> {
    let properties = SinkSettings::PROPERTIES.iter();
    properties.filter(|property| property.info.name != "audio-encoder")
}

fn is_of_sink(name: &str) -> bool {
    sink_properties().any(|property| property.info.name == name)
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorFilter {
    const NAME: &'static str = "GstReactorFilter";
    type Type = super::ReactorFilter;
    type ParentType = gst::Bin;
    type Interfaces = (gst::ChildProxy, gst::Preset);

    fn with_class(class: &Self::Class) -> Self {
        let pad = |name: &str| match class.pad_template(name) {
            Some(template) => gst::GhostPad::builder_from_template(&template).build(),
            None => unreachable!("the class has both templates"),
        };
        Self {
            sink: named::<crate::reactorsink::ReactorSink>("sink").upcast(),
            src: named::<ReactorSrc>("src").upcast(),
            sinkpad: pad("sink"),
            srcpad: pad("src"),
            settings: Mutex::default(),
            repeated_errors: RepeatedErrors::default(),
        }
    }
}

impl ObjectImpl for ReactorFilter {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // The two elements share a session of their own, whatever else is in
        // the pipeline, unless the user names one.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let own = format!("reactorfilter {}", NEXT.fetch_add(1, Ordering::Relaxed));
        for child in [&self.sink, &self.src] {
            child.set_property("session", &own);
            if let Err(error) = element.add(child) {
                gst::error!(CAT, imp = self, "{error}");
            }
        }
        self.sink.set_property("message-forward", true);
        let weak = element.downgrade();
        self.src.connect_pad_added(move |_, pad| {
            if let Some(element) = weak.upgrade() {
                element.imp().expose_source_pad(pad);
            }
        });
        let weak = element.downgrade();
        self.src.connect_no_more_pads(move |_| {
            if let Some(element) = weak.upgrade() {
                element.imp().require_source_pad();
            }
        });
        self.forward_signals();
        for pad in [&self.sinkpad, &self.srcpad] {
            if let Err(error) = element.add_pad(pad) {
                gst::error!(CAT, imp = self, "{error}");
            }
        }
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = gobject::properties();
            specs.extend(property::specs(SourceSettings::PROPERTIES));
            specs.extend(property::specs(FilterSettings::PROPERTIES));
            specs.extend(sink_properties().map(|row| (row.spec)(&row.info)));
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if let Some(property) = property::find(FilterSettings::PROPERTIES, pspec.name()) {
            gobject::warn_if_late(self.obj().upcast_ref(), pspec);
            return (property.set)(&mut lock(&self.settings), value);
        }
        match pspec.name() {
            // Sent once, by the element that gets the replies.
            name @ ("commands" | "control-rate" | "navigation" | "on-gap") => {
                self.src.set_property_from_value(name, value);
            }
            name if is_of_sink(name) => self.sink.set_property_from_value(name, value),
            name => {
                self.src.set_property_from_value(name, value);
                self.sink.set_property_from_value(name, value);
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let (sent, received): (gst::Structure, gst::Structure) =
                    (self.sink.property("stats"), self.src.property("stats"));
                let both = gst::Structure::builder("reactor-stats")
                    .field("sink", sent)
                    .field("src", received);
                both.build().to_value()
            }
            name => match property::find(FilterSettings::PROPERTIES, name) {
                Some(property) => (property.value)(&lock(&self.settings), &property.info),
                None if is_of_sink(name) => self.sink.property_value(name),
                None => self.src.property_value(name),
            },
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let mut signals = gobject::signals(|element| {
                let filter = element.downcast_ref::<super::ReactorFilter>()?;
                let src = &filter.imp().src;
                crate::reactorsrc::membership(src)
            });
            signals.push(encoder_setup_signal());
            signals
        });
        &SIGNALS
    }
}

impl GstObjectImpl for ReactorFilter {}

impl PresetImpl for ReactorFilter {}

impl ElementImpl for ReactorFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            element_metadata(
                "Reactor filter",
                "Filter/Effect/Video/Network/WebRTC",
                "Sends video through a Reactor real-time generative model",
                "gst-launch-1.0 videotestsrc is-live=true ! reactorfilter local=true ! autovideosink",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, of: &[gst::PadTemplate]| {
                let of = of.iter().find(|t| t.name_template().starts_with("video"))?;
                let presence = gst::PadPresence::Always;
                gst::PadTemplate::new(name, direction, presence, of.caps()).ok()
            };
            let sink = crate::reactorsink::pad_templates();
            let src = crate::reactorsrc::pad_templates();
            let sink = template("sink", gst::PadDirection::Sink, sink);
            let src = template("src", gst::PadDirection::Src, src);
            let request = request_pads::templates();
            sink.into_iter().chain(src).chain(request).collect()
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        self.request_inner_pad(template, name)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.release_inner_pad(pad);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if !event.is_downstream() {
            return self.parent_send_event(event);
        }
        // As a source does; the input's events come by its pad.
        self.sink.send_event(event.clone());
        self.src.send_event(event)
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // In READY as well: `track-in` may be set there.
        if matches!(
            transition,
            gst::StateChange::NullToReady | gst::StateChange::ReadyToPaused
        ) && let Err(error) = self.request_sink_pad()
        {
            gst::error!(CAT, imp = self, "{error}");
            return Err(gst::StateChangeError);
        }
        if transition == gst::StateChange::ReadyToPaused {
            self.repeated_errors.clear();
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            self.release_pads();
        }
        Ok(success)
    }
}

/// The commands are those of the source, before the pads of both elements, before
/// the two elements themselves.
impl ChildProxyImpl for ReactorFilter {
    fn child_by_name(&self, name: &str) -> Option<glib::Object> {
        let pad = || self.find_pad(name);
        let inside = || pad().or_else(|| self.parent_child_by_name(name));
        match self.commands() {
            Some(commands) => commands.find(name, inside),
            None => inside(),
        }
    }

    fn child_by_index(&self, index: u32) -> Option<glib::Object> {
        let inside = |index: u32| {
            let mut pads = self.pads_with_properties();
            match pads.nth(index as usize) {
                Some(pad) => Some(pad.upcast()),
                None => self.parent_child_by_index(index.checked_sub(self.pad_count())?),
            }
        };
        match self.commands() {
            Some(commands) => commands.nth(index, inside),
            None => inside(index),
        }
    }

    fn children_count(&self) -> u32 {
        let commands = self.commands().map_or(0, CommandChildren::count);
        commands + self.pad_count() + self.parent_children_count()
    }
}

impl BinImpl for ReactorFilter {
    fn handle_message(&self, message: gst::Message) {
        // Both elements post these messages of the session: once is enough.
        let from_sink = message.src() == Some(self.sink.upcast_ref());
        if from_sink && message.type_() == gst::MessageType::Eos {
            self.drain();
        }
        if from_sink && let Some(forwarded) = message.structure().filter(|s| s.has_name(FORWARDED))
        {
            return self.end_commands(forwarded);
        }
        let is_posted_twice = match message.view() {
            gst::MessageView::Progress(_) => true,
            gst::MessageView::Element(element) => {
                !OF_SINK.iter().any(|name| element.has_name(name))
            }
            _ => false,
        };
        let ours = from_sink || message.src() == Some(self.src.upcast_ref());
        let is_repeated = ours && self.repeated_errors.is_repeated(from_sink, &message);
        if !(from_sink && is_posted_twice || is_repeated) {
            self.parent_handle_message(message);
        }
    }
}
