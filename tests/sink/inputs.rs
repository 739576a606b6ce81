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
    TIMEOUT,
    audio::{self, AudioRecorder},
    camera_view::{CameraView, Colour},
    pipeline::{TestPipeline, count_buffers, wait_until},
    proxy::{Proxy, Route, Rule},
    server::Server,
};

/// close-timeout, and a second for the rest.
const CLOSED: Duration = Duration::from_secs(3);

const CAMERA: &str = "videotestsrc is-live=true pattern=red \
                      ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";
const MICROPHONE: &str = "audiotestsrc is-live=true freq=1000 volume=0.3 \
                          ! audio/x-raw,rate=48000,channels=1";

/// `feed ! reactorsink name=s PROPERTIES` and a reactorsrc that shows what
/// becomes of it.
fn parse(url: &str, feed: &str, properties: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties} \
         reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false"
    ))
}

/// The sink alone.
fn parse_sink(url: &str, feed: &str, properties: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} {properties}"
    ))
}

fn sent(running: &TestPipeline, pad: &str) -> u64 {
    running.pad_stats("s", pad).get("sent").unwrap()
}

fn codec(running: &TestPipeline, pad: &str) -> String {
    let codec = running.pad_stats("s", pad).get::<Option<String>>("codec");
    codec.unwrap().expect("a codec")
}

/// The encoders within the sink.
fn encoders(running: &TestPipeline) -> Vec<gst::Element> {
    let sink = running.by_name("s").downcast::<gst::Bin>().unwrap();
    let elements = sink.iterate_recurse().into_iter().flatten();
    let is_encoder = |element: &gst::Element| {
        let factory = element.factory();
        factory.is_some_and(|f| f.has_type(gst::ElementFactoryType::ENCODER))
    };
    elements.filter(is_encoder).collect()
}

/// Counts the keyframes that an element is asked for.
fn count_key_units(running: &TestPipeline, element: &str) -> Arc<AtomicUsize> {
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
    let view = CameraView::watch(&running.pad("i", "src"));
    let asked = count_key_units(&running, "e");
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    assert!(asked.load(Ordering::SeqCst) >= 1);
    assert_eq!(codec(&running, "video_0"), name);
    assert!(encoders(&running).is_empty());
}

#[test]
fn vp8_input_passes_without_encoder() {
    passes_as_it_is("vp8enc cpu-used=8", "VP8");
}

#[test]
fn vp9_input_passes_without_encoder() {
    passes_as_it_is("vp9enc cpu-used=8 lag-in-frames=0", "VP9");
}

#[test]
fn codec_refused_by_server_posts_error() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! x264enc tune=zerolatency ! video/x-h264,profile=baseline");
    let running = parse_sink(&server.url(), &feed, "");
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(failure.error.matches(gst::StreamError::CodecNotFound));
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

// Sound.

fn the_microphone_is_heard(feed: &str) -> TestPipeline {
    let server = Server::playground();
    let url = server.url();
    let running = TestPipeline::parse(&format!(
        "{feed} ! reactorsink name=s local=true api-url={url} \
         reactorsrc name=r local=true api-url={url} \
         r.audio_main_audio ! audioconvert ! audioresample ! {} \
         ! identity name=i ! fakesink sync=false",
        audio::CAPS
    ));
    let listener = AudioRecorder::watch(&running.pad("i", "src"));
    running.play();
    wait_until("the microphone's tone", TIMEOUT, || {
        let chunks = listener.chunks();
        let last = &chunks[chunks.len().saturating_sub(100)..];
        let samples: Vec<_> = last.iter().flat_map(|p| p.samples.clone()).collect();
        samples.len() >= audio::RATE as usize / 2 && audio::amplitude(&samples, 1000.0) > 0.1
    });
    let first = &listener.chunks()[..5];
    let first: Vec<_> = first.iter().flat_map(|p| p.samples.clone()).collect();
    assert!(audio::amplitude(&first, 1000.0) < 0.05, "heard before");
    assert_eq!(codec(&running, "audio_0"), "OPUS");
    running
}

#[test]
fn raw_audio_is_encoded_as_opus() {
    let running = the_microphone_is_heard(MICROPHONE);
    assert_eq!(encoders(&running).len(), 1);
}

#[test]
fn opus_input_passes_without_encoder() {
    let running = the_microphone_is_heard(&format!("{MICROPHONE} ! opusenc"));
    assert!(encoders(&running).is_empty());
}

