// SPDX-License-Identifier: MIT

//! reactorsrc against the real local runtime: state changes, clocks, and what it reports while it
//! connects.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use gst::{glib, prelude::*};
use reactor_tests::{
    TIMEOUT,
    frames::{Frame, FrameReader, assert_nearly_contiguous, monotonic_us},
    pipeline::{TestPipeline, count_buffers, enum_nick, status, wait_for_status, wait_until},
    server::Server,
};

/// The longest time from reception to the probe, for the fastest frame and for any, on a busy
/// machine.
const RECENT: gst::ClockTime = gst::ClockTime::from_mseconds(800);
const DELAYED: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// The jitter buffer takes a slow first picture for the rate of the stream, and later ones for
/// early, until it has received more of them.
const EARLY: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// `reactorsrc name=r` for this server, followed by `rest`.
fn parse(server: &Server, rest: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r {rest}",
        server.url()
    ))
}

const VIDEO: &str = "identity name=i ! fakesink sync=false";

/// Links a pad whenever it is added; a parsed line does so only once.
fn link_always(running: &TestPipeline, pad: &'static str, to: &str) {
    let sink = running.pad(to, "sink");
    running.by_name("r").connect_pad_added(move |_, added| {
        if added.name() == pad {
            added.link(&sink).expect("linked");
        }
    });
}

/// The element, and a reader of its video.
fn parse_video(server: &Server) -> (TestPipeline, FrameReader) {
    let running = parse(server, VIDEO);
    link_always(&running, "video_main_video", "i");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    (running, reader)
}

/// Collects the values of a property at each notification.
fn collect_property<T: Send + 'static>(
    element: &gst::Element,
    property: &str,
    read: impl Fn(&gst::Element) -> T + Send + Sync + 'static,
) -> Arc<Mutex<Vec<T>>> {
    let values = Arc::new(Mutex::new(Vec::new()));
    let list = values.clone();
    element.connect_notify(Some(property), move |element, _| {
        let value = read(element);
        list.lock().unwrap().push(value);
    });
    values
}

fn set_state(running: &TestPipeline, state: gst::State) -> gst::StateChangeSuccess {
    running.pipeline.set_state(state).expect("a state change")
}

/// Panics unless each frame's PTS is near its running time, by the pipeline's clock.
fn assert_timely(running: &TestPipeline, frames: &[Frame]) {
    let clock = running.pipeline.clock().expect("a clock");
    let running_time = clock.time() - running.pipeline.base_time().unwrap();
    let now = monotonic_us();
    let times = frames.iter().map(|frame| {
        let ago = u64::from(now.wrapping_sub(frame.seen));
        let seen = running_time - gst::ClockTime::from_useconds(ago);
        (frame.pts.expect("a PTS"), seen)
    });
    let times: Vec<_> = times.collect();
    for (pts, seen) in &times {
        assert!(
            *pts < *seen + EARLY && *pts + DELAYED > *seen,
            "PTS {pts}, seen at {seen}"
        );
    }
    let is_recent = |(pts, seen): &(gst::ClockTime, gst::ClockTime)| *pts + RECENT > *seen;
    assert!(times.iter().any(is_recent), "PTS, seen at: {times:?}");
}

/// PLAYING comes after the element has found the video not needed yet, and before it tells the
/// session so.
#[test]
fn playing_while_tracks_are_planned_receives_all() {
    let server = Server::playground();
    let running = parse(
        &server,
        "r.video_main_video ! fakesink name=video sync=false \
         r.audio_main_audio ! fakesink name=audio sync=false",
    );
    let planning = Arc::new(AtomicBool::new(false));
    let begun = planning.clone();
    let element = running.by_name("r");
    element.connect_no_more_pads(move |_| begun.store(true, Ordering::SeqCst));
    let pipeline = running.pipeline.downgrade();
    let sinks = ["video", "audio"].map(|name| running.pad(name, "sink"));
    // The audio's format is asked for after the video's.
    sinks[1].add_probe(gst::PadProbeType::QUERY_BOTH, move |_, info| {
        let query = info.query().map(|query| query.type_());
        if query == Some(gst::QueryType::Caps) && planning.swap(false, Ordering::SeqCst) {
            let pipeline = pipeline.upgrade().expect("a pipeline");
            let play = std::thread::spawn(move || pipeline.set_state(gst::State::Playing));
            play.join().expect("no panic").expect("a state change");
        }
        gst::PadProbeReturn::Ok
    });
    let counts = sinks.each_ref().map(count_buffers);
    set_state(&running, gst::State::Paused);
    for (count, what) in counts.iter().zip(["pictures", "sound"]) {
        wait_until(what, TIMEOUT, || count() >= 5);
    }
    running.stop();
}

