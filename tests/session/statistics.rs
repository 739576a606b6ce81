// SPDX-License-Identifier: MIT

//! The property `stats` and the message `reactor-stats`: against what a relay between element and
//! runtime counts, at their interval, after a reconnection and after a pause; and what the platform
//! is told.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    actions::{disconnect, reconnect, with_track},
    pipeline::{TestPipeline, is_v0, wait_for, wait_until},
    proxy::{Proxy, RuntimeRoute},
    relay::{Direction, LinkConditions, Relay, RtcpType, count_codec_packets},
    server::Server,
};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Statistics are read once a second.
const READINGS: Duration = Duration::from_millis(2500);
const VIDEO_PAD: &str = "video_main_video";
/// Feedback messages (RFC 4585, 6.2.1 and 6.3.1; RFC 5104, 4.3.1).
const GENERIC_NACK: RtcpType = RtcpType {
    packet_type: 205,
    format: 1,
};
const FULL_INTRA_REQUEST: RtcpType = RtcpType {
    packet_type: 206,
    format: 4,
};
const PICTURE_LOSS_INDICATION: RtcpType = RtcpType {
    packet_type: 206,
    format: 1,
};

/// The elements reach the server through a relay.
struct Network {
    relay: Relay,
    proxy: Proxy,
    _server: Server,
}

impl Network {
    fn new() -> Self {
        let server = Server::playground();
        let proxy = Proxy::before(&server);
        Self {
            relay: Relay::behind(&proxy, 1),
            proxy,
            _server: server,
        }
    }

    fn parse(&self, line: &str) -> TestPipeline {
        let server = format!("local=true api-url={}", self.proxy.url());
        TestPipeline::parse(&line.replace("{server}", &server))
    }

    /// The number of RTP packets of video to the client, lost ones included. They are in RED, with
    /// those that protect others, where the server agreed to that.
    fn video_packets(&self) -> u64 {
        let offers = self.proxy.requests(RuntimeRoute::Offer);
        let Some(offer) = offers.first() else {
            return 0;
        };
        let offer: Value = serde_json::from_str(&offer.body).unwrap();
        let sdp = offer["sdp_offer"].as_str().unwrap();
        let payloads = self.relay.payloads(Direction::ToClient);
        let count = |codec| count_codec_packets(sdp, codec, &payloads);
        count("vp9") + count("red")
    }
}

/// Empty while there is no session.
fn connection(running: &TestPipeline, element: &str) -> gst::Structure {
    let stats: gst::Structure = running.by_name(element).property("stats");
    let empty = || gst::Structure::new_empty("connection");
    stats.get("connection").unwrap_or_else(|_| empty())
}

/// Empty while there is no such pad.
fn video(running: &TestPipeline) -> gst::Structure {
    let stats: gst::Structure = running.by_name("r").property("stats");
    let empty = || gst::Structure::new_empty("track");
    stats.get(VIDEO_PAD).unwrap_or_else(|_| empty())
}

fn count(stats: &gst::Structure, name: &str) -> u64 {
    stats.get(name).unwrap_or(0)
}

fn assert_close(what: &str, value: u64, expected: u64, tolerance: u64) {
    let difference = value.abs_diff(expected);
    assert!(difference <= tolerance, "{what}: {value}, not {expected}");
}

/// What a player does that misses a picture, this many times in a second.
fn request_keyframes(sink: &gst::Pad, count: u32) {
    for _ in 0..count {
        let request = gst_video::UpstreamForceKeyUnitEvent::builder().build();
        assert!(sink.push_event(request));
        std::thread::sleep(Duration::from_secs(1) / count);
    }
}

