// SPDX-License-Identifier: MIT

//! The element `reactorsink`: its type, its registration and the user documentation.

/**
 * SECTION:element-reactorsink
 *
 * Feeds a real-time generative model: camera, microphone, or any other live
 * or recorded stream, one request pad for each of the model's input tracks.
 * A pad may be named after its track (`video_camera`); one that is not takes
 * the first track of its kind that is free.
 *
 * Raw video and audio are encoded for real time; what is encoded already
 * (VP8, VP9, AV1, H.264 where the server takes it, Opus) is sent as it is.
 * Until the model is connected a live stream is dropped, so a camera never
 * waits; then a keyframe is asked for. What is not live, a file, waits for the
 * model instead and is then sent whole, at its pace (`identity sync=true` in
 * front makes a live stream of it).
 *
 * The bitrate of what is encoded here follows the network, between
 * `min-bitrate` and `max-bitrate`: with `rtpgccbwe` (of gst-plugins-rs, found
 * if it is installed) as Google's congestion control estimates it, without as
 * the server's reports of loss allow. `stats` shows it for each pad.
 *
 * It shares its session with the other Reactor elements of its pipeline, or
 * with those of the process that name the same `session`.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! reactorsink local=true  reactorsrc ! videoconvert ! autovideosink
 * ]| Send the camera, watch what the model makes of it.
 */
mod debug;
mod encode_chain;
mod encoder;
mod event;
mod event_handler;
mod gate;
mod imp;
mod loss_based_controller;
mod settings;
mod sink_pad;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element; see its user documentation.
    pub struct ReactorSink(ObjectSubclass<imp::ReactorSink>)
        @extends gst::Bin, gst::Element, gst::Object;
}

pub(crate) use imp::{encoder_setup_signal, pad_templates};
pub(crate) use settings::SinkSettings;

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "reactorsink",
        gst::Rank::NONE,
        ReactorSink::static_type(),
    )
}
