// SPDX-License-Identifier: MIT

//! reactorsink against the real local runtime: what may be fed, and how.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    inset::{Colour, Inset},
    pipeline::{Running, wait_until},
    proxy::{Proxy, Route, Rule},
    server::Server,
    sound::{self, Listener},
};

const SOON: Duration = Duration::from_secs(30);
/// close-timeout, and a second for the rest.
const CLOSED: Duration = Duration::from_secs(3);

const CAMERA: &str = "videotestsrc is-live=true pattern=red \
                      ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";
const MICROPHONE: &str = "audiotestsrc is-live=true freq=1000 volume=0.3 \
                          ! audio/x-raw,rate=48000,channels=1";

/// `feed ! reactorsink name=s PROPERTIES` and a reactorsrc that shows what
/// becomes of it.
fn parse(url: &str, feed: &str, properties: &str) -> Running {
    Running::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties} \
         reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false"
    ))
}

/// The sink alone.
fn parse_sink(url: &str, feed: &str, properties: &str) -> Running {
    Running::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties}"
    ))
}

fn track(running: &Running, pad: &str) -> gst::Structure {
    let stats: gst::Structure = running.by_name("s").property("stats");
    stats.get(pad).expect("a pad")
}

fn sent(running: &Running, pad: &str) -> u64 {
    track(running, pad).get("sent").unwrap()
}

fn codec(running: &Running, pad: &str) -> String {
    let codec = track(running, pad).get::<Option<String>>("codec");
    codec.unwrap().expect("a codec")
}

/// The encoders within the sink.
fn encoders(running: &Running) -> Vec<gst::Element> {
    let sink = running.by_name("s").downcast::<gst::Bin>().unwrap();
    let elements = sink.iterate_recurse().into_iter().flatten();
    let is_encoder = |element: &gst::Element| {
        let factory = element.factory();
        factory.is_some_and(|f| f.has_type(gst::ElementFactoryType::ENCODER))
    };
    elements.filter(is_encoder).collect()
}

/// Counts the keyframes that an element is asked for.
fn count_key_units(running: &Running, element: &str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let pad = running.pad(element, "src");
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let event = info.event().expect("an event");
        if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        gst::PadProbeReturn::Ok
    });
    count
}

// What is encoded already.

/// An encoder upstream that makes no keyframe of its own accord.
fn passes_as_it_is(encoder: &str, name: &str) {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! {encoder} keyframe-max-dist=100000 deadline=1 name=e");
    let running = parse(&server.url(), &feed, "");
    let inset = Inset::watch(&running.pad("i", "src"));
    let asked = count_key_units(&running, "e");
    running.play();
    inset.wait_for(Colour::Red, SOON);
    assert!(asked.load(Ordering::SeqCst) >= 1);
    assert_eq!(codec(&running, "video_0"), name);
    assert!(encoders(&running).is_empty());
}

#[test]
fn vp8_passes_as_it_is() {
    passes_as_it_is("vp8enc cpu-used=8", "VP8");
}

#[test]
fn vp9_passes_as_it_is() {
    passes_as_it_is("vp9enc cpu-used=8 lag-in-frames=0", "VP9");
}

#[test]
fn what_the_server_does_not_take_is_an_error() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! x264enc tune=zerolatency ! video/x-h264,profile=baseline");
    let running = parse_sink(&server.url(), &feed, "");
    running.play();
    let failure = running.wait_error(SOON);
    assert!(failure.error.matches(gst::StreamError::CodecNotFound));
    running.stop();
    server.wait_for_state("ready", SOON);
}

// Sound.

