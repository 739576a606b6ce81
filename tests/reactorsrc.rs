// SPDX-License-Identifier: MIT

//! reactorsrc against the real local runtime: what comes out of its pads,
//! raw, whatever is linked to them and when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    frames::{Reader, assert_flow},
    media,
    pipeline::{Running, wait_until},
    server::Server,
    sound::{self, Listener},
    tool,
};

const SOON: Duration = Duration::from_secs(30);

/// `reactorsrc name=r` for this server, followed by `rest`.
fn parse(server: &Server, rest: &str) -> Running {
    Running::parse(&format!(
        "reactorsrc local=true api-url={} name=r {rest}",
        server.url()
    ))
}

/// A number from the `stats` property.
fn received(running: &Running, pad: &str) -> u64 {
    let stats: gst::Structure = running.by_name("r").property("stats");
    stats.get::<gst::Structure>(pad).map_or(0, |of_pad| {
        of_pad.get("received").expect("a number of units")
    })
}

fn status(running: &Running) -> String {
    let value = running.by_name("r").property_value("status");
    let (_, status) = gst::glib::EnumValue::from_value(&value).expect("an enumeration");
    status.nick().to_owned()
}

#[test]
fn raw_video_comes_whole() {
    let server = Server::playground();
    let mut gaps = Vec::new();
    // A server on a busy machine leaves out pictures before it encodes them.
    // It does not do so every time, and nobody else may.
    for _ in 0..3 {
        let running = parse(&server, "! identity name=i ! fakesink sync=false");
        let reader = Reader::watch(&running.pad("i", "src"));
        running.play();
        reader.wait_for(90, SOON);
        let frames = reader.frames();
        assert_eq!(reader.unreadable(), 0);
        assert_flow(&frames);
        // The jitter buffer gives frames that come in a burst the same time.
        assert!(frames.windows(2).all(|pair| pair[0].pts <= pair[1].pts));
        let counters: Vec<_> = frames.iter().map(|frame| frame.counter).collect();
        gaps = media::gaps(&counters);
        if gaps.is_empty() {
            return;
        }
    }
    panic!("frames are missing each time, the last time at {gaps:?}");
}

#[test]
fn raw_video_and_audio_play_together() {
    let server = Server::playground();
    let running = parse(
        &server,
        &format!(
            "r. ! queue ! videoconvert ! identity name=v ! fakesink \
             r. ! queue ! audioconvert ! {} ! identity name=a ! fakesink",
            sound::CAPS
        ),
    );
    let video = Reader::watch(&running.pad("v", "src"));
    let audio = Listener::watch(&running.pad("a", "src"));
    running.play();
    video.wait_for(90, SOON);
    assert_flow(&video.frames());
    assert_eq!(video.unreadable(), 0);
    // A busy machine may hold up the server's sound, but not all the time.
    wait_until("two seconds without a gap", SOON, || {
        let pieces = audio.pieces();
        let run = sound::longest_run(&pieces, Duration::from_millis(15));
        let samples: Vec<i16> = run.iter().flat_map(|p| p.samples.clone()).collect();
        let enough = samples.len() >= 2 * sound::RATE as usize;
        if enough {
            sound::assert_is_the_tone(&samples);
        }
        enough
    });
    assert!(audio.seconds() < 12.0, "{} s of sound", audio.seconds());
}

#[test]
fn an_unlinked_track_rests_on_the_server() {
    let server = Server::playground();
    let running = parse(&server, "r.video_main_video ! identity name=i ! fakesink");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(90, SOON);
    assert_flow(&reader.frames());
    assert_eq!(received(&running, "audio_main_audio"), 0);
    assert!(received(&running, "video_main_video") >= 90);
}

#[test]
fn a_pad_can_be_linked_later() {
    let server = Server::playground();
    let running = parse(&server, "identity name=i ! fakesink sync=false");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    wait_until("ready", SOON, || status(&running) == "ready");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(received(&running, "video_main_video"), 0);
    let video = running.pad("r", "video_main_video");
    video.link(&running.pad("i", "sink")).unwrap();
    reader.wait_for(60, SOON);
    let frames = reader.frames();
    assert_flow(&frames);

    // And unlinked: the track rests again, the other goes on.
    video.unlink(&running.pad("i", "sink")).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let rested = received(&running, "video_main_video");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(received(&running, "video_main_video"), rested);
    assert_eq!(status(&running), "ready");
}

