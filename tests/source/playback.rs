// SPDX-License-Identifier: MIT

//! reactorsrc against the real local runtime: raw video and audio, with pads linked in any order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    audio::{self, AudioRecorder},
    frames::{
        Frame, FrameReader, assert_nearly_contiguous, dropped_by_busy_server, missing_frames,
    },
    media, official_client,
    pipeline::{TestPipeline, status, wait_for_status, wait_until},
    server::Server,
};

/// `reactorsrc name=r` for this server, followed by `rest`.
fn parse(server: &Server, rest: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r {rest}",
        server.url()
    ))
}

/// How many units of a pad were `received` or `dropped`, from the `stats` property.
fn units(running: &TestPipeline, pad: &str, which: &str) -> u64 {
    let stats: gst::Structure = running.by_name("r").property("stats");
    stats
        .get::<gst::Structure>(pad)
        .map_or(0, |of_pad| of_pad.get(which).expect("a number of units"))
}

fn received(running: &TestPipeline, pad: &str) -> u64 {
    units(running, pad, "received")
}

#[test]
fn raw_video_has_no_missing_frame() {
    let server = Server::playground_640x360();
    let mut gaps = Vec::new();
    // A server on a busy machine drops pictures before it encodes them. It does not do so every
    // time, and nothing else may drop any.
    for _ in 0..3 {
        let running = parse(&server, "! identity name=i ! fakesink sync=false");
        let reader = FrameReader::watch(&running.pad("i", "src"));
        running.play();
        reader.wait_for(90, TIMEOUT);
        let frames = reader.frames();
        assert_eq!(reader.unreadable(), 0);
        assert_nearly_contiguous(&frames);
        // The jitter buffer gives frames that arrive in a burst equal timestamps.
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
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        &format!(
            "r. ! queue ! videoconvert ! identity name=v ! fakesink \
             r. ! queue ! audioconvert ! {} ! identity name=a ! fakesink",
            audio::CAPS
        ),
    );
    let video = FrameReader::watch(&running.pad("v", "src"));
    let audio = AudioRecorder::watch(&running.pad("a", "src"));
    running.play();
    video.wait_for(90, TIMEOUT);
    assert_nearly_contiguous(&video.frames());
    assert_eq!(video.unreadable(), 0);
    // A busy machine may delay the server's audio, but not all the time.
    wait_until("two seconds without a gap", TIMEOUT, || {
        let chunks = audio.chunks();
        let run = audio::longest_contiguous(&chunks, Duration::from_millis(15));
        let samples: Vec<i16> = run.iter().flat_map(|p| p.samples.clone()).collect();
        let enough = samples.len() >= 2 * audio::RATE as usize;
        if enough {
            audio::assert_playground_tone(&samples);
        }
        enough
    });
    assert!(audio.seconds() < 12.0, "{} s of sound", audio.seconds());
}

#[test]
fn unlinked_track_stays_paused_on_server() {
    let server = Server::playground_640x360();
    let running = parse(&server, "r.video_main_video ! identity name=i ! fakesink");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(90, TIMEOUT);
    assert_nearly_contiguous(&reader.frames());
    assert_eq!(received(&running, "audio_main_audio"), 0);
    assert!(received(&running, "video_main_video") >= 90);
}

#[test]
fn pad_linked_late_starts_track() {
    let server = Server::playground_640x360();
    let running = parse(&server, "identity name=i ! fakesink sync=false");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    wait_for_status(&running.by_name("r"), "ready", TIMEOUT);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(received(&running, "video_main_video"), 0);
    let video = running.pad("r", "video_main_video");
    video.link(&running.pad("i", "sink")).unwrap();
    reader.wait_for(60, TIMEOUT);
    let frames = reader.frames();
    assert_nearly_contiguous(&frames);

    // Unlinked again: this track is paused, the other goes on.
    video.unlink(&running.pad("i", "sink")).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let rested = received(&running, "video_main_video");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(received(&running, "video_main_video"), rested);
    assert_eq!(status(&running.by_name("r")), "ready");
}

#[test]
fn tee_branches_get_same_frames() {
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        "! tee name=t  t. ! queue ! identity name=a ! fakesink sync=false \
         t. ! queue ! videoconvert ! identity name=b ! fakesink sync=false",
    );
    let readers = ["a", "b"].map(|name| FrameReader::watch(&running.pad(name, "src")));
    running.play();
    for reader in &readers {
        reader.wait_for(60, TIMEOUT);
        assert_nearly_contiguous(&reader.frames());
    }
    let first = readers.map(|reader| reader.frames()[0].counter);
    assert_eq!(first[0], first[1]);
}

#[test]
fn decodebin_passes_raw_video_through() {
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        "! decodebin ! videoconvert ! identity name=i ! fakesink sync=false",
    );
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(60, TIMEOUT);
    assert_nearly_contiguous(&reader.frames());
}

