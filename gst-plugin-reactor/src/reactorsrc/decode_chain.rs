// SPDX-License-Identifier: MIT

//! The elements behind one source pad: an appsrc, and a parser or a decoder
//! where downstream needs one. Behind a decoder there are converters, which pass
//! through what downstream takes as the decoder makes it.
//!
//! Owns these elements and the choice of the format they produce. Called on the
//! element's event thread and in state changes. It never touches the session.

use gst::prelude::*;

use super::decode_errors;
use crate::{
    gst_helpers::{frame_size, internal, make, remove_elements, sync_states},
    platform::{Code, Error, track::Kind},
    session::{
        codecs::{Codec, codec_preferences},
        frame_counters::CodecImplementation,
    },
};

/// The format in which a pad sends a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    Raw,
    Encoded,
    Rtp,
}

/// The format that downstream of a pad accepts, and the codecs that may be
/// offered to the server for it.
#[derive(Debug)]
pub struct FormatChoice {
    pub format: OutputFormat,
    pub codecs: Vec<&'static Codec>,
}

impl FormatChoice {
    /// Prefers formats that need no decoder, but `for_any`, raw or encoded, where
    /// `downstream` is `None` (an unlinked pad) or ANY (a peer like fakesink or
    /// decodebin). Fails with the codecs that downstream accepts and for which an element is
    /// missing; with none if downstream accepts no codec.
    pub fn new(
        codecs: impl Iterator<Item = &'static Codec> + Clone,
        downstream: Option<&gst::Caps>,
        for_any: OutputFormat,
    ) -> Result<Self, Vec<&'static Codec>> {
        let choose = |format, accepts: &dyn Fn(&Codec) -> bool| {
            let codecs: Vec<_> = codecs.clone().filter(|codec| accepts(codec)).collect();
            (!codecs.is_empty()).then_some(Self { format, codecs })
        };
        if let Some(caps) = downstream.filter(|caps| !caps.is_any()) {
            let encoded = choose(OutputFormat::Encoded, &|codec| {
                codec.can_depayload() && codec.caps().can_intersect(caps)
            });
            let choice = encoded.or_else(|| {
                choose(OutputFormat::Rtp, &|codec| {
                    codec_preferences([codec]).can_intersect(caps)
                })
            });
            if let Some(choice) = choice {
                return Ok(choice);
            }
            let mut media_types = caps.iter().map(|s| s.name().as_str());
            if !media_types.any(|name| matches!(name, "video/x-raw" | "audio/x-raw")) {
                return Err(Vec::new());
            }
            return choose(OutputFormat::Raw, &Codec::can_decode)
                .ok_or_else(|| codecs.clone().collect());
        }
        choose(for_any, &Codec::can_decode).ok_or_else(|| codecs.clone().collect())
    }
}

/// The linked elements of one pad, the appsrc first.
pub struct DecodeChain {
    pub appsrc: gst_app::AppSrc,
    pub format: OutputFormat,
    pub decoder: Option<CodecImplementation>,
    /// Where the media leaves the appsrc, the parser or the decoder.
    pub media_pad: Option<gst::Pad>,
    elements: Vec<gst::Element>,
}

impl DecodeChain {
    /// Makes the elements for a stream of these caps and adds them to the bin.
    /// Fails when no installed element decodes the stream.
    pub fn new(
        bin: &gst::Bin,
        name: &str,
        caps: &gst::Caps,
        format: OutputFormat,
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
        let mut chain = Self {
            elements: vec![appsrc.clone().upcast()],
            media_pad: appsrc.static_pad("src"),
            appsrc,
            format,
            decoder: None,
        };
        let media_type = caps.structure(0).map(|s| s.name());
        let codec = media_type.and_then(|media_type| Codec::by_media_type(media_type));
        let added = match (format, codec) {
            (OutputFormat::Raw, Some(codec)) => {
                let decoder = chain.add_decoder(bin, codec);
                decoder.and_then(|()| chain.add_converters(bin, codec.kind))
            }
            (OutputFormat::Encoded, Some(codec)) => chain.add_parser(bin, codec),
            (OutputFormat::Rtp, _) | (_, None) => Ok(()),
        };
        added.inspect_err(|_| chain.remove(bin)).map(|()| chain)
    }

