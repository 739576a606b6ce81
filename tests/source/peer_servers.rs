// SPDX-License-Identifier: MIT

//! reactorsrc against a webrtcbin that plays servers which the real runtime is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT, media,
    peer::{ClientMessage, Encoding, HEIGHT, Peer, PeerConfig, ReceivedMessage, WIDTH},
    pipeline::{TestPipeline, status, wait_for},
    process::in_own_process,
    scratch::TempFile,
};
use serde_json::json;

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
    /// Counts the buffers that leave an element.
    fn watch(running: &TestPipeline, element: &str) -> Self {
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

    /// Waits for `count` more buffers.
    fn wait_more(&self, count: usize) {
        let goal = self.get() + count;
        let deadline = Instant::now() + TIMEOUT;
        while self.get() < goal {
            if Instant::now() >= deadline {
                let missing = goal - self.get();
                let bus = self.pipeline.bus().unwrap();
                let error = bus.pop_filtered(&[gst::MessageType::Error]);
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

/// A pipeline that ends in `identity name=i`, and the counter of its output.
fn play(line: &str) -> (TestPipeline, Counter) {
    let running = TestPipeline::parse(&format!("{line} ! identity name=i ! fakesink sync=false"));
    let counter = Counter::watch(&running, "i");
    running.play();
    (running, counter)
}

/// Panics unless these are complete decoded pictures of the peer.
fn assert_pictures(counter: &Counter) {
    let caps = counter.caps();
    assert_eq!(caps.name(), "video/x-raw");
    assert_eq!(caps.get::<i32>("width").unwrap(), WIDTH);
    assert_eq!(caps.get::<i32>("height").unwrap(), HEIGHT);
}

#[test]
fn h264_track_is_decoded() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(60);
    assert_pictures(&frames);
    assert!(peer.offer(TIMEOUT).codecs("video").contains(&"H264"));
    running.assert_no_error();
}

#[test]
fn h264_track_is_recorded_without_transcoding() {
    let file = TempFile::new("peer-h264.mp4");
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let running = TestPipeline::launch(&format!(
        "{} ! video/x-h264 ! h264parse ! identity name=i ! mp4mux ! filesink location={}",
        source(&peer),
        file.0.display()
    ));
    assert_eq!(peer.offer(TIMEOUT).codecs("video"), ["H264"]);
    let frames = Counter::watch(&running, "i");
    frames.wait_more(60);
    assert_eq!(frames.caps().name(), "video/x-h264");
    // What gst-launch-1.0 -e does on Ctrl-C.
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    running.stop();
    let video = media::stream(&media::probe(&file.0), "video");
    assert_eq!(video.codec, "h264");
    assert_eq!((video.width, video.height), (320, 240));
    assert!(video.duration > 1.5, "{video:?}");
    media::assert_decodes(&file.0);
}

#[test]
fn server_choice_of_second_codec_is_decoded() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (_running, frames) = play(&source(&peer));
    frames.wait_more(30);
    assert_pictures(&frames);
    let offer = peer.offer(TIMEOUT);
    assert_eq!(offer.codecs("video")[..2], ["VP9", "VP8"]);
    // A codec without a depayloader is not offered.
    if gst::ElementFactory::find("rtpav1depay").is_none() {
        assert!(!offer.codecs("video").contains(&"AV1"));
    }
}

/// Plays three tracks, each with a counter of its own.
fn play_three(peer: &Peer) -> (TestPipeline, [Counter; 3]) {
    let running = TestPipeline::parse(&format!(
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
fn several_tracks_share_one_connection() {
    let encodings = [Encoding::Vp9, Encoding::Opus, Encoding::H264];
    let peer = Peer::start(PeerConfig::sending(&encodings));
    let (running, counters) = play_three(&peer);
    assert_three(&counters);
    assert_eq!(peer.offer(TIMEOUT).codecs("audio"), ["OPUS"]);
    running.assert_no_error();
}

#[test]
fn packets_with_unannounced_ssrc_reach_their_tracks() {
    let encodings = [Encoding::Vp9, Encoding::Opus, Encoding::H264];
    let mut config = PeerConfig::sending(&encodings);
    config.announces_ssrc = false;
    let peer = Peer::start(config);
    let (running, counters) = play_three(&peer);
    assert_three(&counters);
    running.assert_no_error();
}

#[test]
fn rtp_caps_pass_packets_of_negotiated_payload() {
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
    let negotiated = peer.offer(TIMEOUT).payload("H264").unwrap();
    assert_eq!(caps.get::<i32>("payload").unwrap(), i32::from(negotiated));
    assert_eq!(payload.load(Ordering::Relaxed), usize::from(negotiated));
}

/// A message of the model reaches the bus.
fn assert_message(running: &TestPipeline, peer: &Peer) {
    peer.send_model_message("hello", &json!({ "text": "there" }));
    let message = running.wait_element("reactor-message", TIMEOUT);
    assert_eq!(message.get::<&str>("type").unwrap(), "hello");
    let data = message.get::<&str>("data").unwrap();
    assert_eq!(data, r#"{"text":"there"}"#);
}

#[test]
fn json_only_server_triggers_fallback_to_v0() {
    // The version does not tell that it knows v0 only.
    let config = PeerConfig::sending(&[Encoding::Vp8]).v0_only("3.0.0");
    let peer = Peer::start(config);
    let (running, frames) = play(&source(&peer));
    peer.wait_for_message(&ClientMessage::Resume(MAIN.into()), 1, TIMEOUT);
    frames.wait_more(30);
    let first_text = peer.received().iter().position(|received| !received.binary);
    let first_text = first_text.expect("JSON");
    assert!(first_text > 0, "v1 was not tried");
    assert_eq!(status(&running.by_name("r")), "ready");
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => warning.details().map(|d| d.to_owned()),
        _ => None,
    });
    assert_eq!(warning.get::<&str>("code").unwrap(), "VERSION_MISMATCH");
    assert_message(&running, &peer);
    // The first ping greets, the later ones keep the connection alive.
    let pings = |received: &[ReceivedMessage]| {
        let pings = received
            .iter()
            .filter(|h| !h.binary && h.message == ClientMessage::Ping);
        pings.count()
    };
    wait_for(TIMEOUT, "JSON pings", || {
        (pings(&peer.received()) >= 2).then_some(())
    });
    let received = peer.received();
    let took = received[first_text].at - received[0].at;
    assert!(took < Duration::from_secs(10), "{took:?} to fall back");
    assert!(
        received[first_text..]
            .iter()
            .all(|received| !received.binary)
    );
    frames.wait_more(30);
    running.assert_no_error();
}

#[test]
fn old_server_version_selects_v0_at_once() {
    let config = PeerConfig::sending(&[Encoding::Vp8]).v0_only("2.10.1");
    let peer = Peer::start(config);
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    assert_message(&running, &peer);
    let received = peer.received();
    assert_eq!(received[0].message, ClientMessage::Ping);
    assert_eq!(received[0].channel, "data");
    assert!(
        received.iter().all(|received| !received.binary),
        "{received:?}"
    );
}

#[test]
fn wire_property_selects_encoding() {
    for (wire, binary) in [("v0", false), ("v1", true)] {
        let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
        let (_running, frames) = play(&format!("{} wire={wire}", source(&peer)));
        frames.wait_more(10);
        let received = peer.received();
        assert_eq!(received[0].message, ClientMessage::Ping, "{wire}");
        assert!(
            received.iter().all(|h| h.binary == binary),
            "{wire}: {received:?}"
        );
    }
}

#[test]
fn paused_pipeline_pauses_track() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    running.pipeline.set_state(gst::State::Paused).unwrap();
    peer.wait_for_message(&ClientMessage::Pause(MAIN.into()), 1, TIMEOUT);
    // The pipeline's running time does not advance meanwhile.
    std::thread::sleep(Duration::from_millis(700));
    let sent = peer.sent(MAIN);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(peer.sent(MAIN), sent);
    running.play();
    peer.wait_for_message(&ClientMessage::Resume(MAIN.into()), 2, TIMEOUT);
    frames.wait_more(30);
    assert_pictures(&frames);
    running.assert_no_error();
}

#[test]
fn unlinked_pad_pauses_track_until_linked_again() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(30);
    let pad = running.pad("r", "video_main");
    let sink = running.pad("i", "sink");
    pad.unlink(&sink).unwrap();
    peer.wait_for_message(&ClientMessage::Pause(MAIN.into()), 1, TIMEOUT);
    std::thread::sleep(Duration::from_millis(500));
    running.assert_no_error();
    assert_eq!(running.pipeline.current_state(), gst::State::Playing);
    pad.link(&sink).unwrap();
    peer.wait_for_message(&ClientMessage::Resume(MAIN.into()), 2, TIMEOUT);
    frames.wait_more(30);
    running.assert_no_error();
}

#[test]
fn lost_connection_without_reconnect_posts_error() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&(source(&peer) + " reconnect=false"));
    frames.wait_more(10);
    peer.close_connection();
    let failure = running.wait_error(TIMEOUT);
    assert_eq!(failure.code(), "DISCONNECTED");
    assert_eq!(failure.detail::<String>("component"), "gpu");
    assert!(
        failure.error.matches(gst::ResourceError::Read),
        "{failure:?}"
    );
    running.stop();
    wait_for(TIMEOUT, "the end of the session", || {
        (peer.state() == "ready").then_some(())
    });
}

