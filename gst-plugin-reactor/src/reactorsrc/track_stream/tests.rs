// SPDX-License-Identifier: MIT

use std::{
    cell::RefCell,
    sync::mpsc::{Receiver, channel},
};

use super::*;
use crate::{
    element::event_thread,
    platform::track::Direction,
    reactorsrc::{decode_chain::OutputFormat, gap_filler::OnGap, track_pad::TrackPad},
    session::bridge_clock,
};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

/// What passes the pad: a buffer's time, or start and end of a gap.
#[derive(Debug, PartialEq)]
enum Passed {
    Buffer(gst::ClockTime),
    Gap(gst::ClockTime, gst::ClockTime),
}

/// A pad with its stream in a pipeline that plays, and a sink that takes all at once.
struct Rig {
    pipeline: gst::Pipeline,
    /// In the place of the element.
    bin: gst::Bin,
    pad: TrackPad,
    caps: gst::Caps,
    passed: Receiver<Passed>,
    /// The content of the next units.
    pictures: RefCell<VecDeque<gst::Buffer>>,
}

impl Rig {
    /// A pad that passes on what it receives.
    fn new(kind: Kind, media_type: &str) -> Self {
        gst::init().unwrap();
        let caps = gst::Caps::new_empty_simple(media_type);
        Self::with_caps(kind, caps, OutputFormat::Encoded)
    }

    /// A pad that decodes this number of pictures.
    fn decoding(count: usize) -> Self {
        gst::init().unwrap();
        let line = format!(
            "videotestsrc num-buffers={count} ! video/x-raw,width=64,height=64 ! vp8enc deadline=1 \
             ! appsink name=a sync=false"
        );
        let pipeline = gst::parse::launch(&line).unwrap();
        let encoder = pipeline.downcast::<gst::Pipeline>().unwrap();
        let sink = encoder.by_name("a").unwrap();
        let sink = sink.downcast::<gst_app::AppSink>().unwrap();
        encoder.set_state(gst::State::Playing).unwrap();
        let samples: Vec<_> = (0..count).map(|_| sink.pull_sample().unwrap()).collect();
        encoder.set_state(gst::State::Null).unwrap();
        let caps = samples[0].caps_owned().unwrap();
        let rig = Self::with_caps(Kind::Video, caps, OutputFormat::Raw);
        let pictures = samples.iter().map(|sample| sample.buffer_owned().unwrap());
        rig.pictures.borrow_mut().extend(pictures);
        rig
    }