#[test]
fn connecting_reports_statuses_and_progress_in_order() {
    let server = Server::playground();
    let (running, reader) = parse_video(&server);
    let element = running.by_name("r");
    let statuses = collect_property(&element, "status", status);
    let ids = collect_property(&element, "session-id", |r| {
        r.property::<Option<String>>("session-id")
    });
    assert_eq!(status(&element), "disconnected");
    running.play();
    let (told, progress) = collect_until_ready(&running);
    assert_eq!(told, ["connecting", "waiting", "ready"]);
    assert_eq!(progress.first().unwrap(), &gst::ProgressType::Start);
    assert_eq!(progress.last().unwrap(), &gst::ProgressType::Complete);
    let between = &progress[1..progress.len() - 1];
    assert!(!between.is_empty() && between.iter().all(|p| *p == gst::ProgressType::Continue));
    assert_eq!(
        *statuses.lock().unwrap(),
        ["connecting", "waiting", "ready"]
    );

    assert_described(&element);
    reader.wait_for(30, TIMEOUT);
    assert_measured(&element);

    running.stop();
    wait_until("the end of it", TIMEOUT, || ids.lock().unwrap().len() == 2);
    assert_eq!(statuses.lock().unwrap()[3..], ["disconnected"]);
    let ids = ids.lock().unwrap();
    assert!(ids[0].is_some() && ids[1].is_none(), "{ids:?}");
    server.wait_for_state("ready", TIMEOUT);
}

/// Collects the status messages and the kinds of progress messages until COMPLETE.
fn collect_until_ready(running: &TestPipeline) -> (Vec<String>, Vec<gst::ProgressType>) {
    let (mut told, mut progress) = (Vec::new(), Vec::new());
    running.wait_message(TIMEOUT, |message| {
        match message.view() {
            gst::MessageView::Element(element) => {
                let structure = element.structure().unwrap();
                if structure.name() == "reactor-status" {
                    told.push(enum_nick(structure.value("status").unwrap()));
                }
            }
            gst::MessageView::Progress(message) => progress.push(message.get().0),
            _ => {}
        }
        (progress.last() == Some(&gst::ProgressType::Complete)).then_some(())
    });
    (told, progress)
}

fn assert_described(element: &gst::Element) {
    let session_id: String = element.property("session-id");
    let info: gst::Structure = element.property("session-info");
    assert_eq!(info.get::<String>("session_id").unwrap(), session_id);
    let capabilities: gst::Structure = element.property("capabilities");
    let json: String = capabilities.get("json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let tracks = json["tracks"].as_array().unwrap();
    assert!(tracks.iter().any(|track| track["name"] == "main_video"));
    assert!(
        element
            .property::<Option<gst::Structure>>("last-error")
            .is_none()
    );
}

fn assert_measured(element: &gst::Element) {
    let stats: gst::Structure = element.property("stats");
    let steps = [
        "session-ms",
        "offer-ms",
        "answer-ms",
        "connected-ms",
        "ready-ms",
    ];
    let times = steps.map(|name| stats.get::<f64>(name).unwrap());
    assert!(times.is_sorted() && times[0] > 0.0, "{times:?}");
    let video: gst::Structure = stats.get("video_main_video").unwrap();
    assert!(video.get::<u64>("received").unwrap() >= 30);
    assert!(video.get::<u64>("bytes").unwrap() > 1000);
    assert_eq!(video.get::<u64>("dropped").unwrap(), 0);
}

/// Collects the events that have passed each of the element's pads.
#[derive(Default, Clone)]
struct Passed(Arc<Mutex<Vec<(String, gst::Event)>>>);

impl Passed {
    fn watch(element: &gst::Element) -> Self {
        let passed = Self::default();
        let list = passed.0.clone();
        element.connect_pad_added(move |_, pad| {
            let list = list.clone();
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
                if let Some(event) = info.event() {
                    let entry = (pad.name().to_string(), event.to_owned());
                    list.lock().unwrap().push(entry);
                }
                gst::PadProbeReturn::Ok
            });
        });
        passed
    }

    fn of(&self, pad: &str) -> Vec<gst::Event> {
        let list = self.0.lock().unwrap();
        let of_pad = list.iter().filter(|(name, _)| name == pad);
        of_pad.map(|(_, event)| event.clone()).collect()
    }

    fn stream_start(&self, pad: &str) -> (String, gst::GroupId) {
        let first = self.of(pad).into_iter().next().expect("an event");
        match first.view() {
            gst::EventView::StreamStart(start) => {
                (start.stream_id().to_owned(), start.group_id().unwrap())
            }
            _ => panic!("{pad} begins with {first:?}"),
        }
    }
}

