// SPDX-License-Identifier: MIT

//! A URI in GStreamer's players: the streams that they tell of, the ids of these, tags, and what is
//! posted while connecting.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT, actions,
    pipeline::{TestPipeline, count_buffers, wait_for_status, wait_until},
    server::Server,
};

/// What came on the bus.
#[derive(Debug, Default)]
struct Posted {
    /// The ids and types of the streams, by collection.
    collections: Vec<Vec<(String, gst::StreamType)>>,
    selected: Vec<BTreeSet<String>>,
    tags: Vec<gst::TagList>,
    progress: Vec<gst::ProgressType>,
    buffering: Vec<i32>,
}

impl Posted {
    /// Takes messages until nothing has come for this time.
    fn read(&mut self, running: &TestPipeline, silence: Duration) {
        let bus = running.pipeline.bus().unwrap();
        let silence = gst::ClockTime::from_mseconds(silence.as_millis() as u64);
        while let Some(message) = bus.timed_pop(silence) {
            self.add(&message);
        }
    }

    fn add(&mut self, message: &gst::Message) {
        match message.view() {
            gst::MessageView::StreamCollection(message) => {
                let collection = message.stream_collection();
                let streams = collection.iter();
                let streams = streams.map(|s| (s.stream_id().unwrap().into(), s.stream_type()));
                self.collections.push(streams.collect());
            }
            gst::MessageView::StreamsSelected(message) => {
                let ids = message.streams();
                let ids = ids.map(|stream| stream.stream_id().unwrap().into());
                self.selected.push(ids.collect());
            }
            gst::MessageView::Tag(message) => self.tags.push(message.tags()),
            gst::MessageView::Progress(message) => {
                let (kind, code, text) = message.get();
                assert_eq!(code, "connect", "{text}");
                assert!(!text.is_empty());
                self.progress.push(kind);
            }
            gst::MessageView::Buffering(message) => self.buffering.push(message.percent()),
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }

    /// The values of a tag, each once.
    fn tag<'a, T: Tag<'a, TagType = &'a str>>(&'a self) -> BTreeSet<&'a str> {
        let values = self.tags.iter().filter_map(|tags| tags.index::<T>(0));
        values.map(|value| value.get()).collect()
    }

    fn assert_tells_of_model(&self, what: &str) {
        use gst::tags;
        assert!(
            self.tag::<tags::Title>().contains("playground"),
            "{what}: {self:?}"
        );
        let session = "reactor-session-id=00000000-0000-0000-0000-000000000000";
        assert!(
            self.tag::<tags::ExtendedComment>().contains(session),
            "{what}: {self:?}"
        );
        let encoders = self.tag::<tags::Encoder>();
        assert!(
            encoders.iter().any(|e| e.starts_with("Reactor 3.")),
            "{what}: {self:?}"
        );
        // Connecting begins and ends, and nothing waits for a buffer to fill.
        let [first, .., last] = self.progress[..] else {
            panic!("{what}: {self:?}");
        };
        assert_eq!(
            (first, last),
            (gst::ProgressType::Start, gst::ProgressType::Complete),
            "{what}"
        );
        assert!(
            self.buffering.iter().all(|percent| *percent == 100),
            "{what}: {self:?}"
        );
    }

    /// The ids of the last collection, which is selected: one video and one sound. A player tells
    /// of each stream as soon as it knows its codec, and so of one stream first, or of both.
    fn assert_both_streams(&self, what: &str) -> BTreeSet<String> {
        let Some((streams, earlier)) = self.collections.split_last() else {
            panic!("{what}: {self:?}");
        };
        let is_known = |stream| streams.contains(stream);
        assert!(earlier.iter().flatten().all(is_known), "{what}: {self:?}");
        let mut types: Vec<_> = streams.iter().map(|(_, kind)| *kind).collect();
        types.sort_by_key(|kind| kind.bits());
        assert_eq!(
            types,
            [gst::StreamType::AUDIO, gst::StreamType::VIDEO],
            "{what}"
        );
        let ids: BTreeSet<_> = streams.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(ids.len(), 2, "{what}: {ids:?}");
        for track in ["video_main_video", "audio_main_audio"] {
            assert!(ids.iter().any(|id| id.ends_with(track)), "{what}: {ids:?}");
        }
        assert_eq!(self.selected.last(), Some(&ids), "{what}");
        ids
    }
}

