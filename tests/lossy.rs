// SPDX-License-Identifier: MIT

//! The elements on a network that loses and reorders packets, against the real
//! local runtime behind a relay.

use std::{sync::mpsc, time::Duration};

use gst::prelude::*;
use reactor_tests::{
    frames::{Frame, Reader},
    inset::{Colour, Inset},
    pipeline::{Running, is_v0, wait_until},
    proxy::{Proxy, Route},
    relay::{Conditions, Jitter, Relay, Towards, of_format},
    server::Server,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const LOSSY: Conditions = Conditions {
    loss: 0.05,
    jitter: Duration::from_millis(40),
    ..PERFECT
};
const PERFECT: Conditions = Conditions {
    loss: 0.0,
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
    fn new(conditions: Conditions) -> Self {
        let server = Server::playground();
        let proxy = Proxy::before(&server);
        let relay = Relay::behind(&proxy, 1);
        relay.set_both(conditions);
        Self {
            relay,
            proxy,
            _server: server,
        }
    }

    /// A pipeline in which `{server}` stands for what leads to the server.
    fn parse(&self, line: &str) -> Running {
        let server = format!("local=true api-url={}", self.proxy.url());
        Running::parse(&line.replace("{server}", &server))
    }

    /// How many packets towards there were repair.
    fn repairs(&self, towards: Towards) -> u64 {
        let offer = &self.proxy.requests(Route::Offer)[0].body;
        let offer: Value = serde_json::from_str(offer).unwrap();
        let sdp = offer["sdp_offer"].as_str().unwrap();
        of_format(sdp, "rtx", &self.relay.payloads(towards))
    }
}

fn assert_no_error(running: &Running) {
    let bus = running.pipeline.bus().unwrap();
    let error = bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
}

fn assert_in_order(frames: &[Frame]) {
    for pair in frames.windows(2) {
        let (before, now) = (pair[0].counter, pair[1].counter);
        assert!(now > before, "frame {now} follows {before}");
    }
}

/// How many frames the model counted meanwhile.
fn span(frames: &[Frame]) -> usize {
    let (first, last) = (frames[0].counter, frames.last().unwrap().counter);
    (last - first) as usize + 1
}

/// Asks for something on the `data` channel, and waits for the reply.
fn echo(element: &gst::Element, text: &str) {
    let (sender, replies) = mpsc::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.ok().flatten().map(|reply| reply.to_owned()));
    });
    let arguments = serde_json::json!({ "text": text }).to_string();
    element.emit_by_name::<()>("send-command", &[&"echo", &arguments, &promise]);
    let reply = replies.recv_timeout(SOON).expect("a reply").unwrap();
    assert!(!reply.has_field("error"), "{reply}");
    let Ok(data) = reply.get::<&str>("data") else {
        return assert!(is_v0(), "{reply}");
    };
    assert!(data.contains(text), "{data}");
}

