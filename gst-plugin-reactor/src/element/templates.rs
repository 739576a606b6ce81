// SPDX-License-Identifier: MIT

//! The pad templates of elements with one pad for each track. Called once for
//! each element class; keeps no state.

use crate::{platform::track::Kind, session::codecs::Codec};

/// The templates `video_%s` and `audio_%s`, with `caps` of each kind.
pub fn track_templates(
    direction: gst::PadDirection,
    presence: gst::PadPresence,
    caps: impl Fn(Kind) -> gst::Caps,
) -> Vec<gst::PadTemplate> {
    [("video_%s", Kind::Video), ("audio_%s", Kind::Audio)]
        .into_iter()
        .filter_map(|(name, kind)| {
            gst::PadTemplate::new(name, direction, presence, &caps(kind)).ok()
        })
        .collect()
}

/// The caps of raw media of a kind, and of each codec.
pub fn media_caps(kind: Kind) -> gst::Caps {
    let raw = match kind {
        Kind::Video => "video/x-raw",
        Kind::Audio => "audio/x-raw",
    };
    let encoded = Codec::of_kind(kind).map(|codec| codec.media_type);
    [raw]
        .into_iter()
        .chain(encoded)
        .map(gst::Structure::new_empty)
        .collect()
}
