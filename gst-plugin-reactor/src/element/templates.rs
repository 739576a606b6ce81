// SPDX-License-Identifier: MIT

//! The pad templates of elements with a pad for each track.

use crate::{platform::track::Kind, session::codecs::Codec};

/// `video_%s` and `audio_%s`, with what comes in each.
pub fn templates(
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

/// Raw, or in one of the codecs.
pub fn media(kind: Kind) -> gst::Caps {
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
