// SPDX-License-Identifier: MIT

//! The codecs a track may come in, and the GStreamer elements for each.

use crate::platform::track::Kind;

/// One codec as SDP, RTP and GStreamer know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Codec {
    pub kind: Kind,
    /// The name in `a=rtpmap`, upper case.
    pub encoding_name: &'static str,
    /// The media type of the depayloaded stream.
    pub media_type: &'static str,
    /// The payload type of our offers: one each, since one number must not
    /// mean two codecs in one bundle.
    pub payload: i32,
    pub clock_rate: i32,
    /// Format parameters. The older, GStreamer based servers drop a codec
    /// whose parameters are not exactly these.
    fmtp: &'static [(&'static str, &'static str)],
    pub depayloader: &'static str,
    pub payloader: &'static str,
    /// The parser that turns the stream into what any muxer takes, if the
    /// depayloader does not do that already.
    pub parser: Option<&'static str>,
}

/// In the order of the server's own preference.
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
    pub fn find(encoding_name: &str) -> Option<&'static Codec> {
        CODECS
            .iter()
            .find(|codec| codec.encoding_name.eq_ignore_ascii_case(encoding_name))
    }

    /// The codec of a depayloaded stream.
    pub fn of_media_type(media_type: &str) -> Option<&'static Codec> {
        CODECS.iter().find(|codec| codec.media_type == media_type)
    }

    pub fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Codec> + Clone {
        CODECS.iter().filter(move |codec| codec.kind == kind)
    }

    /// The depayloaded stream, whatever its details.
    pub fn caps(&self) -> gst::Caps {
        gst::Caps::new_empty_simple(self.media_type)
    }

    /// Whether what arrives can be taken off RTP here.
    pub fn can_depayload(&self) -> bool {
        installed(self.depayloader)
    }

    /// The decoders for it, best rank first.
    pub fn decoders(&self) -> Vec<gst::ElementFactory> {
        let mut caps = self.caps();
        if matches!(self.encoding_name, "VP8" | "VP9") {
            // Leaves out the bins for streams with an alpha channel.
            caps.make_mut().set("codec-alpha", false);
        }
        let kind = match self.kind {
            Kind::Audio => gst::ElementFactoryType::MEDIA_AUDIO,
            Kind::Video => gst::ElementFactoryType::MEDIA_VIDEO,
        };
        gst::ElementFactory::factories_with_type(
            gst::ElementFactoryType::DECODER | kind,
            gst::Rank::MARGINAL,
        )
        .into_iter()
        .filter(|factory| factory.can_sink_any_caps(&caps))
        .collect()
    }

    pub fn can_decode(&self) -> bool {
        self.can_depayload() && !self.decoders().is_empty()
    }

    /// Whether what is encoded can be put into RTP here.
    pub fn can_payload(&self) -> bool {
        installed(self.payloader)
    }

    /// The encoders for it, best first: hardware, then by rank.
    pub fn encoders(&self) -> Vec<gst::ElementFactory> {
        let caps = self.caps();
        let kind = match self.kind {
            Kind::Audio => gst::ElementFactoryType::MEDIA_AUDIO,
            Kind::Video => gst::ElementFactoryType::MEDIA_VIDEO,
        };
        let mut encoders: Vec<_> = gst::ElementFactory::factories_with_type(
            gst::ElementFactoryType::ENCODER | kind,
            gst::Rank::MARGINAL,
        )
        .into_iter()
        .filter(|factory| factory.can_src_any_caps(&caps))
        .collect();
        // Stable: the registry's order by rank stays within each half.
        encoders.sort_by_key(|factory| !factory.has_type(gst::ElementFactoryType::HARDWARE));
        encoders
    }

    pub fn can_encode(&self) -> bool {
        self.can_payload() && !self.encoders().is_empty()
    }

    /// How the codec stands in an offer to receive it.
    pub fn offer(&self) -> gst::Structure {
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

fn installed(factory: &str) -> bool {
    gst::ElementFactory::find(factory).is_some()
}

/// The transceiver's codec preferences.
pub fn offer_caps<'a>(codecs: impl IntoIterator<Item = &'a Codec>) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    let list = caps.make_mut();
    for codec in codecs {
        list.append_structure(codec.offer());
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
    fn offers_name_what_strict_servers_look_for() {
        gst::init().unwrap();
        let vp9 = Codec::find("vp9").unwrap().offer();
        assert_eq!(vp9.get::<&str>("profile-id").unwrap(), "0");
        let h264 = Codec::find("H264").unwrap().offer();
        assert_eq!(h264.get::<&str>("profile-level-id").unwrap(), "42e01f");
        assert_eq!(h264.get::<&str>("packetization-mode").unwrap(), "1");
        let opus = Codec::find("opus").unwrap().offer();
        assert_eq!(opus.get::<&str>("encoding-params").unwrap(), "2");
    }

    #[test]
    fn what_debian_installs_can_be_decoded() {
        gst::init().unwrap();
        for name in ["VP9", "VP8", "OPUS"] {
            assert!(Codec::find(name).unwrap().can_decode(), "{name}");
        }
    }
}