    /// Makes an appsrc alone, for a stream that ends before it has begun. It is
    /// not live: its EOS completes the preroll of a paused sink.
    pub fn without_media(bin: &gst::Bin, name: &str) -> Result<Self, Error> {
        let appsrc = gst_app::AppSrc::builder().name(format!("{name}_eos"));
        let appsrc = appsrc.format(gst::Format::Time).build();
        bin.add(&appsrc).map_err(internal)?;
        Ok(Self {
            elements: vec![appsrc.clone().upcast()],
            media_pad: appsrc.static_pad("src"),
            appsrc,
            format: OutputFormat::Encoded,
            decoder: None,
        })
    }

    /// Takes the place of a chain whose stream has ended. Its elements stay until
    /// this chain is removed: to stop them could wait for a sink.
    pub fn replace(&mut self, ended: Self) {
        self.elements.splice(0..0, ended.elements);
    }

    fn add_decoder(&mut self, bin: &gst::Bin, codec: &Codec) -> Result<(), Error> {
        // The decoders of other codecs accept what the depayloaders produce.
        if matches!(codec.encoding_name, "H264" | "AV1") {
            self.add_parser(bin, codec)?;
        }
        for factory in codec.decoders() {
            let Ok(decoder) = factory.create().build() else {
                continue;
            };
            // A hardware decoder fails here if the hardware is missing.
            if decoder.set_state(gst::State::Ready).is_err() {
                let _ = decoder.set_state(gst::State::Null);
                continue;
            }
            configure(&decoder);
            self.keep_in_band(bin, codec, &factory)?;
            self.decoder = Some(CodecImplementation::of(&factory));
            self.append(bin, decoder)?;
            self.media_pad = self.src_pad();
            return Ok(());
        }
        Err(Error::gpu(
            Code::MissingPlugin,
            format!("no installed decoder works for {}", codec.encoding_name),
        ))
    }

    /// Has h264parse leave the parameter sets in the stream. It would put them into the
    /// caps, and there it keeps a broken one for ever, which avdec_h264 does not survive.
    fn keep_in_band(
        &mut self,
        bin: &gst::Bin,
        codec: &Codec,
        decoder: &gst::ElementFactory,
    ) -> Result<(), Error> {
        let caps = codec.depayloaded_caps();
        if codec.encoding_name != "H264" || !decoder.can_sink_any_caps(&caps) {
            return Ok(());
        }
        let filter = make("capsfilter")?;
        filter.set_property("caps", caps);
        self.append(bin, filter)
    }

    /// Appends the codec's parser, if it has one that is installed.
    fn add_parser(&mut self, bin: &gst::Bin, codec: &Codec) -> Result<(), Error> {
        let parser = codec.parser.and_then(|name| make(name).ok());
        parser.map_or(Ok(()), |parser| self.append(bin, parser))?;
        self.media_pad = self.src_pad();
        Ok(())
    }

    /// Appends the converters of raw media, those that are installed.
    fn add_converters(&mut self, bin: &gst::Bin, kind: Kind) -> Result<(), Error> {
        let names: &[_] = match kind {
            Kind::Video => &["videoconvert"],
            Kind::Audio => &["audioconvert", "audioresample"],
        };
        for converter in names.iter().filter_map(|name| make(name).ok()) {
            // A late picture is the sink's to drop: a recording takes it.
            converter.set_property("qos", false);
            self.append(bin, converter)?;
        }
        Ok(())
    }

    fn append(&mut self, bin: &gst::Bin, element: gst::Element) -> Result<(), Error> {
        bin.add(&element).map_err(internal)?;
        let linked = self.elements.last().map(|last| last.link(&element));
        self.elements.push(element);
        linked.transpose().map(|_| ()).map_err(internal)
    }

    /// The target of the ghost pad.
    pub fn src_pad(&self) -> Option<gst::Pad> {
        self.elements.last()?.static_pad("src")
    }

