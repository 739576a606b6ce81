// SPDX-License-Identifier: MIT

//! Clips of a session that is live in this process: when they are requested, and what is kept.

use std::time::Duration;

use gst::prelude::*;
use reactor_coordinator::{ApiRoute, CoordinatorSettings, RecordedRequest};
use reactor_tests::{
    TIMEOUT,
    actions::disconnect,
    clips::{GRAIN, assert_complete_mp4, assert_duration, live},
    cloud::{KEY, start_coordinator, wait_closed},
    pipeline::{TestPipeline, wait_until},
    process::Process,
    scratch::TempFile,
    server::Server,
};

/// The length of the playground's recording chunks, in seconds.
const CHUNK: f64 = 2.0;

fn assert_chunks(duration: f64, least: f64) {
    let chunks = duration / CHUNK;
    assert!((chunks - chunks.round()).abs() < GRAIN, "{duration} s");
    assert!(duration + GRAIN >= least, "{duration} s");
}

#[test]
fn clip_of_own_pipeline_is_saved_while_playing() {
    let server = Server::recording();
    let (whole, cut) = (
        TempFile::new("clip-whole.mp4"),
        TempFile::new("clip-cut.mp4"),
    );
    let line = format!(
        "{}  reactorclip duration=5 ! filesink location={}  \
         reactorclip duration=5 trim=true ! filesink location={}",
        live(&server),
        whole.0.display(),
        cut.0.display()
    );
    let mut launch = Process::gst_launch("clip-filled", &["-e", "-m"], &line, &[]);
    wait_until("two clips", TIMEOUT, || {
        launch.output().matches("reactor-clip, ").count() == 2
    });
    // The session goes on meanwhile.
    assert_eq!(server.session_state(), "streaming");
    // What the clips asked for is nothing to the live element.
    assert!(!launch.output().contains("type=(string)clipReady"));
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
    let (duration, all) = assert_complete_mp4(&whole.0);
    assert_chunks(duration, 5.0);
    let (duration, kept) = assert_complete_mp4(&cut.0);
    assert_duration(duration, 5.0);
    assert!(all.len() > kept.len(), "{} {}", all.len(), kept.len());
}

/// The highest number of a picture that the model's ticks name in what `gst-launch-1.0 -m` printed.
fn newest_picture(output: &str) -> u32 {
    let numbers = output.split("frame").filter_map(|rest| {
        let rest = rest.trim_start_matches(['\\', '"', ':', ' ']);
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..digits].parse().ok()
    });
    numbers.max().unwrap_or(0)
}

#[test]
fn request_eos_saves_last_seconds_on_ctrl_c() {
    let server = Server::recording();
    let file = TempFile::new("clip-last.mp4");
    let line = format!(
        "{}  reactorclip duration=3 request=eos trim=true ! filesink location={}",
        live(&server),
        file.0.display()
    );
    let mut launch = Process::gst_launch("clip-last", &["-e", "-m"], &line, &[]);
    // Six seconds of pictures, which take a busy machine longer.
    wait_until("180 pictures", TIMEOUT, || {
        newest_picture(&launch.output()) >= 180
    });
    let state = server.session_state();
    assert_eq!(state, "streaming", "{}", launch.output());
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    let (duration, counters) = assert_complete_mp4(&file.0);
    assert_duration(duration, 3.0);
    // The last three of six seconds, not the first.
    assert!(counters[0] > 60, "it begins with picture {}", counters[0]);
}

#[test]
fn session_name_of_other_pipeline_is_found() {
    let server = Server::recording();
    let file = TempFile::new("clip-named.mp4");
    // Works in this order, too: the session is created later.
    let saving = TestPipeline::launch(&format!(
        "reactorclip name=c session=s request=now duration=2 ! filesink location={}",
        file.0.display()
    ));
    std::thread::sleep(Duration::from_millis(300));
    let running = TestPipeline::launch(&format!(
        "reactorsrc session=s local=true api-url={} ! fakesink",
        server.url()
    ));
    saving.wait_eos(TIMEOUT);
    let clip: gst::Structure = saving.by_name("c").property("clip");
    assert!(clip.has_field("playlist-url"), "{clip}");
    assert_complete_mp4(&file.0);
    drop(running);
    server.wait_for_state("ready", TIMEOUT);
}

