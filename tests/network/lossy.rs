// SPDX-License-Identifier: MIT

//! The elements on a network that loses and reorders packets: the real local runtime behind a
//! relay.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    actions::send_command,
    audio::{AudioChunk, AudioRecorder, CAPS},
    camera_view::{CameraView, Colour, show_colour},
    frames::{Frame, FrameReader},
    pipeline::{TestPipeline, count_buffers, is_v0, wait_until},
    proxy::{Proxy, RuntimeRoute},
    relay::{
        Direction, Jitter, LinkConditions, Relay, RtcpType, codec_payloads, count_codec_packets,
    },
    server::Server,
};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const LOSSY: LinkConditions = LinkConditions {
    loss: 0.05,
    jitter: Duration::from_millis(40),
    ..PERFECT
};
const PERFECT: LinkConditions = LinkConditions {
    loss: 0.0,
    loss_burst: 0.0,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    shape: Jitter::Uniform,
    in_order: false,
    rate: None,
};

/// A server that is reached through a relay.
struct Network {
    relay: Relay,
    proxy: Proxy,
    _server: Server,
}

impl Network {
    fn new(conditions: LinkConditions) -> Self {
        let server = Server::playground_640x360();
        let proxy = Proxy::before(&server);
        let relay = Relay::behind(&proxy, 1);
        relay.set_both(conditions);
        Self {
            relay,
            proxy,
            _server: server,
        }
    }

    /// A pipeline in which `{server}` is replaced by the properties that lead to the server.
    fn parse(&self, line: &str) -> TestPipeline {
        let server = format!("local=true api-url={}", self.proxy.url());
        TestPipeline::parse(&line.replace("{server}", &server))
    }

    /// The first offer.
    fn offer(&self) -> String {
        let offer = &self.proxy.requests(RuntimeRoute::Offer)[0].body;
        let offer: Value = serde_json::from_str(offer).unwrap();
        offer["sdp_offer"].as_str().unwrap().to_owned()
    }

    /// The number of retransmissions (RTX packets) in this direction.
    fn retransmissions(&self, direction: Direction) -> u64 {
        count_codec_packets(&self.offer(), "rtx", &self.relay.payloads(direction))
    }
}

fn assert_in_order(frames: &[Frame]) {
    for pair in frames.windows(2) {
        let (before, now) = (pair[0].counter, pair[1].counter);
        assert!(now > before, "frame {now} follows {before}");
    }
}

/// The number of frames that the model has emitted from the first to the last.
fn span(frames: &[Frame]) -> usize {
    let (first, last) = (frames[0].counter, frames.last().unwrap().counter);
    (last - first) as usize + 1
}

/// Sends a command on the `data` channel, and waits for the reply.
fn echo(element: &gst::Element, text: &str) {
    let arguments = serde_json::json!({ "text": text }).to_string();
    let reply = send_command(element, "echo", &arguments).wait(TIMEOUT);
    assert!(!reply.has_field("error"), "{reply}");
    let Ok(data) = reply.get::<&str>("data") else {
        return assert!(is_v0(), "{reply}");
    };
    assert!(data.contains(text), "{data}");
}