#[test]
fn two_branches_get_the_same() {
    let server = Server::playground();
    let running = parse(
        &server,
        "! tee name=t  t. ! queue ! identity name=a ! fakesink sync=false \
         t. ! queue ! videoconvert ! identity name=b ! fakesink sync=false",
    );
    let readers = ["a", "b"].map(|name| Reader::watch(&running.pad(name, "src")));
    running.play();
    for reader in &readers {
        reader.wait_for(60, SOON);
        assert_flow(&reader.frames());
    }
    let first = readers.map(|reader| reader.frames()[0].counter);
    assert_eq!(first[0], first[1]);
}

#[test]
fn decodebin_finds_nothing_left_to_do() {
    let server = Server::playground();
    let running = parse(
        &server,
        "! decodebin ! videoconvert ! identity name=i ! fakesink sync=false",
    );
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(60, SOON);
    assert_flow(&reader.frames());
}

#[test]
fn a_display_drops_nothing_as_late() {
    let server = Server::playground();
    // As autovideosink's sinks are set, with some room for a busy machine.
    let running = parse(
        &server,
        "latency=500 ! videoconvert ! fakesink name=s sync=true qos=true max-lateness=20000000",
    );
    let sink = running.by_name("s");
    let reader = Reader::rendered_by(&sink);
    let late = Arc::new(Mutex::new(0));
    let count = late.clone();
    running
        .pad("s", "sink")
        .add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if let Some(gst::EventView::Qos(qos)) = info.event().map(|event| event.view())
                && qos.get().2 > 0
            {
                *count.lock().unwrap() += 1;
            }
            gst::PadProbeReturn::Ok
        })
        .unwrap();
    running.play();
    // What gst-launch-1.0 does at each LATENCY message.
    running.wait_element("reactor-message", SOON);
    reader.wait_for(15, SOON);
    running.pipeline.recalculate_latency().unwrap();
    reader.wait_for(reader.len() + 15, SOON);
    // A busy machine may hold frames up, but not in each of ten seconds. If the
    // latency that is answered were too little, they would always be late.
    for _ in 0..10 {
        let (first, before) = (reader.len(), *late.lock().unwrap());
        reader.wait_for(first + 30, SOON);
        assert_eq!(reader.unreadable(), 0);
        if *late.lock().unwrap() == before {
            return assert_flow(&reader.frames()[first..]);
        }
    }
    panic!("{} frames came late", late.lock().unwrap());
}

#[test]
fn a_change_of_resolution_goes_on_without_a_gap() {
    let server = Server::playground();
    let running = parse(&server, "! identity name=i ! fakesink sync=false");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, SOON);
    let sizes = [(800, 450), (320, 240), (640, 360)];
    for (width, height) in sizes {
        let size = format!(r#"{{"width":{width},"height":{height}}}"#);
        tool::send(&server, &[("set_resolution", &size)]);
        wait_until("the new size", SOON, || {
            let last = *reader.frames().last().unwrap();
            (last.width, last.height) == (width, height)
        });
        reader.wait_for(reader.len() + 30, SOON);
    }
    let frames = reader.frames();
    assert_flow(&frames);
    let mut seen: Vec<_> = frames.iter().map(|f| (f.width, f.height)).collect();
    seen.dedup();
    assert_eq!(seen, [(640, 360), (800, 450), (320, 240), (640, 360)]);
}

#[test]
fn an_idle_model_is_not_a_lost_one() {
    let server = Server::playground();
    // Shorter than the pause between the model's ticks: it is the watchdog's
    // question that has to be answered.
    let running = parse(
        &server,
        "stall-timeout=900 ! identity name=i ! fakesink sync=false",
    );
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, SOON);
    tool::send(&server, &[("set_paused", r#"{"paused":true}"#)]);
    wait_until("no more frames", SOON, || {
        let before = reader.len();
        std::thread::sleep(Duration::from_millis(300));
        reader.len() == before
    });
    let paused = reader.len();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(reader.len(), paused);
    assert_eq!(status(&running), "ready");
    tool::send(&server, &[("set_paused", r#"{"paused":false}"#)]);
    reader.wait_for(paused + 60, SOON);
    // The model counts what it sends: nothing is lost around the pause.
    assert_flow(&reader.frames());
    let bus = running.pipeline.bus().unwrap();
    let problem = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]);
    assert!(problem.is_none(), "{problem:?}");
}
