// SPDX-License-Identifier: MIT

//! The codecs of tracks, with the GStreamer elements for each. A table and look-ups
//! in GStreamer's registry, for any thread; no element is made here.

use gst::prelude::*;

use crate::platform::track::Kind;

/// One codec as SDP, RTP and GStreamer know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Codec {
    pub kind: Kind,
    /// The name in `a=rtpmap`, upper case.
    pub encoding_name: &'static str,
    /// The media type of the depayloaded stream.
    pub media_type: &'static str,
    /// The payload type of our offers: one for each codec, since it must be unique
    /// in a bundle (RFC 8843).
    pub payload: i32,
    pub clock_rate: i32,
    /// Format parameters. The older, GStreamer based servers drop a codec
    /// whose parameters are not exactly these.
    fmtp: &'static [(&'static str, &'static str)],
    pub depayloader: &'static str,
    pub payloader: &'static str,
    /// The parser that makes a stream that every muxer accepts, unless the
    /// depayloader does.
    pub parser: Option<&'static str>,
}

/// In the order of the server's preference.
pub const CODECS: &[Codec] = &[
    Codec {
        kind: Kind::Video,
        encoding_name: "VP9",
        media_type: "video/x-vp9",
        payload: 98,
        clock_rate: 90_000,
        fmtp: &[("profile-id", "0")],
        depayloader: "rtpvp9depay",
        payloader: "rtpvp9pay",
        parser: Some("vp9parse"),
    },
    Codec {
        kind: Kind::Video,
        encoding_name: "VP8",
        media_type: "video/x-vp8",
        payload: 96,
        clock_rate: 90_000,
        fmtp: &[],
        depayloader: "rtpvp8depay",
        payloader: "rtpvp8pay",
        parser: None,
    },
    Codec {
        kind: Kind::Video,
        encoding_name: "H264",
        media_type: "video/x-h264",
        payload: 102,
        clock_rate: 90_000,
        fmtp: &[
            ("profile-level-id", "42e01f"),
            ("packetization-mode", "1"),
            ("level-asymmetry-allowed", "1"),
        ],
        depayloader: "rtph264depay",
        payloader: "rtph264pay",
        parser: Some("h264parse"),
    },
    Codec {
        kind: Kind::Video,
        encoding_name: "AV1",
        media_type: "video/x-av1",
        payload: 100,
        clock_rate: 90_000,
        fmtp: &[("profile", "0")],
        depayloader: "rtpav1depay",
        payloader: "rtpav1pay",
        parser: Some("av1parse"),
    },
    Codec {
        kind: Kind::Audio,
        encoding_name: "OPUS",
        media_type: "audio/x-opus",
        payload: 111,
        clock_rate: 48_000,
        fmtp: &[],
        depayloader: "rtpopusdepay",
        payloader: "rtpopuspay",
        // The depayloader leaves out the rate, which webmmux insists on.
        parser: Some("opusparse"),
    },
];

