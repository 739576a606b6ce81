// SPDX-License-Identifier: MIT

/**
 * SECTION:element-reactorclip
 *
 * Makes one ordinary MP4 of what a real-time generative model showed and
 * sounded like: the last `duration` seconds of a live session, its whole
 * recording (`duration=0`), or a clip whose address is known
 * (`playlist-url`). The platform deletes clips after 24 hours.
 *
 * In the pipeline of a reactorsrc or reactorsink it takes the clip from their
 * session, in another one from the session that both name; it never starts
 * one. `request` says when: as soon as there is as much as was asked for
 * (`filled`), at once (`now`), or when the live elements end (`eos`): the
 * session is then kept until the clip is saved, so that
 * `gst-launch-1.0 -e` and Ctrl-C save the last seconds.
 *
 * Pictures and sound are never encoded anew. With `format=faststart` the
 * result is a flat, seekable MP4 that begins at 0, which comes when it is
 * complete; with `format=fragmented` its parts come while they are fetched.
 * The platform rounds a clip outward to whole chunks; `trim` cuts it to what
 * was asked for, by an edit list that players honour.
 *
 * `GST_MESSAGE_PROGRESS` and the element message `reactor-clip-progress`
 * (`fetched`, `total`, `bytes`) show how it goes, `reactor-clip` what was
 * made. What goes wrong is an error message with the platform's code in its
 * details, and never an end of stream.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 -e reactorsrc local=true ! videoconvert ! autovideosink  reactorclip duration=10 request=eos ! filesink location=clip.mp4
 * ]| Watch, and keep the last ten seconds at Ctrl-C.
 * |[
 * gst-launch-1.0 reactorclip playlist-url="http://localhost:8080/clips?session_id=..." local=true ! filesink location=clip.mp4
 * ]| Save a clip by its address.
 */
mod assembly;
mod debug;
mod handoff;
mod imp;
mod job;
mod notify;
mod progress;
mod readiness;
mod request_timing;
mod settings;

#[cfg(any(test, fuzzing))]
pub use assembly::fuzzing;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element; see its user documentation.
    pub struct ReactorClip(ObjectSubclass<imp::ReactorClip>)
        @extends gst_base::BaseSrc, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        let none = gst::PluginAPIFlags::empty();
        settings::ClipFormat::static_type().mark_as_plugin_api(none);
        settings::ClipRequest::static_type().mark_as_plugin_api(none);
    }
    gst::Element::register(
        Some(plugin),
        "reactorclip",
        gst::Rank::NONE,
        ReactorClip::static_type(),
    )
}
