// SPDX-License-Identifier: MIT

//! Outages, reconnection and timing. Every test of this binary runs alone (`exclusive_network`): it
//! takes the network of the whole namespace down, or measures delays of a few milliseconds.

mod audio_video_sync;
mod interfaces;
mod latency;
mod loopback;
mod reconnect;
mod resume_window;
