// SPDX-License-Identifier: MIT

//! Does in advance what the first connection of a process would wait for: GStreamer
//! loads its plugins, the DTLS element generates an RSA key (50 to 500 ms on one
//! measured machine), the HTTP client reads the system's certificates. Started by
//! an element's change to READY, on a thread of its own; it opens no connection.

use std::{
    sync::{Condvar, Mutex, Once},
    thread,
    time::Duration,
};

use super::codecs::CODECS;
use crate::platform::{http::HttpClient, lock};

static DONE: Once = Once::new();

/// Starts a thread that does it, unless it is done.
pub fn start() {
    if !DONE.is_completed() {
        // If no thread can be started, it is done when it is needed.
        let running = RunningThread::new();
        let _ = thread::Builder::new()
            .name("reactor-warm-up".into())
            .spawn(move || {
                let _running = running;
                complete();
            });
    }
}

/// The number of running threads.
static THREADS: Mutex<u32> = Mutex::new(0);
static IDLE: Condvar = Condvar::new();

/// Counts a thread for as long as it runs.
struct RunningThread;

impl RunningThread {
    fn new() -> Self {
        *lock(&THREADS) += 1;
        Self
    }
}

impl Drop for RunningThread {
    fn drop(&mut self) {
        *lock(&THREADS) -= 1;
        IDLE.notify_all();
    }
}

/// Blocks until no such thread runs, at most for `limit`: a process that exits
/// while OpenSSL generates a key crashes in it.
pub fn wait_for_threads(limit: Duration) {
    let threads = lock(&THREADS);
    let _ = IDLE.wait_timeout_while(threads, limit, |threads| *threads > 0);
}

/// Does it now, or blocks until another thread has done it.
pub(super) fn complete() {
    DONE.call_once(|| {
        // A missing element is reported when it is needed.
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
