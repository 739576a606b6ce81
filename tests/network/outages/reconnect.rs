// SPDX-License-Identifier: MIT

//! A connection that is lost, closed or replaced while the session goes on: against the real local
//! runtime.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    frames::FrameReader,
    link_down::{LinkDown, exclusive_network},
    pipeline::{TestPipeline, is_v0, wait_for_status, wait_until},
    proxy::{Proxy, RuntimeRoute},
    server::Server,
    tick_messages::TickMessages,
};

/// A camera and a display in one session.
struct LoopbackSession {
    running: TestPipeline,
    view: CameraView,
    reader: FrameReader,
    times: Times,
    ticks: TickMessages,
    _exclusive: MutexGuard<'static, ()>,
}

impl LoopbackSession {
    fn open(url: &str, properties: &str) -> Self {
        let exclusive = exclusive_network();
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
            _exclusive: exclusive,
        };
        loopback.running.play();
        loopback.view.wait_for(Colour::Red, TIMEOUT);
        wait_until("both streams", TIMEOUT, || {
            loopback.times.all().iter().all(|pad| pad.len() > 10)
        });
        loopback
    }

    fn source(&self) -> gst::Element {
        self.running.by_name("r")
    }

    fn session_id(&self) -> Option<String> {
        self.source().property("session-id")
    }

    /// Waits until the camera is visible again, and for 30 more pictures.
    fn wait_for_more(&self) {
        self.view.clear();
        self.view.wait_for(Colour::Red, TIMEOUT);
        let seen = self.reader.len();
        self.reader.wait_for(seen + 30, TIMEOUT);
    }

    /// No error, PLAYING, and timestamps that increase.
    fn assert_plays_without_error(&self) {
        self.running.assert_no_error();
        let (_, state, _) = self.running.pipeline.state(gst::ClockTime::ZERO);
        assert_eq!(state, gst::State::Playing);
        self.times.assert_increasing();
    }

    fn wait_resumed(&self) -> gst::Structure {
        self.running.wait_element("reactor-interrupted", TIMEOUT);
        self.running.wait_element("reactor-resumed", TIMEOUT)
    }
}

/// The timestamps of all buffers that pass some pads.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Track>>>);

/// The timestamps of a pad, and whether DISCONT is set.
type Track = Vec<(gst::ClockTime, bool)>;

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

    fn all(&self) -> Vec<Track> {
        self.0.lock().unwrap().clone()
    }

    fn assert_increasing(&self) {
        for pad in self.all() {
            assert!(pad.len() > 30);
            let bad = pad.windows(2).find(|pair| pair[1].0 <= pair[0].0);
            assert!(bad.is_none(), "{bad:?}");
        }
    }

    /// DISCONT is set after the gap, and nowhere else.
    fn assert_discont_once(&self) {
        for pad in self.all() {
            let marked: Vec<_> = pad[1..].iter().filter(|(_, discont)| *discont).collect();
            assert_eq!(marked.len(), 1, "{marked:?} of {pad:?}");
        }
    }
}

#[test]
fn reconnect_action_resumes_session_on_new_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let loopback = LoopbackSession::open(&proxy.url(), "");
    let id = loopback.session_id();
    loopback.source().emit_by_name::<()>("reconnect", &[]);
    let resumed = loopback.wait_resumed();
    assert!(!resumed.get::<bool>("restarted").unwrap());
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    assert_eq!(loopback.ticks.next(TIMEOUT).clients, 1);
    assert_eq!(proxy.count(RuntimeRoute::Connections), 1);
    assert_eq!(proxy.count(RuntimeRoute::Offer), 2);
    loopback.assert_plays_without_error();
    loopback.times.assert_discont_once();
}

#[test]
fn outage_resumes_session_on_new_connection() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "stall-timeout=2000");
    let id = loopback.session_id();
    let link_down = LinkDown::begin(&server);
    std::thread::sleep(Duration::from_secs(6));
    drop(link_down);
    let resumed = loopback.wait_resumed();
    let outage = resumed.get::<u64>("outage-ms").unwrap();
    assert!(outage > 3000, "{outage}");
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    assert_eq!(loopback.ticks.next(TIMEOUT).clients, 1);
    loopback.assert_plays_without_error();
    loopback.times.assert_discont_once();
    loopback.running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

/// The longest time between two buffers, not counting the first second.
fn longest_gap(track: &Track) -> gst::ClockTime {
    let begin = track[0].0 + gst::ClockTime::SECOND;
    let pairs = track.windows(2).filter(|pair| pair[0].0 > begin);
    pairs.map(|pair| pair[1].0 - pair[0].0).max().unwrap()
}

/// A muxer or a broadcast downstream does not see a gap.
fn assert_keeps_frame_rate(on_gap: &str) -> LoopbackSession {
    let server = Server::playground();
    let loopback = LoopbackSession::open(
        &server.url(),
        &format!("stall-timeout=2000 on-gap={on_gap}"),
    );
    let colours = loopback.view.len();
    let link_down = LinkDown::begin(&server);
    std::thread::sleep(Duration::from_secs(5));
    // During the outage, and not only afterwards.
    let meanwhile = loopback.view.len();
    assert!(meanwhile > colours + 60, "{colours} {meanwhile}");
    drop(link_down);
    loopback.wait_resumed();
    loopback.wait_for_more();
    loopback.assert_plays_without_error();
    let [video, audio] = &loopback.times.all()[..] else {
        unreachable!()
    };
    // The first picture is as old as the jitter buffer makes it.
    let gaps = (longest_gap(video), longest_gap(audio));
    assert!(gaps.0 < gst::ClockTime::from_mseconds(300), "{gaps:?}");
    assert!(gaps.1 < gst::ClockTime::from_mseconds(300), "{gaps:?}");
    loopback
}

