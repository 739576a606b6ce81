// SPDX-License-Identifier: MIT

//! What the end-to-end tests share: servers as child processes, probes on pads, pipelines and
//! processes under test, networks that fail. `README.md` says which module holds what.

pub mod actions;
pub mod audio;
pub mod bandwidth_limit;
pub mod camera_view;
pub mod chromium;
pub mod clips;
pub mod cloud;
pub mod command_pads;
pub mod coturn;
pub mod criticals;
pub mod frames;
pub mod http;
mod idle_servers;
pub mod janus;
pub mod leaks;
pub mod link_down;
pub mod media;
pub mod model_messages;
pub mod mount_namespace;
pub mod mp4;
pub mod network_interfaces;
pub mod nginx;
pub mod official_client;
pub mod outages;
pub mod peer;
pub mod pipeline;
pub mod plugin_environment;
pub mod process;
pub mod proxy;
pub mod random;
pub mod recording_server;
pub mod relay;
pub mod resources;
pub mod scratch;
pub mod second_client;
pub mod server;
mod server_process;
pub mod silent_ice_servers;
pub mod terminal;
pub mod tick_messages;
pub mod tiny_disk;
mod traffic_control;
pub mod trend;
pub mod watch;

use std::{sync::Once, time::Duration};

/// The limit of a wait for something that takes a second or two on an idle machine. It is generous:
/// the machine may be busy compiling.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Whether to try what takes longer than CI has: `tests/run.sh --slow` does.
pub fn slow() -> bool {
    std::env::var_os("REACTOR_TEST_SLOW").is_some()
}

/// Initializes GStreamer and the plugin, once per process.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer");
        gstreactor::plugin_register_static().expect("the plugin registers");
    });
}
