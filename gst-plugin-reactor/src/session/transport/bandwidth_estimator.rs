// SPDX-License-Identifier: MIT

//! Google congestion control, where `rtpgccbwe` of gst-plugins-rs is installed: it
//! is webrtcbin's aux sender, paces the packets of all senders, and estimates the
//! available bitrate from the server's transport-wide feedback. The transport
//! thread configures it; estimates leave on the element's own task. It never sets
//! an encoder's bitrate.

use std::sync::atomic::{AtomicBool, Ordering};

use gst::{glib, prelude::*};

use super::handles::{CAT, TransportHandles};
use crate::{
    gst_helpers::internal,
    platform::Error,
    session::{bitrate_allocator::BitrateLimits, messages::TransportReport},
};

pub(super) struct BandwidthEstimator {
    element: gst::Element,
    on_estimate: glib::SignalHandlerId,
}

impl BandwidthEstimator {
    /// Offers it to webrtcbin, which requests it when the first sender is
    /// connected. `None` if it is not installed: then the bitrate depends on the
    /// loss in the server's receiver reports.
    pub(super) fn install(webrtcbin: &gst::Element, handles: &TransportHandles) -> Option<Self> {
        let element = gst::ElementFactory::make("rtpgccbwe").build().ok()?;
        // Its task wakes up 200 times per second, so it is not started until
        // there is something to pace.
        element.set_locked_state(true);
        // All tracks are bundled, so one transport requests it.
        let given = AtomicBool::new(false);
        let aux = element.clone();
        webrtcbin.connect("request-aux-sender", false, move |_| {
            let first = !given.swap(true, Ordering::AcqRel);
            Some(first.then(|| aux.clone()).to_value())
        });
        let reports = handles.reports.clone();
        let on_estimate = element.connect_notify(Some("estimated-bitrate"), move |element, _| {
            reports.send(TransportReport::BandwidthEstimate(
                element.property("estimated-bitrate"),
            ));
        });
        Some(Self {
            element,
            on_estimate,
        })
    }

    /// Starts it, before the first sender is linked.
    pub(super) fn start(&self) -> Result<(), Error> {
        self.unlock_state();
        // A webrtcbin that did not request it sends without it.
        match self.element.parent() {
            Some(_) => self.element.sync_state_with_parent(),
            None => Ok(()),
        }
        .map_err(internal)
    }

    /// Lets it follow webrtcbin's state changes.
    pub(super) fn unlock_state(&self) {
        self.element.set_locked_state(false);
    }

    /// Bounds the estimate, and sets the value it continues from.
    pub(super) fn set_limits(&self, limits: BitrateLimits) {
        gst::debug!(CAT, obj = self.element, "{limits:?}");
        // A value that is set here is no measurement.
        self.element.block_signal(&self.on_estimate);
        let bitrates = [
            ("min-bitrate", limits.min),
            ("max-bitrate", limits.max),
            ("estimated-bitrate", limits.start),
        ];
        for (property, bitrate) in bitrates {
            self.element.set_property(property, bitrate.max(1));
        }
        self.element.unblock_signal(&self.on_estimate);
    }
}