#[test]
fn statistics_agree_with_relay() {
    let network = Network::new();
    let delay = Duration::from_millis(40);
    network.relay.set_both(LinkConditions {
        loss: 0.05,
        delay,
        ..LinkConditions::default()
    });
    let running = network.parse("reactorsrc name=r latency=300 {server} ! fakesink name=sink");
    running.play();
    // Forward error correction may recover each of the first losses.
    wait_until("packets, a round trip, a retransmission", TIMEOUT, || {
        network.video_packets() > 600
            && connection(&running, "r").has_field("round-trip-time")
            && count(&video(&running), "retransmitted-packets-received") > 0
    });
    let asked = |rtcp| network.relay.rtcp_packets(Direction::ToServer, rtcp);
    let keyframe_requests = || asked(FULL_INTRA_REQUEST) + asked(PICTURE_LOSS_INDICATION);
    let before = keyframe_requests();
    let begun = Instant::now();
    request_keyframes(&running.pad("sink", "sink"), 100);
    wait_until("a keyframe request", TIMEOUT, || {
        keyframe_requests() > before
    });
    // At most one in 1.5 round trips, which are 80 ms, and in 150 ms.
    let intervals = begun.elapsed().as_millis() as u64 / 150;
    let requests = keyframe_requests() - before;
    assert!(
        requests <= 2 + intervals,
        "{requests} in {intervals} intervals"
    );
    // Nothing arrives any more, so that the last reading is complete.
    network.relay.set_down(true);
    let sent = network.video_packets();
    let relayed = network.relay.counts(Direction::ToClient);
    std::thread::sleep(READINGS);

    let video = video(&running);
    let received = count(&video, "packets-received");
    let lost = video.get::<i64>("packets-lost").unwrap() as u64;
    assert_close("packets", received + lost, sent, 10 + sent / 50);
    let ratio = lost as f64 / sent as f64;
    assert!((0.025..0.085).contains(&ratio), "{lost} of {sent} lost");
    // Each is a datagram of its own.
    let nacks = asked(GENERIC_NACK);
    assert!(nacks > 0);
    assert_close("requests", count(&video, "nack-count"), nacks, 2);
    let requested = count(&video, "fir-count") + count(&video, "pli-count");
    // The last one may be on its way when the network goes down.
    assert_close("keyframe requests", requested, keyframe_requests(), 1);
    assert!(
        count(&video, "retransmitted-packets-received") > 0,
        "{video}"
    );
    assert!(count(&video, "bytes-received") > 100 * received, "{video}");
    assert!(video.get::<f64>("jitter").is_ok(), "{video}");
    // Each packet waits in the jitter buffer, but for no longer than its latency and a little.
    let emitted = count(&video, "jitter-buffer-emitted-count");
    let waited: f64 = video.get("jitter-buffer-delay").unwrap();
    assert!(emitted > received / 2, "{video}");
    assert!(waited > 0.0 && waited / (emitted as f64) < 2.0, "{video}");

    let connection = connection(&running, "r");
    // Without STUN, which the relay counts.
    let packets = count(&connection, "packets-received");
    assert!(
        packets > received && packets <= relayed.passed,
        "{connection}"
    );
    // With DTLS, which the relay does not count.
    let bytes = count(&connection, "bytes-received");
    assert_close("bytes", bytes, relayed.passed_rtp_bytes, bytes / 20);
    assert!(count(&video, "bytes-received") < bytes, "{video}");
    let round_trip: f64 = connection.get("round-trip-time").unwrap();
    assert!(round_trip >= 2.0 * delay.as_secs_f64(), "{connection}");
    assert!(round_trip < 5.0, "{connection}");
    // The relay hides the client's own address.
    for (field, value) in [
        ("dtls-state", "connected"),
        ("local-candidate-type", "prflx"),
        ("remote-candidate-type", "host"),
        ("protocol", "udp"),
    ] {
        assert_eq!(connection.get::<&str>(field), Ok(value), "{connection}");
    }
    assert_eq!(connection.get::<bool>("relay"), Ok(false), "{connection}");
}

