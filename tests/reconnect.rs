// SPDX-License-Identifier: MIT

//! A connection that is lost, given up or replaced, and the session that goes
//! on: against the real local runtime.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    blackout::{Blackout, turn},
    frames::Reader,
    inset::{Colour, Inset},
    pipeline::{Running, is_v0, wait_until},
    proxy::{Proxy, Route},
    server::Server,
    ticks::Ticks,
};

const SOON: Duration = Duration::from_secs(30);

/// Camera and screen in one session.
struct Studio {
    running: Running,
    inset: Inset,
    reader: Reader,
    times: Times,
    ticks: Ticks,
    _turn: MutexGuard<'static, ()>,
}

impl Studio {
    fn open(url: &str, properties: &str) -> Self {
        let turn = turn();
        let line = format!(
            "videotestsrc is-live=true pattern={} name=t \
             ! video/x-raw,width=320,height=180,framerate=15/1 ! reactorsink name=s \
             reactorsrc name=r local=true api-url={url} {properties} \
             r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
             ! identity name=i ! fakesink sync=false async=false \
             r.audio_main_audio ! audioconvert ! identity name=a ! fakesink sync=false async=false",
            Colour::Red.pattern()
        );
        let running = Running::parse(&line);
        let pad = running.pad("i", "src");
        let studio = Self {
            inset: Inset::watch(&pad),
            reader: Reader::watch(&pad),
            times: Times::watch([&pad, &running.pad("a", "src")]),
            ticks: Ticks::watch(&running.by_name("r")),
            running,
            _turn: turn,
        };
        studio.running.play();
        studio.inset.wait_for(Colour::Red, SOON);
        wait_until("both streams", SOON, || {
            studio.times.all().iter().all(|pad| pad.len() > 10)
        });
        studio
    }

    fn source(&self) -> gst::Element {
        self.running.by_name("r")
    }

    fn session_id(&self) -> Option<String> {
        self.source().property("session-id")
    }

    /// The camera's picture comes back, and more of it than before.
    fn wait_for_more(&self) {
        self.inset.clear();
        self.inset.wait_for(Colour::Red, SOON);
        let seen = self.reader.len();
        self.reader.wait_for(seen + 30, SOON);
    }

    /// It went on as if nothing had been.
    fn assert_unharmed(&self) {
        let bus = self.running.pipeline.bus().unwrap();
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
        let (_, state, _) = self.running.pipeline.state(gst::ClockTime::ZERO);
        assert_eq!(state, gst::State::Playing);
        self.times.assert_increasing();
    }

    fn wait_resumed(&self) -> gst::Structure {
        self.running.wait_element("reactor-interrupted", SOON);
        self.running.wait_element("reactor-resumed", SOON)
    }
}

/// The times of all that passes some pads.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Track>>>);

/// The times of a pad, and whether a gap comes before.
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

    /// What comes after the gap says so, and nothing else does.
    fn assert_marked(&self) {
        for pad in self.all() {
            let marked: Vec<_> = pad[1..].iter().filter(|(_, discont)| *discont).collect();
            assert_eq!(marked.len(), 1, "{marked:?} of {pad:?}");
        }
    }
}

#[test]
fn the_application_wants_another_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let studio = Studio::open(&proxy.url(), "");
    let id = studio.session_id();
    studio.source().emit_by_name::<()>("reconnect", &[]);
    let resumed = studio.wait_resumed();
    assert!(!resumed.get::<bool>("restarted").unwrap());
    studio.wait_for_more();
    assert_eq!(studio.session_id(), id);
    assert_eq!(studio.ticks.next(SOON).clients, 1);
    assert_eq!(proxy.count(Route::Connections), 1);
    assert_eq!(proxy.count(Route::Offer), 2);
    studio.assert_unharmed();
    studio.times.assert_marked();
}

#[test]
fn a_blackout_is_survived() {
    let server = Server::playground();
    let studio = Studio::open(&server.url(), "stall-timeout=2000");
    let id = studio.session_id();
    let blackout = Blackout::begin(&server);
    std::thread::sleep(Duration::from_secs(6));
    drop(blackout);
    let resumed = studio.wait_resumed();
    let outage = resumed.get::<u64>("outage-ms").unwrap();
    assert!(outage > 3000, "{outage}");
    studio.wait_for_more();
    assert_eq!(studio.session_id(), id);
    assert_eq!(studio.ticks.next(SOON).clients, 1);
    studio.assert_unharmed();
    studio.times.assert_marked();
    studio.running.stop();
    server.wait_for_state("ready", SOON);
}

/// The longest time between two buffers that begin after the first second.
fn longest_gap(track: &Track) -> gst::ClockTime {
    let begin = track[0].0 + gst::ClockTime::SECOND;
    let pairs = track.windows(2).filter(|pair| pair[0].0 > begin);
    pairs.map(|pair| pair[1].0 - pair[0].0).max().unwrap()
}

/// A muxer or a broadcast behind does not see a gap.
fn keeps_its_cadence(on_gap: &str) -> Studio {
    let server = Server::playground();
    let studio = Studio::open(
        &server.url(),
        &format!("stall-timeout=2000 on-gap={on_gap}"),
    );
    let looks = studio.inset.len();
    let blackout = Blackout::begin(&server);
    std::thread::sleep(Duration::from_secs(5));
    // Not only afterwards, but all the time.
    let meanwhile = studio.inset.len();
    assert!(meanwhile > looks + 60, "{looks} {meanwhile}");
    drop(blackout);
    studio.wait_resumed();
    studio.wait_for_more();
    studio.assert_unharmed();
    let [video, audio] = &studio.times.all()[..] else {
        unreachable!()
    };
    // The picture that comes first is as old as the jitter buffer makes it.
    let gaps = (longest_gap(video), longest_gap(audio));
    assert!(gaps.0 < gst::ClockTime::from_mseconds(300), "{gaps:?}");
    assert!(gaps.1 < gst::ClockTime::from_mseconds(300), "{gaps:?}");
    studio
}

