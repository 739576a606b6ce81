// SPDX-License-Identifier: MIT

//! RTP header extensions (RFC 8285) in m-sections. Pure functions.

use sdp_types::Media;

/// The header extension in which a sender says how long the receiver may hold a
/// frame back, as libwebrtc defines it.
pub const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// The id of a header extension in an m-section, if it can be used there.
pub(super) fn extension_id(media: &Media, wanted: &str) -> Option<u8> {
    let mut extensions = media
        .attributes
        .iter()
        .filter(|attribute| attribute.attribute == "extmap")
        .filter_map(|attribute| attribute.value.as_deref());
    extensions.find_map(|value| {
        let (entry, uri) = value.trim().split_once(' ')?;
        let (id, direction) = entry.split_once('/').unwrap_or((entry, ""));
        let uri = uri.split_ascii_whitespace().next()?;
        (uri == wanted && direction != "inactive")
            .then(|| id.parse().ok())
            .flatten()
    })
}

/// Whether an m-section of an answer agrees to what was offered under this id.
pub(super) fn is_agreed(answered: &Media, uri: &str, offered: Option<u8>) -> bool {
    offered.is_some() && extension_id(answered, uri) == offered
}
