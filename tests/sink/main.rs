// SPDX-License-Identifier: MIT

//! `reactorsink` against the real local runtime: pads and tracks, raw and encoded inputs, encoders,
//! live and file inputs, the end of a stream.

mod audio_inputs;
mod commands;
mod encoded_video;
mod encoding;
mod end_of_stream;
mod live_inputs;
mod pads;
mod support;
