// SPDX-License-Identifier: MIT

//! `examples/steer` and `examples/steer.py`, run as their users run them.

use std::{path::Path, process::Command, time::Duration};

use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator, wait_closed},
    media, plugin_environment,
    process::Process,
    scratch::TempFile,
    server::{Server, repository},
};

/// Long enough for the encoder to settle, and to be found in the file.
const A_WHILE: Duration = Duration::from_millis(1500);
/// The number of pictures after a change until the encoder has settled.
const SETTLED: usize = 15;

#[test]
fn rust_prompts_change_the_picture() {
    prompts_change_the_picture("rust-prompts", rust());
}

#[test]
fn python_prompts_change_the_picture() {
    prompts_change_the_picture("python-prompts", python());
}

#[test]
fn rust_tells_of_outage_and_ends_at_ctrl_c() {
    tells_of_outage_and_ends_at_ctrl_c("rust-ctrl-c", rust());
}

#[test]
fn python_tells_of_outage_and_ends_at_ctrl_c() {
    tells_of_outage_and_ends_at_ctrl_c("python-ctrl-c", python());
}

#[test]
fn rust_ends_its_session_when_terminated() {
    ends_its_session_when_terminated("rust-terminated", rust);
}

#[test]
fn python_ends_its_session_when_terminated() {
    ends_its_session_when_terminated("python-terminated", python);
}

#[test]
fn rust_executes_piped_input() {
    executes_piped_input("rust-piped", rust());
}

#[test]
fn python_executes_piped_input() {
    executes_piped_input("python-piped", python());
}

#[test]
fn rust_without_server_explains_error() {
    without_server_explains_error("rust-nobody", rust());
}

#[test]
fn python_without_server_explains_error() {
    without_server_explains_error("python-nobody", python());
}

#[test]
fn rust_uses_a_model_of_the_cloud() {
    uses_a_model_of_the_cloud("rust-cloud", rust());
}

#[test]
fn python_uses_a_model_of_the_cloud() {
    uses_a_model_of_the_cloud("python-cloud", python());
}

