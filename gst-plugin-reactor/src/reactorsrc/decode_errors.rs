// SPDX-License-Identifier: MIT

//! Keeps av1dec from ending the pipeline at a damaged picture. Where other decoders
//! log a picture that they cannot decode and go on, av1dec (GStreamer 1.22 at least)
//! posts an error, and its flow return is undefined. Called on the streaming thread
//! of the pad.

use std::cell::Cell;

use gst::prelude::*;

use super::debug::CAT;

const DECODER: &str = "av1dec";
/// What it says of a picture. The code alone is that of a failed set-up, too.
const DAMAGED: &str = "Failed to decode frame";

thread_local! {
    /// The decoder that this thread is pushing to has failed at the picture.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a decoder needs its `input` watched.
pub fn is_fragile(decoder: &gst::ElementFactory) -> bool {
    decoder.name() == DECODER
}

/// Lets a picture through that the decoder behind `input` fails at. The error itself
/// is for [`tolerate`].
pub fn watch_input(input: &gst::Pad) {
    input.add_probe(gst::PadProbeType::BUFFER, |pad, info| {
        let Some(decoder) = pad.peer() else {
            return gst::PadProbeReturn::Ok;
        };
        let Some(gst::PadProbeData::Buffer(buffer)) = info.data.take() else {
            return gst::PadProbeReturn::Ok;
        };
        FAILED.set(false);
        let flow = decoder.chain(buffer);
        info.flow_res = match FAILED.take() {
            true => Ok(gst::FlowSuccess::Ok),
            false => flow,
        };
        gst::PadProbeReturn::Handled
    });
}

/// Whether a message is about a damaged picture, and so nobody's; then a keyframe is
/// asked for.
pub fn tolerate(message: &gst::Message) -> bool {
    let gst::MessageView::Error(error) = message.view() else {
        return false;
    };
    let source = error
        .src()
        .and_then(|src| src.downcast_ref::<gst::Element>());
    let Some(decoder) = source.filter(|source| {
        let factory = source.factory();
        factory.is_some_and(|factory| is_fragile(&factory))
    }) else {
        return false;
    };
    let error = error.error();
    if !error.matches(gst::LibraryError::Init) || error.message() != DAMAGED {
        return false;
    }
    gst::warning!(CAT, obj = decoder, "a picture is damaged");
    FAILED.set(true);
    if let Some(sink) = decoder.static_pad("sink") {
        let request = gst_video::UpstreamForceKeyUnitEvent::builder();
        sink.push_event(request.all_headers(true).build());
    }
    true
}