#[test]
fn ended_session_sends_eos() {
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (running, frames) = play(&source(&peer));
    frames.wait_more(10);
    peer.set_state("ready");
    peer.close_connection();
    running.wait_eos(TIMEOUT);
}

#[test]
fn answer_without_data_channels_posts_error() {
    let mut config = PeerConfig::sending(&[Encoding::Vp8]);
    config.rejects_channels = true;
    let peer = Peer::start(config);
    let (running, _frames) = play(&source(&peer));
    let failure = running.wait_error(TIMEOUT);
    assert_eq!(failure.code(), "TRANSPORT_ERROR");
    assert_eq!(failure.detail::<String>("operation"), "sdp_params");
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
fn codec_without_decoder_is_not_offered() {
    if !in_own_process("peer_servers::codec_without_decoder_is_not_offered") {
        return;
    }
    forget_decoders(Some("video/x-h264"));
    let peer = Peer::start(PeerConfig::sending(&[Encoding::Vp8]));
    let (_running, frames) = play(&source(&peer));
    frames.wait_more(10);
    assert_eq!(peer.offer(TIMEOUT).codecs("video"), ["VP9", "VP8"]);
}

#[test]
fn no_decoder_at_all_posts_missing_plugin_messages() {
    if !in_own_process("peer_servers::no_decoder_at_all_posts_missing_plugin_messages") {
        return;
    }
    forget_decoders(None);
    let peer = Peer::start(PeerConfig::sending(&[Encoding::H264]));
    let (running, _frames) = play(&source(&peer));
    let mut missing = Vec::new();
    let failure = running.wait_message(TIMEOUT, |message| match message.view() {
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
    assert_eq!(peer.offers(), 0);
}