#[test]
fn streams_start_with_stream_start_caps_segment() {
    let server = Server::playground();
    let (running, reader) = parse_video(&server);
    let sound = gst::parse::bin_from_description("audioconvert ! fakesink", true).unwrap();
    sound.set_property("name", "a");
    running.pipeline.add(&sound).unwrap();
    link_always(&running, "audio_main_audio", "a");
    let element = running.by_name("r");
    let passed = Passed::watch(&element);
    let pads = ["video_main_video", "audio_main_audio"];
    let mut starts = Vec::new();
    for _ in 0..2 {
        passed.0.lock().unwrap().clear();
        reader.clear();
        running.play();
        reader.wait_for(30, TIMEOUT);
        wait_until("audio", TIMEOUT, || passed.of(pads[1]).len() >= 3);
        for name in pads {
            assert!(element.static_pad(name).is_some(), "no pad {name}");
            let events = passed.of(name);
            let types: Vec<_> = events.iter().map(|event| event.type_()).collect();
            let place = |wanted| types.iter().position(|t| *t == wanted).unwrap();
            assert_eq!(place(gst::EventType::StreamStart), 0);
            assert!(place(gst::EventType::Caps) < place(gst::EventType::Segment));
            let (id, _) = passed.stream_start(name);
            assert!(id.contains(name.split_once('_').unwrap().1), "{id}");
        }
        let frames = reader.frames();
        assert!(frames.windows(2).all(|pair| pair[0].pts <= pair[1].pts));
        assert_timely(&running, &frames[frames.len() - 20..]);
        let [video, audio] = pads.map(|name| passed.stream_start(name));
        assert_eq!(video.1, audio.1, "group ids");
        assert_ne!(video.0, audio.0, "stream ids");
        starts.push((video, audio));
        running.stop();
        assert!(element.pads().is_empty());
    }
    // The next session has equal stream ids and another group id.
    assert_eq!(starts[0].0.0, starts[1].0.0);
    assert_ne!(starts[0].0.1, starts[1].0.1);
}

#[test]
fn pause_pauses_tracks_and_keeps_session() {
    let server = Server::playground();
    let (running, reader) = parse_video(&server);
    running.play();
    reader.wait_for(30, TIMEOUT);

    let element = running.by_name("r");
    let went = set_state(&running, gst::State::Paused);
    assert_eq!(went, gst::StateChangeSuccess::NoPreroll);
    std::thread::sleep(Duration::from_millis(500));
    let before = reader.len();
    let received = |element: &gst::Element| {
        let stats: gst::Structure = element.property("stats");
        let video: gst::Structure = stats.get("video_main_video").unwrap();
        video.get::<u64>("received").unwrap()
    };
    let rested = received(&element);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(reader.len(), before);
    assert_eq!(received(&element), rested, "received while paused");
    assert_eq!(status(&element), "ready");

    running.play();
    reader.wait_for(before + 60, TIMEOUT);
    let frames = reader.frames();
    // Frames that were in flight, at most the latency's, may have waited for the end of the pause.
    let waited = frames[before..before + 10]
        .windows(2)
        .position(|pair| pair[1].counter > pair[0].counter + 30);
    let again = &frames[before + waited.map_or(0, |at| at + 1)..];
    assert_nearly_contiguous(again);
    assert!(again[0].counter > frames[before - 1].counter);
    assert_timely(&running, &again[again.len() - 20..]);
}

