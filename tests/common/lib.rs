// SPDX-License-Identifier: MIT

//! What the end-to-end tests share: the real server as a child process, the
//! code in the playground's pictures, and pipelines under test.

pub mod blackout;
pub mod clips;
pub mod frames;
pub mod held;
pub mod http;
pub mod inset;
pub mod installed;
pub mod launch;
pub mod leaks;
pub mod media;
pub mod mp4;
pub mod narrow;
pub mod nginx;
pub mod outages;
pub mod peer;
pub mod pipeline;
pub mod process;
pub mod proxy;
pub mod recording;
pub mod relay;
pub mod server;
pub mod sound;
pub mod ticks;
pub mod tool;

use std::sync::Once;

/// Initializes GStreamer and the plugin, once per process.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer");
        gstreactor::plugin_register_static().expect("the plugin registers");
    });
}