#[test]
fn camera_and_microphone_feed_their_tracks() {
    let server = Server::playground();
    let running = parse(
        &server.url(),
        &format!("{MICROPHONE} ! s.audio_microphone {CAMERA}"),
        "",
    );
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    wait_until("sound", TIMEOUT, || sent(&running, "audio_microphone") > 25);
    let microphone = running.pad_stats("s", "audio_microphone");
    assert_eq!(microphone.get::<String>("track").unwrap(), "microphone");
    let camera = running.pad_stats("s", "video_0");
    assert_eq!(camera.get::<String>("track").unwrap(), "camera");
}

// Pads and tracks.

fn fails_with_not_found(feed: &str, expected: &[&str]) {
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} {feed}",
        server.url()
    ));
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(
        failure.error.matches(gst::ResourceError::NotFound),
        "{failure:?}"
    );
    let text = failure.error.message().to_owned();
    for part in expected {
        assert!(text.contains(part), "{text}");
    }
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn pad_for_unknown_track_posts_not_found() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_nope"),
        &["'video_nope'", "video_camera"],
    );
}

#[test]
fn more_pads_than_tracks_post_not_found() {
    fails_with_not_found(
        &format!("{CAMERA} ! s.video_camera {CAMERA} ! s."),
        &["'video_0'", "no video input"],
    );
}

#[test]
fn pad_requested_late_joins_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures", TIMEOUT, || sent(&running, "video_0") > 15);
    let microphone = format!("{MICROPHONE} ! identity");
    let microphone = gst::parse::bin_from_description(&microphone, true).unwrap();
    running.pipeline.add(&microphone).unwrap();
    microphone.link(&running.by_name("s")).unwrap();
    microphone.sync_state_with_parent().unwrap();
    wait_until("sound", TIMEOUT, || sent(&running, "audio_0") > 25);
    let before = sent(&running, "video_0");
    wait_until("more pictures", TIMEOUT, || {
        sent(&running, "video_0") > before + 15
    });
}

#[test]
fn released_pad_can_be_requested_again() {
    let server = Server::playground();
    let feed = format!("{CAMERA} ! identity name=e ! queue name=q ! s.video_camera {MICROPHONE}");
    let running = parse(&server.url(), &feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    let (sink, src) = (running.by_name("s"), running.pad("q", "src"));
    for _ in 0..3 {
        view.wait_for(Colour::Red, TIMEOUT);
        let block = src.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Ok
        });
        let pad = src.peer().expect("linked");
        src.unlink(&pad).unwrap();
        sink.release_request_pad(&pad);
        assert!(sink.static_pad("video_camera").is_none());
        let sounds = sent(&running, "audio_0");
        wait_until("sound", TIMEOUT, || sent(&running, "audio_0") > sounds + 25);
        let pad = sink.request_pad_simple("video_camera").expect("a pad");
        src.link(&pad).unwrap();
        src.remove_probe(block.unwrap());
        wait_until("pictures", TIMEOUT, || sent(&running, "video_camera") > 15);
        assert_eq!(encoders(&running).len(), 2);
    }
}

// A camera never waits.

/// A camera with a preview of its own, and the number of pictures that the preview has shown.
fn with_preview(url: &str) -> (TestPipeline, impl Fn() -> usize + use<>) {
    let feed = format!("{CAMERA} ! tee name=tee ! queue ! fakesink name=p tee. ! queue");
    let running = parse_sink(url, &feed, "");
    let shown = count_buffers(&running.pad("p", "sink"));
    (running, shown)
}

/// Panics unless about 15 pictures a second are shown.
fn assert_keeps_pace(count: impl Fn() -> usize) {
    let before = count();
    std::thread::sleep(Duration::from_secs(2));
    let shown = count() - before;
    assert!((22..=40).contains(&shown), "{shown} pictures in 2 s");
}

fn assert_stops_soon(running: &TestPipeline) {
    let begun = Instant::now();
    running.stop();
    assert!(begun.elapsed() < CLOSED, "{:?}", begun.elapsed());
}

#[test]
fn live_input_does_not_block_before_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let (running, shown) = with_preview(&proxy.url());
    let begun = Instant::now();
    running.play();
    wait_until("a picture", TIMEOUT, || shown() > 0);
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
fn live_input_does_not_block_on_frozen_server() {
    let server = Server::playground();
    let (running, shown) = with_preview(&server.url());
    running.play();
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    server.signal(libc::SIGSTOP);
    assert_keeps_pace(&shown);
    assert_stops_soon(&running);
}