/// A player in a pipeline, whose pads all end in a sink that takes anything.
fn player(name: &str, uri: &str) -> TestPipeline {
    if name == "playbin3" {
        let sinks = "video-sink=\"fakesink name=v\" audio-sink=\"fakesink name=a\"";
        return TestPipeline::parse(&format!("playbin3 uri={uri} {sinks}"));
    }
    let running = TestPipeline::parse(&format!("pipeline. ( {name} name=p uri={uri} )"));
    let pipeline = running.pipeline.downgrade();
    running.by_name("p").connect_pad_added(move |_, pad| {
        let pipeline = pipeline.upgrade().unwrap();
        let sink = gst::ElementFactory::make("fakesink").build().unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    });
    running
}

fn source(running: &TestPipeline) -> gst::Element {
    let mut found = None;
    wait_until("the source", TIMEOUT, || {
        let mut all = running
            .pipeline
            .iterate_all_by_element_factory_name("reactorsrc");
        found = all.next().ok().flatten();
        found.is_some()
    });
    found.unwrap()
}

fn stream_ids(element: &gst::Element) -> BTreeSet<String> {
    let pads = element.src_pads();
    pads.iter()
        .filter_map(|pad| pad.stream_id())
        .map(Into::into)
        .collect()
}

/// The bus until both tracks play.
fn play(running: &TestPipeline) -> (Posted, gst::Element) {
    let mut posted = Posted::default();
    running.play();
    let source = source(running);
    let begun = Instant::now();
    while stream_ids(&source).len() < 2
        || posted.progress.last() != Some(&gst::ProgressType::Complete)
    {
        posted.read(running, Duration::from_millis(50));
        assert!(begun.elapsed() < TIMEOUT, "{posted:?}");
    }
    let count = count_buffers(&source.static_pad("video_main_video").unwrap());
    wait_until("pictures", TIMEOUT, || count() > 20);
    posted.read(running, Duration::from_millis(300));
    (posted, source)
}

#[test]
fn players_know_streams_by_ids_that_stay() {
    let server = Server::playground();
    let uri = format!("reactor+{}", server.url());
    let mut ids_of_source = BTreeSet::new();
    for name in ["playbin3", "uridecodebin3", "urisourcebin"] {
        let running = player(name, &uri);
        let (posted, source) = play(&running);
        posted.assert_tells_of_model(name);
        ids_of_source.insert(stream_ids(&source));
        if name == "urisourcebin" {
            // It only hands on, without a collection of its own.
            assert_eq!(stream_ids(&running.by_name("p")), stream_ids(&source));
            continue;
        }
        let ids = posted.assert_both_streams(name);

        // Another connection of the session: the streams go on.
        assert_eq!(actions::disconnect(&source, true).error_code(TIMEOUT), None);
        assert_eq!(actions::reconnect(&source).error_code(TIMEOUT), None);
        wait_for_status(&source, "ready", TIMEOUT);
        let count = count_buffers(&source.static_pad("video_main_video").unwrap());
        wait_until("pictures", TIMEOUT, || count() > 20);
        let mut again = Posted::default();
        again.read(&running, Duration::from_millis(300));
        assert_eq!(
            (again.collections.len(), again.selected.len()),
            (0, 0),
            "{again:?}"
        );
        assert_eq!(stream_ids(&source), *ids_of_source.first().unwrap());
        assert!(
            again.buffering.iter().all(|percent| *percent == 100),
            "{again:?}"
        );
        running.stop();
        // The same again: a player remembers what was selected by these ids.
        if name == "playbin3" {
            let (posted, _) = play(&running);
            assert_eq!(posted.assert_both_streams(name), ids);
            running.stop();
        }
    }
    // The runtime's session has one id, wherever it is played.
    assert_eq!(ids_of_source.len(), 1, "{ids_of_source:?}");
}
