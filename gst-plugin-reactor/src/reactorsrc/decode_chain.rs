// SPDX-License-Identifier: MIT

//! What stands behind one source pad: an appsrc and, where downstream wants
//! it, a parser or a decoder.

use gst::prelude::*;

use crate::{
    platform::{Code, Error},
    session::codecs::Codec,
};

/// What comes out of a pad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Raw,
    Encoded,
    Rtp,
}

/// What downstream of a pad takes, and so what may be offered for its track.
#[derive(Debug)]
pub struct Choice {
    pub output: Output,
    pub codecs: Vec<&'static Codec>,
}

const RAW: [&str; 2] = ["video/x-raw", "audio/x-raw"];

impl Choice {
    /// For logs.
    pub fn names(&self) -> Vec<&'static str> {
        self.codecs
            .iter()
            .map(|codec| codec.encoding_name)
            .collect()
    }

    /// Prefers what needs no decoding, except where anything goes: an
    /// unlinked pad, or a peer like fakesink or decodebin.
    ///
    /// # Errors
    ///
    /// The codecs for which something is missing, if nothing is left.
    pub fn new(
        codecs: impl Iterator<Item = &'static Codec> + Clone,
        downstream: Option<&gst::Caps>,
    ) -> Result<Self, Vec<&'static Codec>> {
        let depayloadable = codecs.clone().filter(|codec| codec.can_depayload());
        if let Some(caps) = downstream.filter(|caps| !caps.is_any()) {
            let encoded: Vec<_> = depayloadable
                .filter(|codec| codec.caps().can_intersect(caps))
                .collect();
            if !encoded.is_empty() {
                return Ok(Self {
                    output: Output::Encoded,
                    codecs: encoded,
                });
            }
            let takes = |codec: &&Codec| {
                let mut rtp = gst::Caps::new_empty();
                rtp.make_mut().append_structure(codec.offer());
                rtp.can_intersect(caps)
            };
            let rtp: Vec<_> = codecs.clone().filter(takes).collect();
            if !rtp.is_empty() {
                return Ok(Self {
                    output: Output::Rtp,
                    codecs: rtp,
                });
            }
            if !takes_raw(caps) {
                return Err(Vec::new());
            }
        }
        let decodable: Vec<_> = codecs.clone().filter(|codec| codec.can_decode()).collect();
        if decodable.is_empty() {
            return Err(codecs.collect());
        }
        Ok(Self {
            output: Output::Raw,
            codecs: decodable,
        })
    }
}

fn takes_raw(caps: &gst::Caps) -> bool {
    caps.iter().any(|s| RAW.contains(&s.name().as_str()))
}

/// The elements behind a pad.
pub struct DecodeChain {
    pub appsrc: gst_app::AppSrc,
    pub elements: Vec<gst::Element>,
    pub output: Output,
}

impl DecodeChain {
    /// Makes the elements for a stream of these caps and adds them to the
    /// bin, in the bin's state.
    ///
    /// # Errors
    ///
    /// When nothing here decodes the stream.
    pub fn new(
        bin: &gst::Bin,
        name: &str,
        caps: &gst::Caps,
        output: Output,
        latency: gst::ClockTime,
    ) -> Result<Self, Error> {
        let appsrc = gst_app::AppSrc::builder()
            .name(name)
            .caps(caps)
            .is_live(true)
            .format(gst::Format::Time)
            .max_bytes(0)
            .build();
        appsrc.set_latency(latency, gst::ClockTime::NONE);
        bin.add(&appsrc).map_err(internal)?;
        let mut branch = Self {
            elements: vec![appsrc.clone().upcast()],
            appsrc,
            output,
        };
        let codec = caps
            .structure(0)
            .and_then(|s| Codec::of_media_type(s.name()));
        if let Some(codec) = codec {
            let result = match output {
                Output::Raw => branch.add_decoder(bin, codec),
                Output::Encoded => branch.add_parser(bin, codec),
                Output::Rtp => Ok(()),
            };
            if let Err(error) = result {
                branch.remove(bin);
                return Err(error);
            }
        }
        Ok(branch)
    }

