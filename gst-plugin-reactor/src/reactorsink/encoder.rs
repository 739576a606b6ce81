// SPDX-License-Identifier: MIT

//! Encoders for what comes in raw: which one, and tuned for real time.

use gst::prelude::*;

use crate::{
    platform::{Code, Error, track::Kind},
    session::codecs::Codec,
};

/// How to encode.
#[derive(Debug, Clone)]
pub struct Choice {
    pub codec: &'static Codec,
    pub factory: gst::ElementFactory,
}

impl Choice {
    /// The best encoder for any of these codecs, or the one the user names.
    /// Hardware comes first, then the order of the codecs: the software
    /// encoders for VP8 are the ones that keep up everywhere.
    ///
    /// # Errors
    ///
    /// When nothing installed encodes any of them.
    pub fn new(kind: Kind, codecs: &[&'static Codec], wanted: Option<&str>) -> Result<Self, Error> {
        let mut choices: Vec<_> = codecs
            .iter()
            .filter(|codec| codec.can_payload())
            .flat_map(|codec| {
                let encoders = codec.encoders().into_iter();
                encoders.map(|factory| Choice { codec, factory })
            })
            .filter(|choice| wanted.is_none_or(|name| choice.factory.name() == name))
            .collect();
        choices.sort_by_key(|choice| {
            let hardware = choice.factory.has_type(gst::ElementFactoryType::HARDWARE);
            (!hardware, choice.codec.encoding_name != "VP8")
        });
        choices.into_iter().next().ok_or_else(|| {
            let names: Vec<_> = codecs.iter().map(|c| c.encoding_name).collect();
            let (names, kind) = (names.join(", "), kind.as_str());
            let text = match wanted {
                Some(wanted) => format!("{kind}-encoder={wanted} makes none of {names}"),
                None => format!("no installed element encodes {kind} as any of {names}"),
            };
            Error::gpu(Code::MissingPlugin, text)
        })
    }

    /// Everything between a raw stream and the encoded one, in order.
    ///
    /// # Errors
    ///
    /// When an element is not installed.
    pub fn elements(&self, bitrate: u32) -> Result<Vec<gst::Element>, Error> {
        let mut elements = match self.codec.kind {
            Kind::Video => vec![make("videoconvert")?],
            Kind::Audio => vec![make("audioconvert")?, make("audioresample")?],
        };
        let encoder = self.factory.create().build().map_err(missing)?;
        tune(&encoder, bitrate);
        elements.push(encoder);
        Ok(elements)
    }
}

/// Sets an encoder's target, in bits per second.
pub fn set_bitrate(encoder: &gst::Element, bitrate: u32) {
    let factory = encoder.factory();
    let name = factory.as_ref().map(|f| f.name());
    match name.as_deref() {
        Some("vp8enc" | "vp9enc") => encoder.set_property("target-bitrate", bitrate as i32),
        Some("opusenc") => {}
        Some("openh264enc") => encoder.set_property("bitrate", bitrate),
        // The others count in kbit/s.
        _ if encoder.has_property("bitrate") => {
            set_number(encoder, "bitrate", i64::from(bitrate / 1000));
        }
        _ => {}
    }
}

/// For a picture that is seen while it is made: no look-ahead, constant rate,
/// keyframes on demand.
fn tune(encoder: &gst::Element, bitrate: u32) {
    let factory = encoder.factory();
    let name = factory.as_ref().map(|f| f.name());
    let settings: &[(&str, &str)] = match name.as_deref() {
        Some("vp8enc") => &[
            ("deadline", "1"),
            ("cpu-used", "8"),
            ("lag-in-frames", "0"),
            ("end-usage", "cbr"),
            ("error-resilient", "default"),
            ("keyframe-max-dist", "2000"),
            ("keyframe-mode", "disabled"),
            ("buffer-size", "600"),
            ("buffer-initial-size", "400"),
            ("buffer-optimal-size", "500"),
        ],
        Some("vp9enc") => &[
            ("deadline", "1"),
            ("cpu-used", "8"),
            ("lag-in-frames", "0"),
            ("end-usage", "cbr"),
            ("row-mt", "true"),
            ("keyframe-max-dist", "2000"),
            ("keyframe-mode", "disabled"),
        ],
        Some("x264enc") => &[
            ("tune", "zerolatency"),
            ("speed-preset", "ultrafast"),
            ("key-int-max", "2560"),
            ("b-adapt", "false"),
        ],
        Some("openh264enc") => &[("complexity", "low"), ("rate-control", "bitrate")],
        Some("opusenc") => &[("frame-size", "20"), ("inband-fec", "true")],
        Some("av1enc") => &[("usage-profile", "realtime"), ("cpu-used", "10")],
        _ => &[
            ("key-int-max", "2560"),
            ("gop-size", "2560"),
            ("zerolatency", "true"),
        ],
    };
    for (property, value) in settings {
        if encoder.has_property(property) {
            encoder.set_property_from_str(property, value);
        }
    }
    set_bitrate(encoder, bitrate);
}

fn set_number(element: &gst::Element, property: &str, value: i64) {
    element.set_property_from_str(property, &value.to_string());
}

fn make(factory: &str) -> Result<gst::Element, Error> {
    gst::ElementFactory::make(factory).build().map_err(missing)
}

fn missing(error: impl std::fmt::Display) -> Error {
    Error::gpu(Code::MissingPlugin, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codecs(names: &[&str]) -> Vec<&'static Codec> {
        names
            .iter()
            .map(|name| Codec::by_encoding_name(name).unwrap())
            .collect()
    }

    #[test]
    fn vp8_is_the_software_choice() {
        gst::init().unwrap();
        let choice = Choice::new(Kind::Video, &codecs(&["VP9", "VP8"]), None).unwrap();
        if !choice.factory.has_type(gst::ElementFactoryType::HARDWARE) {
            assert_eq!(choice.codec.encoding_name, "VP8");
        }
    }

    #[test]
    fn the_user_decides() {
        gst::init().unwrap();
        let both = codecs(&["VP9", "VP8"]);
        let choice = Choice::new(Kind::Video, &both, Some("vp9enc")).unwrap();
        assert_eq!(choice.codec.encoding_name, "VP9");
        let error = Choice::new(Kind::Video, &both, Some("x264enc")).unwrap_err();
        assert_eq!(error.code, Code::MissingPlugin);
        assert!(error.message.contains("video-encoder=x264enc"), "{error}");
    }

    #[test]
    fn bitrates_come_in_each_encoders_own_unit() {
        gst::init().unwrap();
        let elements = |name| {
            let both = codecs(&["VP9", "VP8", "H264"]);
            let choice = Choice::new(Kind::Video, &both, Some(name)).unwrap();
            choice.elements(1_500_000).unwrap().pop().unwrap()
        };
        assert_eq!(
            elements("vp8enc").property::<i32>("target-bitrate"),
            1_500_000
        );
        assert_eq!(elements("x264enc").property::<u32>("bitrate"), 1500);
        assert_eq!(
            elements("openh264enc").property::<u32>("bitrate"),
            1_500_000
        );
    }
}
