// SPDX-License-Identifier: MIT

//! reactorsrc against a stand-in for servers that the real runtime is not.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    media,
    peer::{Encoding, HEIGHT, Heard, Peer, PeerConfig, Said, WIDTH, wait},
    pipeline::Running,
};
use serde_json::json;

/// A generous bound: the machine may be busy compiling.
const SOON: Duration = Duration::from_secs(30);

/// The name of the first track.
const MAIN: &str = "main";

fn source(peer: &Peer) -> String {
    format!(
        "reactorsrc name=r local=true api-url={} latency=20",
        peer.url()
    )
}

/// Counts the buffers that pass a pad.
#[derive(Debug, Clone)]
struct Counter {
    pipeline: gst::Pipeline,
    pad: gst::Pad,
    count: Arc<AtomicUsize>,
}

impl Counter {
    /// What leaves an element.
    fn watch(running: &Running, element: &str) -> Self {
        let pad = running.pad(element, "src");
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        let pipeline = running.pipeline.clone();
        Self {
            pipeline,
            pad,
            count,
        }
    }

    fn get(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for so many more buffers.
    fn wait_more(&self, count: usize) {
        let goal = self.get() + count;
        let deadline = Instant::now() + SOON;
        while self.get() < goal {
            if Instant::now() >= deadline {
                let missing = goal - self.get();
                let error = error_message(&self.pipeline);
                panic!("{missing} of {count} buffers did not come; {error:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn caps(&self) -> gst::Structure {
        let caps = self.pad.current_caps().expect("caps");
        caps.structure(0).expect("a structure").to_owned()
    }
}

/// A pipeline that ends in `identity name=i`, and what comes out of it.
fn play(line: &str) -> (Running, Counter) {
    let running = Running::parse(&format!("{line} ! identity name=i ! fakesink sync=false"));
    let counter = Counter::watch(&running, "i");
    running.play();
    (running, counter)
}

/// Panics unless these are whole decoded pictures of the stand-in's.
fn assert_pictures(counter: &Counter) {
    let caps = counter.caps();
    assert_eq!(caps.name(), "video/x-raw");
    assert_eq!(caps.get::<i32>("width").unwrap(), WIDTH);
    assert_eq!(caps.get::<i32>("height").unwrap(), HEIGHT);
}

/// What is on the bus of errors. Drops everything else that is there.
fn error_message(pipeline: &gst::Pipeline) -> Option<gst::Message> {
    let bus = pipeline.bus().unwrap();
    bus.pop_filtered(&[gst::MessageType::Error])
}

/// An error on the bus by now fails the test.
fn assert_no_error(running: &Running) {
    let error = error_message(&running.pipeline);
    assert!(error.is_none(), "{error:?}");
}

#[test]
fn h264_is_decoded() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(60);
    assert_pictures(&frames);
    assert!(peer.offer(SOON).codecs("video").contains(&"H264"));
    assert_no_error(&running);
}

#[test]
fn h264_is_recorded_as_it_comes() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peer-h264.mp4");
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let running = Running::launch(&format!(
        "{} ! video/x-h264 ! h264parse ! identity name=i ! mp4mux ! filesink location={}",
        source(&peer),
        file.display()
    ));
    assert_eq!(peer.offer(SOON).codecs("video"), ["H264"]);
    let frames = Counter::watch(&running, "i");
    frames.wait_more(60);
    assert_eq!(frames.caps().name(), "video/x-h264");
    // What gst-launch-1.0 -e does on Ctrl-C.
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(SOON);
    running.stop();
    let video = media::stream(&media::probe(&file), "video");
    assert_eq!(video.codec, "h264");
    assert_eq!((video.width, video.height), (320, 240));
    assert!(video.duration > 1.5, "{video:?}");
    media::assert_decodes(&file);
}

#[test]
fn a_server_may_choose_a_codec_that_it_likes_less() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (_running, frames) = play(&source(&peer));
    frames.wait_more(30);
    assert_pictures(&frames);
    let offer = peer.offer(SOON);
    assert_eq!(offer.codecs("video")[..2], ["VP9", "VP8"]);
    // Nothing is offered that could not be taken off RTP again.
    if gst::ElementFactory::find("rtpav1depay").is_none() {
        assert!(!offer.codecs("video").contains(&"AV1"));
    }
}

/// Three tracks, each to a counter of its own.
fn play_three(peer: &Peer) -> (Running, [Counter; 3]) {
    let running = Running::parse(&format!(
        "{} r.video_main ! identity name=v ! fakesink sync=false \
         r.audio_main1 ! identity name=a ! fakesink sync=false \
         r.video_main2 ! identity name=w ! fakesink sync=false",
        source(peer)
    ));
    let counters = ["v", "a", "w"].map(|name| Counter::watch(&running, name));
    running.play();
    (running, counters)
}

fn assert_three(counters: &[Counter; 3]) {
    counters.iter().for_each(|counter| counter.wait_more(30));
    let [video, audio, more_video] = counters;
    assert_pictures(video);
    assert_eq!(audio.caps().name(), "audio/x-raw");
    assert_pictures(more_video);
}

#[test]
fn several_tracks_come_on_one_connection() {
    let encodings = [Encoding::Vp9, Encoding::Opus, Encoding::H264];
    let peer = Peer::start(PeerConfig::sending(&encodings));
    let (running, counters) = play_three(&peer);
    assert_three(&counters);
    assert_eq!(peer.offer(SOON).codecs("audio"), ["OPUS"]);
    assert_no_error(&running);
}

#[test]
fn packets_of_unannounced_sources_find_their_tracks() {
    let encodings = [Encoding::Vp9, Encoding::Opus, Encoding::H264];
    let mut config = PeerConfig::sending(&encodings);
    config.announces_ssrc = false;
    let peer = Peer::start(config);
    let (running, counters) = play_three(&peer);
    assert_three(&counters);
    assert_no_error(&running);
}

#[test]
fn packets_come_as_they_are() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, packets) = play(&format!(
        "{} ! application/x-rtp,media=video",
        source(&peer)
    ));
    let payload = Arc::new(AtomicUsize::new(0));
    let seen = payload.clone();
    running
        .pad("i", "src")
        .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let map = info.buffer().unwrap().map_readable().unwrap();
            assert_eq!(map[0] >> 6, 2, "the version of RTP");
            seen.store(usize::from(map[1] & 0x7f), Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    packets.wait_more(60);
    let caps = packets.caps();
    assert_eq!(caps.name(), "application/x-rtp");
    assert_eq!(caps.get::<&str>("encoding-name").unwrap(), "H264");
    let negotiated = peer.offer(SOON).payload("H264").unwrap();
    assert_eq!(caps.get::<i32>("payload").unwrap(), i32::from(negotiated));
    assert_eq!(payload.load(Ordering::Relaxed), usize::from(negotiated));
}