#[test]
fn source_behind_lossy_relay_keeps_playing() {
    let network = Network::new(LOSSY);
    let running = network.parse("reactorsrc name=r {server} ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, TIMEOUT);
    for n in 0..10 {
        echo(&running.by_name("r"), &format!("number {n}"));
    }
    reader.wait_for(60, TIMEOUT);

    network.relay.set_down(true);
    std::thread::sleep(Duration::from_secs(1));
    let before = reader.len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(reader.len(), before);
    network.relay.set_down(false);
    reader.wait_for(before + 30, TIMEOUT);

    assert_in_order(&reader.frames());
    assert_eq!(reader.unreadable(), 0);
    assert_eq!(network.relay.connections(), 1);
    running.assert_no_error();
}

#[test]
fn lost_packets_are_retransmitted() {
    let network = Network::new(LOSSY);
    let running =
        network.parse("reactorsrc {server} latency=200 max-latency=0 ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    // Without retransmission one frame of five remains; if NACKs were delayed, two of three. A
    // server on a busy machine sends late, but not all the time.
    let spans = (0..6).map(|_| {
        let first = reader.len();
        reader.wait_for(first + 60, TIMEOUT);
        span(&reader.frames()[first..first + 60])
    });
    let spans: Vec<usize> = spans.take_while(|span| *span >= 75).collect();
    assert!(spans.len() < 6, "60 frames of {spans:?}");
    assert_eq!(reader.unreadable(), 0);
    assert_in_order(&reader.frames());
    running.assert_no_error();
    let counts = network.relay.counts(Direction::ToClient);
    assert!(counts.lost > 0 && counts.reordered > 0, "{counts:?}");
    assert!(
        network.retransmissions(Direction::ToClient) > 0,
        "{counts:?}"
    );
}

/// Whether at most `missing` frames that the model emitted are absent in one of six spans of 60
/// frames.
fn is_nearly_complete(reader: &FrameReader, missing: usize) -> bool {
    let mut spans = (0..6).map(|_| {
        let first = reader.len();
        reader.wait_for(first + 60, TIMEOUT);
        span(&reader.frames()[first..first + 60])
    });
    spans.any(|span| span <= 60 + missing)
}

#[test]
fn lost_packets_are_recovered_without_retransmission() {
    let network = Network::new(PERFECT);
    let running = network.parse("reactorsrc {server} ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(1, TIMEOUT);
    // The server protects what it sends where the round trip is long and packets are lost, which
    // the receiver's reports tell. Without protection each loss costs what comes until the next
    // keyframe: half of the frames.
    let rtx = codec_payloads(&network.offer(), "rtx");
    network.relay.drop_payloads(Direction::ToClient, rtx);
    network.relay.set_both(LinkConditions {
        loss: 0.02,
        delay: Duration::from_millis(50),
        ..PERFECT
    });
    // Receiver reports, each of any number of streams.
    let reports = || -> u64 {
        let reports = (1..=31).map(|format| RtcpType {
            packet_type: 201,
            format,
        });
        let count = |report| network.relay.rtcp_packets(Direction::ToServer, report);
        reports.map(count).sum()
    };
    // Twice a second; by itself, GStreamer sends one in five seconds.
    let before = reports();
    reader.wait_for(reader.len() + 150, TIMEOUT);
    assert!(reports() - before >= 4, "{before}, {}", reports());
    assert!(is_nearly_complete(&reader, 12), "{:?}", network.relay);

    // Bursts, in which protection is lost too.
    network.relay.drop_payloads(Direction::ToClient, Vec::new());
    network.relay.set_both(LinkConditions {
        loss: 0.02,
        loss_burst: 8.0,
        ..PERFECT
    });
    assert!(is_nearly_complete(&reader, 6), "{:?}", network.relay);
    assert_in_order(&reader.frames());
    assert_eq!(reader.unreadable(), 0);
    assert_eq!(network.relay.connections(), 1);
    running.assert_no_error();
}

/// The jitter buffer's latency by `stats`, and the latency that the pad answers, in ms.
fn latency(running: &TestPipeline) -> (u32, u64) {
    let stats: gst::Structure = running.by_name("r").property("stats");
    let mut query = gst::query::Latency::new();
    assert!(running.pad("r", "video_main_video").query(&mut query));
    let (live, minimum, _) = query.result();
    assert!(live);
    (stats.get("latency-ms").unwrap(), minimum.mseconds())
}

#[test]
fn jitter_buffer_grows_on_bad_network() {
    let network = Network::new(LOSSY);
    let running = network.parse("reactorsrc name=r {server} ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(1, TIMEOUT);
    assert!(latency(&running).0 >= 60);
    // The jitter, and the round trip of a retransmission.
    while latency(&running).0 < 100 {
        running.wait_latency_message("r", TIMEOUT);
    }
    // The latency may grow once more.
    let mut spans = (0..6).map(|_| {
        let first = reader.len() + 15;
        reader.wait_for(first + 150, TIMEOUT);
        span(&reader.frames()[first..first + 150])
    });
    // With a latency of 60 ms it is several hundred.
    assert!(spans.any(|span| span < 180));
    let (says, answers) = latency(&running);
    assert!((100..=400).contains(&says), "{says}");
    assert!(answers >= u64::from(says), "{answers} for {says}");
    let frames = reader.frames();
    assert_in_order(&frames);
    assert!(frames.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    running.assert_no_error();
}

#[test]
fn jitter_buffer_keeps_latency_after_outages() {
    let network = Network::new(PERFECT);
    let running =
        network.parse("reactorsrc name=r latency=20 {server} ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    for _ in 0..3 {
        reader.wait_for(reader.len() + 60, TIMEOUT);
        network.relay.set_down(true);
        std::thread::sleep(Duration::from_millis(1500));
        network.relay.set_down(false);
    }
    reader.wait_for(reader.len() + 60, TIMEOUT);
    let (says, answers) = latency(&running);
    assert_eq!(says, 20);
    assert!((20..120).contains(&answers), "{answers}");
    running.assert_no_error();
}

/// Packets that come twice as fast as they are played, for 4 s, as a server sends them that makes up
/// for a time without a processor: 2 s of sound too much.
#[test]
fn sound_of_shrinking_delay_does_not_go_back() {
    const SHRINKS_FOR: Duration = Duration::from_secs(4);
    let delayed = |delay: Duration| LinkConditions {
        delay,
        in_order: true,
        ..PERFECT
    };
    let network = Network::new(PERFECT);
    let to_client = |conditions| network.relay.set(Direction::ToClient, conditions);
    let running = network.parse(&format!(
        "reactorsrc name=r latency=20 stall-timeout=20000 {{server}} r.audio_main_audio \
         ! audioconvert ! audioresample ! {CAPS} ! identity name=i ! fakesink sync=false"
    ));
    let recorder = AudioRecorder::watch(&running.pad("i", "src"));
    running.play();
    recorder.wait_for(1.0, TIMEOUT);
    to_client(delayed(SHRINKS_FOR / 2));
    recorder.wait_for(recorder.seconds() + 1.0, TIMEOUT);
    let begun = Instant::now();
    while begun.elapsed() < SHRINKS_FOR {
        to_client(delayed((SHRINKS_FOR - begun.elapsed()) / 2));
        std::thread::sleep(Duration::from_millis(5));
    }
    to_client(PERFECT);
    recorder.wait_for(recorder.seconds() + 2.0, TIMEOUT);
    let chunks = recorder.chunks();
    let back = chunks.windows(2).find(|pair| pair[1].pts < pair[0].pts);
    assert!(
        back.is_none(),
        "{:?}",
        back.map(|pair| (pair[0].pts, pair[1].pts))
    );
    running.assert_no_error();
}

/// By how much sound is scheduled after its arrival, in microseconds of unlike clocks.
fn ahead(chunk: &AudioChunk) -> i64 {
    chunk.pts.useconds() as i64 - i64::from(chunk.seen)
}

/// A link that holds all packets back for 0.8 s and loses none: what comes late in a burst is not
/// played late.
#[test]
fn sound_is_in_time_soon_after_packets_were_held_back() {
    const HELD_BACK: Duration = Duration::from_millis(800);
    let network = Network::new(PERFECT);
    let running = network.parse(&format!(
        "reactorsrc name=r latency=20 {{server}} r.audio_main_audio \
         ! audioconvert ! audioresample ! {CAPS} ! identity name=i ! fakesink sync=false"
    ));
    let recorder = AudioRecorder::watch(&running.pad("i", "src"));
    running.play();
    recorder.wait_for(4.0, TIMEOUT);
    let usual = recorder.chunks().iter().skip(50).map(ahead).max().unwrap();
    for delay in [HELD_BACK, Duration::ZERO] {
        let held_back = LinkConditions {
            delay,
            in_order: true,
            ..PERFECT
        };
        network.relay.set(Direction::ToClient, held_back);
        std::thread::sleep(HELD_BACK);
    }
    let before = recorder.chunks().len();
    recorder.wait_for(recorder.seconds() + 2.0, TIMEOUT);
    let mut later: Vec<i64> = recorder.chunks()[before..].iter().map(ahead).collect();
    later.sort_unstable();
    let behind_ms = (later[later.len() / 2] - usual) / 1000;
    // 24 ms; 600 ms where one packet of ten is dropped until the sound is in time again.
    assert!(behind_ms < 300, "{behind_ms} ms");
    running.assert_no_error();
}

/// Sound that is lost is not sent again, but waited for, as long as `latency`. What has come meanwhile
/// is in time.
#[test]
fn long_latency_keeps_sound_that_follows_a_lost_packet() {
    const PACKETS: u64 = 500;
    let network = Network::new(PERFECT);
    let running = network.parse(
        "reactorsrc name=r latency=1000 {server} r.audio_main_audio ! fakesink name=f sync=false",
    );
    // One for each packet.
    let sounds = count_buffers(&running.pad("f", "sink"));
    let counts = || {
        let stats = running.pad_stats("r", "audio_main_audio");
        (stats.get::<u64>("received").unwrap(), sounds() as u64)
    };
    running.play();
    wait_until("sound", TIMEOUT, || sounds() > 50);
    let lossy = LinkConditions {
        loss: 0.03,
        ..PERFECT
    };
    network.relay.set(Direction::ToClient, lossy);
    let before = counts();
    wait_until("packets", TIMEOUT, || counts().0 >= before.0 + PACKETS);
    let after = counts();
    let (received, played) = (after.0 - before.0, after.1 - before.1);
    // Most of it is silence where a gap is told while the sound may still come.
    assert!(played * 10 >= received * 8, "{played} of {received}");
    assert!(network.relay.counts(Direction::ToClient).lost > 0);
    running.assert_no_error();
}

#[test]
fn reordered_packets_are_not_lost() {
    let network = Network::new(LinkConditions { loss: 0.0, ..LOSSY });
    let running = network.parse("reactorsrc {server} latency=300 ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    // A server on a busy machine drops pictures, but not all the time.
    for _ in 0..4 {
        let first = reader.len();
        reader.wait_for(first + 60, TIMEOUT);
        let frames = &reader.frames()[first..];
        assert_in_order(frames);
        if span(frames) == frames.len() {
            let counts = network.relay.counts(Direction::ToClient);
            assert!(counts.reordered > 0 && counts.lost == 0, "{counts:?}");
            assert_eq!(reader.unreadable(), 0);
            return running.assert_no_error();
        }
    }
    panic!("frames are missing each time: {:?}", network.relay);
}

#[test]
fn camera_over_lossy_network_reaches_model() {
    let network = Network::new(LOSSY);
    let running = network.parse(
        "videotestsrc is-live=true pattern=red name=c \
         ! video/x-raw,format=I420,width=320,height=180,framerate=15/1 ! reactorsink {server} \
         reactorsrc name=r latency=200 r.video_main_video ! videoconvert \
         ! video/x-raw,format=I420 ! identity name=i ! fakesink sync=false",
    );
    let view = CameraView::watch(&running.pad("i", "src"));
    running.play();
    for colour in [Colour::Red, Colour::Blue, Colour::Red] {
        show_colour(&running.by_name("c"), colour);
        view.wait_for(colour, TIMEOUT);
    }
    let counts = network.relay.counts(Direction::ToServer);
    assert!(counts.lost > 0, "{counts:?}");
    // Packets that the server misses are sent again.
    wait_until("repair", TIMEOUT, || {
        network.retransmissions(Direction::ToServer) > 0
    });
    running.assert_no_error();
}