fn the_microphone_is_heard(feed: &str) -> Running {
    let server = Server::playground();
    let url = server.url();
    let running = Running::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} \
         reactorsrc name=r local=true api-url={url} \
         r.audio_main_audio ! audioconvert ! audioresample ! {} \
         ! identity name=i ! fakesink sync=false",
        sound::CAPS
    ));
    let listener = Listener::watch(&running.pad("i", "src"));
    running.play();
    wait_until("the microphone's tone", SOON, || {
        let pieces = listener.pieces();
        let last = &pieces[pieces.len().saturating_sub(100)..];
        let samples: Vec<_> = last.iter().flat_map(|p| p.samples.clone()).collect();
        samples.len() >= sound::RATE as usize / 2 && sound::amplitude(&samples, 1000.0) > 0.1
    });
    let first = &listener.pieces()[..5];
    let first: Vec<_> = first.iter().flat_map(|p| p.samples.clone()).collect();
    assert!(sound::amplitude(&first, 1000.0) < 0.05, "heard before");
    assert_eq!(codec(&running, "audio_0"), "OPUS");
    running
}

#[test]
fn a_microphone_is_heard() {
    let running = the_microphone_is_heard(MICROPHONE);
    assert_eq!(encoders(&running).len(), 1);
}

#[test]
fn opus_passes_as_it_is() {
    let running = the_microphone_is_heard(&format!("{MICROPHONE} ! opusenc"));
    assert!(encoders(&running).is_empty());
}

#[test]
fn camera_and_microphone_go_together() {
    let server = Server::playground();
    let running = parse(
        &server.url(),
        &format!("{MICROPHONE} ! s.audio_microphone {CAMERA}"),
        "",
    );
    let inset = Inset::watch(&running.pad("i", "src"));
    running.play();
    inset.wait_for(Colour::Red, SOON);
    wait_until("sound", SOON, || sent(&running, "audio_microphone") > 25);
    let microphone = track(&running, "audio_microphone");
    assert_eq!(microphone.get::<String>("track").unwrap(), "microphone");
    let camera = track(&running, "video_0");
    assert_eq!(camera.get::<String>("track").unwrap(), "camera");
}

// Pads and tracks.

fn fails_with_not_found(feed: &str, expected: &[&str]) {
    let server = Server::playground();
    let running = Running::parse(&format!(
        "reactorsink name=s local=true api-url={} {feed}",
        server.url()
    ));
    running.play();
    let failure = running.wait_error(SOON);
    assert!(
        failure.error.matches(gst::ResourceError::NotFound),
        "{failure:?}"
    );
    let text = failure.error.message().to_owned();
    for part in expected {
        assert!(text.contains(part), "{text}");
    }
    running.stop();
    server.wait_for_state("ready", SOON);
}

#[test]
fn a_pad_for_a_track_that_is_not_there_is_an_error() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_nope"),
        &["'video_nope'", "video_camera"],
    );
}

#[test]
fn more_pads_than_tracks_are_an_error() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_camera {CAMERA} ! s."),
        &["'video_0'", "no video input"],
    );
}

#[test]
fn a_pad_may_come_late() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures", SOON, || sent(&running, "video_0") > 15);
    let microphone = format!("{MICROPHONE} ! identity");
    let microphone = gst::parse::bin_from_description(&microphone, true).unwrap();
    running.pipeline.add(&microphone).unwrap();
    microphone.link(&running.by_name("s")).unwrap();
    microphone.sync_state_with_parent().unwrap();
    wait_until("sound", SOON, || sent(&running, "audio_0") > 25);
    let before = sent(&running, "video_0");
    wait_until("more pictures", SOON, || {
        sent(&running, "video_0") > before + 15
    });
}

#[test]
fn a_pad_may_go_and_come_back() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! identity name=e ! queue name=q ! s.video_camera {MICROPHONE}");
    let running = parse(&server.url(), &feed, "");
    let inset = Inset::watch(&running.pad("i", "src"));
    running.play();
    let (sink, src) = (running.by_name("s"), running.pad("q", "src"));
    for _ in 0..3 {
        inset.wait_for(Colour::Red, SOON);
        let block = src.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Ok
        });
        let pad = src.peer().expect("linked");
        src.unlink(&pad).unwrap();
        sink.release_request_pad(&pad);
        assert!(sink.static_pad("video_camera").is_none());
        let sounds = sent(&running, "audio_0");
        wait_until("sound", SOON, || sent(&running, "audio_0") > sounds + 25);
        let pad = sink.request_pad_simple("video_camera").expect("a pad");
        src.link(&pad).unwrap();
        src.remove_probe(block.unwrap());
        wait_until("pictures", SOON, || sent(&running, "video_camera") > 15);
        assert_eq!(encoders(&running).len(), 2);
    }
}

