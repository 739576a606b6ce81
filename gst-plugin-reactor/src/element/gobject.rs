// SPDX-License-Identifier: MIT

//! The properties and signals that all live elements have. Called by the
//! application's threads; properties are plain reads and writes.

use gst::{glib, prelude::*};

use super::{
    actions, debug::CAT, errors, membership::SessionMembership, state::ElementState, statistics,
    status::Status,
};
use crate::{
    platform::{Code, Error, json_text},
    property,
    session::settings::Settings,
};

/// The shared settings and the read-only properties.
pub fn properties() -> Vec<glib::ParamSpec> {
    let mut specs = property::specs(Settings::PROPERTIES);
    specs.extend(read_only());
    specs
}

fn read_only() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecEnum::builder::<Status>("status")
            .nick("Status")
            .blurb("Where the session stands")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("session-id")
            .nick("Session id")
            .blurb("The platform's id of the session")
            .read_only()
            .build(),
        structure(
            "capabilities",
            "Capabilities",
            "What the model offers: its tracks, as JSON in the field 'json'",
        ),
        structure(
            "session-info",
            "Session info",
            "The platform's description of the session, as JSON in the field 'json'",
        ),
        glib::ParamSpecDouble::builder("session-expiration")
            .nick("Session expiration")
            .blurb("When the session will end, in seconds since 1970 (0 = not known)")
            .read_only()
            .build(),
        structure(
            "tracks",
            "Tracks",
            "The state of the model's tracks: for each, by its name, a structure with kind, \
             direction, mid, codec, and paused or published",
        ),
        last_error(),
        structure(
            "stats",
            "Statistics",
            "How long connecting took (ms), the connection, and what went through, per pad",
        ),
    ]
}

/// The property `last-error`, which every element has.
pub fn last_error() -> glib::ParamSpec {
    structure(
        "last-error",
        "Last error",
        "code, component, message, recoverable and what else is known of the last error",
    )
}

/// A read-only property that holds a structure.
pub fn structure(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecBoxed::builder::<gst::Structure>(name)
        .nick(nick)
        .blurb(blurb)
        .read_only()
        .build()
}

/// The signals that live elements emit, and the action signals; `membership`
/// returns that of an element.
pub fn signals(
    membership: fn(&gst::Element) -> Option<&SessionMembership>,
) -> Vec<glib::subclass::Signal> {
    let message = |name| {
        glib::subclass::Signal::builder(name)
            .param_types([String::static_type(), String::static_type()])
            .build()
    };
    let mut signals = vec![
        // message(type, json): a message of the model.
        message("message"),
        // runtime-message(type, json): a message of the platform.
        message("runtime-message"),
        // session-ended(reason): the server ended the session.
        glib::subclass::Signal::builder("session-ended")
            .param_types([Option::<String>::static_type()])
            .build(),
        // session-expiration-changed(seconds): see the property; 0 = not known.
        glib::subclass::Signal::builder("session-expiration-changed")
            .param_types([f64::static_type()])
            .build(),
    ];
    signals.extend(actions::signals(membership));
    signals
}

/// Warns when a property is set that is read in READY -> PAUSED only.
pub fn warn_if_late(element: &gst::Element, pspec: &glib::ParamSpec) {
    let is_late = element.current_state() > gst::State::Ready;
    if !is_late || !pspec.flags().contains(gst::PARAM_FLAG_MUTABLE_READY) {
        return;
    }
    let name = pspec.name();
    let text = format!("'{name}' is read in READY only: its new value counts from the next start");
    warn_of_property(element, name, text);
}

/// Warns of the properties in which an element differs from the one that started the
/// session which they share.
pub(super) fn warn_without_effect(element: &gst::Element, properties: &[&str]) {
    for name in properties {
        let text = format!(
            "'{name}' has no effect: another element started this session with another value; \
             set the same there, or another 'session'"
        );
        warn_of_property(element, name, text);
    }
}

fn warn_of_property(element: &gst::Element, name: &str, text: String) {
    let error = Error::api(Code::InvalidSettings, text);
    gst::warning!(CAT, obj = element, "{error}");
    let mut details = errors::details(&error, None);
    details.set("property", name);
    errors::post_warning_with(element, &error, details);
}

/// Warns on standard error, as GObject does of values, when a text looks cut:
/// gst-launch-1.0 takes the rest for elements, whose names it then finds wrong.
fn warn_if_cut(name: &str, value: &glib::Value) {
    if matches!(name, "arguments" | "commands" | "navigation")
        && let Ok(Some(text)) = value.get::<Option<&str>>()
        && json_text::looks_cut(text)
    {
        glib::g_warning!(
            "reactor",
            "the property {name} is {text}: {}",
            json_text::QUOTING
        );
    }
}

impl ElementState {
    /// Sets a shared property. What it says is checked when the element starts.
    pub fn set_property(&self, name: &str, value: &glib::Value) {
        if let Some(property) = property::find(Settings::PROPERTIES, name) {
            (property.set)(&mut self.settings(), value);
        }
    }

    /// The value of a shared or read-only property, but for `stats`.
    pub fn property(&self, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "status" => self.published().status.to_value(),
            "session-id" => self.published().session_id.to_value(),
            "capabilities" => self.published().capabilities.to_value(),
            "session-info" => self.published().session_info.to_value(),
            "session-expiration" => {
                let expiration = self.published().session_expiration;
                expiration.unwrap_or_default().to_value()
            }
            "tracks" => self.published().tracks.to_value(),
            "last-error" => self.published().last_error.to_value(),
            name => match property::find(Settings::PROPERTIES, name) {
                Some(property) => (property.value)(&self.settings(), &property.info),
                None => pspec.default_value().clone(),
            },
        }
    }
}

impl SessionMembership {
    /// Sets a shared property; those that may change while a session runs reach
    /// the session too.
    pub fn set_property(&self, element: &gst::Element, name: &str, value: &glib::Value) {
        self.state.set_property(name, value);
        warn_if_cut(name, value);
        let Some(session) = self.session() else {
            return;
        };
        match name {
            "commands" => self.send_changed_commands(element),
            "jwt" => session.set_jwt(value.get::<Option<&str>>().ok().flatten()),
            "max-receive-bitrate" => {
                session.set_max_receive_bitrate(value.get().unwrap_or_default());
            }
            "stats-interval" => {
                session.set_stats_interval(self.state.settings().stats_interval());
            }
            _ => {}
        }
    }

    /// The fields of `stats` about the session: times in milliseconds since
    /// the start.
    pub fn stats(&self) -> gst::structure::Builder {
        let mut stats = gst::Structure::builder("reactor-stats");
        if let Some(session) = self.session() {
            let timings = session.timings();
            for (name, at) in [
                ("session-ms", timings.session),
                ("gpu-ms", timings.described),
                ("offer-ms", timings.offered),
                ("answer-ms", timings.answered),
                ("connected-ms", timings.connected),
                ("ready-ms", timings.ready),
                ("outage-ms", timings.outage),
            ] {
                stats = stats.field_if_some(name, at.map(|at| at.as_secs_f64() * 1000.0));
            }
            let feedback = session.has_receive_feedback().map(|agreed| match agreed {
                true => "transport-cc",
                false => "none",
            });
            stats = stats
                .field("reconnects", timings.reconnects)
                .field_if_some("receive-feedback", feedback)
                .field("connection", statistics::connection(&session.statistics()));
        }
        stats
    }
}