#[test]
fn eos_in_paused_does_not_wait_for_sink() {
    let server = Server::playground();
    let properties = format!("local=true api-url={}", server.url());
    for line in [
        format!("reactorsrc name=r {properties} ! fakesink"),
        format!("videotestsrc is-live=true ! reactorfilter name=r {properties} ! fakesink"),
    ] {
        let running = TestPipeline::parse(&line);
        set_state(&running, gst::State::Paused);
        wait_for_status(&running.by_name("r"), "ready", TIMEOUT);
        let (sender, sent) = mpsc::channel();
        let pipeline = running.pipeline.clone();
        std::thread::spawn(move || sender.send(pipeline.send_event(gst::event::Eos::new())));
        let limit = Duration::from_secs(5);
        sent.recv_timeout(limit).expect("send_event returns");
        running.play();
        running.wait_eos(TIMEOUT);
        running.stop();
        server.wait_for_state("ready", TIMEOUT);
    }
}

#[test]
fn pad_linked_after_eos_ends_too() {
    let server = Server::playground();
    let line = format!(
        "reactorsrc name=r local=true api-url={}  fakesink name=s  fakesink name=t",
        server.url()
    );
    let running = TestPipeline::parse(&line);
    // The pipeline waits for both sinks.
    let source = running.by_name("r");
    running.play();
    wait_for_status(&source, "ready", TIMEOUT);
    let (audio, video) = (Some("audio_main_audio"), Some("video_main_video"));
    source
        .link_pads(audio, &running.by_name("s"), None)
        .unwrap();
    let (sender, ended) = mpsc::channel();
    let sink = running.pad("s", "sink");
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && event.type_() == gst::EventType::Eos
        {
            let _ = sender.send(());
        }
        gst::PadProbeReturn::Ok
    });
    source.send_event(gst::event::Eos::new());
    ended.recv_timeout(TIMEOUT).expect("EOS of the linked pad");
    // The other stream has ended, too, without a peer.
    source
        .link_pads(video, &running.by_name("t"), None)
        .unwrap();
    running.wait_eos(TIMEOUT);
    running.stop();
}

#[test]
fn nothing_linked_is_said_and_eos_ends_pipeline() {
    let server = Server::playground();
    let properties = format!("local=true api-url={}", server.url());
    let running = TestPipeline::launch(&format!("reactorsrc name=r {properties} fakesink"));
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
        _ => None,
    });
    assert!(
        warning.contains("video_main_video, audio_main_audio"),
        "{warning}"
    );
    running.pipeline.send_event(gst::event::Eos::new());
    let error = running.wait_error(TIMEOUT);
    assert_eq!(error.code(), "ABORTED");
    assert!(
        error.error.message().contains("video_main_video"),
        "{error:?}"
    );
    running.stop();

    // A wrong pad beside a right one: the pipeline would wait for the EOS of its sink.
    let line = format!(
        "reactorsrc name=r {properties} r.video_main_video ! fakesink sync=false \
         r.video_nope ! queue ! fakesink name=unfed async=false"
    );
    let running = TestPipeline::launch(&line);
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let text = warning.error().message().to_owned();
            text.contains("video_main_video").then_some(text)
        }
        _ => None,
    });
    assert!(warning.contains("nothing is linked to queue"), "{warning}");
    running.pipeline.send_event(gst::event::Eos::new());
    let error = running.wait_error(TIMEOUT);
    let text = error.error.message();
    assert!(text.contains("nothing is linked to queue") && text.contains("video_main_video"));
    running.stop();

    // The element ends its session by itself, and the application waits for that.
    let limited = format!("reactorsrc name=r {properties} max-session-duration=3 fakesink");
    let running = TestPipeline::launch(&limited);
    let error = running.wait_error(TIMEOUT);
    assert!(
        error.error.message().contains("video_main_video"),
        "{error:?}"
    );
    running.stop();

    // An element that only steers the model holds up nobody.
    let line = format!("reactorsrc name=r {properties} audiotestsrc is-live=true ! fakesink");
    let running = TestPipeline::launch(&line);
    wait_for_status(&running.by_name("r"), "ready", TIMEOUT);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    running.stop();
}