/// Each filter has a session of its own.
#[test]
fn filter_in_pipeline_gives_session() {
    let server = Server::recording();
    let file = TempFile::new("clip-filter.mp4");
    let running = TestPipeline::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=640,height=360 ! \
         reactorfilter local=true api-url={} ! fakesink  \
         reactorclip request=now duration=2 ! filesink location={}",
        server.url(),
        file.0.display()
    ));
    running.wait_element("reactor-clip", TIMEOUT);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    assert_complete_mp4(&file.0);
    let two = TestPipeline::parse(
        "videotestsrc ! reactorfilter local=true ! fakesink  \
         videotestsrc ! reactorfilter local=true ! fakesink  reactorclip ! fakesink",
    );
    let _ = two.pipeline.set_state(gst::State::Playing);
    let failure = two.wait_error(TIMEOUT);
    let text = failure.error.message();
    assert!(text.contains("several sessions"), "{failure:?}");
}

/// The live element stops before `duration` seconds are recorded: the available part is saved, and
/// the session is kept until then.
#[test]
fn early_end_of_session_saves_shorter_clip() {
    let server = Server::recording();
    let file = TempFile::new("clip-deserted.mp4");
    let [running, saving] = record_some_of_a_clip(&server, "d", &file);
    running.stop();
    assert_available_part_is_saved(&saving, &server, &file);
}

/// The same when the application ends the session by itself, which is no error of a clip either.
#[test]
fn disconnect_of_application_saves_shorter_clip() {
    let server = Server::recording();
    let file = TempFile::new("clip-disconnected.mp4");
    let [running, saving] = record_some_of_a_clip(&server, "e", &file);
    disconnect(&running.by_name("r"), false).wait_ok(TIMEOUT);
    assert_available_part_is_saved(&saving, &server, &file);
    running.assert_no_error();
}

/// A live pipeline with the source `r`, and one that saves 100 s of its session, of which some are
/// recorded.
fn record_some_of_a_clip(server: &Server, session: &str, file: &TempFile) -> [TestPipeline; 2] {
    let running = TestPipeline::launch(&format!(
        "reactorsrc name=r session={session} local=true api-url={} ! fakesink",
        server.url()
    ));
    let saving = TestPipeline::launch(&format!(
        "reactorclip session={session} duration=100 ! filesink location={}",
        file.0.display()
    ));
    while {
        let recording = saving.wait_element("reactor-clip-recording", TIMEOUT);
        recording.get::<f64>("recorded").unwrap() < 3.0
    } {}
    [running, saving]
}

fn assert_available_part_is_saved(saving: &TestPipeline, server: &Server, file: &TempFile) {
    let code = saving.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let details = warning.details()?;
            details.get::<String>("code").ok()
        }
        _ => None,
    });
    assert_eq!(code, "CLIP_SHORTER");
    saving.wait_eos(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    let (duration, _) = assert_complete_mp4(&file.0);
    assert!(duration >= 3.0, "{duration} s");
}

/// The cloud's segments are on another host, which gets no token.
#[test]
fn cloud_segments_are_fetched_without_token() {
    let server = Server::recording();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let file = TempFile::new("clip-cloud.mp4");
    let running = TestPipeline::launch(&format!(
        "reactorsrc api-url={} model=playground api-key={KEY} ! fakesink  \
         reactorclip duration=3 ! filesink location={}",
        coordinator.url(),
        file.0.display()
    ));
    running.wait_element("reactor-clip", TIMEOUT);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    running.stop();
    assert_complete_mp4(&file.0);
    wait_closed(&coordinator, TIMEOUT);
    let clips = coordinator.requests(ApiRoute::Clips);
    let fetched = coordinator.requests(ApiRoute::Fetch);
    assert!(!clips.is_empty() && fetched.len() >= 3, "{}", fetched.len());
    let has_token = |seen: &RecordedRequest| seen.header("authorization").is_some();
    assert!(clips.iter().all(has_token));
    assert!(!fetched.iter().any(has_token));
}
