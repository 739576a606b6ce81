// SPDX-License-Identifier: MIT

//! `reactorsink` against the real local runtime: pads and tracks, raw and encoded inputs, encoders,
//! live and file inputs, the end of a stream.

mod inputs;