#[test]
fn frames_of_decoder_and_encoder_are_in_statistics() {
    let network = Network::new();
    let running = network.parse(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=s {server} \
         reactorsrc name=r r.video_main_video ! identity name=i ! fakesink",
    );
    let pad = running.pad("i", "src");
    let frames = reactor_tests::pipeline::count_buffers(&pad);
    running.play();
    wait_until("statistics of both tracks", TIMEOUT, || {
        let stats: gst::Structure = running.by_name("s").property("stats");
        let sent = stats.get::<gst::Structure>("video_0");
        let sent = sent.is_ok_and(|sent| {
            count(&sent, "packets-sent") > 0 && sent.has_field("round-trip-time")
        });
        sent && frames() > 60
    });
    let sent = running.pad_stats("s", "video_0");
    let names = [("frame-width", 320), ("frame-height", 180)];
    for (name, value) in names {
        assert_eq!(sent.get::<u32>(name), Ok(value), "{sent}");
    }
    assert!(count(&sent, "frames-sent") > 0, "{sent}");
    assert!(count(&sent, "bytes-sent") > 0, "{sent}");
    assert!(sent.get::<&str>("encoder-implementation").is_ok(), "{sent}");

    let before = frames() as u64;
    let video = video(&running);
    let after = frames() as u64;
    let decoded = count(&video, "frames-decoded");
    // A buffer is counted before it reaches the other pad.
    assert!(
        (before..=after + 5).contains(&decoded),
        "{before} {after} {video}"
    );
    assert!(
        video.get::<f64>("frames-per-second").unwrap() > 0.0,
        "{video}"
    );
    assert!(video.get::<u32>("frame-width").unwrap() > 0, "{video}");
    assert!(
        video.get::<&str>("decoder-implementation").is_ok(),
        "{video}"
    );
    running.assert_no_error();
}

#[test]
fn messages_come_at_interval_and_stop() {
    let network = Network::new();
    let running = network.parse("reactorsrc name=r stats-interval=200 {server} ! fakesink");
    running.play();
    let next = || running.wait_element("reactor-stats", TIMEOUT);
    let mut with_video = (0..300)
        .map(|_| next())
        .filter(|stats| stats.has_field(VIDEO_PAD));
    let first = with_video.next().expect("statistics of the track");
    assert!(first.has_field("connection"), "{first}");
    let source = running.by_name("r");
    source.set_property("stats-interval", 0u32);
    let bus = running.pipeline.bus().unwrap();
    let pending = || {
        let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]));
        let names = messages.filter_map(|message| Some(message.structure()?.name().to_string()));
        names.filter(|name| name == "reactor-stats").count()
    };
    // What was on its way arrives.
    std::thread::sleep(Duration::from_millis(500));
    pending();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(pending(), 0);
    source.set_property("stats-interval", 100u32);
    next();
    running.assert_no_error();
}

#[test]
fn reconnection_keeps_totals() {
    let network = Network::new();
    let running = network.parse("reactorsrc name=r {server} ! fakesink");
    running.play();
    let received = || count(&video(&running), "packets-received");
    wait_until("the connection", TIMEOUT, || {
        received() > 100 && connection(&running, "r").has_field("ice-state")
    });
    let source = running.by_name("r");
    disconnect(&source, true);
    let before = wait_for(TIMEOUT, "the end of the connection", || {
        let connection = connection(&running, "r");
        (!connection.has_field("ice-state")).then(|| count(&connection, "bytes-received"))
    });
    let packets = received();
    assert!(
        packets > 100 && before > 0,
        "{packets} packets, {before} bytes"
    );
    reconnect(&source);
    wait_until("more packets on the next connection", TIMEOUT, || {
        let connection = connection(&running, "r");
        let bytes = count(&connection, "bytes-received");
        assert!(bytes >= before && received() >= packets, "{connection}");
        received() > packets + 50 && connection.has_field("ice-state")
    });
    assert_eq!(network.relay.connections(), 2);
    running.assert_no_error();
}

#[test]
fn counters_of_paused_track_go_on() {
    let network = Network::new();
    let running = network.parse("reactorsrc name=r {server} ! fakesink");
    running.play();
    let mut last = [0; 2];
    let mut received = || {
        let video = video(&running);
        let now = ["packets-received", "bytes-received"].map(|name| count(&video, name));
        let fell = now[0] < last[0] || now[1] < last[1];
        assert!(!fell, "{last:?}, then {video}");
        last = now;
        now[0]
    };
    wait_until("packets", TIMEOUT, || received() > 100);
    let source = running.by_name("r");
    with_track(&source, "pause-track", "main_video").wait_ok(TIMEOUT);
    // rtpsession (1.22) removes what it knows of a silent SSRC after 5 s to 25 s.
    wait_until("that the jitter is forgotten", TIMEOUT, || {
        received();
        !video(&running).has_field("jitter")
    });
    let before = received();
    assert!(before > 100, "{before} packets");
    with_track(&source, "resume-track", "main_video").wait_ok(TIMEOUT);
    wait_until("more packets after the pause", TIMEOUT, || {
        received() > before + 50 && video(&running).has_field("jitter")
    });
    running.assert_no_error();
}

