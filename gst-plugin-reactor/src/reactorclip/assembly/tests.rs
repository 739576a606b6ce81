// SPDX-License-Identifier: MIT
//! Recordings made by ffmpeg's HLS muxer, as the runtime makes them, and how
//! ffmpeg and GStreamer play the files.

mod damage;
mod limits;
mod media;
mod streams;
mod trimming;