    fn add_decoder(&mut self, bin: &gst::Bin, codec: &Codec) -> Result<(), Error> {
        // The decoders of the others take what the depayloaders make.
        if matches!(codec.encoding_name, "H264" | "AV1") {
            self.add_parser(bin, codec)?;
        }
        for factory in codec.decoders() {
            let Ok(decoder) = factory.create().build() else {
                continue;
            };
            // A decoder for hardware that is not there says so here.
            if decoder.set_state(gst::State::Ready).is_err() {
                let _ = decoder.set_state(gst::State::Null);
                continue;
            }
            tune(&decoder);
            return self.append(bin, decoder);
        }
        Err(Error::gpu(
            Code::MissingPlugin,
            format!("no installed decoder works for {}", codec.encoding_name),
        ))
    }

    fn add_parser(&mut self, bin: &gst::Bin, codec: &Codec) -> Result<(), Error> {
        let parser = codec
            .parser
            .and_then(|name| gst::ElementFactory::make(name).build().ok());
        parser.map_or(Ok(()), |parser| self.append(bin, parser))
    }

    fn append(&mut self, bin: &gst::Bin, element: gst::Element) -> Result<(), Error> {
        bin.add(&element).map_err(internal)?;
        let result = self.elements.last().map(|last| last.link(&element));
        self.elements.push(element);
        result.transpose().map(|_| ()).map_err(internal)
    }

    /// The pad that the ghost pad stands for.
    pub fn src_pad(&self) -> Option<gst::Pad> {
        self.elements.last()?.static_pad("src")
    }

    /// Brings the elements to the bin's state, the source last.
    ///
    /// # Errors
    ///
    /// When an element does not get there.
    pub fn start(&self) -> Result<(), Error> {
        for element in self.elements.iter().rev() {
            element.sync_state_with_parent().map_err(internal)?;
        }
        Ok(())
    }

    pub fn remove(&self, bin: &gst::Bin) {
        for element in &self.elements {
            let _ = element.set_state(gst::State::Null);
            let _ = bin.remove(element);
        }
    }
}

/// How far decoded audio may stand from its arrival before it is set right.
/// Until then it goes on without a seam: packets arrive with some jitter, and
/// an encoder behind makes gaps and overlaps of that.
const AUDIO_TOLERANCE: gst::ClockTime = gst::ClockTime::from_mseconds(40);

fn tune(decoder: &gst::Element) {
    if decoder.has_property_with_type("tolerance", i64::static_type()) {
        decoder.set_property("tolerance", AUDIO_TOLERANCE.nseconds() as i64);
    }
    // Some trade latency for throughput by default.
    if decoder.has_property("thread-type") {
        // avdec_*: threads per slice, not per frame.
        decoder.set_property_from_str("thread-type", "slice");
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::gpu(Code::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::track::Kind;

    fn choose(caps: Option<&str>) -> Result<Choice, Vec<&'static Codec>> {
        gst::init().unwrap();
        let caps = caps.map(|caps| caps.parse::<gst::Caps>().unwrap());
        Choice::new(Codec::of_kind(Kind::Video), caps.as_ref())
    }

    fn names(choice: &Choice) -> Vec<&str> {
        choice.codecs.iter().map(|c| c.encoding_name).collect()
    }

    #[test]
    fn anything_and_nothing_mean_raw() {
        for caps in [None, Some("ANY")] {
            let choice = choose(caps).unwrap();
            assert_eq!(choice.output, Output::Raw);
            assert_eq!(names(&choice)[..2], ["VP9", "VP8"]);
        }
    }

    #[test]
    fn an_encoded_format_is_offered_alone() {
        let choice = choose(Some("video/x-vp8")).unwrap();
        assert_eq!(choice.output, Output::Encoded);
        assert_eq!(names(&choice), ["VP8"]);
    }

    #[test]
    fn a_muxer_that_takes_raw_too_gets_encoded() {
        let choice = choose(Some("video/x-raw; video/x-vp8; video/x-vp9")).unwrap();
        assert_eq!(choice.output, Output::Encoded);
        assert_eq!(names(&choice), ["VP9", "VP8"]);
    }

    #[test]
    fn rtp_and_raw_are_told_apart() {
        assert_eq!(
            choose(Some("application/x-rtp")).unwrap().output,
            Output::Rtp
        );
        let raw = choose(Some("video/x-raw, format=I420; video/x-raw(ANY)")).unwrap();
        assert_eq!(raw.output, Output::Raw);
    }

    #[test]
    fn what_nobody_makes_is_refused() {
        assert!(choose(Some("image/jpeg")).is_err());
    }
}
