// SPDX-License-Identifier: MIT

//! Google's congestion control, where it is installed: `rtpgccbwe` stands
//! between webrtcbin's senders and the network, paces what they send, and
//! estimates from the server's transport-wide feedback how much may be sent.

use std::sync::atomic::{AtomicBool, Ordering};

use gst::{glib, prelude::*};
use gst_rtp::prelude::*;

use super::{CAT, TransportHandles, peer_connection};
use crate::{
    platform::Error,
    session::{TransportReport, bitrate_allocator::BitrateLimits},
};

const FACTORY: &str = "rtpgccbwe";
/// Numbers the packets of all tracks in one sequence.
const EXTENSION: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// The same in all m-lines, as they share a transport.
const EXTENSION_ID: u8 = 1;

pub(super) struct BandwidthEstimator {
    element: gst::Element,
    notify: glib::SignalHandlerId,
}

impl BandwidthEstimator {
    /// Puts it into webrtcbin, which asks for it when the first sender is
    /// connected. Without it there is the server's report of loss.
    pub(super) fn install(webrtcbin: &gst::Element, handles: &TransportHandles) -> Option<Self> {
        let element = gst::ElementFactory::make(FACTORY).build().ok()?;
        // Its task wakes 200 times a second, so it rests until there is
        // something to pace.
        element.set_locked_state(true);
        // All tracks are bundled, so there is one transport to ask for it.
        let given = AtomicBool::new(false);
        let aux = element.clone();
        webrtcbin.connect("request-aux-sender", false, move |_| {
            let first = !given.swap(true, Ordering::AcqRel);
            Some(first.then(|| aux.clone()).to_value())
        });
        let reports = handles.reports.clone();
        let notify = element.connect_notify(Some("estimated-bitrate"), move |element, _| {
            reports(TransportReport::Estimate(
                element.property("estimated-bitrate"),
            ));
        });
        Some(Self { element, notify })
    }

    /// Something is to be sent.
    pub(super) fn wake(&self) -> Result<(), Error> {
        self.unlock();
        // A webrtcbin that did not ask for it sends without it.
        match self.element.parent() {
            Some(_) => self.element.sync_state_with_parent(),
            None => Ok(()),
        }
        .map_err(peer_connection::internal)
    }

    /// From now on it goes where webrtcbin goes.
    pub(super) fn unlock(&self) {
        self.element.set_locked_state(false);
    }

    /// Between which limits to estimate, and from where to go on.
    pub(super) fn limit(&self, limits: BitrateLimits) {
        gst::debug!(CAT, obj = self.element, "{limits:?}");
        // What is set here was not measured.
        self.element.block_signal(&self.notify);
        let bitrates = [
            ("min-bitrate", limits.min),
            ("max-bitrate", limits.max),
            ("estimated-bitrate", limits.start),
        ];
        for (property, bitrate) in bitrates {
            self.element.set_property(property, bitrate.max(1));
        }
        self.element.unblock_signal(&self.notify);
    }
}

/// Offers the numbering of packets, in the caps of a transceiver.
pub(super) fn offer(caps: &mut gst::CapsRef) {
    for structure in caps.iter_mut() {
        structure.set(format!("extmap-{EXTENSION_ID}"), EXTENSION);
    }
}

/// Whether the server takes the numbers: nothing may be sent that was not
/// agreed on.
pub(super) fn is_agreed(answer: &gst_sdp::SDPMessageRef) -> bool {
    let agreed = format!("{EXTENSION_ID} {EXTENSION}");
    let mut attributes = answer.medias().flat_map(|media| media.attributes());
    attributes.any(|a| a.key() == "extmap" && a.value() == Some(&agreed))
}

/// Has a payloader make room for the numbers.
pub(super) fn number(payloader: &gst::Element) -> Result<(), Error> {
    let extension = gst_rtp::RTPHeaderExtension::create_from_uri(EXTENSION).ok_or_else(|| {
        peer_connection::internal("the RTP header extension for feedback is not installed")
    })?;
    extension.set_id(EXTENSION_ID.into());
    payloader.emit_by_name::<()>("add-extension", &[&extension]);
    Ok(())
}
