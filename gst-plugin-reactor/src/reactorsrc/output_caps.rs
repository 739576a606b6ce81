// SPDX-License-Identifier: MIT

//! The caps of what a pad sends: the nominal frame rate, what muxers need, and
//! what to say where downstream takes none of it. Pad probes on the pad's
//! streaming thread; they never wait.

use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;

use super::{decode_chain::OutputFormat, frame_rate::SharedRate};
use crate::{
    gst_helpers::peer_name,
    platform::{Code, Error},
};

/// At most this height, in pixels, is standard definition (ITU-R BT.601).
const MAX_SD_HEIGHT: i32 = 576;
/// The fields of raw caps that no converter behind the decoder changes.
const FIXED_FIELDS: [&str; 4] = ["width", "height", "pixel-aspect-ratio", "framerate"];

/// Writes the nominal frame rate into the video caps that leave this pad. Those
/// of rtpvp9depay and rtpvp8depay say 0/1: any.
pub fn add_frame_rate(src: &gst::Pad, rate: SharedRate) {
    replace_caps(src, move |caps| {
        let structure = caps.structure(0)?;
        let is_video = structure.name().starts_with("video/");
        let stated = structure.get::<gst::Fraction>("framerate");
        if !is_video || stated.is_ok_and(|rate| rate.numer() > 0) {
            return None;
        }
        let mut caps = caps.to_owned();
        caps.make_mut().set("framerate", rate.adopt());
        Some(caps)
    });
}

/// Has the encoded caps that leave this pad of a chain completed: parsers leave
/// out what a stream does not say, but muxers rely on it. mp4mux 1.22 crashes
/// without the chroma site of VP9.
pub fn complete_encoded(src: &gst::Pad) {
    replace_caps(src, complete);
}

fn replace_caps(
    src: &gst::Pad,
    replace: impl Fn(&gst::CapsRef) -> Option<gst::Caps> + Send + Sync + 'static,
) {
    src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(caps) = replace(caps.caps())
        {
            let seqnum = event.seqnum();
            *event = gst::event::Caps::builder(&caps).seqnum(seqnum).build();
        }
        gst::PadProbeReturn::Ok
    });
}

/// The caps with what they lack, in the values that GStreamer assumes for raw video
/// which says nothing; `None` if they lack nothing.
fn complete(caps: &gst::CapsRef) -> Option<gst::Caps> {
    let structure = caps.structure(0)?;
    if !structure.name().starts_with("video/") {
        return None;
    }
    let height = structure.get::<i32>("height").unwrap_or(0);
    let colorimetry = if height > MAX_SD_HEIGHT {
        "bt709"
    } else {
        "bt601"
    };
    // Of 4:2:0, the only subsampling that WebRTC has: as in MPEG-2.
    let is_420 = structure.get::<&str>("chroma-format").unwrap_or("4:2:0") == "4:2:0";
    let chroma_site = is_420.then(|| "mpeg2".to_send_value());
    let fields = [
        ("chroma-site", chroma_site),
        ("colorimetry", Some(colorimetry.to_send_value())),
    ];
    let missing = fields
        .into_iter()
        .filter(|(name, _)| !structure.has_field(*name));
    let mut complete = caps.to_owned();
    let mut is_changed = false;
    for (name, value) in missing {
        if let (Some(structure), Some(value)) = (complete.make_mut().structure_mut(0), value) {
            structure.set_value(name, value);
            is_changed = true;
        }
    }
    is_changed.then_some(complete)
}

