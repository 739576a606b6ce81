// SPDX-License-Identifier: MIT

//! Transport-wide sequence numbers and the feedback about them, which webrtcbin's
//! RTP session sends for received packets and reads for sent ones. Called by the
//! transport thread while transceivers and payloaders are made; it touches no
//! packet.

use gst_rtp::prelude::*;

use crate::{
    gst_helpers::internal,
    platform::{Error, sdp::TRANSPORT_CC_URI},
};

/// One id in all m-sections, since they share a transport.
pub(super) const EXTENSION_ID: u8 = 1;

/// Offers the header extension and the feedback, in the caps of a transceiver.
/// All sections have to offer it: for a payload type that several have,
/// webrtcbin 1.22 takes the caps of the first, and without the extension in them
/// its RTP session sends no feedback.
pub(super) fn offer(caps: &mut gst::CapsRef) {
    for structure in caps.iter_mut() {
        structure.set(format!("extmap-{EXTENSION_ID}"), TRANSPORT_CC_URI);
        structure.set("rtcp-fb-transport-cc", true);
    }
}

/// Has a payloader add the extension to its packets. An extension that was not
/// negotiated must not be sent (RFC 8285, 5).
pub(super) fn add_extension(payloader: &gst::Element) -> Result<(), Error> {
    let extension = gst_rtp::RTPHeaderExtension::create_from_uri(TRANSPORT_CC_URI)
        .ok_or_else(|| internal("the RTP header extension for feedback is not installed"))?;
    extension.set_id(EXTENSION_ID.into());
    payloader.emit_by_name::<()>("add-extension", &[&extension]);
    Ok(())
}
