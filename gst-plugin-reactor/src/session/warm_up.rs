// SPDX-License-Identifier: MIT

//! Does in advance what the first connection of a process would wait for: the DTLS
//! element generates an RSA key (50 to 500 ms on one measured machine), and
//! meanwhile GStreamer loads its plugins (200 ms), and the HTTP client reads the
//! system's certificates. Started by an element's change to READY, on two threads;
//! it opens no connection.

use std::{
    sync::{Condvar, Mutex, Once},
    thread,
};

use super::{codecs::Codec, driver::TEARDOWN_LIMIT, headroom};
use crate::platform::{http::HttpClient, lock, track::Kind};

static KEY: Once = Once::new();
static PLUGINS: Once = Once::new();

/// Starts threads that do it, unless it is done, or a process that is short of
/// descriptors would be without one.
pub fn start() {
    let is_done = KEY.is_completed() && PLUGINS.is_completed();
    if is_done || headroom::require().is_err() {
        return;
    }
    spawn(&KEY, "reactor-dtls-key", make_key);
    spawn(&PLUGINS, "reactor-warm-up", load_plugins);
}

fn spawn(done: &'static Once, name: &str, work: fn()) {
    if !done.is_completed() {
        // If no thread can be started, it is done when it is needed.
        let running = RunningThread::new();
        let _ = thread::Builder::new().name(name.into()).spawn(move || {
            let _running = running;
            done.call_once(work);
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

/// Blocks until no such thread runs, at most for [`TEARDOWN_LIMIT`]: a process that exits
/// while OpenSSL generates a key crashes in it. That does not depend on how long the
/// server may take: with `close-timeout=0`, 9 of 18 processes crashed beside busy ones.
pub fn wait_for_threads() {
    let threads = lock(&THREADS);
    drop(threads.wait_while(&IDLE, TEARDOWN_LIMIT, |threads| *threads > 0));
}

/// GStreamer makes one key for all connections of a process; an element that
/// needs it waits for whoever makes it.
fn make_key() {
    let _ = gst::ElementFactory::make("dtlsdec").build();
}

/// First what a connection is made of, for GStreamer loads one plugin at a time. Of
/// the codecs, only those that are offered first, which servers take: FFmpeg, which
/// decodes H.264, takes 34 ms of CPU, 100 to 240 ms in all (measured), and meanwhile
/// keeps webrtcbin from making its elements. A missing element is reported when it is
/// needed.
fn load_plugins() {
    let _ = HttpClient::shared();
    let elements = [
        "webrtcbin",
        "srtpdec",
        "sctpdec",
        "nicesrc",
        "rtpbin",
        "appsink",
        "videoconvert",
        "audioconvert",
        "audioresample",
    ];
    for name in elements {
        let _ = gst::ElementFactory::make(name).build();
    }
    for kind in [Kind::Video, Kind::Audio] {
        let Some(codec) = Codec::of_kind(kind).find(|codec| codec.can_decode()) else {
            continue;
        };
        let depayloader = gst::ElementFactory::find(codec.depayloader);
        let decoder = codec.decoders().into_iter().next();
        for factory in depayloader.into_iter().chain(decoder) {
            let _ = gst::prelude::PluginFeatureExtManual::load(&factory);
        }
    }
}
