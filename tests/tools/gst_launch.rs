// SPDX-License-Identifier: MIT

//! reactorsrc in the real gst-launch-1.0.

use std::{path::Path, process::Command, time::Duration};

use reactor_tests::{TIMEOUT, audio, media, process::Process, scratch::TempFile, server::Server};

/// How long a user may wait after Ctrl-C.
const SECONDS: Duration = Duration::from_secs(8);

/// The pipeline of the README that records a file.
fn record(server: &Server, file: &Path) -> String {
    format!(
        "reactorsrc local=true api-url={} name=r \
         r. ! queue ! videoconvert ! x264enc ! h264parse ! mux. \
         r. ! queue ! audioconvert ! avenc_aac ! mux. \
         mp4mux name=mux ! filesink location={}",
        server.url(),
        file.display()
    )
}

/// Panics unless the file is valid and complete; returns where pictures are missing.
fn assert_valid_recording(file: &Path, at_least: usize) -> Vec<(u32, u32)> {
    let streams = media::probe(file);
    let video = media::stream(&streams, "video").duration;
    let audio = media::stream(&streams, "audio").duration;
    assert!(
        (video - audio).abs() < 0.3,
        "video {video} s, audio {audio} s"
    );
    media::assert_decodes(file);
    let counters = media::counters(file);
    assert!(counters.len() >= at_least, "{} pictures", counters.len());
    media::assert_nearly_contiguous(&counters);
    audio::assert_playground_tone(&media::samples(file)[audio::RATE as usize..]);
    media::gaps(&counters)
}

#[test]
fn ctrl_c_finishes_whole_file() {
    let server = Server::playground();
    let file = TempFile::new("launch-whole.mp4");
    // A server on a busy machine drops pictures before it encodes them. It does not do so every
    // time, and nothing else may drop any.
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let mut launch =
            Process::gst_launch("launch-whole", &["-e"], &record(&server, &file.0), &[]);
        launch.wait_for_output("Connected to the model", TIMEOUT);
        std::thread::sleep(Duration::from_secs(5));
        launch.interrupt_group();
        launch.assert_succeeds(TIMEOUT);
        assert!(
            launch.output().contains("EOS received"),
            "{}",
            launch.output()
        );
        server.wait_for_state("ready", TIMEOUT);
        gaps = assert_valid_recording(&file.0, 120);
        if gaps.is_empty() {
            return;
        }
    }
    panic!("pictures are missing each time, the last time at {gaps:?}");
}

#[test]
fn ctrl_c_at_random_moments_ends_process_and_session() {
    let mut series = Command::new(env!("CARGO_BIN_EXE_reactor-interrupts"));
    series.args(["--count", "20"]);
    let mut series = Process::start("interrupts", series);
    series.assert_succeeds(2 * TIMEOUT);
    print!("{}", series.output());
}

#[test]
fn ctrl_c_without_eos_option_ends_session() {
    let server = Server::playground();
    let line = format!("reactorsrc local=true api-url={} ! fakesink", server.url());
    let mut launch = Process::gst_launch("launch-plain", &[], &line, &[]);
    launch.wait_for_output("Connected to the model", TIMEOUT);
    // The server reports this a moment after it has told the client.
    server.wait_for_state("streaming", TIMEOUT);
    launch.interrupt_group();
    launch.assert_succeeds(SECONDS);
    // At once: no process is left that could end it later.
    assert!(["closing", "ready"].contains(&server.session_state().as_str()));
}

#[test]
fn second_process_joins_session_and_ends_with_first() {
    let server = Server::playground();
    let files = [
        TempFile::new("launch-first.mp4"),
        TempFile::new("launch-second.mp4"),
    ];
    let mut first =
        Process::gst_launch("launch-first", &["-e"], &record(&server, &files[0].0), &[]);
    first.wait_for_output("Connected to the model", TIMEOUT);
    let line = format!(
        "reactorsrc local=true api-url={} name=r \
         r. ! queue ! video/x-vp9 ! mux.  r. ! queue ! audio/x-opus ! mux. \
         matroskamux name=mux ! filesink location={}",
        server.url(),
        files[1].0.display()
    );
    let mut second = Process::gst_launch("launch-second", &["-e"], &line, &[]);
    second.wait_for_output("Connected to the model", TIMEOUT);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(server.session_state(), "streaming");
    first.interrupt_group();
    first.assert_succeeds(TIMEOUT);
    second.assert_succeeds(SECONDS);
    assert!(second.output().contains("Got EOS"), "{}", second.output());
    assert_valid_recording(&files[0].0, 90);
    assert_valid_recording(&files[1].0, 60);
}

#[test]
fn highest_debug_level_is_harmless() {
    let server = Server::playground();
    let debug = TempFile::new("launch-debug.txt");
    let line = format!(
        "reactorsrc local=true api-url={} name=r  r. ! queue ! fakesink  r. ! queue ! fakesink",
        server.url()
    );
    let path = debug.0.to_str().unwrap();
    let environment = [
        ("GST_DEBUG", "6"),
        ("GST_DEBUG_FILE", path),
        ("GST_DEBUG_NO_COLOR", "1"),
    ];
    let mut launch = Process::gst_launch("launch-debug", &["-e"], &line, &environment);
    launch.wait_for_output("Connected to the model", TIMEOUT);
    std::thread::sleep(Duration::from_secs(1));
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    assert!(text.contains("reactorsrc"), "nothing was logged");
    for said in [&text, &launch.output()] {
        let wrong = said
            .lines()
            .find(|line| line.contains("panick") || line.contains("CRITICAL"));
        assert_eq!(wrong, None);
    }
}