#[test]
fn on_gap_hold_last_frame_repeats_picture() {
    let loopback = assert_keeps_frame_rate("hold-last-frame");
    // The last picture is repeated: no picture is undecodable.
    assert_eq!(loopback.reader.unreadable(), 0);
}

#[test]
fn on_gap_black_sends_black_frames() {
    let loopback = assert_keeps_frame_rate("black");
    assert!(loopback.reader.unreadable() > 60);
}

#[test]
fn disconnect_recoverable_can_be_reconnected() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    let id = loopback.session_id();
    loopback.source().emit_by_name::<()>("disconnect", &[&true]);
    loopback
        .running
        .wait_element("reactor-interrupted", TIMEOUT);
    wait_for_status(&loopback.source(), "disconnected", TIMEOUT);
    // Longer than a server takes to notice that a connection is gone.
    let seen = loopback.reader.len();
    std::thread::sleep(Duration::from_secs(9));
    assert!(loopback.reader.len() <= seen + 2, "something flows");
    assert_eq!(server.session_state(), "orphaned");
    loopback.source().emit_by_name::<()>("reconnect", &[]);
    loopback.running.wait_element("reactor-resumed", TIMEOUT);
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    loopback.assert_plays_without_error();
}

#[test]
fn disconnect_without_recovery_ends_session() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    loopback
        .source()
        .emit_by_name::<()>("disconnect", &[&false]);
    let ended = loopback
        .running
        .wait_element("reactor-session-ended", TIMEOUT);
    let reason = ended.get::<&str>("reason").unwrap();
    assert_eq!(reason, "disconnected by the application");
    loopback.running.wait_eos(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn unpublished_track_can_be_published_again() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    let source = loopback.source();
    source.emit_by_name::<()>("unpublish-track", &[&"camera"]);
    // Another client may feed the track now, until it unpublishes it.
    let other = TestPipeline::launch(&format!(
        "videotestsrc is-live=true pattern={} ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=o local=true api-url={} session=other",
        Colour::Blue.pattern(),
        server.url()
    ));
    loopback.view.wait_for(Colour::Blue, TIMEOUT);
    // Until then it is refused (in v0 refusals are not reported).
    source.emit_by_name::<()>("publish-track", &[&"camera"]);
    if !is_v0() {
        let refused = loopback.running.wait_error(TIMEOUT);
        let text = refused.error.to_string();
        assert!(text.contains("'camera'"), "{text}");
    }
    let feeder = other.by_name("o");
    feeder.emit_by_name::<()>("unpublish-track", &[&"camera"]);
    std::thread::sleep(Duration::from_millis(500));
    source.emit_by_name::<()>("publish-track", &[&"camera"]);
    loopback.wait_for_more();
}

#[test]
fn file_input_waits_during_disconnect() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc num-buffers=120 pattern={} ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! reactorsink name=s local=true api-url={}",
        Colour::Red.pattern(),
        server.url()
    ));
    let sent = |name: &str| {
        let pad = running.pad_stats("s", "video_0");
        pad.get::<u64>(name).unwrap()
    };
    running.play();
    wait_until("something is sent", TIMEOUT, || sent("sent") > 30);
    running
        .by_name("s")
        .emit_by_name::<()>("disconnect", &[&true]);
    running.wait_element("reactor-interrupted", TIMEOUT);
    let before = sent("sent");
    std::thread::sleep(Duration::from_secs(2));
    assert!(sent("sent") <= before + 1, "{before}, {}", sent("sent"));
    running.by_name("s").emit_by_name::<()>("reconnect", &[]);
    running.wait_eos(TIMEOUT);
    assert!(
        sent("sent") + sent("dropped") == 120,
        "{} of 120",
        sent("sent")
    );
    assert!(sent("dropped") <= 2, "{} dropped", sent("dropped"));
}

#[test]
fn actions_in_any_state_are_harmless() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let all = |element: &gst::Element| {
        for (action, flag) in [
            ("reconnect", None),
            ("disconnect", Some(true)),
            ("disconnect", Some(true)),
            ("reconnect", None),
            ("reconnect", None),
            ("disconnect", Some(false)),
            ("reconnect", None),
        ] {
            match flag {
                Some(flag) => element.emit_by_name::<()>(action, &[&flag]),
                None => element.emit_by_name::<()>(action, &[]),
            }
        }
        for action in [
            "publish-track",
            "unpublish-track",
            "pause-track",
            "resume-track",
        ] {
            for track in [Some("camera"), Some("nothing"), None] {
                element.emit_by_name::<()>(action, &[&track]);
            }
        }
    };
    for wait in [0, 50, 150, 300, 600, 1500] {
        // A parsed line links its pads once.
        let running = TestPipeline::parse(&format!(
            "reactorsrc name=r local=true api-url={} ! fakesink",
            server.url()
        ));
        let element = running.by_name("r");
        all(&element);
        running.pipeline.set_state(gst::State::Ready).unwrap();
        all(&element);
        running.play();
        std::thread::sleep(Duration::from_millis(wait));
        all(&element);
        running.wait_message(TIMEOUT, |message| {
            use gst::MessageView::{Eos, Error};
            matches!(message.view(), Eos(_) | Error(_)).then_some(())
        });
        all(&element);
        running.stop();
        all(&element);
        server.wait_for_state("ready", TIMEOUT);
    }
}