    fn with_caps(kind: Kind, caps: gst::Caps, format: OutputFormat) -> Self {
        let (pipeline, bin) = (gst::Pipeline::new(), gst::Bin::new());
        let sink = gst::ElementFactory::make("fakesink").property("sync", false);
        let sink = sink.property("async", false).build().unwrap();
        pipeline.add_many([bin.upcast_ref(), &sink]).unwrap();
        let track = Track {
            name: "main".into(),
            kind,
            direction: Direction::RecvOnly,
        };
        let events = event_thread::start(&bin, |_: &gst::Bin, _: SourceEvent| ()).unwrap();
        let element = bin.upcast_ref::<gst::Element>();
        let stream = TrackStream::new(track, element, Weak::new(), events, Instant::now());
        let template = gst::PadTemplate::new(
            &format!("{}_%s", kind.as_str()),
            gst::PadDirection::Src,
            gst::PadPresence::Sometimes,
            &gst::Caps::new_any(),
        );
        let pad = TrackPad::new(
            Arc::new(stream),
            &template.unwrap(),
            ("test", gst::GroupId::next()),
            (OnGap::None, format),
            || gst::ClockTime::ZERO,
            |_, _| (),
            |_, _| false,
        );
        let (sender, passed) = channel();
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.pad.add_probe(mask, move |_, info| {
            let passed = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts().map(Passed::Buffer),
                Some(gst::PadProbeData::Event(event)) => match event.view() {
                    gst::EventView::Gap(gap) => {
                        let (start, duration) = gap.get();
                        duration.map(|duration| Passed::Gap(start, start + duration))
                    }
                    _ => None,
                },
                _ => None,
            };
            if let Some(passed) = passed {
                let _ = sender.send(passed);
            }
            gst::PadProbeReturn::Ok
        });
        pad.pad.set_active(true).unwrap();
        bin.add_pad(&pad.pad).unwrap();
        pad.pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let (state, ..) = pipeline.state(gst::ClockTime::from_seconds(10));
        state.unwrap();
        let rig = Self {
            pipeline,
            bin,
            pad,
            caps,
            passed,
            pictures: RefCell::default(),
        };
        rig.set_running_time(gst::ClockTime::from_seconds(30));
        rig
    }

    /// Has running time go on from here.
    fn set_running_time(&self, time: gst::ClockTime) {
        let now = self.bin.clock().unwrap().time();
        self.bin.set_base_time(now.saturating_sub(time));
    }

    /// Receives a unit that is due this much later than now.
    fn receive(&self, ahead: gst::ClockTime) {
        let arrived = bridge_clock().time();
        let picture = self.pictures.borrow_mut().pop_front();
        self.pad.stream.consume(MediaUnit {
            buffer: picture.unwrap_or_else(|| gst::Buffer::from_slice([0_u8; 4])),
            caps: self.caps.clone(),
            time: Some(arrived + ahead),
            arrived,
        });
    }

    /// Receives the first unit, and makes the pad's elements.
    fn open(&self, latency: gst::ClockTime) {
        self.receive(gst::ClockTime::ZERO);
        let tags = (gst::TagList::new(), None);
        self.pad.open(&self.bin, &self.caps, latency, tags).unwrap();
    }

    fn appsrc(&self) -> gst_app::AppSrc {
        match &self.pad.stream.lock().phase {
            StreamPhase::Streaming(appsrc) => appsrc.clone(),
            _ => panic!("the stream has no appsrc"),
        }
    }

    fn next(&self) -> Passed {
        self.passed.recv_timeout(LIMIT).unwrap()
    }

    /// Start and end of the next gap, which no buffer precedes.
    fn next_gap(&self) -> (gst::ClockTime, gst::ClockTime) {
        match self.next() {
            Passed::Gap(start, end) => (start, end),
            buffer => panic!("the rest of the gap is missing: {buffer:?}"),
        }
    }

    /// The time of the next buffer, which no GAP event precedes.
    fn next_buffer(&self) -> gst::ClockTime {
        match self.next() {
            Passed::Buffer(time) => time,
            gap => panic!("{gap:?}"),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What is late by less than the latency is in time.
#[test]
fn gap_begins_after_the_latency_and_lasts_up_to_the_next_unit() {
    let rig = Rig::new(Kind::Audio, "application/x-rtp");
    rig.open(ms(1000));
    let end = rig.next_buffer();
    let stream = &rig.pad.stream;
    assert!(!stream.send_gap(end + ms(900)));
    assert!(stream.send_gap(end + ms(1500)));
    assert_eq!(rig.next(), Passed::Gap(end, end + ms(580)));
    rig.set_running_time(end + ms(1500));
    rig.receive(ms(500));
    let (start, gap_end) = rig.next_gap();
    assert_eq!(start, end + ms(580));
    assert_eq!(rig.next_buffer(), gap_end);
    // The latency that the pad is told later.
    rig.pad.set_latency(ms(60));
    assert!(stream.send_gap(gap_end + ms(900)));
    assert_eq!(rig.next(), Passed::Gap(gap_end, gap_end + ms(860)));
}

#[test]
fn one_gap_event_waits_for_downstream_at_most() {
    let rig = Rig::new(Kind::Audio, "application/x-rtp");
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let block = rig.pad.pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok);
    rig.open(ms(60));
    let (stream, appsrc) = (&rig.pad.stream, rig.appsrc());
    let begun = Instant::now();
    // The unit waits behind the appsrc.
    while appsrc.current_level_buffers() > 0 {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = rig.bin.current_running_time().unwrap() + ms(20_000);
    for n in 0..40 {
        assert!(stream.send_gap(now + ms(20 * n)));
    }
    // Now one waits in it.
    rig.set_running_time(now + ms(1000));
    rig.receive(gst::ClockTime::ZERO);
    assert!(stream.send_gap(now + ms(60_000)));
    rig.pad.pad.remove_probe(block.unwrap());
    let end = rig.next_buffer();
    assert_eq!(rig.next(), Passed::Gap(end, now - ms(40)));
    // The one that the unit ends with, and the next have the time of all that were not sent.
    let (start, end) = rig.next_gap();
    assert_eq!(start, now - ms(40));
    assert_eq!(rig.next_buffer(), end);
    assert!(stream.send_gap(now + ms(90_000)));
    assert_eq!(rig.next(), Passed::Gap(end, now + ms(89_960)));
    // A flush throws away what waits.
    stream.has_gap.store(true, Ordering::Release);
    let src = appsrc.static_pad("src").unwrap();
    src.push_event(gst::event::FlushStart::new());
    src.push_event(gst::event::FlushStop::new(true));
    assert!(!stream.has_gap.load(Ordering::Acquire));
}

/// As GstPipeline has it begin anew after a flushing seek of another branch.
#[test]
fn pictures_and_gaps_follow_a_running_time_that_begins_anew() {
    let rig = Rig::new(Kind::Video, "video/x-vp8");
    rig.open(ms(60));
    let before = rig.next_buffer();
    rig.set_running_time(gst::ClockTime::from_seconds(20));
    rig.receive(gst::ClockTime::ZERO);
    let picture = rig.next_buffer();
    assert!(picture + gst::ClockTime::SECOND < before, "{picture}");
    // The same while nothing comes.
    let stream = &rig.pad.stream;
    assert!(!stream.send_gap(ms(10_000)));
    assert!(stream.send_gap(ms(10_600)));
    assert_eq!(rig.next(), Passed::Gap(ms(10_000), ms(10_560)));
    assert!(!stream.send_gap(ms(2000)));
    assert!(stream.send_gap(ms(2600)));
    assert_eq!(rig.next(), Passed::Gap(ms(2000), ms(2560)));
}

/// A decoder lets no time go back within a segment.
#[test]
fn decoded_pictures_follow_a_running_time_that_begins_anew() {
    let rig = Rig::decoding(4);
    rig.open(ms(60));
    rig.next_buffer();
    rig.receive(ms(40));
    let before = rig.next_buffer();
    rig.set_running_time(gst::ClockTime::from_seconds(20));
    rig.receive(gst::ClockTime::ZERO);
    let picture = rig.next_buffer();
    assert!(picture + gst::ClockTime::SECOND < before, "{picture}");
    rig.receive(ms(40));
    assert!(rig.next_buffer() > picture);
}

#[test]
fn gap_lasts_up_to_the_end_of_the_stream() {
    let rig = Rig::new(Kind::Audio, "application/x-rtp");
    rig.open(ms(1000));
    let end = rig.next_buffer();
    assert!(rig.pad.stream.send_gap(end + ms(1500)));
    assert_eq!(rig.next(), Passed::Gap(end, end + ms(580)));
    rig.set_running_time(end + ms(3000));
    rig.pad.stream.end();
    let (start, gap_end) = rig.next_gap();
    assert_eq!(start, end + ms(580));
    assert!(gap_end >= end + ms(2960), "{gap_end}");
}
