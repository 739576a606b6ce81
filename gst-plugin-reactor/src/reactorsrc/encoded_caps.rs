// SPDX-License-Identifier: MIT

//! Completes the caps of encoded video. Parsers leave out what a stream does not
//! say, but muxers rely on it: mp4mux 1.22 crashes without the chroma site of VP9.
//! A pad probe on the streaming thread; it never waits.

use gst::prelude::*;

/// At most this height, in pixels, is standard definition (ITU-R BT.601).
const MAX_SD_HEIGHT: i32 = 576;

/// Has the caps that leave this pad of a chain completed.
pub fn install(src: &gst::Pad) {
    src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(complete) = complete(caps.caps())
        {
            let seqnum = event.seqnum();
            *event = gst::event::Caps::builder(&complete).seqnum(seqnum).build();
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
        // Not constant: the model decides for each frame.
        ("framerate", Some(gst::Fraction::new(0, 1).to_send_value())),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(caps: &str) -> Option<String> {
        gst::init().unwrap();
        let caps = caps.parse::<gst::Caps>().unwrap();
        complete(&caps).map(|caps| caps.to_string())
    }

    #[test]
    fn encoded_caps_get_what_muxers_need() {
        let vp9 = "video/x-vp9, width=1280, height=720, profile=(string)0";
        let complete = completed(vp9).unwrap();
        assert!(complete.contains("chroma-site=(string)mpeg2"), "{complete}");
        assert!(complete.contains("colorimetry=(string)bt709"), "{complete}");
        assert!(complete.contains("framerate=(fraction)0/1"), "{complete}");
        assert_eq!(completed(&complete), None);
        let small = completed("video/x-vp9, width=640, height=360").unwrap();
        assert!(small.contains("bt601"), "{small}");
    }

    #[test]
    fn what_a_stream_says_is_kept() {
        let says = "video/x-vp9, chroma-format=4:4:4, colorimetry=(string)sRGB, \
                    framerate=(fraction)30/1";
        assert_eq!(completed(says), None);
        assert_eq!(completed("audio/x-opus, rate=48000"), None);
    }
}
