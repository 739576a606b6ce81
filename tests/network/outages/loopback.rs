// SPDX-License-Identifier: MIT

//! A camera and a display in one session, watched through outages.

use std::sync::{Arc, Mutex, MutexGuard};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    frames::FrameReader,
    link_down::exclusive_network,
    pipeline::{TestPipeline, wait_until},
    tick_messages::TickMessages,
};

/// A camera and a display in one session.
pub struct LoopbackSession {
    pub running: TestPipeline,
    pub view: CameraView,
    pub reader: FrameReader,
    pub times: Times,
    pub ticks: TickMessages,
    _exclusive: Option<MutexGuard<'static, ()>>,
}

impl LoopbackSession {
    pub fn open(url: &str, properties: &str) -> Self {
        let exclusive = exclusive_network();
        Self {
            _exclusive: Some(exclusive),
            ..Self::open_in_prepared_network(url, properties)
        }
    }

    /// The caller holds [`exclusive_network`].
    pub fn open_in_prepared_network(url: &str, properties: &str) -> Self {
        let line = format!(
            "videotestsrc is-live=true pattern={} name=t \
             ! video/x-raw,width=320,height=180,framerate=15/1 ! reactorsink name=s \
             reactorsrc name=r local=true api-url={url} {properties} \
             r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
             ! identity name=i ! fakesink sync=false async=false \
             r.audio_main_audio ! audioconvert ! identity name=a ! fakesink sync=false async=false",
            Colour::Red.pattern()
        );
        let running = TestPipeline::parse(&line);
        let pad = running.pad("i", "src");
        let loopback = Self {
            view: CameraView::watch(&pad),
            reader: FrameReader::watch(&pad),
            times: Times::watch([&pad, &running.pad("a", "src")]),
            ticks: TickMessages::watch(&running.by_name("r")),
            running,
            _exclusive: None,
        };
        loopback.running.play();
        loopback.view.wait_for(Colour::Red, TIMEOUT);
        wait_until("both streams", TIMEOUT, || {
            loopback.times.all().iter().all(|pad| pad.len() > 10)
        });
        loopback
    }

    pub fn source(&self) -> gst::Element {
        self.running.by_name("r")
    }

    pub fn session_id(&self) -> Option<String> {
        self.source().property("session-id")
    }

    /// Waits until the camera is visible again, and for 30 more pictures.
    pub fn wait_for_more(&self) {
        self.view.clear();
        self.view.wait_for(Colour::Red, TIMEOUT);
        let seen = self.reader.len();
        self.reader.wait_for(seen + 30, TIMEOUT);
    }

    /// No error, PLAYING, and timestamps that increase.
    pub fn assert_plays_without_error(&self) {
        self.running.assert_no_error();
        let (_, state, _) = self.running.pipeline.state(gst::ClockTime::ZERO);
        assert_eq!(state, gst::State::Playing);
        self.times.assert_increasing();
    }

    pub fn wait_resumed(&self) -> gst::Structure {
        self.running.wait_element("reactor-interrupted", TIMEOUT);
        self.running.wait_element("reactor-resumed", TIMEOUT)
    }
}

/// The timestamps of all buffers that pass some pads.
#[derive(Clone, Default)]
pub struct Times(Arc<Mutex<Vec<Track>>>);

/// The timestamps of a pad, and whether DISCONT is set.
pub type Track = Vec<(gst::ClockTime, bool)>;

impl Times {
    fn watch(pads: [&gst::Pad; 2]) -> Self {
        let times = Self::default();
        *times.0.lock().unwrap() = vec![Vec::new(); pads.len()];
        for (n, pad) in pads.into_iter().enumerate() {
            let times = times.0.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let buffer = info.buffer().unwrap();
                let discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
                times.lock().unwrap()[n].push((buffer.pts().unwrap(), discont));
                gst::PadProbeReturn::Ok
            });
        }
        times
    }

    pub fn all(&self) -> Vec<Track> {
        self.0.lock().unwrap().clone()
    }

    pub fn assert_increasing(&self) {
        for pad in self.all() {
            assert!(pad.len() > 30);
            let bad = pad.windows(2).find(|pair| pair[1].0 <= pair[0].0);
            assert!(bad.is_none(), "{bad:?}");
        }
    }

    /// DISCONT is set after the gap, and nowhere else.
    pub fn assert_discont_once(&self) {
        for pad in self.all() {
            let marked: Vec<_> = pad[1..].iter().filter(|(_, discont)| *discont).collect();
            assert_eq!(marked.len(), 1, "{marked:?} of {pad:?}");
        }
    }
}
