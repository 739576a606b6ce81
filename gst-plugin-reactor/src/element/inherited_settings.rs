// SPDX-License-Identifier: MIT

//! Inheritance of settings: an element whose properties name no server uses
//! the settings of another Reactor element of its pipeline. Called at READY ->
//! PAUSED; reads properties of other elements, never their Rust types.

use std::collections::BTreeSet;

use gst::prelude::*;

use super::properties;
use crate::session::settings::Settings;

/// What is one for all elements of a session.
const SHARED: [&str; 18] = [
    "local",
    "api-url",
    "model",
    "arguments",
    "adopt-session-id",
    "connection-id",
    "session",
    "max-sdp-attempts",
    "waiting-timeout",
    "stall-timeout",
    "close-timeout",
    "latency",
    "max-latency",
    "recoverable",
    "reconnect",
    "restart-session",
    "ice-transport-policy",
    "wire",
];

/// Takes these settings over from an element that shares the session.
pub(super) fn inherit(element: &gst::Element, settings: &mut Settings) {
    let Some(pipeline) = toplevel_bin(element) else {
        return;
    };
    for other in pipeline.iterate_recurse().into_iter().flatten() {
        let mut theirs = Settings::default();
        if other != *element
            && read_settings(&other, &mut theirs)
            && theirs.session == settings.session
        {
            return settings.follow(theirs);
        }
    }
}

/// The names of the sessions that elements of the pipeline have, or will have;
/// none for the one that is shared without a name.
pub(super) fn session_names(element: &gst::Element) -> BTreeSet<Option<String>> {
    let pipeline = toplevel_bin(element).into_iter();
    let elements = pipeline.flat_map(|pipeline| pipeline.iterate_recurse().into_iter().flatten());
    elements
        .filter(is_live)
        .map(|other| properties::text(&other.property_value("session")))
        .collect()
}

fn is_live(element: &gst::Element) -> bool {
    let ours = element
        .factory()
        .is_some_and(|f| f.name().starts_with("reactor"));
    ours && SHARED.iter().all(|name| element.has_property(name))
}

/// Reads the settings of an element, if it is one of ours and says something.
fn read_settings(element: &gst::Element, settings: &mut Settings) -> bool {
    if !is_live(element) {
        return false;
    }
    for name in SHARED {
        let _ = properties::set(settings, name, &element.property_value(name));
    }
    // The property shows the default where nothing is set.
    let default = crate::session::settings::DEFAULT_API_URL;
    settings.api_url.take_if(|url| url == default);
    !settings.names_no_server()
}

fn toplevel_bin(element: &gst::Element) -> Option<gst::Bin> {
    let mut top = element.parent()?;
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast().ok()
}
