// SPDX-License-Identifier: MIT

//! Chooses an encoder for raw media, and configures it for real time.
//!
//! Owns nothing: it makes elements for `EncodeChain`, on the element's event
//! thread. It never starts an element.

use gst::prelude::*;

use crate::{
    gst_helpers::make,
    platform::{Code, Error, track::Kind},
    session::codecs::Codec,
};

/// An encoder, and the codec that it produces.
#[derive(Debug, Clone)]
pub struct EncoderChoice {
    pub codec: &'static Codec,
    pub factory: gst::ElementFactory,
}

impl EncoderChoice {
    /// Chooses the best encoder for any of these codecs, or the factory that the
    /// user names. Hardware comes first, then VP8, whose software encoders are
    /// fast enough on any machine, then the order of the codecs.
    /// Fails when no installed encoder produces any of the codecs.
    pub fn new(
        kind: Kind,
        codecs: &[&'static Codec],
        factory_name: Option<&str>,
    ) -> Result<Self, Error> {
        let mut choices: Vec<_> = codecs
            .iter()
            .filter(|codec| codec.can_payload())
            .flat_map(|codec| {
                let encoders = codec.encoders().into_iter();
                encoders.map(|factory| Self { codec, factory })
            })
            .filter(|choice| factory_name.is_none_or(|name| choice.factory.name() == name))
            .collect();
        choices.sort_by_key(|choice| {
            let hardware = choice.factory.has_type(gst::ElementFactoryType::HARDWARE);
            (!hardware, choice.codec.encoding_name != "VP8")
        });
        choices.into_iter().next().ok_or_else(|| {
            let names: Vec<_> = codecs.iter().map(|c| c.encoding_name).collect();
            let (names, kind) = (names.join(", "), kind.as_str());
            let text = match factory_name {
                Some(name) if gst::ElementFactory::find(name).is_none() => {
                    format!("{kind}-encoder={name}: no such element is installed")
                }
                Some(name) => format!("{kind}-encoder={name} makes none of {names}"),
                None => format!("no installed element encodes {kind} as any of {names}"),
            };
            Error::gpu(Code::MissingPlugin, text)
        })
    }

    /// Makes the elements between a raw stream and the encoded one, in order; the
    /// encoder is the last. `bitrate` is in bit/s.
    /// Fails when an element is not installed.
    pub fn make_elements(&self, bitrate: u32) -> Result<Vec<gst::Element>, Error> {
        let mut elements = match self.codec.kind {
            Kind::Video => vec![make("videoconvert")?],
            Kind::Audio => vec![make("audioconvert")?, make("audioresample")?],
        };
        let encoder = self.factory.create().build();
        let encoder =
            encoder.map_err(|error| Error::gpu(Code::MissingPlugin, error.to_string()))?;
        configure(&encoder, bitrate);
        elements.push(encoder);
        Ok(elements)
    }
}

/// Sets an encoder's target bitrate, in bit/s.
pub fn set_bitrate(encoder: &gst::Element, bitrate: u32) {
    let factory = encoder.factory();
    let name = factory.as_ref().map(|f| f.name());
    match name.as_deref() {
        Some("vp8enc" | "vp9enc") => encoder.set_property("target-bitrate", bitrate as i32),
        Some("opusenc") => {}
        Some("openh264enc") => encoder.set_property("bitrate", bitrate),
        // The others have kbit/s, as numbers of different types.
        _ if encoder.has_property("bitrate") => {
            encoder.set_property_from_str("bitrate", &(bitrate / 1000).to_string());
        }
        _ => {}
    }
}

/// Configures an encoder for interactive use: no look-ahead, constant bitrate,
/// keyframes on demand.
fn configure(encoder: &gst::Element, bitrate: u32) {
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
    fn encoder_choice_without_hardware_is_vp8() {
        gst::init().unwrap();
        let choice = EncoderChoice::new(Kind::Video, &codecs(&["VP9", "VP8"]), None).unwrap();
        if !choice.factory.has_type(gst::ElementFactoryType::HARDWARE) {
            assert_eq!(choice.codec.encoding_name, "VP8");
        }
    }

    #[test]
    fn encoder_choice_named_factory_is_used_or_refused() {
        gst::init().unwrap();
        let both = codecs(&["VP9", "VP8"]);
        let choice = EncoderChoice::new(Kind::Video, &both, Some("vp9enc")).unwrap();
        assert_eq!(choice.codec.encoding_name, "VP9");
        let error = EncoderChoice::new(Kind::Video, &both, Some("x264enc")).unwrap_err();
        assert_eq!(error.code, Code::MissingPlugin);
        assert!(
            error.message.contains("video-encoder=x264enc makes"),
            "{error}"
        );
        let error = EncoderChoice::new(Kind::Video, &both, Some("nope")).unwrap_err();
        assert!(error.message.contains("nope: no such element"), "{error}");
    }

    #[test]
    fn encoder_bitrate_is_set_in_its_own_unit() {
        gst::init().unwrap();
        let elements = |name| {
            let both = codecs(&["VP9", "VP8", "H264"]);
            let choice = EncoderChoice::new(Kind::Video, &both, Some(name)).unwrap();
            choice.make_elements(1_500_000).unwrap().pop().unwrap()
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
