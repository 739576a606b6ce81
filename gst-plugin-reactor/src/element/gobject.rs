// SPDX-License-Identifier: MIT

//! The GObject face that all live elements have in common.

use gst::{glib, prelude::*};

use super::{CAT, Live, Status, actions, properties};

/// Settings and read-only properties.
pub fn properties() -> Vec<glib::ParamSpec> {
    let mut specs = properties::specs();
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
        last_error(),
        structure(
            "stats",
            "Statistics",
            "How long connecting took (ms) and what went through, per pad",
        ),
    ]
}

/// The property that every element has.
pub fn last_error() -> glib::ParamSpec {
    structure(
        "last-error",
        "Last error",
        "code, component, message, recoverable and what else is known of the last error",
    )
}

/// A read-only structure.
pub fn structure(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecBoxed::builder::<gst::Structure>(name)
        .nick(nick)
        .blurb(blurb)
        .read_only()
        .build()
}

/// The signals that [`Live`] emits, and the actions; `live` finds it in an
/// element.
pub fn signals(live: fn(&gst::Element) -> Option<&Live>) -> Vec<glib::subclass::Signal> {
    let message = |name| {
        glib::subclass::Signal::builder(name)
            .param_types([String::static_type(), String::static_type()])
            .build()
    };
    let mut signals = vec![
        // message(type, json): the model said something.
        message("message"),
        // runtime-message(type, json): the platform said something.
        message("runtime-message"),
        // session-ended(reason): the model's side ended the session.
        glib::subclass::Signal::builder("session-ended")
            .param_types([Option::<String>::static_type()])
            .build(),
    ];
    signals.extend(actions::signals(live));
    signals
}

impl Live {
    /// Takes a property that is not an element's own.
    pub fn set_property(&self, element: &gst::Element, name: &str, value: &glib::Value) {
        if let Err(problem) = properties::set(&mut self.settings(), name, value) {
            gst::error!(CAT, obj = element, "{name} keeps its value: {problem}");
        }
        // Tokens end while sessions go on.
        if name == "jwt"
            && let Some(session) = self.session()
        {
            session.set_jwt(value.get::<Option<&str>>().ok().flatten());
        }
    }

    /// The value of a property, but for `stats`.
    pub fn property(&self, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "status" => self.public().status.to_value(),
            "session-id" => self.public().session_id.to_value(),
            "capabilities" => self.public().capabilities.to_value(),
            "session-info" => self.public().session_info.to_value(),
            "last-error" => self.public().last_error.to_value(),
            name => properties::value(&self.settings(), name)
                .unwrap_or_else(|| pspec.default_value().clone()),
        }
    }

    /// What `stats` shows of the session itself.
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
            stats = stats.field("reconnects", timings.reconnects);
        }
        stats
    }
}
