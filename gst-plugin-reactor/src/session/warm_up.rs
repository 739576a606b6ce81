// SPDX-License-Identifier: MIT

//! What only the first connection of a process has to wait for: GStreamer
//! loads its plugins, the DTLS element makes an RSA key (50 to 500 ms on one
//! measured machine), the HTTP client reads the system's certificates.

use std::{
    sync::{Condvar, Mutex, Once},
    thread,
    time::Duration,
};

use super::{codecs::CODECS, lock};
use crate::platform::http::HttpClient;

static DONE: Once = Once::new();

/// Begins on a thread of its own.
pub fn begin() {
    if !DONE.is_completed() {
        // Without a thread it is done when it is needed.
        let busy = Busy::begin();
        let _ = thread::Builder::new()
            .name("reactor-warm-up".into())
            .spawn(move || {
                let _busy = busy;
                wait();
            });
    }
}

/// Threads that are at it.
static THREADS: Mutex<u32> = Mutex::new(0);
static IDLE: Condvar = Condvar::new();

struct Busy;

impl Busy {
    fn begin() -> Self {
        *lock(&THREADS) += 1;
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&THREADS) -= 1;
        IDLE.notify_all();
    }
}

/// Waits, at most `limit`, until no thread is at it: a process that exits
/// while OpenSSL makes a key crashes in it.
pub fn settle(limit: Duration) {
    let threads = lock(&THREADS);
    let _ = IDLE.wait_timeout_while(threads, limit, |threads| *threads > 0);
}

/// Waits until it is done, or does it.
pub(super) fn wait() {
    DONE.call_once(|| {
        // Whatever is missing is reported when it is needed.
        for name in ["dtlsdec", "webrtcbin", "sctpdec", "nicesrc", "appsink"] {
            let _ = gst::ElementFactory::make(name).build();
        }
        let _ = HttpClient::shared();
        for codec in CODECS {
            let depayloader = gst::ElementFactory::find(codec.depayloader);
            let decoder = codec.decoders().into_iter().next();
            for factory in depayloader.into_iter().chain(decoder) {
                let _ = gst::prelude::PluginFeatureExtManual::load(&factory);
            }
        }
    });
}