/// What the model says reaches the bus.
fn assert_message(running: &Running, peer: &Peer) {
    peer.say("hello", &json!({ "text": "there" }));
    let message = running.wait_element("reactor-message", SOON);
    assert_eq!(message.get::<&str>("type").unwrap(), "hello");
    let data = message.get::<&str>("data").unwrap();
    assert_eq!(data, r#"{"text":"there"}"#);
}

fn status(running: &Running) -> String {
    let status = running.by_name("r").property_value("status");
    let (_, value) = gst::glib::EnumValue::from_value(&status).expect("an enum");
    value.nick().to_owned()
}

#[test]
fn a_server_that_knows_json_only_is_recognised() {
    // Its version does not give it away.
    let config = PeerConfig::sending(&[Encoding::Vp8]).v0_only("3.0.0");
    let peer = Peer::start(config);
    let (running, frames) = play(&source(&peer));
    peer.wait_said(&Said::Resume(MAIN.into()), 1, SOON);
    frames.wait_more(30);
    let first_text = peer.heard().iter().position(|heard| !heard.binary);
    let first_text = first_text.expect("JSON");
    assert!(first_text > 0, "v1 was not tried");
    assert_eq!(status(&running), "ready");
    let warning = running.wait_message(SOON, |message| match message.view() {
        gst::MessageView::Warning(warning) => warning.details().map(|d| d.to_owned()),
        _ => None,
    });
    assert_eq!(warning.get::<&str>("code").unwrap(), "VERSION_MISMATCH");
    assert_message(&running, &peer);
    // One greets, the others keep the connection alive.
    let pings = |heard: &[Heard]| {
        let pings = heard.iter().filter(|h| !h.binary && h.said == Said::Ping);
        pings.count()
    };
    wait(SOON, "JSON pings", || {
        (pings(&peer.heard()) >= 2).then_some(())
    });
    let heard = peer.heard();
    let took = heard[first_text].at - heard[0].at;
    assert!(took < Duration::from_secs(10), "{took:?} to fall back");
    assert!(heard[first_text..].iter().all(|heard| !heard.binary));
    frames.wait_more(30);
    assert_no_error(&running);
}

#[test]
fn an_old_server_is_spoken_to_in_json_at_once() {
    let config = PeerConfig::sending(&[Encoding::Vp8]).v0_only("2.10.1");
    let peer = Peer::start(config);
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    assert_message(&running, &peer);
    let heard = peer.heard();
    assert_eq!(heard[0].said, Said::Ping);
    assert_eq!(heard[0].channel, "data");
    assert!(heard.iter().all(|heard| !heard.binary), "{heard:?}");
}

#[test]
fn the_encoding_can_be_chosen() {
    for (wire, binary) in [("v0", false), ("v1", true)] {
        let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
        let (_running, frames) = play(&format!("{} wire={wire}", source(&peer)));
        frames.wait_more(10);
        let heard = peer.heard();
        assert_eq!(heard[0].said, Said::Ping, "{wire}");
        assert!(
            heard.iter().all(|h| h.binary == binary),
            "{wire}: {heard:?}"
        );
    }
}

#[test]
fn pausing_the_pipeline_pauses_the_track() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    running.pipeline.set_state(gst::State::Paused).unwrap();
    peer.wait_said(&Said::Pause(MAIN.into()), 1, SOON);
    // The pipeline's own time stands still meanwhile.
    std::thread::sleep(Duration::from_millis(700));
    let sent = peer.sent(MAIN);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(peer.sent(MAIN), sent);
    running.play();
    peer.wait_said(&Said::Resume(MAIN.into()), 2, SOON);
    frames.wait_more(30);
    assert_pictures(&frames);
    assert_no_error(&running);
}