#[test]
fn a_source_goes_on_and_there_is_no_way_around() {
    let network = Network::new(LOSSY);
    let running = network.parse("reactorsrc name=r {server} ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, SOON);
    for n in 0..10 {
        echo(&running.by_name("r"), &format!("number {n}"));
    }
    reader.wait_for(60, SOON);

    network.relay.black_out(true);
    std::thread::sleep(Duration::from_secs(1));
    let before = reader.len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(reader.len(), before);
    network.relay.black_out(false);
    reader.wait_for(before + 30, SOON);

    assert_in_order(&reader.frames());
    assert_eq!(reader.unreadable(), 0);
    assert_eq!(network.relay.connections(), 1);
    assert_no_error(&running);
}

#[test]
fn what_is_lost_is_repaired() {
    let network = Network::new(LOSSY);
    let running =
        network.parse("reactorsrc {server} latency=200 max-latency=0 ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(240, SOON);
    let frames = reader.frames();
    assert_eq!(reader.unreadable(), 0);
    assert_in_order(&frames);
    assert_no_error(&running);
    let counts = network.relay.counts(Towards::Client);
    assert!(counts.lost > 0 && counts.overtook > 0, "{counts:?}");
    assert!(network.repairs(Towards::Client) > 0, "{counts:?}");
    // Without repair it is one of five; where requests have to wait, two of three.
    let span = span(&frames);
    assert!(span < frames.len() * 5 / 4, "{} of {span}", frames.len());
}

/// What the element says of its jitter buffer, and answers when asked, in ms.
fn latency(running: &Running) -> (u32, u64) {
    let stats: gst::Structure = running.by_name("r").property("stats");
    let mut query = gst::query::Latency::new();
    assert!(running.pad("r", "video_main_video").query(&mut query));
    let (live, minimum, _) = query.result();
    assert!(live);
    (stats.get("latency-ms").unwrap(), minimum.mseconds())
}

#[test]
fn a_bad_network_is_waited_for() {
    let network = Network::new(LOSSY);
    let running = network.parse("reactorsrc name=r {server} ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(1, SOON);
    assert_eq!(latency(&running).0, 60);
    // The jitter, and what another request takes.
    let element = running.by_name("r");
    while latency(&running).0 < 100 {
        running.wait_message(SOON, |message| {
            let is_latency = matches!(message.view(), gst::MessageView::Latency(_));
            (is_latency && message.src() == Some(element.upcast_ref())).then_some(())
        });
    }
    // It may take another step.
    let mut spans = (0..6).map(|_| {
        let first = reader.len() + 15;
        reader.wait_for(first + 150, SOON);
        span(&reader.frames()[first..first + 150])
    });
    // At 60 ms it is several hundred.
    assert!(spans.any(|span| span < 180));
    let (says, answers) = latency(&running);
    assert!((100..=400).contains(&says), "{says}");
    assert!(answers >= u64::from(says), "{answers} for {says}");
    let frames = reader.frames();
    assert_in_order(&frames);
    assert!(frames.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    assert_no_error(&running);
}

#[test]
fn a_good_network_is_not_waited_for_whatever_it_was_before() {
    let network = Network::new(PERFECT);
    let running =
        network.parse("reactorsrc name=r latency=20 {server} ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    for _ in 0..3 {
        reader.wait_for(reader.len() + 60, SOON);
        network.relay.black_out(true);
        std::thread::sleep(Duration::from_millis(1500));
        network.relay.black_out(false);
    }
    reader.wait_for(reader.len() + 60, SOON);
    let (says, answers) = latency(&running);
    assert_eq!(says, 20);
    assert!((20..120).contains(&answers), "{answers}");
    assert_no_error(&running);
}

#[test]
fn what_comes_in_another_order_is_not_lost() {
    let network = Network::new(Conditions { loss: 0.0, ..LOSSY });
    let running = network.parse("reactorsrc {server} latency=300 ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    // A server on a busy machine leaves out pictures, but not all the time.
    for _ in 0..4 {
        let first = reader.len();
        reader.wait_for(first + 60, SOON);
        let frames = &reader.frames()[first..];
        assert_in_order(frames);
        if span(frames) == frames.len() {
            let counts = network.relay.counts(Towards::Client);
            assert!(counts.overtook > 0 && counts.lost == 0, "{counts:?}");
            assert_eq!(reader.unreadable(), 0);
            return assert_no_error(&running);
        }
    }
    panic!("frames are missing each time: {:?}", network.relay);
}

#[test]
fn a_camera_is_seen() {
    let network = Network::new(LOSSY);
    let running = network.parse(
        "videotestsrc is-live=true pattern=red name=c \
         ! video/x-raw,format=I420,width=320,height=180,framerate=15/1 ! reactorsink {server} \
         reactorsrc name=r latency=200 r.video_main_video ! videoconvert \
         ! video/x-raw,format=I420 ! identity name=i ! fakesink sync=false",
    );
    let inset = Inset::watch(&running.pad("i", "src"));
    running.play();
    for colour in [Colour::Red, Colour::Blue, Colour::Red] {
        let camera = running.by_name("c");
        camera.set_property_from_str("pattern", colour.pattern());
        inset.wait_for(colour, SOON);
    }
    let counts = network.relay.counts(Towards::Server);
    assert!(counts.lost > 0, "{counts:?}");
    // What the server misses is sent again.
    wait_until("repair", SOON, || network.repairs(Towards::Server) > 0);
    assert_no_error(&running);
}