// A camera never waits.

/// A camera with a preview of its own, and how many pictures that has shown.
fn with_preview(url: &str) -> (Running, Arc<AtomicUsize>) {
    let feed = format!("{CAMERA} ! tee name=tee ! queue ! fakesink name=p tee. ! queue");
    let running = parse_sink(url, &feed, "");
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let pad = running.pad("p", "sink");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    (running, count)
}

/// Panics unless about 15 pictures a second are shown.
fn assert_keeps_pace(count: &AtomicUsize) {
    let before = count.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(2));
    let shown = count.load(Ordering::SeqCst) - before;
    assert!((22..=40).contains(&shown), "{shown} pictures in 2 s");
}

fn assert_stops_soon(running: &Running) {
    let begun = Instant::now();
    running.stop();
    assert!(begun.elapsed() < CLOSED, "{:?}", begun.elapsed());
}

#[test]
fn a_camera_does_not_wait_for_the_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let (running, shown) = with_preview(&proxy.url());
    let begun = Instant::now();
    running.play();
    wait_until("a picture", SOON, || shown.load(Ordering::SeqCst) > 0);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_keeps_pace(&shown);
    for state in [gst::State::Paused, gst::State::Playing] {
        let begun = Instant::now();
        running.pipeline.set_state(state).expect("a state");
        assert!(begun.elapsed() < Duration::from_millis(500), "{state:?}");
    }
    assert_keeps_pace(&shown);
    assert_eq!(sent(&running, "video_0"), 0);
    assert_stops_soon(&running);
}

#[test]
fn a_camera_does_not_wait_for_a_frozen_server() {
    let server = Server::playground();
    let (running, shown) = with_preview(&server.url());
    running.play();
    wait_until("pictures sent", SOON, || sent(&running, "video_0") > 15);
    server.signal(libc::SIGSTOP);
    assert_keeps_pace(&shown);
    assert_stops_soon(&running);
}

#[test]
fn a_pause_stops_the_camera_and_not_the_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    for _ in 0..2 {
        let before = sent(&running, "video_0");
        wait_until("pictures sent", SOON, || {
            sent(&running, "video_0") > before + 15
        });
        running.pipeline.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let paused = sent(&running, "video_0");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(sent(&running, "video_0"), paused);
        assert_eq!(server.session_state(), "streaming");
        running.play();
    }
    assert_stops_soon(&running);
    server.wait_for_state("ready", SOON);
}

// Encoding.

#[test]
fn the_size_may_change_in_mid_stream() {
    let server = Server::playground();
    let feed = "videotestsrc is-live=true pattern=red \
                ! capsfilter name=c caps=video/x-raw,width=640,height=360,framerate=15/1";
    let running = parse(&server.url(), feed, "");
    let inset = Inset::watch(&running.pad("i", "src"));
    running.play();
    inset.wait_for(Colour::Red, SOON);
    let above = |inset: &Inset| Colour::Red.is_inverted(inset.last().unwrap().above);
    assert!(!above(&inset));
    let set_size = |width: i32, height: i32| {
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(15, 1))
            .build();
        running.by_name("c").set_property("caps", caps);
    };
    set_size(320, 240);
    wait_until("a picture of 4:3", SOON, || above(&inset));
    set_size(640, 360);
    wait_until("a picture of 16:9", SOON, || !above(&inset));
    inset.wait_for(Colour::Red, SOON);
}

#[test]
fn the_user_chooses_the_encoder() {
    let server = Server::playground();
    let running = parse(&server.url(), CAMERA, "video-encoder=vp9enc");
    let inset = Inset::watch(&running.pad("i", "src"));
    running.play();
    inset.wait_for(Colour::Red, SOON);
    assert_eq!(codec(&running, "video_0"), "VP9");
    let names: Vec<_> = encoders(&running)
        .iter()
        .map(|e| e.factory().unwrap().name().to_string())
        .collect();
    assert_eq!(names, ["vp9enc"]);
}