#[test]
fn a_pad_that_nobody_takes_costs_nothing() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    let pad = running.pad("r", "video_main");
    let sink = running.pad("i", "sink");
    pad.unlink(&sink).unwrap();
    peer.wait_said(&Said::Pause(MAIN.into()), 1, SOON);
    std::thread::sleep(Duration::from_millis(500));
    assert_no_error(&running);
    assert_eq!(running.pipeline.current_state(), gst::State::Playing);
    pad.link(&sink).unwrap();
    peer.wait_said(&Said::Resume(MAIN.into()), 2, SOON);
    frames.wait_more(30);
    assert_no_error(&running);
}

#[test]
fn a_lost_connection_is_an_error() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&(source(&peer) + " reconnect=false"));
    frames.wait_more(10);
    peer.hang_up();
    let failure = running.wait_error(SOON);
    assert_eq!(failure.code(), "DISCONNECTED");
    assert_eq!(failure.detail::<String>("component"), "gpu");
    assert!(
        failure.error.matches(gst::ResourceError::Read),
        "{failure:?}"
    );
    running.stop();
    wait(SOON, "the end of the session", || {
        (peer.state() == "ready").then_some(())
    });
}

#[test]
fn a_session_that_is_over_is_the_end_of_the_stream() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(10);
    peer.set_state("ready");
    peer.hang_up();
    running.wait_eos(SOON);
}

#[test]
fn a_server_without_data_channels_is_refused() {
    let mut config = PeerConfig::sending(&[Encoding::Vp8]);
    config.rejects_channels = true;
    let peer = Peer::start(config);
    let (running, _frames) = play(&source(&peer));
    let failure = running.wait_error(SOON);
    assert_eq!(failure.code(), "TRANSPORT_ERROR");
    assert_eq!(failure.detail::<String>("operation"), "sdp_params");
}

/// What is done to the registry holds for the whole process: runs the test
/// again in one of its own. Returns whether this is that process.
fn in_own_process(test: &str) -> bool {
    const MARK: &str = "REACTOR_TEST_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
    assert!(status.success(), "{status}: {said}");
    false
}

/// Makes all video decoders unavailable, or those of one format.
fn forget_decoders(format: Option<&str>) {
    reactor_tests::init();
    let caps = format.map(gst::Caps::new_empty_simple);
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    for decoder in gst::ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL) {
        if caps
            .as_ref()
            .is_none_or(|caps| decoder.can_sink_any_caps(caps))
        {
            decoder.set_rank(gst::Rank::NONE);
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_not_offered() {
    if !in_own_process("what_cannot_be_decoded_is_not_offered") {
        return;
    }
    forget_decoders(Some("video/x-h264"));
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (_running, frames) = play(&source(&peer));
    frames.wait_more(10);
    assert_eq!(peer.offer(SOON).codecs("video"), ["VP9", "VP8"]);
}

#[test]
fn without_decoders_it_is_said_which_are_missing() {
    if !in_own_process("without_decoders_it_is_said_which_are_missing") {
        return;
    }
    forget_decoders(None);
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, _frames) = play(&source(&peer));
    let mut missing = Vec::new();
    let failure = running.wait_message(SOON, |message| match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element.structure()?;
            if structure.name() == "missing-plugin" {
                // Caps of a missing decoder, the name of a missing element.
                missing.push(match structure.get::<gst::Caps>("detail") {
                    Ok(caps) => caps.structure(0).unwrap().name().to_string(),
                    Err(_) => structure.get::<String>("detail").unwrap(),
                });
            }
            None
        }
        gst::MessageView::Error(error) => {
            assert!(
                error.error().matches(gst::CoreError::MissingPlugin),
                "{error:?}"
            );
            Some(error.details().map(|d| d.to_owned()))
        }
        _ => None,
    });
    if gst::ElementFactory::find("rtpav1depay").is_none() {
        assert!(missing.iter().any(|m| m == "rtpav1depay"), "{missing:?}");
    }
    for format in ["video/x-vp9", "video/x-vp8", "video/x-h264"] {
        assert!(missing.iter().any(|m| m == format), "{format}: {missing:?}");
    }
    let details = failure.expect("details");
    assert_eq!(details.get::<&str>("code").unwrap(), "MISSING_PLUGIN");
    assert!(peer.without_offer());
}