/// The statistics of a client that the server has noted by now.
fn client_stats(server: &Server) -> Vec<Value> {
    let facts = server.events();
    let details = facts.into_iter().map(|mut fact| fact["detail"].take());
    details
        .filter(|detail| detail["name"] == "client_stats")
        .collect()
}

fn start_camera_and_source(server: &Server, properties: &str) -> TestPipeline {
    TestPipeline::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=s local=true api-url={url} \
         reactorsrc name=r {properties} r.video_main_video ! fakesink",
        url = server.url()
    ))
}

#[test]
fn platform_is_told_of_quality() {
    if is_v0() {
        return;
    }
    let server = Server::start(&[]);
    let running = start_camera_and_source(&server, "");
    let told = wait_for(TIMEOUT, "two reports", || {
        let told = client_stats(&server);
        (told.len() >= 2).then_some(told)
    });
    running.assert_no_error();
    let first = &told[0];
    let connection = &first["connection_stat"];
    assert!(
        connection["metrics"]["time_to_connect_ms"].as_f64() > Some(0.0),
        "{first}"
    );
    assert_eq!(
        connection["environment"]["sdk_type"], "gstreamer",
        "{first}"
    );
    let last = told.last().unwrap();
    let track = |name: &str| {
        let tracks = last["track_stats"].as_array().unwrap();
        let track = tracks.iter().find(|track| track["track_name"] == name);
        track
            .unwrap_or_else(|| panic!("no {name} in {last}"))
            .clone()
    };
    let video = track("main_video");
    assert_eq!(video["kind"], "video", "{video}");
    assert_eq!(video["direction"], "recvonly", "{video}");
    assert_eq!(
        (&video["codec"], &video["paused"]),
        (&"VP9".into(), &false.into()),
        "{video}"
    );
    assert!(
        !video["codec_implementation"].as_str().unwrap().is_empty(),
        "{video}"
    );
    let metric = |track: &Value, name: &str| {
        let value = track["metrics"][name].as_f64();
        value.unwrap_or_else(|| panic!("no {name} in {track}"))
    };
    for name in [
        "packets_received",
        "bitrate_bps",
        "frames_decoded",
        "frames_per_second",
        "frame_width",
        "frame_height",
    ] {
        assert!(metric(&video, name) > 0.0, "{name} of {video}");
    }
    for name in [
        "jitter_ms",
        "packets_lost",
        "nack_count",
        "keyframe_requests",
        "frames_dropped",
    ] {
        assert!(metric(&video, name) >= 0.0, "{name} of {video}");
    }
    assert_eq!(video["frame_stages"][0]["name"], "jitter_buffer", "{video}");
    let camera = track("camera");
    assert_eq!(camera["direction"], "sendonly", "{camera}");
    assert!(metric(&camera, "packets_sent") > 0.0, "{camera}");
    assert!(
        (metric(&camera, "frame_width") - 320.0).abs() < 0.5,
        "{camera}"
    );
    assert!(
        metric(&camera, "retransmitted_packets_sent") >= 0.0,
        "{camera}"
    );
    // Audio that nobody takes rests on the server.
    assert_eq!(track("main_audio")["paused"], true);
}

#[test]
fn platform_is_told_nothing_if_an_element_is_against_it() {
    let server = Server::start(&[]);
    let running = start_camera_and_source(&server, "report-stats=false");
    wait_until("statistics", TIMEOUT, || {
        count(&video(&running), "packets-received") > 0
    });
    // Twice the interval of the reports.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(client_stats(&server), Vec::<Value>::new());
    running.assert_no_error();
}