/// Compares the caps that leave `src` of a chain with what the peer of `output`
/// takes. Where no converter helps, `refuse` is called once with an error that
/// says what would, and nothing passes any more: GStreamer's own error would
/// only say `not-negotiated`.
pub fn refuse_misfit(
    src: &gst::Pad,
    output: &gst::GhostPad,
    format: OutputFormat,
    refuse: impl Fn(Error) + Send + Sync + 'static,
) {
    let (output, refused) = (output.downgrade(), AtomicBool::new(false));
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    src.add_probe(mask, move |_, info| {
        let is_refused = refused.load(Ordering::Acquire);
        match &info.data {
            Some(gst::PadProbeData::Buffer(_)) if is_refused => gst::PadProbeReturn::Handled,
            Some(gst::PadProbeData::Event(event)) => {
                let gst::EventView::Caps(caps) = event.view() else {
                    return gst::PadProbeReturn::Ok;
                };
                let output = output.upgrade();
                let misfit = output.and_then(|output| misfit(&output, caps.caps(), format));
                if let Some(error) = misfit
                    && !refused.swap(true, Ordering::AcqRel)
                {
                    refuse(error);
                }
                match refused.load(Ordering::Acquire) {
                    true => gst::PadProbeReturn::Handled,
                    false => gst::PadProbeReturn::Ok,
                }
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
}

/// The error for a stream of these caps that the peer of `output` does not take,
/// however it is converted.
pub fn misfit(output: &gst::GhostPad, caps: &gst::CapsRef, format: OutputFormat) -> Option<Error> {
    if !output.is_linked() {
        return None;
    }
    let text = explain_misfit(caps, &output.peer_query_caps(None), format)?;
    let peer = peer_name(output);
    Some(Error::gpu(Code::UnsupportedMedia, format!("{peer} {text}")))
}

/// Why `peer` cannot take a stream of these caps, converted if it is raw, and
/// what to put in between; `None` if it can.
fn explain_misfit(
    caps: &gst::CapsRef,
    peer: &gst::CapsRef,
    format: OutputFormat,
) -> Option<String> {
    let wanted = |without: &[&str]| match format {
        OutputFormat::Raw => {
            let fields = FIXED_FIELDS.into_iter();
            fixed(caps, fields.filter(|field| !without.contains(field)))
        }
        _ => caps.to_owned(),
    };
    if peer.can_intersect(&wanted(&[])) {
        return None;
    }
    let size = ["width", "height", "pixel-aspect-ratio"];
    let fits_without = |fields: &[&str]| peer.can_intersect(&wanted(fields));
    let media_type = caps.structure(0)?.name();
    let remedy = match format {
        OutputFormat::Encoded | OutputFormat::Rtp => "decode and encode it".to_owned(),
        OutputFormat::Raw if fits_without(&size) => "put videoscale in between".to_owned(),
        OutputFormat::Raw if fits_without(&["framerate"]) => "put videorate in between".to_owned(),
        OutputFormat::Raw if fits_without(&FIXED_FIELDS) => {
            "put videoscale and videorate in between".to_owned()
        }
        OutputFormat::Raw => upload_remedy(peer),
    };
    // What it takes, without what can be converted.
    let same_type = peer
        .iter_with_features()
        .filter(|(s, _)| s.name() == media_type);
    let mut taken = gst::Caps::new_empty();
    for (structure, features) in same_type {
        let mut single = gst::Caps::new_empty();
        single
            .make_mut()
            .append_structure_full(structure.to_owned(), Some(features.to_owned()));
        let single = match format {
            OutputFormat::Raw => fixed(&single, FIXED_FIELDS),
            _ => single,
        };
        taken.merge(single);
    }
    let sent = match format {
        OutputFormat::Raw => fixed(caps, FIXED_FIELDS),
        _ => caps.to_owned(),
    };
    Some(format!(
        "takes {taken}, and the model sends {sent}: {remedy}"
    ))
}

/// The first structure of the caps with these fields only, in its memory.
fn fixed(caps: &gst::CapsRef, fields: impl IntoIterator<Item = &'static str>) -> gst::Caps {
    let mut fixed = gst::Caps::new_empty();
    if let (Some(structure), Some(features)) = (caps.structure(0), caps.features(0)) {
        let mut kept = gst::Structure::new_empty(structure.name());
        for field in fields {
            if let Ok(value) = structure.value(field) {
                kept.set_value(field, value.clone());
            }
        }
        fixed
            .make_mut()
            .append_structure_full(kept, Some(features.to_owned()));
    }
    fixed
}

/// What to do for a peer that takes pictures in another memory only.
fn upload_remedy(peer: &gst::CapsRef) -> String {
    let takes = |feature: &str| peer.iter_with_features().any(|(_, f)| f.contains(feature));
    let element = match () {
        () if takes("memory:GLMemory") => "glupload",
        () if takes("memory:CUDAMemory") => "cudaupload",
        () if takes("memory:VAMemory") => "vapostproc",
        () => "an element that converts it",
    };
    format!("put {element} in between")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(caps: &str) -> gst::Caps {
        gst::init().unwrap();
        caps.parse().unwrap()
    }

    fn completed(caps: &str) -> Option<String> {
        complete(&parse(caps)).map(|caps| caps.to_string())
    }

    #[test]
    fn encoded_caps_get_what_muxers_need() {
        let vp9 = "video/x-vp9, width=1280, height=720, profile=(string)0";
        let complete = completed(vp9).unwrap();
        assert!(complete.contains("chroma-site=(string)mpeg2"), "{complete}");
        assert!(complete.contains("colorimetry=(string)bt709"), "{complete}");
        assert_eq!(completed(&complete), None);
        let small = completed("video/x-vp9, width=640, height=360").unwrap();
        assert!(small.contains("bt601"), "{small}");
    }

    #[test]
    fn what_a_stream_says_is_kept() {
        let says = "video/x-vp9, chroma-format=4:4:4, colorimetry=(string)sRGB";
        assert_eq!(completed(says), None);
        assert_eq!(completed("audio/x-opus, rate=48000"), None);
    }

    const RAW: &str = "video/x-raw, format=I420, width=640, height=360, framerate=30/1, \
                       pixel-aspect-ratio=1/1, colorimetry=bt601";

    fn raw_misfit(peer: &str) -> Option<String> {
        explain_misfit(&parse(RAW), &parse(peer), OutputFormat::Raw)
    }

    #[test]
    fn what_a_converter_changes_is_no_misfit() {
        for peer in [
            "ANY",
            "video/x-raw, format=RGB",
            "video/x-raw, format=RGB, width=640; video/x-vp9",
            "video/x-raw, framerate=30/1, colorimetry=bt709",
            "video/x-raw(memory:GLMemory); video/x-raw, format=NV12",
        ] {
            assert_eq!(raw_misfit(peer), None, "{peer}");
        }
        let sound = parse("audio/x-raw, format=S16LE, rate=48000, channels=2");
        let peer = parse("audio/x-raw, format=F32LE, rate=44100, channels=1");
        assert_eq!(explain_misfit(&sound, &peer, OutputFormat::Raw), None);
    }

    #[test]
    fn misfit_names_both_caps_and_the_element_between() {
        let size = raw_misfit("video/x-raw, format=RGB, width=320, height=180").unwrap();
        assert!(size.contains("width=(int)320"), "{size}");
        assert!(size.contains("width=(int)640"), "{size}");
        assert!(!size.contains("RGB"), "{size}");
        assert!(size.ends_with("put videoscale in between"), "{size}");
        for (peer, remedy) in [
            ("video/x-raw, framerate=60/1", "put videorate in between"),
            (
                "video/x-raw, framerate=60/1, width=320",
                "put videoscale and videorate in between",
            ),
            ("video/x-raw(memory:GLMemory)", "put glupload in between"),
        ] {
            let text = raw_misfit(peer).unwrap();
            assert!(text.ends_with(remedy), "{text}");
        }
        let encoded = parse("video/x-vp9, width=640, height=360");
        let text = explain_misfit(
            &encoded,
            &parse("video/x-vp9, width=320"),
            OutputFormat::Encoded,
        );
        assert!(text.unwrap().contains("decode and encode it"));
    }
}