#[test]
fn the_last_picture_stands_in_for_what_is_missing() {
    let studio = keeps_its_cadence("hold-last-frame");
    // The same again and again: nothing that is unreadable.
    assert_eq!(studio.reader.unreadable(), 0);
}

#[test]
fn black_stands_in_for_what_is_missing() {
    let studio = keeps_its_cadence("black");
    assert!(studio.reader.unreadable() > 60);
}

#[test]
fn a_connection_given_up_can_be_had_back() {
    let server = Server::playground();
    let studio = Studio::open(&server.url(), "");
    let id = studio.session_id();
    studio.source().emit_by_name::<()>("disconnect", &[&true]);
    studio.running.wait_element("reactor-interrupted", SOON);
    wait_for_status(&studio.source(), "disconnected");
    // Longer than a server needs to notice that a connection is gone.
    let seen = studio.reader.len();
    std::thread::sleep(Duration::from_secs(9));
    assert!(studio.reader.len() <= seen + 2, "something flows");
    assert_eq!(server.session_state(), "orphaned");
    studio.source().emit_by_name::<()>("reconnect", &[]);
    studio.running.wait_element("reactor-resumed", SOON);
    studio.wait_for_more();
    assert_eq!(studio.session_id(), id);
    studio.assert_unharmed();
}

#[test]
fn a_session_given_up_is_the_end() {
    let server = Server::playground();
    let studio = Studio::open(&server.url(), "");
    studio.source().emit_by_name::<()>("disconnect", &[&false]);
    let ended = studio.running.wait_element("reactor-session-ended", SOON);
    let reason = ended.get::<&str>("reason").unwrap();
    assert_eq!(reason, "disconnected by the application");
    studio.running.wait_eos(SOON);
    server.wait_for_state("ready", SOON);
}

#[test]
fn a_track_may_be_given_up_and_claimed_again() {
    let server = Server::playground();
    let studio = Studio::open(&server.url(), "");
    let source = studio.source();
    source.emit_by_name::<()>("unpublish-track", &[&"camera"]);
    // Another client may feed it now, until it gives it up.
    let other = Running::launch(&format!(
        "videotestsrc is-live=true pattern={} ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=o local=true api-url={} session=other",
        Colour::Blue.pattern(),
        server.url()
    ));
    studio.inset.wait_for(Colour::Blue, SOON);
    // It cannot be had before that (in v0 a refusal is not to be heard).
    source.emit_by_name::<()>("publish-track", &[&"camera"]);
    if !is_v0() {
        let refused = studio.running.wait_error(SOON);
        let text = refused.error.to_string();
        assert!(text.contains("'camera'"), "{text}");
    }
    let feeder = other.by_name("o");
    feeder.emit_by_name::<()>("unpublish-track", &[&"camera"]);
    std::thread::sleep(Duration::from_millis(500));
    source.emit_by_name::<()>("publish-track", &[&"camera"]);
    studio.wait_for_more();
}

#[test]
fn a_file_that_is_fed_waits_for_the_connection() {
    let _turn = turn();
    let server = Server::playground();
    let running = Running::parse(&format!(
        "videotestsrc num-buffers=120 pattern={} ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! reactorsink name=s local=true api-url={}",
        Colour::Red.pattern(),
        server.url()
    ));
    let sent = |name: &str| {
        let stats: gst::Structure = running.by_name("s").property("stats");
        let pad = stats.get::<gst::Structure>("video_0").unwrap();
        pad.get::<u64>(name).unwrap()
    };
    running.play();
    wait_until("something is sent", SOON, || sent("sent") > 30);
    running
        .by_name("s")
        .emit_by_name::<()>("disconnect", &[&true]);
    running.wait_element("reactor-interrupted", SOON);
    let before = sent("sent");
    std::thread::sleep(Duration::from_secs(2));
    assert!(sent("sent") <= before + 1, "{before}, {}", sent("sent"));
    running.by_name("s").emit_by_name::<()>("reconnect", &[]);
    running.wait_eos(SOON);
    assert!(
        sent("sent") + sent("dropped") == 120,
        "{} of 120",
        sent("sent")
    );
    assert!(sent("dropped") <= 2, "{} dropped", sent("dropped"));
}

#[test]
fn actions_in_any_order_do_no_harm() {
    let _turn = turn();
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
        // A line that is parsed links its pads once.
        let running = Running::parse(&format!(
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
        running.wait_message(SOON, |message| {
            use gst::MessageView::{Eos, Error};
            matches!(message.view(), Eos(_) | Error(_)).then_some(())
        });
        all(&element);
        running.stop();
        all(&element);
        server.wait_for_state("ready", SOON);
    }
}

fn wait_for_status(element: &gst::Element, wanted: &str) {
    wait_until(wanted, SOON, || {
        let value = element.property_value("status");
        let (_, status) = gst::glib::EnumValue::from_value(&value).unwrap();
        status.nick() == wanted
    });
}