    /// Starts the elements, the appsrc last. No buffer probe may be added to the
    /// appsrc's pad afterwards.
    /// Fails when an element does not reach the bin's state.
    pub fn start(&self) -> Result<(), Error> {
        if let [appsrc, .., last] = self.elements.as_slice()
            && let Some(input) = appsrc.static_pad("src")
            && let Some(output) = last.static_pad("src")
        {
            let decoder = self.decoder.as_ref().and(self.media_pad.as_ref());
            let decoder = decoder.and_then(|pad| pad.parent_element()?.static_pad("sink"));
            decode_errors::watch(&input, &output, decoder.as_ref());
        }
        sync_states(&self.elements)
    }

    pub fn remove(&self, bin: &gst::Bin) {
        remove_elements(bin, &self.elements);
    }
}

/// The difference between a sound's timestamp and the end of the sound before
/// it that an audio decoder ignores. Up to there the output is seamless:
/// packets are jittered, and an encoder downstream would turn that into gaps
/// and overlaps.
const AUDIO_TOLERANCE: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Has a decoder pass late pictures on, for a recording beside the display. It does not hear of
/// them: with `qos=false`, those of libvpx and FFmpeg still drop what QoS events say is late
/// (GStreamer 1.22).
fn ignore_lateness(decoder: &gst::Element) {
    if let Some(src) = decoder.static_pad("src") {
        src.add_probe(gst::PadProbeType::EVENT_UPSTREAM, |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Qos => {
                    // Not Drop: with that GStreamer (1.22) unreferences the event once more.
                    gst::PadProbeReturn::Handled
                }
                _ => gst::PadProbeReturn::Ok,
            }
        });
    }
}

/// Sets a decoder up for low latency.
fn configure(decoder: &gst::Element) {
    ignore_lateness(decoder);
    if decoder.has_property_with_type("tolerance", i64::static_type()) {
        decoder.set_property("tolerance", AUDIO_TOLERANCE.nseconds() as i64);
    }
    // avdec_* use a thread per frame by default, which delays the pictures; a
    // thread per slice does not.
    if decoder.has_property("thread-type") {
        decoder.set_property_from_str("thread-type", "slice");
    }
    limit_threads(decoder);
}

/// The properties with the number of a video decoder's threads: of vpxdec and
/// av1dec, of dav1ddec, and of avdec_*. All use one per processor by default.
const THREAD_PROPERTIES: [&str; 3] = ["threads", "n-threads", "max-threads"];
/// A picture of this size, in pixels, is worth two threads, as in libwebrtc.
const TWO_THREAD_PIXELS: u32 = 1280 * 720;

/// Gives a decoder as many threads as the size of the picture is worth, when its
/// caps say the size. Decoders read the number when they get caps.
fn limit_threads(decoder: &gst::Element) {
    let mut properties = THREAD_PROPERTIES.into_iter();
    let (Some(property), Some(sink)) = (
        properties.find(|name| decoder.has_property(name)),
        decoder.static_pad("sink"),
    ) else {
        return;
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |sink, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && let gst::EventView::Caps(caps) = event.view()
            && let Some((width, height)) = frame_size(caps.caps())
            && let Some(decoder) = sink.parent_element()
        {
            let threads = thread_count(width, height).min(processors);
            decoder.set_property_from_str(property, &threads.to_string());
        }
        gst::PadProbeReturn::Ok
    });
}

