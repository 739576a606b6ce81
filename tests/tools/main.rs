// SPDX-License-Identifier: MIT

//! What users run: `gst-inspect-1.0`, `gst-launch-1.0`, the scripts of `pipelines/` and the
//! applications of `examples/`, each as a child process.

mod bumper;
mod demo;
mod display;
mod documents;
mod fanout;
mod gst_launch;
mod inspect;
mod installation;
mod launch_lines;
mod mirror;
mod pipeline_scripts;
mod play;
mod reactor_top;
mod recipes;
mod save_clip;
mod sdk_mapping;
mod steer;
mod support;
mod typed_lines;
mod uris;
mod watch;