fn prompts_change_the_picture(name: &str, command: Command) {
    let server = Server::playground();
    let mut steer = Steer::new(name, command, &server.url(), &[]);
    steer.wait_for_output("status: ready");
    std::thread::sleep(A_WHILE);
    for prompt in ["a \"dark\" forest", "WWW WWW WWW WWW WWW"] {
        steer.type_line(prompt);
        steer.wait_for_output("model: prompt_changed {");
        let prompt = serde_json::Value::from(prompt);
        steer.wait_for_output(&format!("\"prompt\":{prompt}"));
        std::thread::sleep(A_WHILE);
    }
    assert_eq!(steer.output().matches("set_prompt: done").count(), 2);
    steer.type_line("/fail");
    steer.wait_for_output("fail failed: told_to_fail: You asked for it.");
    steer.type_line(r#"/echo {"text":"still there"}"#);
    steer.wait_for_output("echo: echoed {");
    steer.process.close_stdin();
    steer.assert_succeeds();
    server.wait_for_state("ready", TIMEOUT);

    steer.assert_recorded(4.0);
    let texts = Texts::read(&steer.file.0);
    let written = texts.first_bright().expect("a text appears");
    assert!(written > SETTLED, "there is a text from the beginning");
    let (before, first, last) = (written - 2, written + SETTLED, texts.count() - 1);
    assert!(texts.difference(0, before) < 0.002, "it changed unasked");
    let change = texts.difference(before, first);
    assert!(change > 0.01, "the first prompt changed {change}");
    let change = texts.difference(first, last);
    assert!(change > 0.01, "the second prompt changed {change}");
}

fn tells_of_outage_and_ends_at_ctrl_c(name: &str, command: Command) {
    let server = Server::playground();
    // The input stays open: it is not the end of the input that ends it.
    let mut steer = Steer::new(name, command, &server.url(), &[]);
    steer.wait_for_output("status: ready");
    // Longer than stall-timeout, 5 s: the element makes another connection.
    server.signal(libc::SIGSTOP);
    steer.wait_for_output("the connection is lost, another one is made");
    server.signal(libc::SIGCONT);
    steer.wait_for_output("connected again");
    std::thread::sleep(A_WHILE);
    steer.process.signal(libc::SIGINT);
    steer.assert_succeeds();
    server.wait_for_state("ready", TIMEOUT);
    steer.assert_recorded(0.5);
}

/// SIGTERM, as from service managers and containers, at several moments of connecting. A session
/// that is left behind would stay for a minute.
fn ends_its_session_when_terminated(name: &str, command: fn() -> Command) {
    let server = Server::playground();
    let mut begun = 0;
    for n in 0..8 {
        let mut steer = Steer::new(name, command(), &server.url(), &[]);
        std::thread::sleep(Duration::from_millis(200 + n * 263));
        begun += usize::from(server.session_state() != "ready");
        steer.process.signal(libc::SIGTERM);
        let status = steer.process.wait(TIMEOUT);
        assert!(!steer.output().contains("CRITICAL"), "{}", steer.output());
        server.wait_for_state("ready", TIMEOUT);
        // Before the signal handler is installed, there is no session either.
        let early = !steer.output().contains("status: ");
        assert!(status.code().is_some() || early, "{n}: {status}");
    }
    assert!(begun >= 2, "it was terminated too early: {begun}");
}

fn executes_piped_input(name: &str, command: Command) {
    let server = Server::playground();
    let mut steer = Steer::new(name, command, &server.url(), &["--seconds", "6"]);
    // Before there is a session, and without a newline at the end.
    steer.type_line("a tree");
    steer.process.write("/echo {\"text\":\"at once\"}");
    steer.process.close_stdin();
    steer.assert_succeeds();
    server.wait_for_state("ready", TIMEOUT);
    for said in ["set_prompt: done", "prompt_changed", "echo: echoed {"] {
        assert!(steer.output().contains(said), "{said}:\n{}", steer.output());
    }
    steer.assert_recorded(1.0);
}

fn without_server_explains_error(name: &str, command: Command) {
    // Nothing listens there; a port that is free now may be in use soon.
    let mut steer = Steer::new(name, command, "http://127.0.0.1:1", &[]);
    let status = steer.process.wait(TIMEOUT);
    assert_eq!(status.code(), Some(1), "{}", steer.output());
    for said in ["nothing answers", "code: NETWORK_ERROR", "what to do: "] {
        assert!(steer.output().contains(said), "{said}:\n{}", steer.output());
    }
}

fn uses_a_model_of_the_cloud(name: &str, mut command: Command) {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    command.env("REACTOR_API_KEY", KEY);
    let options = ["--model", "playground"];
    let mut steer = Steer::new(name, command, &coordinator.url(), &options);
    steer.wait_for_output("status: ready");
    steer.type_line("a tree");
    steer.wait_for_output("model: prompt_changed {");
    steer.process.close_stdin();
    steer.assert_succeeds();
    let sessions = wait_closed(&coordinator, TIMEOUT);
    assert_eq!(
        sessions.len(),
        1,
        "both elements share a session: {sessions:?}"
    );
    assert!(!steer.output().contains(KEY));
}

/// The running application, and what it records.
struct Steer {
    process: Process,
    file: TempFile,
}

impl Steer {
    fn new(name: &str, mut command: Command, url: &str, options: &[&str]) -> Self {
        let file = TempFile::new(&format!("steer-{name}.mp4"));
        command
            .args(["--api-url", url])
            .arg("--output")
            .arg(&file.0)
            .args(options)
            .env("RUST_BACKTRACE", "0");
        let process = Process::start_with_stdin(&format!("steer-{name}"), command);
        Self { process, file }
    }

    fn output(&self) -> String {
        self.process.output()
    }

    fn wait_for_output(&mut self, text: &str) {
        self.process.wait_for_output(text, TIMEOUT);
    }

    fn type_line(&mut self, line: &str) {
        self.process.write(&format!("{line}\n"));
    }

    fn assert_succeeds(&mut self) {
        // What waits for the encoder is encoded first.
        self.process.assert_succeeds(2 * TIMEOUT);
    }

    /// Panics unless the file is complete, with audio, and longer than `at_least` seconds.
    fn assert_recorded(&self, at_least: f64) {
        let streams = media::probe(&self.file.0);
        let video = media::stream(&streams, "video");
        let audio = media::stream(&streams, "audio");
        assert_eq!((&*video.codec, &*audio.codec), ("h264", "aac"));
        for stream in [video, audio] {
            assert!(stream.duration > at_least, "{stream:?}");
        }
        media::assert_decodes(&self.file.0);
    }
}

/// The area of each picture where the playground writes its prompt.
struct Texts(Vec<Vec<u8>>);

impl Texts {
    fn read(file: &Path) -> Self {
        let (width, height, pictures) = media::pictures(file);
        // The lowest eighth, without its edge, which encoders blur.
        let begin = width * (height - height / 8 + 2);
        let pictures = pictures.chunks_exact(width * height);
        Self(pictures.map(|picture| picture[begin..].to_vec()).collect())
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    /// The first picture with text in it.
    fn first_bright(&self) -> Option<usize> {
        let bright = |text: &Vec<u8>| text.iter().filter(|pixel| **pixel > 128).count();
        self.0
            .iter()
            .position(|text| bright(text) > text.len() / 100)
    }

    /// The fraction of pixels of the text that differ between two pictures, 0 to 1.
    fn difference(&self, one: usize, other: usize) -> f64 {
        let (one, other) = (&self.0[one], &self.0[other]);
        let pairs = one.iter().zip(other);
        let differ = pairs.filter(|(a, b)| a.abs_diff(**b) > 64).count();
        differ as f64 / one.len() as f64
    }
}

fn rust() -> Command {
    plugin_environment::example("steer")
}

fn python() -> Command {
    // The system's own, which has GStreamer's bindings.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(repository().join("examples/steer.py"));
    command
}