fn thread_count(width: u32, height: u32) -> u32 {
    let pixels = u64::from(width) * u64::from(height);
    u32::try_from(pixels / u64::from(TWO_THREAD_PIXELS / 2))
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::platform::track::Kind;

    fn choose(caps: Option<&str>) -> Result<FormatChoice, Vec<&'static Codec>> {
        gst::init().unwrap();
        let caps = caps.map(|caps| caps.parse::<gst::Caps>().unwrap());
        FormatChoice::new(
            Codec::of_kind(Kind::Video),
            caps.as_ref(),
            OutputFormat::Raw,
        )
    }

    fn names(choice: &FormatChoice) -> Vec<&str> {
        choice.codecs.iter().map(|c| c.encoding_name).collect()
    }

    #[test]
    fn decoder_of_small_pictures_has_one_thread() {
        gst::init().unwrap();
        assert_eq!(thread_count(640, 360), 1);
        assert_eq!(thread_count(1920, 1080), 4);
        assert_eq!(thread_count(u32::MAX, u32::MAX), u32::MAX);
        let decoder = make("vp9dec").unwrap();
        configure(&decoder);
        decoder.set_state(gst::State::Paused).unwrap();
        let sink = decoder.static_pad("sink").unwrap();
        assert!(sink.send_event(gst::event::StreamStart::new("test")));
        let caps = "video/x-vp9,width=640,height=360"
            .parse::<gst::Caps>()
            .unwrap();
        assert!(sink.send_event(gst::event::Caps::new(&caps)));
        assert_eq!(decoder.property::<u32>("threads"), 1);
        decoder.set_state(gst::State::Null).unwrap();
    }

    /// vpxdec drops a picture that a display called late, for a recording beside it as well.
    #[test]
    fn decoder_does_not_hear_that_pictures_are_late() {
        gst::init().unwrap();
        let bin = gst::Bin::new();
        let caps = Codec::by_encoding_name("VP9").unwrap().caps();
        let (raw, latency) = (OutputFormat::Raw, gst::ClockTime::ZERO);
        let chain = DecodeChain::new(&bin, "test", &caps, raw, latency).unwrap();
        // What the decoder hears it passes on.
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (events, input) = (heard.clone(), chain.appsrc.static_pad("src").unwrap());
        input.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data {
                events.lock().unwrap().push(event.type_());
            }
            gst::PadProbeReturn::Ok
        });
        bin.set_state(gst::State::Paused).unwrap();
        let output = chain.src_pad().unwrap();
        let (second, type_) = (gst::ClockTime::SECOND, gst::QOSType::Underflow);
        output.send_event(gst::event::Qos::new(type_, 2.0, 1_000_000_000, second));
        output.send_event(gst::event::Latency::new(second));
        let heard = heard.lock().unwrap().clone();
        assert!(heard.contains(&gst::EventType::Latency), "{heard:?}");
        assert!(!heard.contains(&gst::EventType::Qos), "{heard:?}");
        bin.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn format_choice_any_caps_or_unlinked_gives_raw() {
        for caps in [None, Some("ANY")] {
            let choice = choose(caps).unwrap();
            assert_eq!(choice.format, OutputFormat::Raw);
            assert_eq!(names(&choice)[..2], ["VP9", "VP8"]);
        }
    }

    #[test]
    fn format_choice_for_player_leaves_decoding_to_it() {
        gst::init().unwrap();
        let choose = |caps: &gst::Caps| {
            let codecs = Codec::of_kind(Kind::Video);
            FormatChoice::new(codecs, Some(caps), OutputFormat::Encoded).unwrap()
        };
        let choice = choose(&gst::Caps::new_any());
        assert_eq!(choice.format, OutputFormat::Encoded);
        assert_eq!(names(&choice)[..2], ["VP9", "VP8"]);
        let raw = "video/x-raw".parse().unwrap();
        assert_eq!(choose(&raw).format, OutputFormat::Raw);
    }

    #[test]
    fn format_choice_encoded_caps_offers_that_codec_alone() {
        let choice = choose(Some("video/x-vp8")).unwrap();
        assert_eq!(choice.format, OutputFormat::Encoded);
        assert_eq!(names(&choice), ["VP8"]);
    }

    #[test]
    fn format_choice_raw_and_encoded_caps_prefers_encoded() {
        let choice = choose(Some("video/x-raw; video/x-vp8; video/x-vp9")).unwrap();
        assert_eq!(choice.format, OutputFormat::Encoded);
        assert_eq!(names(&choice), ["VP9", "VP8"]);
    }

    #[test]
    fn format_choice_rtp_or_raw_caps_gives_that_format() {
        assert_eq!(
            choose(Some("application/x-rtp")).unwrap().format,
            OutputFormat::Rtp
        );
        let raw = choose(Some("video/x-raw, format=I420; video/x-raw(ANY)")).unwrap();
        assert_eq!(raw.format, OutputFormat::Raw);
    }

    #[test]
    fn format_choice_unknown_caps_is_refused() {
        assert!(choose(Some("image/jpeg")).is_err());
    }
}