#[test]
fn an_encoder_that_is_not_there_is_an_error() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "video-encoder=nonsense");
    running.play();
    let failure = running.wait_error(SOON);
    assert!(
        failure.error.matches(gst::CoreError::MissingPlugin),
        "{failure:?}"
    );
    assert!(failure.error.message().contains("video-encoder=nonsense"));
}

#[test]
fn the_application_sets_the_encoder_up() {
    let server = Server::playground();
    let running = parse_sink(
        &server.url(),
        CAMERA,
        "video-encoder=vp8enc start-bitrate=300000",
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    running
        .by_name("s")
        .connect("encoder-setup", false, move |values| {
            let track = values[1].get::<String>().unwrap();
            let encoder = values[2].get::<gst::Element>().unwrap();
            let bitrate = encoder.property::<i32>("target-bitrate");
            encoder.set_property("threads", 2);
            list.lock().unwrap().push((track, bitrate));
            None
        });
    running.play();
    wait_until("pictures sent", SOON, || sent(&running, "video_0") > 15);
    assert_eq!(*seen.lock().unwrap(), [("camera".to_owned(), 300_000)]);
    assert_eq!(encoders(&running)[0].property::<i32>("threads"), 2);
}

// The end of a stream.

#[test]
fn the_end_of_a_camera_is_the_end() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures sent", SOON, || sent(&running, "video_0") > 15);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(SOON);
    assert_stops_soon(&running);
    server.wait_for_state("ready", SOON);
}

#[test]
fn a_camera_may_end_before_the_session_is_there() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let running = parse_sink(&proxy.url(), CAMERA, "");
    running.play();
    wait_until("pictures", SOON, || {
        track(&running, "video_0").get::<u64>("received").unwrap() > 5
    });
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(Duration::from_secs(3));
    assert_stops_soon(&running);
}

/// Not live: as a file, it could be through in no time.
const FILE: &str = "videotestsrc num-buffers=45 pattern=red \
                    ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";

#[test]
fn a_file_is_sent_whole_and_at_its_pace() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::delay(Duration::from_secs(1)));
    let beep = "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000";
    let feed = format!("{beep} ! s.audio_microphone {FILE}");
    let running = parse_sink(&proxy.url(), &feed, "");
    running.play();
    wait_until("a picture", SOON, || sent(&running, "video_0") > 0);
    let begun = Instant::now();
    running.wait_eos(SOON);
    let took = begun.elapsed().as_secs_f64();
    assert!((2.5..4.0).contains(&took), "{took} s");
    assert_eq!(sent(&running, "video_0"), 45);
    assert_eq!(track(&running, "video_0").get::<u64>("dropped").unwrap(), 0);
    assert!(sent(&running, "audio_microphone") >= 150);
}

#[test]
fn a_file_that_waits_can_be_stopped() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let running = parse(&proxy.url(), FILE, "");
    let inset = Inset::watch(&running.pad("i", "src"));
    for _ in 0..2 {
        running.play();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(sent(&running, "video_0"), 0);
        assert_stops_soon(&running);
    }
    // And is none the worse.
    proxy.reset();
    running.play();
    inset.wait_for(Colour::Red, SOON);
}

#[test]
fn a_clean_network_is_made_use_of() {
    let server = Server::playground();
    let running = Running::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorsink name=s local=true api-url={} start-bitrate=200000 max-bitrate=400000",
        server.url()
    ));
    let bitrate = || track(&running, "video_0").get::<u32>("bitrate").ok();
    // By the server's own reports, one a second, up to the limit.
    wait_until("the limit", Duration::from_secs(40), || {
        bitrate() == Some(400_000)
    });
    let source = track(&running, "video_0").get::<String>("bitrate-from");
    let installed = gst::ElementFactory::find("rtpgccbwe").is_some();
    assert_eq!(source.unwrap(), if installed { "estimate" } else { "loss" });
}