#[test]
fn synchronized_sink_drops_no_frame_as_late() {
    let server = Server::playground_640x360();
    // As the sinks of autovideosink are set, with some tolerance for a busy machine.
    let running = parse(
        &server,
        "latency=500 ! videoconvert ! fakesink name=s sync=true qos=true max-lateness=20000000",
    );
    let sink = running.by_name("s");
    let reader = FrameReader::rendered_by(&sink);
    let late = Arc::new(Mutex::new(0_u32));
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
    running.wait_element("reactor-message", TIMEOUT);
    reader.wait_for(15, TIMEOUT);
    running.pipeline.recalculate_latency().unwrap();
    reader.wait_for(reader.len() + 15, TIMEOUT);
    // A busy machine may delay frames in each second, but not most of them. If the reported latency
    // were too low, they would all be late.
    let mut fewest = u32::MAX;
    for _ in 0..10 {
        let (first, before) = (reader.len(), *late.lock().unwrap());
        reader.wait_for(first + 30, TIMEOUT);
        assert_eq!(reader.unreadable(), 0);
        fewest = fewest.min(*late.lock().unwrap() - before);
        if fewest == 0 {
            return assert_nearly_contiguous(&reader.frames()[first..]);
        }
    }
    assert!(fewest < 15, "{fewest} frames came late for 30 that did not");
}

#[test]
fn resolution_change_loses_no_frame() {
    let server = Server::playground_640x360();
    let running = parse(&server, "! identity name=i ! fakesink sync=false");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, TIMEOUT);
    let sizes = [(800, 450), (320, 240), (640, 360)];
    for (width, height) in sizes {
        let size = format!(r#"{{"width":{width},"height":{height}}}"#);
        official_client::send_commands(&server, &[("set_resolution", &size)]);
        wait_until("the new size", TIMEOUT, || {
            let last = *reader.frames().last().unwrap();
            (last.width, last.height) == (width, height)
        });
        reader.wait_for(reader.len() + 30, TIMEOUT);
    }
    let frames = reader.frames();
    assert_nearly_contiguous(&frames);
    let mut seen: Vec<_> = frames.iter().map(|f| (f.width, f.height)).collect();
    seen.dedup();
    assert_eq!(seen, [(640, 360), (800, 450), (320, 240), (640, 360)]);
}

/// A blocked pad stands for elements that are too slow: after 10 s the source drops pictures, and
/// after the block ends it needs a new keyframe.
#[test]
fn picture_returns_after_downstream_was_blocked() {
    let server = Server::playground_640x360();
    let running = parse(&server, "! identity name=i ! fakesink sync=false");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, TIMEOUT);
    let entry = running.pad("i", "sink");
    let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let block = entry
        .add_probe(mask, |_, _| gst::PadProbeReturn::Ok)
        .unwrap();
    wait_until("pictures are dropped", TIMEOUT, || {
        units(&running, "video_main_video", "dropped") > 150
    });
    let waited = reader.len();
    entry.remove_probe(block);
    // The last one of those that waited is 5 s old.
    wait_until("a new picture", TIMEOUT, || {
        let last = reader.frames()[waited..].last().map(Frame::age);
        last.is_some_and(|age| age < Duration::from_secs(3))
    });
    reader.wait_for(reader.len() + 60, TIMEOUT);
    assert_eq!(reader.unreadable(), 0);
    running.assert_no_error();
}

#[test]
fn paused_model_does_not_trigger_stall_timeout() {
    let server = Server::playground_640x360();
    // On a busy machine a server may be silent for that long, but not each time.
    let mut problem = String::new();
    for _ in 0..3 {
        match pause_model(&server) {
            Ok(()) => return,
            Err(text) => problem = text,
        }
    }
    panic!("each time: {problem}");
}

/// Pauses the model for 8 s; fails if that is seen as a stall, or if a picture is missing.
fn pause_model(server: &Server) -> Result<(), String> {
    // Shorter than the interval of the model's ticks: the watchdog's ping has to be answered.
    let running = parse(
        server,
        "stall-timeout=900 ! identity name=i ! fakesink sync=false",
    );
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(30, TIMEOUT);
    official_client::send_commands(server, &[("set_paused", r#"{"paused":true}"#)]);
    wait_until("no more frames", TIMEOUT, || {
        let before = reader.len();
        std::thread::sleep(Duration::from_millis(300));
        reader.len() == before
    });
    let paused = reader.len();
    std::thread::sleep(Duration::from_secs(8));
    let during = reader.len() - paused;
    let status = status(&running.by_name("r"));
    official_client::send_commands(server, &[("set_paused", r#"{"paused":false}"#)]);
    reader.wait_for(paused + 60, TIMEOUT);
    let bus = running.pipeline.bus().unwrap();
    let problem = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]);
    // The model counts the frames that it sends: none is lost around the pause.
    let frames = reader.frames();
    let missing = missing_frames(&frames);
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
    let is_complete = missing <= dropped_by_busy_server(frames.len());
    if during == 0 && status == "ready" && problem.is_none() && is_complete {
        return Ok(());
    }
    Err(format!(
        "{during} pictures in the pause, {status}, {missing} missing, {problem:?}"
    ))
}