/// The latency changes after the pad's elements were given the one before.
#[test]
fn latency_set_while_a_pad_is_opened_is_reported_at_once() {
    const LATENCY: u32 = 300;
    let server = Server::playground();
    let running = parse(&server, "! fakesink sync=false");
    let source = running.by_name("r");
    let is_set = Arc::new(AtomicBool::new(false));
    let set = is_set.clone();
    let bin = source.downcast_ref::<gst::Bin>().unwrap();
    bin.connect_element_added(move |bin, added| {
        if added.name() == "video_main_video_appsrc" {
            set.store(true, Ordering::Release);
            bin.set_property("latency", LATENCY);
        }
    });
    // What an application is told that asks at each message.
    let told = Arc::new(Mutex::new(Vec::new()));
    let (list, weak) = (told.clone(), source.downgrade());
    let bus = running.pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        if matches!(message.view(), gst::MessageView::Latency(_))
            && is_set.load(Ordering::Acquire)
            && let Some(source) = weak.upgrade()
            && message.src() == Some(source.upcast_ref())
            && let Some(pad) = source.static_pad("video_main_video")
        {
            let mut query = gst::query::Latency::new();
            if pad.query(&mut query) {
                list.lock().unwrap().push(query.result().1);
            }
        }
        gst::BusSyncReply::Pass
    });
    running.play();
    // For the property, the new elements, and the jitter buffer.
    wait_until("LATENCY messages", TIMEOUT, || {
        told.lock().unwrap().len() >= 3
    });
    let told = told.lock().unwrap().clone();
    let least = gst::ClockTime::from_mseconds(LATENCY.into());
    assert!(told.iter().all(|latency| *latency >= least), "{told:?}");
    running.stop();
}

#[test]
fn stopped_element_starts_new_session() {
    let server = Server::playground();
    let (running, reader) = parse_video(&server);
    let element = running.by_name("r");
    let statuses = collect_property(&element, "status", status);
    running.play();
    reader.wait_for(60, TIMEOUT);
    for _ in 0..3 {
        // At once: the previous session may not have ended yet.
        set_state(&running, gst::State::Ready);
        let before = reader.len();
        statuses.lock().unwrap().clear();
        let went = set_state(&running, gst::State::Paused);
        assert_eq!(went, gst::StateChangeSuccess::NoPreroll);
        running.play();
        reader.wait_for(before + 45, TIMEOUT);
        let frames = reader.frames().split_off(before);
        // A new session, not the rest of the previous one.
        assert!(frames[0].counter < 45, "begins with {}", frames[0].counter);
        assert_nearly_contiguous(&frames);
        assert_timely(&running, &frames[25..45]);
        assert_eq!(status(&element), "ready");
        assert!(element.property::<Option<String>>("session-id").is_some());
        let told = statuses.lock().unwrap().clone();
        assert_eq!(told.last().unwrap(), "ready", "{told:?}");
    }
}

/// Plays with a clock of the application and checks the timestamps.
fn assert_timely_with_clock(clock: &impl IsA<gst::Clock>) {
    let server = Server::playground();
    let (running, reader) = parse_video(&server);
    running.pipeline.use_clock(Some(clock));
    running.play();
    reader.wait_for(60, TIMEOUT);
    assert_eq!(running.pipeline.clock().as_ref(), Some(clock.upcast_ref()));
    let frames = reader.frames();
    assert_nearly_contiguous(&frames);
    assert!(frames.windows(2).all(|pair| pair[0].pts <= pair[1].pts));
    assert_timely(&running, &frames[15..]);
}

#[test]
fn realtime_clock_gives_timely_pts() {
    assert_timely_with_clock(
        &glib::Object::builder::<gst::SystemClock>()
            .property("clock-type", gst::ClockType::Realtime)
            .build(),
    );
}

#[test]
fn fast_clock_gives_timely_pts() {
    // Two hours ahead and 0.1 % too fast, like the clock of a bad sound card.
    let clock = glib::Object::builder::<gst::SystemClock>().build();
    let now = clock.internal_time();
    let ahead = now + gst::ClockTime::from_seconds(7200);
    clock.set_calibration(now, ahead, 1001, 1000);
    assert_timely_with_clock(&clock);
}
