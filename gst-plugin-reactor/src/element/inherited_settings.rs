// SPDX-License-Identifier: MIT

//! Inheritance of settings: an element whose properties name no server uses
//! the settings of another Reactor element of its pipeline. Called at READY ->
//! PAUSED; reads properties of other elements, never their Rust types.

use std::collections::BTreeSet;

use gst::prelude::*;

use crate::{
    property::{self, Property},
    session::settings::Settings,
};

/// The properties that elements of a session have in common.
fn inherited() -> impl Iterator<Item = &'static Property<Settings>> {
    Settings::PROPERTIES
        .iter()
        .filter(|property| property.info.inherited)
}

/// Takes what the settings leave open from an element of the pipeline that
/// shares the session and whose settings name a server.
pub(super) fn inherit(element: &gst::Element, settings: &mut Settings) {
    let Some(pipeline) = toplevel_bin(element) else {
        return;
    };
    for other in pipeline.iterate_recurse().into_iter().flatten() {
        if other != *element && is_live(&other) {
            let theirs = read_settings(&other);
            if !theirs.names_no_server() && theirs.session == settings.session {
                return settings.inherit(&theirs);
            }
        }
    }
}

/// The names of the sessions that elements of the pipeline have, or will have;
/// `None` for the one that is shared without a name.
pub(super) fn session_names(element: &gst::Element) -> BTreeSet<Option<String>> {
    let pipeline = toplevel_bin(element).into_iter();
    let elements = pipeline.flat_map(|pipeline| pipeline.iterate_recurse().into_iter().flatten());
    elements
        .filter(is_live)
        .map(|other| property::text(&other.property_value("session")))
        .collect()
}

fn is_live(element: &gst::Element) -> bool {
    let ours = element
        .factory()
        .is_some_and(|f| f.name().starts_with("reactor"));
    ours && inherited().all(|property| element.has_property(property.info.name))
}

/// The inherited settings of a live element, from its properties.
fn read_settings(element: &gst::Element) -> Settings {
    let mut settings = Settings::default();
    for property in inherited() {
        let name = property.info.name;
        let value = element.property_value(name);
        // The property reads as its default where it is not set.
        let is_unset = property.info.unset.is_some()
            && property.info.unset == property::text(&value).as_deref();
        if !is_unset {
            (property.set)(&mut settings, &value);
        }
    }
    settings
}

fn toplevel_bin(element: &gst::Element) -> Option<gst::Bin> {
    let mut top = element.parent()?;
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast().ok()
}
