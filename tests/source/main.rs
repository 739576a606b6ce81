// SPDX-License-Identifier: MIT

//! `reactorsrc`: raw and encoded streams, packets, states, clocks and frame metadata, against the
//! real local runtime and against stand-in servers.

mod decoder_memory;
mod encoded_streams;
mod frame_metadata;
mod messages;
mod output_caps;
mod peer_servers;
mod playback;
mod players;
mod states;
