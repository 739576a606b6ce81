// SPDX-License-Identifier: MIT

//! Makes, starts and removes GStreamer elements, and the errors for when
//! GStreamer fails. Called by the elements and the session, on any thread.
//! Keeps no state, and never posts a message.

use std::fmt::Display;

use gst::prelude::*;

use crate::platform::{Code, Error};

/// Makes an element.
///
/// # Errors
///
/// [`Code::MissingPlugin`] when the factory is not installed.
pub fn make(factory: &str) -> Result<gst::Element, Error> {
    gst::ElementFactory::make(factory)
        .build()
        .map_err(|_| missing(factory))
}

/// Fails unless an element can be made, for those that another one makes.
///
/// # Errors
///
/// [`Code::MissingPlugin`] when the factory is not installed.
pub fn require(factory: &str) -> Result<(), Error> {
    match gst::ElementFactory::find(factory) {
        Some(_) => Ok(()),
        None => Err(missing(factory)),
    }
}

/// Brings linked elements to the state of their bin, the last one first: none
/// is fed before it runs.
///
/// # Errors
///
/// When an element does not reach that state.
pub fn sync_states(elements: &[gst::Element]) -> Result<(), Error> {
    let mut last_first = elements.iter().rev();
    last_first
        .try_for_each(ElementExt::sync_state_with_parent)
        .map_err(internal)
}

/// Stops elements and takes them out of the bin. A bin that is being disposed
/// of has removed them already.
pub fn remove_elements(bin: &gst::Bin, elements: &[gst::Element]) {
    for element in elements {
        // A state change of the bin on another thread must not start it again.
        element.set_locked_state(true);
        let _ = element.set_state(gst::State::Null);
        if element.parent().as_ref() == Some(bin.upcast_ref()) {
            let _ = bin.remove(element);
        }
    }
}

/// Ends the streams that enter an element. Waits for whoever pushes into the pads
/// meanwhile: for a thread of GStreamer's (`call_async`), as a bin's own `send_event`
/// is not.
pub fn end_inputs(element: &gst::Element) {
    for pad in element.sink_pads() {
        pad.send_event(gst::event::Eos::new());
    }
}

/// What asks whoever makes the video for a keyframe, with its parameter sets: webrtcbin
/// turns it into a PLI.
pub fn keyframe_request() -> gst::Event {
    gst_video::UpstreamForceKeyUnitEvent::builder()
        .all_headers(true)
        .build()
}

/// The element that posted an error, and the factory that it is from.
pub fn error_source(error: &gst::message::Error) -> Option<(&gst::Element, gst::ElementFactory)> {
    let source = error.src()?.downcast_ref::<gst::Element>()?;
    Some((source, source.factory()?))
}

/// A debug category of this plugin.
pub fn debug_category(name: &str, description: &str) -> gst::DebugCategory {
    gst::DebugCategory::new(name, gst::DebugColorFlags::empty(), Some(description))
}

/// What `gst-inspect-1.0` says of an element; `example` works when it is pasted.
pub fn element_metadata(
    name: &str,
    class: &str,
    description: &str,
    example: &str,
) -> gst::subclass::ElementMetadata {
    gst::subclass::ElementMetadata::with_additional(
        name,
        class,
        &format!("{description}. Example: {example}"),
        "the gst-plugin-reactor authors",
        &[("doc-uri", env!("CARGO_PKG_HOMEPAGE"))],
    )
}

/// The error for a factory that is not installed, or whose library does not load; it
/// names the package.
pub fn missing(factory: &str) -> Error {
    let package = package(factory);
    let debian = debian_package(package);
    // The registry knows elements whose libraries are not loaded yet.
    let what = match gst::ElementFactory::find(factory) {
        Some(_) => "cannot be loaded, which GStreamer's warning explains (too little memory?)",
        None => "is not installed",
    };
    Error::gpu(
        Code::MissingPlugin,
        format!(
            "the GStreamer element '{factory}' {what}; it is part of {package} (Debian: {debian})"
        ),
    )
}

/// The error for a failure that neither user nor server can cause.
pub fn internal(reason: impl Display) -> Error {
    Error::gpu(Code::Internal, reason.to_string())
}

/// GStreamer's source package of a factory that this plugin uses, as of 1.22.
fn package(factory: &str) -> &'static str {
    match factory {
        "capsfilter" | "queue" => "gstreamer",
        "appsink" | "appsrc" | "audioconvert" | "audioresample" | "opusenc" | "videoconvert" => {
            "gst-plugins-base"
        }
        "rtpav1depay" | "rtpav1pay" => "gst-plugins-rs",
        "aacparse" | "mp4mux" | "qtdemux" | "vp8enc" | "vp9enc" => "gst-plugins-good",
        "nicesink" | "nicesrc" => "libnice",
        "x264enc" => "gst-plugins-ugly",
        _ if factory.starts_with("avdec_") || factory.starts_with("avenc_") => "gst-libav",
        _ if factory.starts_with("rtp") => "gst-plugins-good",
        _ => "gst-plugins-bad",
    }
}

/// The package of Debian 12 that is built of a source package.
fn debian_package(source: &str) -> &'static str {
    match source {
        "gstreamer" => "libgstreamer1.0-0",
        "gst-plugins-base" => "gstreamer1.0-plugins-base",
        "gst-plugins-good" => "gstreamer1.0-plugins-good",
        "gst-plugins-ugly" => "gstreamer1.0-plugins-ugly",
        "gst-libav" => "gstreamer1.0-libav",
        "libnice" => "gstreamer1.0-nice",
        "gst-plugins-rs" => "none",
        _ => "gstreamer1.0-plugins-bad",
    }
}

/// The name of the element that a pad is linked to.
pub fn peer_name(pad: &impl IsA<gst::Pad>) -> String {
    let peer = pad.peer().and_then(|pad| pad.parent_element());
    peer.map_or_else(|| "downstream".into(), |element| element.name().to_string())
}

/// The running time of a timestamp in the stream that passes a pad.
pub fn running_time(pad: &gst::Pad, pts: Option<gst::ClockTime>) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment.segment().downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(pts?)
}

/// Width and height of video caps, in pixels.
pub fn frame_size(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let field = |name| structure.get::<i32>(name).ok()?.try_into().ok();
    Some((field("width")?, field("height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_of_installed_factory_is_its_plugins_source() {
        assert!(gst::init().is_ok());
        for name in [
            "appsink",
            "appsrc",
            "audioconvert",
            "avenc_aac",
            "capsfilter",
            "dtlssrtpdec",
            "h264parse",
            "mp4mux",
            "nicesrc",
            "opusparse",
            "qtdemux",
            "queue",
            "rtpbin",
            "rtpvp8pay",
            "sctpdec",
            "srtpdec",
            "videoconvert",
            "vp8enc",
            "webrtcbin",
            "x264enc",
        ] {
            let factory = gst::ElementFactory::find(name);
            let plugin = factory.and_then(|factory| factory.plugin());
            if let Some(plugin) = plugin {
                assert_eq!(package(name), plugin.source().as_str(), "{name}");
            }
        }
    }

    #[test]
    fn make_without_factory_names_it() {
        assert!(gst::init().is_ok());
        let message = make("nosuchelement").err().map(|error| error.message);
        assert!(message.is_some_and(|text| text.contains("'nosuchelement' is not installed")));
    }
}
