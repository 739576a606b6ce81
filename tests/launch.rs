// SPDX-License-Identifier: MIT

//! reactorsrc in the real gst-launch-1.0.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use reactor_tests::{installed, media, pipeline::wait_until, server::Server, sound};

const SOON: Duration = Duration::from_secs(30);
/// An interrupted process must not make anyone wait.
const SECONDS: Duration = Duration::from_secs(8);

/// A gst-launch-1.0 that does not outlive its test.
struct Launch {
    child: Child,
    log: PathBuf,
}

impl Launch {
    /// `name` is for the log file.
    fn new(name: &str, options: &[&str], pipeline: &str, environment: &[(&str, &str)]) -> Self {
        let log = temporary(&format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new("gst-launch-1.0")
            .args(options)
            .args(pipeline.split_whitespace())
            .env(
                "GST_PLUGIN_PATH",
                installed::plugin_path(env!("CARGO_TARGET_TMPDIR")),
            )
            .env(
                "GST_REGISTRY",
                installed::registry(env!("CARGO_TARGET_TMPDIR")),
            )
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("gst-launch-1.0");
        Self { child, log }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn wait_for_output(&self, text: &str) {
        wait_until(text, SOON, || self.output().contains(text));
    }

    /// What Ctrl-C does.
    fn interrupt(&self) {
        // SAFETY: the pid is that of our child, which is not reaped before drop.
        #[allow(unsafe_code)]
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        assert_eq!(result, 0, "kill");
    }

    fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "still running after {limit:?}:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn assert_succeeds(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{status}:\n{}", self.output());
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

fn temporary(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    directory.join(format!("launch-{}-{name}", std::process::id()))
}

/// A file that is removed when the test has passed.
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// The line of the README.
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

/// Panics unless the file is sound; returns where pictures are missing.
fn assert_sound(file: &Path, at_least: usize) -> Vec<(u32, u32)> {
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
    media::assert_flow(&counters);
    sound::assert_is_the_tone(&media::samples(file)[sound::RATE as usize..]);
    media::gaps(&counters)
}

#[test]
fn ctrl_c_finishes_a_whole_file() {
    let server = Server::playground();
    let file = Scrap(temporary("whole.mp4"));
    // A server on a busy machine leaves out pictures before it encodes them.
    // It does not do so every time, and nobody else may.
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let mut launch = Launch::new("whole", &["-e"], &record(&server, &file.0), &[]);
        launch.wait_for_output("Connected to the model");
        std::thread::sleep(Duration::from_secs(5));
        launch.interrupt();
        launch.assert_succeeds(SOON);
        assert!(
            launch.output().contains("EOS received"),
            "{}",
            launch.output()
        );
        server.wait_for_state("ready", SOON);
        gaps = assert_sound(&file.0, 120);
        if gaps.is_empty() {
            return;
        }
    }
    panic!("pictures are missing each time, the last time at {gaps:?}");
}

#[test]
fn ctrl_c_ends_it_at_any_moment() {
    let server = Server::playground();
    let file = Scrap(temporary("early.mp4"));
    for milliseconds in [0, 100, 200, 350, 500, 700, 1000, 1500] {
        let mut launch = Launch::new("early", &["-e"], &record(&server, &file.0), &[]);
        launch.wait_for_output("Setting pipeline to PLAYING");
        std::thread::sleep(Duration::from_millis(milliseconds));
        launch.interrupt();
        let status = launch.wait(SECONDS);
        // With nothing received it is a failure, but never a crash.
        let code = status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "after {milliseconds} ms: {status}"
        );
        server.wait_for_state("ready", SECONDS);
    }
}

#[test]
fn ctrl_c_without_e_ends_the_session_too() {
    let server = Server::playground();
    let line = format!("reactorsrc local=true api-url={} ! fakesink", server.url());
    let mut launch = Launch::new("plain", &[], &line, &[]);
    launch.wait_for_output("Connected to the model");
    assert_eq!(server.session_state(), "streaming");
    launch.interrupt();
    launch.assert_succeeds(SECONDS);
    // Not a moment later: nobody is left who could end it.
    assert!(["closing", "ready"].contains(&server.session_state().as_str()));
}

#[test]
fn the_second_joins_and_ends_with_the_first() {
    let server = Server::playground();
    let files = [
        Scrap(temporary("first.mp4")),
        Scrap(temporary("second.mp4")),
    ];
    let mut first = Launch::new("first", &["-e"], &record(&server, &files[0].0), &[]);
    first.wait_for_output("Connected to the model");
    let line = format!(
        "reactorsrc local=true api-url={} name=r \
         r. ! queue ! video/x-vp9 ! mux.  r. ! queue ! audio/x-opus ! mux. \
         matroskamux name=mux ! filesink location={}",
        server.url(),
        files[1].0.display()
    );
    let mut second = Launch::new("second", &["-e"], &line, &[]);
    second.wait_for_output("Connected to the model");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(server.session_state(), "streaming");
    first.interrupt();
    first.assert_succeeds(SOON);
    second.assert_succeeds(SECONDS);
    assert!(second.output().contains("Got EOS"), "{}", second.output());
    assert_sound(&files[0].0, 90);
    assert_sound(&files[1].0, 60);
}

#[test]
fn the_most_talkative_debug_level_is_harmless() {
    let server = Server::playground();
    let debug = Scrap(temporary("debug.txt"));
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
    let mut launch = Launch::new("debug", &["-e"], &line, &environment);
    launch.wait_for_output("Connected to the model");
    std::thread::sleep(Duration::from_secs(1));
    launch.interrupt();
    launch.assert_succeeds(SOON);
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    assert!(text.contains("reactorsrc"), "nothing was logged");
    for said in [&text, &launch.output()] {
        let wrong = said
            .lines()
            .find(|line| line.contains("panick") || line.contains("CRITICAL"));
        assert_eq!(wrong, None);
    }
}
