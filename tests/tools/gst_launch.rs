// SPDX-License-Identifier: MIT

//! reactorsrc in the real gst-launch-1.0.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reactor_tests::{
    TIMEOUT, audio, media,
    process::Process,
    scratch::{self, TempFile},
    server::Server,
};

/// How long a user may wait after Ctrl-C.
const SECONDS: Duration = Duration::from_secs(8);

/// The pipeline of the documents that records a file, with an encoder that a busy machine has the
/// time for.
fn record(server: &Server, file: &Path) -> String {
    format!(
        "reactorsrc local=true api-url={} name=r \
         r. ! queue ! videoconvert ! x264enc speed-preset=ultrafast ! h264parse ! mux. \
         r. ! queue ! audioconvert ! avenc_aac ! mux. \
         mp4mux name=mux ! filesink location={}",
        server.url(),
        file.display()
    )
}

/// Panics unless the file is valid and complete; returns the counters of its pictures.
fn assert_valid_recording(file: &Path, at_least: usize) -> Vec<u32> {
    let streams = media::probe(file);
    let video = media::stream(&streams, "video").duration;
    let audio = media::stream(&streams, "audio").duration;
    // A busy machine is behind with pictures when the end comes.
    assert!(
        (video - audio).abs() < 0.6,
        "video {video} s, audio {audio} s"
    );
    media::assert_decodes(file);
    let counters = media::counters(file);
    assert!(counters.len() >= at_least, "{} pictures", counters.len());
    media::assert_nearly_contiguous(&counters);
    audio::assert_playground_tone(&media::samples(file)[audio::RATE as usize..]);
    counters
}

/// What players read in the file. qtdemux divides the pictures by their time, in which the first
/// ones are some 20 ms late: of a few seconds it may make 91/3 or 121/4, of more 30/1.
fn discovered_rate(file: &Path) -> String {
    let mut discover = Command::new("gst-discoverer-1.0");
    let output = discover.arg("-v").arg(file).output().unwrap();
    let discovered = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rate) = discovered.split_once("Frame rate: ").expect("a rate");
    rate.lines().next().unwrap().to_owned()
}

#[test]
fn ctrl_c_finishes_whole_file() {
    let server = Server::playground();
    let file = TempFile::new("launch-whole.mp4");
    // A server on a busy machine begins late and drops single pictures before it encodes them, but
    // not many each time.
    let (mut count, mut gaps, mut rate) = (0, Vec::new(), String::new());
    for seconds in [5, 10, 20] {
        let mut launch =
            Process::gst_launch("launch-whole", &["-e"], &record(&server, &file.0), &[]);
        launch.wait_for_output("Connected to the model", TIMEOUT);
        std::thread::sleep(Duration::from_secs(seconds));
        launch.interrupt_group();
        launch.assert_succeeds(TIMEOUT);
        assert!(
            launch.output().contains("EOS received"),
            "{}",
            launch.output()
        );
        server.wait_for_state("ready", TIMEOUT);
        let counters = assert_valid_recording(&file.0, 60);
        count = counters.len();
        gaps = media::gaps(&counters);
        rate = discovered_rate(&file.0);
        let missing: u32 = gaps.iter().map(|(before, now)| now - before - 1).sum();
        // One picture less in 20 s is that rate to qtdemux.
        let is_rate = rate == "30/1" || missing == 1 && rate == "30000/1001";
        if count >= 120 && missing <= 1 && is_rate {
            return;
        }
    }
    panic!(
        "each time pictures are missing, the last time at {gaps:?} of {count}, or the rate is not \
         30/1: {rate}"
    );
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

/// GStreamer's plugins but one, as if that was not installed, with a registry of their own.
struct PluginsWithout(PathBuf);

impl PluginsWithout {
    fn new(plugin: &str) -> Self {
        let directory = scratch::directory().join(format!("plugins-without-{plugin}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        reactor_tests::init();
        let core = gst::Registry::get().find_plugin("coreelements").unwrap();
        let installed = core.filename().unwrap();
        for entry in std::fs::read_dir(installed.parent().unwrap()).unwrap() {
            let library = entry.unwrap();
            if library.file_name().to_str() != Some(&format!("lib{plugin}.so")) {
                let link = directory.join(library.file_name());
                std::os::unix::fs::symlink(library.path(), link).unwrap();
            }
        }
        Self(directory)
    }

    fn environment(&self) -> [(&str, String); 2] {
        let registry = self.0.join("registry.bin");
        [
            ("GST_PLUGIN_SYSTEM_PATH", self.0.display().to_string()),
            ("GST_REGISTRY", registry.display().to_string()),
        ]
    }
}

impl Drop for PluginsWithout {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn missing_plugin_is_named_with_its_package() {
    let server = Server::playground();
    // webrtcbin itself is there, but cannot start.
    let plugins = PluginsWithout::new("gstnice");
    let environment = plugins.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (*name, &**value));
    let line = format!("reactorsrc local=true api-url={} ! fakesink", server.url());
    let mut launch = Process::gst_launch("launch-missing", &[], &line, &environment);
    launch.wait_for_output("ERROR: from element", TIMEOUT);
    let output = launch.output();
    for text in [
        "'nicesrc' is not installed",
        "gstreamer1.0-nice",
        // A code that is not recoverable.
        "[gpu:MISSING_PLUGIN]",
    ] {
        assert!(output.contains(text), "no {text} in {output}");
    }
    server.wait_for_state("ready", TIMEOUT);
}