impl Codec {
    pub fn by_encoding_name(encoding_name: &str) -> Option<&'static Codec> {
        CODECS
            .iter()
            .find(|codec| codec.encoding_name.eq_ignore_ascii_case(encoding_name))
    }

    /// The codec of a depayloaded stream, by its caps' name.
    pub fn by_media_type(media_type: &str) -> Option<&'static Codec> {
        CODECS.iter().find(|codec| codec.media_type == media_type)
    }

    pub fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Codec> + Clone {
        CODECS.iter().filter(move |codec| codec.kind == kind)
    }

    /// The caps of the depayloaded stream, without any detail.
    pub fn caps(&self) -> gst::Caps {
        gst::Caps::new_empty_simple(self.media_type)
    }

    /// What the depayloader is to make. H.264 has its parameter sets in the stream: with
    /// stream-format=avc they are in the caps, and there rtph264depay (1.22) keeps a broken
    /// one for ever, with which no decoder takes the caps.
    pub fn depayloaded_caps(&self) -> gst::Caps {
        let mut caps = self.caps();
        if self.encoding_name == "H264" {
            let caps = caps.make_mut();
            caps.set("stream-format", "byte-stream");
            caps.set("alignment", "au");
        }
        caps
    }

    /// Whether the depayloader is installed.
    pub fn can_depayload(&self) -> bool {
        is_installed(self.depayloader)
    }

    /// The decoders for it, best rank first.
    pub fn decoders(&self) -> Vec<gst::ElementFactory> {
        let mut caps = self.caps();
        if matches!(self.encoding_name, "VP8" | "VP9") {
            // Leaves out the bins for streams with an alpha channel.
            caps.make_mut().set("codec-alpha", false);
        }
        let mut decoders = self.factories(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
        decoders.retain(|factory| factory.can_sink_any_caps(&caps));
        decoders
    }

    pub fn can_decode(&self) -> bool {
        self.can_depayload() && !self.decoders().is_empty()
    }

    /// Whether the payloader is installed.
    pub fn can_payload(&self) -> bool {
        is_installed(self.payloader)
    }

    /// The encoders for it, best first: hardware, then by rank. With a name the one of
    /// that name alone, whatever its rank: those of VA-API have none in GStreamer 1.22.
    pub fn encoders(&self, name: Option<&str>) -> Vec<gst::ElementFactory> {
        let caps = self.caps();
        let lowest = match name {
            Some(_) => gst::Rank::NONE,
            None => gst::Rank::MARGINAL,
        };
        let mut encoders = self.factories(gst::ElementFactoryType::ENCODER, lowest);
        encoders.retain(|factory| {
            factory.can_src_any_caps(&caps) && name.is_none_or(|name| factory.name() == name)
        });
        // Stable: the registry's order by rank stays within each half.
        encoders.sort_by_key(|factory| !factory.has_type(gst::ElementFactoryType::HARDWARE));
        encoders
    }

    /// The factories of a type for this kind of media, best rank first, down to the
    /// `lowest`.
    fn factories(
        &self,
        factory_type: gst::ElementFactoryType,
        lowest: gst::Rank,
    ) -> Vec<gst::ElementFactory> {
        let media_type = match self.kind {
            Kind::Audio => gst::ElementFactoryType::MEDIA_AUDIO,
            Kind::Video => gst::ElementFactoryType::MEDIA_VIDEO,
        };
        gst::ElementFactory::factories_with_type(factory_type | media_type, lowest)
            .into_iter()
            .collect()
    }

    pub fn can_encode(&self) -> bool {
        self.can_payload() && !self.encoders(None).is_empty()
    }

    /// The codec in a transceiver's codec preferences.
    pub fn rtp_structure(&self) -> gst::Structure {
        let mut s = gst::Structure::builder("application/x-rtp")
            .field("media", self.kind.as_str())
            .field("encoding-name", self.encoding_name)
            .field("payload", self.payload)
            .field("clock-rate", self.clock_rate);
        if self.kind == Kind::Audio {
            s = s.field("encoding-params", "2");
        }
        for (name, value) in self.fmtp {
            s = s.field(*name, *value);
        }
        s.build()
    }
}

fn is_installed(factory: &str) -> bool {
    gst::ElementFactory::find(factory).is_some()
}

/// The codec preferences of a transceiver, best first.
pub fn codec_preferences<'a>(codecs: impl IntoIterator<Item = &'a Codec>) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    let list = caps.make_mut();
    for codec in codecs {
        list.append_structure(codec.rtp_structure());
    }
    caps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_distinct() {
        let mut payloads: Vec<_> = CODECS.iter().map(|c| c.payload).collect();
        payloads.sort_unstable();
        payloads.dedup();
        assert_eq!(payloads.len(), CODECS.len());
        assert!(payloads.iter().all(|p| (96..128).contains(p)));
    }

    #[test]
    fn rtp_structure_has_the_parameters_of_strict_servers() {
        gst::init().unwrap();
        let vp9 = Codec::by_encoding_name("vp9").unwrap().rtp_structure();
        assert_eq!(vp9.get::<&str>("profile-id").unwrap(), "0");
        let h264 = Codec::by_encoding_name("H264").unwrap().rtp_structure();
        assert_eq!(h264.get::<&str>("profile-level-id").unwrap(), "42e01f");
        assert_eq!(h264.get::<&str>("packetization-mode").unwrap(), "1");
        let opus = Codec::by_encoding_name("opus").unwrap().rtp_structure();
        assert_eq!(opus.get::<&str>("encoding-params").unwrap(), "2");
    }

    #[test]
    fn codecs_of_debian_can_be_decoded() {
        gst::init().unwrap();
        for name in ["VP9", "VP8", "OPUS"] {
            assert!(
                Codec::by_encoding_name(name).unwrap().can_decode(),
                "{name}"
            );
        }
    }
}