#[test]
fn pause_stops_input_and_keeps_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    for _ in 0..2 {
        let before = sent(&running, "video_0");
        wait_until("pictures sent", TIMEOUT, || {
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
    server.wait_for_state("ready", TIMEOUT);
}

// Encoding.

#[test]
fn input_size_change_is_encoded() {
    let server = Server::playground();
    let feed = "videotestsrc is-live=true pattern=red \
                ! capsfilter name=c caps=video/x-raw,width=640,height=360,framerate=15/1";
    let running = parse(&server.url(), feed, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    let above = |view: &CameraView| Colour::Red.is_inverted(view.last().unwrap().above);
    assert!(!above(&view));
    let set_size = |width: i32, height: i32| {
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", width)
            .field("height", height)
            .field("framerate", gst::Fraction::new(15, 1))
            .build();
        running.by_name("c").set_property("caps", caps);
    };
    set_size(320, 240);
    wait_until("a picture of 4:3", TIMEOUT, || above(&view));
    set_size(640, 360);
    wait_until("a picture of 16:9", TIMEOUT, || !above(&view));
    view.wait_for(Colour::Red, TIMEOUT);
}

#[test]
fn video_encoder_property_selects_encoder() {
    let server = Server::playground();
    let running = parse(&server.url(), CAMERA, "video-encoder=vp9enc");
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    assert_eq!(codec(&running, "video_0"), "VP9");
    let names: Vec<_> = encoders(&running)
        .iter()
        .map(|e| e.factory().unwrap().name().to_string())
        .collect();
    assert_eq!(names, ["vp9enc"]);
}

#[test]
fn unknown_video_encoder_posts_missing_plugin() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "video-encoder=nonsense");
    running.play();
    let failure = running.wait_error(TIMEOUT);
    assert!(
        failure.error.matches(gst::CoreError::MissingPlugin),
        "{failure:?}"
    );
    assert!(failure.error.message().contains("video-encoder=nonsense"));
}

#[test]
fn encoder_setup_signal_configures_encoder() {
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
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    assert_eq!(*seen.lock().unwrap(), [("camera".to_owned(), 300_000)]);
    assert_eq!(encoders(&running)[0].property::<i32>("threads"), 2);
}

// The end of a stream.

#[test]
fn eos_of_live_input_ends_session() {
    let server = Server::playground();
    let running = parse_sink(&server.url(), CAMERA, "");
    running.play();
    wait_until("pictures sent", TIMEOUT, || sent(&running, "video_0") > 15);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    assert_stops_soon(&running);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn eos_before_session_is_passed_on() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let running = parse_sink(&proxy.url(), CAMERA, "");
    running.play();
    wait_until("pictures", TIMEOUT, || {
        running
            .pad_stats("s", "video_0")
            .get::<u64>("received")
            .unwrap()
            > 5
    });
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(Duration::from_secs(3));
    assert_stops_soon(&running);
}

/// Not live: as a file, it could be through in no time.
const FILE: &str = "videotestsrc num-buffers=45 pattern=red \
                    ! video/x-raw,format=I420,width=320,height=180,framerate=15/1";

#[test]
fn file_input_is_sent_whole_and_in_real_time() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::delay(Duration::from_secs(1)));
    let beep = "audiotestsrc num-buffers=150 samplesperbuffer=960 ! audio/x-raw,rate=48000";
    let feed = format!("{beep} ! s.audio_microphone {FILE}");
    let running = parse_sink(&proxy.url(), &feed, "");
    running.play();
    wait_until("a picture", TIMEOUT, || sent(&running, "video_0") > 0);
    let begun = Instant::now();
    running.wait_eos(TIMEOUT);
    let took = begun.elapsed().as_secs_f64();
    assert!((2.5..4.0).contains(&took), "{took} s");
    assert_eq!(sent(&running, "video_0"), 45);
    assert_eq!(
        running
            .pad_stats("s", "video_0")
            .get::<u64>("dropped")
            .unwrap(),
        0
    );
    assert!(sent(&running, "audio_microphone") >= 150);
}

#[test]
fn file_input_waiting_for_session_can_be_stopped() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(Route::StartSession, Rule::Hang);
    let running = parse(&proxy.url(), FILE, "");
    let view = CameraView::watch(&running.pad("i", "src"));
    for _ in 0..2 {
        running.play();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(sent(&running, "video_0"), 0);
        assert_stops_soon(&running);
    }
    // And is none the worse.
    proxy.reset();
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
}

#[test]
fn clean_network_raises_bitrate_to_limit() {
    let server = Server::playground();
    let running = TestPipeline::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! \
         reactorsink name=s local=true api-url={} start-bitrate=200000 max-bitrate=400000",
        server.url()
    ));
    let bitrate = || running.pad_stats("s", "video_0").get::<u32>("bitrate").ok();
    // By the server's own reports, one a second, up to the limit.
    wait_until("the limit", Duration::from_secs(40), || {
        bitrate() == Some(400_000)
    });
    let source = running
        .pad_stats("s", "video_0")
        .get::<String>("bitrate-from");
    let installed = gst::ElementFactory::find("rtpgccbwe").is_some();
    assert_eq!(source.unwrap(), if installed { "estimate" } else { "loss" });
}
