// SPDX-License-Identifier: MIT
//! Recordings made by ffmpeg's HLS muxer, as the runtime makes them, and what
//! ffmpeg and GStreamer make of the files.

mod damage;
mod limits;
mod media;
mod streams;
mod trimming;
