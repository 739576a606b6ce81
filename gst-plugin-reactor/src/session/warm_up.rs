// SPDX-License-Identifier: MIT

//! What only the first connection of a process has to wait for: GStreamer
//! loads its plugins, the DTLS element makes an RSA key (50 to 500 ms on one
//! measured machine), the HTTP client reads the system's certificates.

use std::{sync::Once, thread};

use super::codecs::CODECS;
use crate::platform::http::Http;

static DONE: Once = Once::new();

/// Begins on a thread of its own.
pub fn begin() {
    if !DONE.is_completed() {
        // Without a thread it is done when it is needed.
        let _ = thread::Builder::new()
            .name("reactor-warm-up".into())
            .spawn(wait);
    }
}

/// Waits until it is done, or does it.
pub(super) fn wait() {
    DONE.call_once(|| {
        // Whatever is missing is reported when it is needed.
        for name in ["dtlsdec", "webrtcbin", "sctpdec", "nicesrc", "appsink"] {
            let _ = gst::ElementFactory::make(name).build();
        }
        let _ = Http::shared();
        for codec in CODECS {
            let depayloader = gst::ElementFactory::find(codec.depayloader);
            let decoder = codec.decoders().into_iter().next();
            for factory in depayloader.into_iter().chain(decoder) {
                let _ = gst::prelude::PluginFeatureExtManual::load(&factory);
            }
        }
    });
}
