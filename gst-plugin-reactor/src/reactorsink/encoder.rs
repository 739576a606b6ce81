// SPDX-License-Identifier: MIT

//! Chooses an encoder for raw media, and configures it for real time.
//!
//! Owns nothing: it makes elements for `EncodeChain`, on the element's event
//! thread. It never starts an element.

use gst::{glib, prelude::*};

use super::debug::CAT;
use crate::{
    element::assert_unlocked,
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
    /// user names, whatever its rank. Hardware comes first, then VP8, whose software
    /// encoders are fast enough on any machine, then the order of the codecs.
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
                let encoders = codec.encoders(factory_name).into_iter();
                encoders.map(|factory| Self { codec, factory })
            })
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

/// A target bitrate as the property of an encoder takes it.
pub struct TargetBitrate {
    property: &'static str,
    value: glib::Value,
    /// In bit/s.
    pub bitrate: u32,
}

impl TargetBitrate {
    /// The nearest one, in bit/s, that the encoder can be set to; `None` if it has no
    /// property for it.
    pub fn nearest(encoder: &gst::Element, bitrate: u32) -> Option<Self> {
        let factory = encoder.factory();
        let name = factory.as_ref().map(|f| f.name());
        // The property, and its unit in bit/s.
        let (property, unit) = match name.as_deref() {
            Some("vp8enc" | "vp9enc") => ("target-bitrate", 1),
            Some("av1enc") => ("target-bitrate", 1000),
            Some("openh264enc" | "opusenc") => ("bitrate", 1),
            // The others have kbit/s, as numbers of different types.
            _ => ("bitrate", 1000),
        };
        let spec = encoder.find_property(property)?;
        let number = nearest_number(&spec, i64::from(bitrate / unit))?;
        let value = glib::Value::deserialize_with_pspec(&number.to_string(), &spec).ok()?;
        Some(Self {
            property,
            value,
            bitrate: u32::try_from(number).ok()?.saturating_mul(unit),
        })
    }

    /// Sets the encoder to it. The notification runs the application's code.
    pub fn set(&self, encoder: &gst::Element) {
        assert_unlocked();
        encoder.set_property_from_value(self.property, &self.value);
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
        set_nearest(encoder, property, value);
    }
    if let Some(target) = TargetBitrate::nearest(encoder, bitrate) {
        target.set(encoder);
    }
}

/// Sets a property, if the encoder has it, to the nearest value that it takes: at any
/// other GLib's bindings panic. `key-int-max` of vah264enc (1.22) is at most 1024.
fn set_nearest(encoder: &gst::Element, property: &str, value: &str) {
    let Some(spec) = encoder.find_property(property) else {
        return;
    };
    let number = value.parse().ok();
    let number = number.and_then(|number| nearest_number(&spec, number));
    let text = number.map_or_else(|| value.to_owned(), |number| number.to_string());
    match glib::Value::deserialize_with_pspec(&text, &spec) {
        Ok(value) => encoder.set_property_from_value(property, &value),
        Err(_) => gst::debug!(CAT, obj = encoder, "knows no {property}={value}"),
    }
}

/// The nearest number that a property takes; `None` if its numbers are not integers.
fn nearest_number(spec: &glib::ParamSpec, number: i64) -> Option<i64> {
    let (min, max): (i64, i64) = if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        (spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        (spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt64>() {
        (spec.minimum(), spec.maximum())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        let within = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        (within(spec.minimum()), within(spec.maximum()))
    } else {
        return None;
    };
    Some(number.clamp(min, max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reactorsink::testing, session::codecs::CODECS};

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
        // It is chosen where there is a payloader, which Debian has none of.
        let av1enc = make("av1enc").unwrap();
        configure(&av1enc, 1_500_000);
        assert_eq!(av1enc.property::<u32>("target-bitrate"), 1500);
    }

    #[test]
    fn encoder_without_rank_is_used_if_it_is_named() {
        testing::register();
        let vp8 = codecs(&["VP8"]);
        let choice = EncoderChoice::new(Kind::Video, &vp8, Some(testing::NAME)).unwrap();
        assert_eq!(choice.factory.name(), testing::NAME);
        let unasked = vp8[0].encoders(None);
        assert!(unasked.iter().all(|f| f.name() != testing::NAME));
    }

    #[test]
    fn value_out_of_range_is_the_nearest() {
        testing::register();
        let encoder = make(testing::NAME).unwrap();
        configure(&encoder, 3_000_000);
        let key_interval = encoder.property::<u32>("key-int-max");
        assert_eq!(key_interval, testing::MAX_KEY_INTERVAL);
        assert_eq!(encoder.property::<u32>("bitrate"), testing::MAX_KBITS);
        // What the statistics say.
        let target = TargetBitrate::nearest(&encoder, 3_000_000).unwrap();
        assert_eq!(target.bitrate, 1000 * testing::MAX_KBITS);
        assert!(TargetBitrate::nearest(&make("identity").unwrap(), 1).is_none());
    }

    /// Those that are installed, and that of the tests.
    #[test]
    fn every_encoder_takes_its_settings() {
        testing::register();
        let kind = gst::ElementFactoryType::ENCODER;
        let all = gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE);
        let mut count = 0;
        for factory in all {
            let makes = |codec: &Codec| factory.can_src_any_caps(&codec.caps());
            if CODECS.iter().any(makes)
                && let Ok(encoder) = factory.create().build()
            {
                configure(&encoder, 2_000_000);
                count += 1;
            }
        }
        assert!(count > 4, "{count} encoders");
    }
}
