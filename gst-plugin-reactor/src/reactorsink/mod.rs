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
 * Request pads `command_NAME` (such as `command_set_prompt`) take commands from
 * streams, each buffer at its running time: text for the command's text
 * parameter (the only one, the only required one, or the pad's `param`), JSON
 * with all parameters, or a whole JPEG, PNG, WebP or sound file, which is
 * uploaded; a stream of bytes is one file up to its end. Text and JSON without
 * timestamps act at once, each line or value of them. The pad `commands` takes
 * JSON such as `{"set_prompt":{"prompt":"a forest"}}`. A stream that is not
 * live, such as a subtitle file, begins when the session is ready, together with
 * the video that waits for it; a live one never waits: of what cannot be sent
 * yet the newest of each command is kept. A buffer that is refused is a warning
 * and the message `reactor-reply` with `pad`, `command` and `error`; with the
 * pad's `strict` it is an error. No buffer names a file of this machine.
 *
 * It shares its session with the other Reactor elements of its pipeline, or
 * with those of the process that name the same `session`.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! reactorsink local=true  reactorsrc ! videoconvert ! autovideosink
 * ]| Send the camera, watch what the model makes of it.
 * |[
 * gst-launch-1.0 reactorsink name=s local=true  filesrc location=show.srt ! subparse ! text/x-raw,format=utf8 ! s.command_set_prompt  reactorsrc ! videoconvert ! autovideosink
 * ]| Play a show of prompts.
 * |[
 * gst-launch-1.0 reactorsink name=s local=true  fdsrc ! text/x-raw,format=utf8 ! s.command_set_prompt  reactorsrc ! videoconvert ! autovideosink
 * ]| Each line that is typed is a prompt.
 * |[
 * gst-launch-1.0 reactorsink name=s local=true  v4l2src ! videorate ! video/x-raw,framerate=1/5 ! jpegenc ! s.command_set_image  reactorsrc ! videoconvert ! autovideosink
 * ]| The model follows what the camera sees.
 */
mod command_pad;
mod commands;
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
#[cfg(test)]
mod testing;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element; see its user documentation.
    pub struct ReactorSink(ObjectSubclass<imp::ReactorSink>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::Preset;
}

pub(crate) use imp::{encoder_setup_signal, pad_templates};
pub(crate) use settings::SinkSettings;

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    command_pad::CommandPad::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(
        Some(plugin),
        "reactorsink",
        gst::Rank::NONE,
        ReactorSink::static_type(),
    )
}
