// SPDX-License-Identifier: MIT

//! The element `reactorfilter`: its type, its registration and the user documentation.

/**
 * SECTION:element-reactorfilter
 *
 * A real-time generative model as a filter: video goes in, what the model
 * makes of it comes out. It is a reactorsink and a reactorsrc that share one
 * session; use those where there is more than one track each way.
 *
 * It has the request pads of both besides: `command_NAME` and `commands` of
 * reactorsink take commands from streams, until the video ends; `messages` of
 * reactorsrc has what the model says. Their properties are those of children of
 * the filter, such as `command_set_prompt::max-rate`.
 *
 * ## Example pipeline
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! reactorfilter local=true ! videoconvert ! autovideosink
 * ]| Watch what the model makes of the camera.
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! reactorfilter name=f local=true ! videoconvert ! autovideosink  fdsrc ! text/x-raw,format=utf8 ! f.command_set_prompt
 * ]| Each line that is typed is a prompt.
 */
mod imp;
mod repeated_errors;
mod request_pads;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element; see its user documentation.
    pub struct ReactorFilter(ObjectSubclass<imp::ReactorFilter>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::Preset;
}

/// Registers the element with the plugin.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "reactorfilter",
        gst::Rank::NONE,
        ReactorFilter::static_type(),
    )
}
