// SPDX-License-Identifier: MIT

//! An element that says nothing of the server means the one that another
//! Reactor element of its pipeline speaks to.

use gst::prelude::*;

use super::properties;
use crate::session::settings::Settings;

/// What tells where a session is.
const WHERE: [&str; 6] = [
    "local",
    "api-url",
    "model",
    "arguments",
    "adopt-session-id",
    "connection-id",
];

/// Takes these settings over from an element that shares the session.
pub(super) fn adopt(element: &gst::Element, settings: &mut Settings) {
    let Some(pipeline) = top(element) else {
        return;
    };
    for other in pipeline.iterate_recurse().into_iter().flatten() {
        let mut theirs = Settings::default();
        if other != *element && read(&other, &mut theirs) && theirs.session == settings.session {
            theirs.session = None;
            settings.local = theirs.local;
            settings.api_url = theirs.api_url;
            settings.adopt_session_id = theirs.adopt_session_id;
            settings.connection_id = theirs.connection_id;
            settings.model = settings.model.take().or(theirs.model);
            settings.arguments = settings.arguments.take().or(theirs.arguments);
            return;
        }
    }
}

/// Reads the settings of an element, if it is one of ours and says something.
fn read(element: &gst::Element, settings: &mut Settings) -> bool {
    let ours = element
        .factory()
        .is_some_and(|f| f.name().starts_with("reactor"));
    if !ours || !WHERE.iter().all(|name| element.has_property(name)) {
        return false;
    }
    for name in WHERE.into_iter().chain(["session"]) {
        let _ = properties::set(settings, name, &element.property_value(name));
    }
    // The property shows the default where nothing is set.
    let default = crate::session::settings::DEFAULT_API_URL;
    settings.api_url.take_if(|url| url == default);
    !settings.is_bare()
}

fn top(element: &gst::Element) -> Option<gst::Bin> {
    let mut top = element.parent()?;
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast().ok()
}
