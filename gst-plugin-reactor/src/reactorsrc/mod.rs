// SPDX-License-Identifier: MIT

//! The element `reactorsrc`: its type, its registration and the user documentation.

/**
 * SECTION:element-reactorsrc
 *
 * Receives what a real-time generative model streams, as a live source with
 * one sometimes pad for each of the model's output tracks: `video_NAME` and
 * `audio_NAME`.
 *
 * Downstream decides what comes out of a pad: decoded video or audio, the
 * encoded stream (`reactorsrc ! video/x-vp9 ! ...`), or its RTP packets.
 * Nothing is transcoded; raw media is converted where downstream does not take
 * what the decoder makes. A pad that is not linked costs no bandwidth: its
 * track rests on the server.
 *
 * What the model attaches to a frame is on its buffer, see `FrameMeta`. Of RTP
 * packets it stays a part: behind the frame there is a trailer, which has to
 * be cut off before a decoder.
 *
 * The request pad `messages` has what the model says, one buffer a message at
 * the running time of its arrival: a sparse stream with GAP events between. A
 * buffer is a line of JSON, `{"type":"tick","data":{"frame":30}}`, or what the
 * pad's `path` names of it, or that as text with `format=text`. When downstream
 * is too slow the oldest are dropped, with a warning (1000 or 16 MiB wait at
 * most).
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 reactorsrc local=true ! autovideosink
 * ]| Watch the model of a runtime on this machine.
 * |[
 * gst-play-1.0 reactor+http://localhost:8080
 * ]| The same in a player; `reactor://MODEL` is a model of the cloud.
 * |[
 * gst-launch-1.0 -e reactorsrc local=true name=r  r. ! queue ! videoconvert ! x264enc ! h264parse ! mux.  r. ! queue ! audioconvert ! avenc_aac ! mux.  mp4mux name=mux ! filesink location=out.mp4
 * ]| Record it. Ctrl-C finishes the file.
 * |[
 * gst-launch-1.0 reactorsrc local=true name=r  r.messages ! filesink location=messages.json async=false  r. ! videoconvert ! autovideosink
 * ]| Watch it, and write down what it says.
 */
mod audio_pacing;
mod clock_step;
mod debug;
mod decode_chain;
mod decode_errors;
mod end_of_stream;
mod event;
mod event_handler;
mod force_key_unit;
mod frame_rate;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gap_filler;
mod gap_times;
mod imp;
mod messages;
mod output_caps;
mod stream_info;
mod track_pad;
mod track_stream;
mod uri;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element; see its user documentation.
    pub struct ReactorSrc(ObjectSubclass<imp::ReactorSrc>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::Preset, gst::URIHandler;
}

pub(crate) use imp::{SourceSettings, membership, pad_templates};

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use crate::session::settings::{IceTransportPolicy, Wire};
        let none = gst::PluginAPIFlags::empty();
        crate::element::Status::static_type().mark_as_plugin_api(none);
        IceTransportPolicy::static_type().mark_as_plugin_api(none);
        Wire::static_type().mark_as_plugin_api(none);
        gap_filler::OnGap::static_type().mark_as_plugin_api(none);
        messages::MessageFormat::static_type().mark_as_plugin_api(none);
        messages::MessagesPad::static_type().mark_as_plugin_api(none);
    }
    gst::Element::register(
        Some(plugin),
        "reactorsrc",
        gst::Rank::NONE,
        ReactorSrc::static_type(),
    )
}
