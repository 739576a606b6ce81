// SPDX-License-Identifier: MIT

//! Transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): packets carry a sequence
//! number of the transport in an RTP header extension (RFC 8285), and the receiver
//! reports when each arrived. Pure functions that read whether an m-section
//! offers it or agrees to it.

use sdp_types::Media;

use super::header_extensions::is_agreed as is_extension_agreed;

/// The RTP header extension that numbers the packets of all tracks in one
/// sequence.
pub const TRANSPORT_CC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Whether an m-section has the feedback message for any of its payload types.
fn has_feedback(media: &Media) -> bool {
    let mut attributes = media.attributes.iter();
    attributes.any(|attribute| {
        let value = attribute.value.as_deref().unwrap_or_default();
        let message = value.split_once(' ').map(|(_, message)| message.trim());
        attribute.attribute == "rtcp-fb" && message == Some("transport-cc")
    })
}

/// Whether an m-section of an answer agrees to what was offered under this id.
pub(super) fn is_agreed(answered: &Media, offered: Option<u8>) -> bool {
    is_extension_agreed(answered, TRANSPORT_CC_URI, offered) && has_feedback(answered)
}
