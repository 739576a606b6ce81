// SPDX-License-Identifier: MIT

//! The example applications, run as their users run them.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use reactor_tests::{
    installed, media,
    pipeline::wait_until,
    server::{Server, repository},
};

const SOON: Duration = Duration::from_secs(30);
/// Long enough for the picture to be sharp, and to be found in the file.
const A_WHILE: Duration = Duration::from_millis(1500);
/// That many pictures after a change, it is sharp.
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
fn rust_ends_at_ctrl_c() {
    ends_at_ctrl_c("rust-ctrl-c", rust());
}

#[test]
fn python_ends_at_ctrl_c() {
    ends_at_ctrl_c("python-ctrl-c", python());
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
fn rust_answers_what_is_piped_in() {
    answers_what_is_piped_in("rust-piped", rust());
}

#[test]
fn python_answers_what_is_piped_in() {
    answers_what_is_piped_in("python-piped", python());
}

#[test]
fn rust_explains_that_there_is_no_server() {
    explains_that_there_is_no_server("rust-nobody", rust());
}

#[test]
fn python_explains_that_there_is_no_server() {
    explains_that_there_is_no_server("python-nobody", python());
}

fn prompts_change_the_picture(name: &str, command: Command) {
    let server = Server::playground();
    let mut steer = Steer::new(name, command, &server.url(), &[]);
    steer.wait_for_output("status: ready");
    std::thread::sleep(A_WHILE);
    for prompt in ["a \"dark\" forest", "WWW WWW WWW WWW WWW"] {
        steer.type_line(prompt);
        let json = serde_json::json!({ "prompt": prompt });
        steer.wait_for_output(&format!("model: prompt_changed {json}"));
        std::thread::sleep(A_WHILE);
    }
    assert_eq!(steer.output().matches("set_prompt: done").count(), 2);
    steer.type_line("/fail");
    steer.wait_for_output("fail failed: told_to_fail: You asked for it.");
    steer.type_line(r#"/echo {"text":"still there"}"#);
    steer.wait_for_output("echo: echoed {");
    steer.end_input();
    steer.assert_succeeds();
    server.wait_for_state("ready", SOON);

    steer.assert_recorded(4.0);
    let texts = Texts::read(&steer.file);
    let written = texts.first_bright().expect("a text appears");
    assert!(written > SETTLED, "there is a text from the beginning");
    let (before, first, last) = (written - 2, written + SETTLED, texts.count() - 1);
    assert!(texts.difference(0, before) < 0.002, "it changed unasked");
    let change = texts.difference(before, first);
    assert!(change > 0.01, "the first prompt changed {change}");
    let change = texts.difference(first, last);
    assert!(change > 0.01, "the second prompt changed {change}");
}

fn ends_at_ctrl_c(name: &str, command: Command) {
    let server = Server::playground();
    // The input stays open: it is not what ends it.
    let mut steer = Steer::new(name, command, &server.url(), &[]);
    steer.wait_for_output("status: ready");
    std::thread::sleep(A_WHILE);
    steer.interrupt();
    steer.assert_succeeds();
    server.wait_for_state("ready", SOON);
    steer.assert_recorded(0.5);
}

/// As service managers and containers do it, at some moments of connecting. A
/// session that is left behind stays for a minute.
fn ends_its_session_when_terminated(name: &str, command: fn() -> Command) {
    let server = Server::playground();
    let mut begun = 0;
    for n in 0..8 {
        let mut steer = Steer::new(name, command(), &server.url(), &[]);
        std::thread::sleep(Duration::from_millis(200 + n * 263));
        begun += usize::from(server.session_state() != "ready");
        steer.signal(libc::SIGTERM);
        let status = steer.wait();
        assert!(!steer.output().contains("CRITICAL"), "{}", steer.output());
        server.wait_for_state("ready", SOON);
        // Before the handler is there, there is no session either.
        let early = !steer.output().contains("status: ");
        assert!(status.code().is_some() || early, "{n}: {status}");
    }
    assert!(begun >= 2, "it was terminated too early: {begun}");
}

fn answers_what_is_piped_in(name: &str, command: Command) {
    let server = Server::playground();
    let mut steer = Steer::new(name, command, &server.url(), &["--seconds", "4"]);
    // Before there is a session, and with no end of the line.
    steer.type_line("a tree");
    steer.write("/echo {\"text\":\"at once\"}");
    steer.end_input();
    steer.assert_succeeds();
    server.wait_for_state("ready", SOON);
    for said in ["set_prompt: done", "prompt_changed", "echo: echoed {"] {
        assert!(steer.output().contains(said), "{said}:\n{}", steer.output());
    }
    steer.assert_recorded(1.0);
}

fn explains_that_there_is_no_server(name: &str, command: Command) {
    // Nothing listens there; a free port of now may be somebody else's soon.
    let mut steer = Steer::new(name, command, "http://127.0.0.1:1", &[]);
    let status = steer.wait();
    assert_eq!(status.code(), Some(1), "{}", steer.output());
    for said in ["nothing answers", "code: NETWORK_ERROR", "what to do: "] {
        assert!(steer.output().contains(said), "{said}:\n{}", steer.output());
    }
}

/// A running example that does not outlive its test. Its files are removed
/// when the test has passed.
struct Steer {
    child: Child,
    log: PathBuf,
    file: PathBuf,
}

impl Steer {
    fn new(name: &str, mut command: Command, url: &str, options: &[&str]) -> Self {
        let scrap = |extension| {
            let name = format!("examples-{}-{name}.{extension}", std::process::id());
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
        };
        let (log, file) = (scrap("log"), scrap("mp4"));
        let output = File::create(&log).unwrap();
        command
            .args(["--api-url", url])
            .arg("--output")
            .arg(&file)
            .args(options);
        let child = installed::equip(&mut command, env!("CARGO_TARGET_TMPDIR"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log, file }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn wait_for_output(&self, text: &str) {
        wait_until(text, SOON, || self.output().contains(text));
    }

    fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("the input is open");
        stdin.write_all(text.as_bytes()).unwrap();
    }

    fn type_line(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// What Ctrl-C does.
    fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the pid is that of our child, which is not reaped before drop.
        #[allow(unsafe_code)]
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "kill");
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "still running after {SOON:?}:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn assert_succeeds(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.output());
        assert!(!self.output().contains("CRITICAL"), "{}", self.output());
    }

    /// Panics unless the file is whole, with sound, and so long.
    fn assert_recorded(&self, at_least: f64) {
        let streams = media::probe(&self.file);
        let video = media::stream(&streams, "video");
        let audio = media::stream(&streams, "audio");
        assert_eq!((&*video.codec, &*audio.codec), ("h264", "aac"));
        for stream in [video, audio] {
            assert!(stream.duration > at_least, "{stream:?}");
        }
        media::assert_decodes(&self.file);
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        } else {
            let _ = std::fs::remove_file(&self.log);
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// The part of each picture where the playground writes its prompt.
struct Texts(Vec<Vec<u8>>);

impl Texts {
    fn read(file: &Path) -> Self {
        let (width, height, pictures) = media::pictures(file);
        // The lowest eighth; its edge is left to the encoders.
        let begin = width * (height - height / 8 + 2);
        let pictures = pictures.chunks_exact(width * height);
        Self(pictures.map(|picture| picture[begin..].to_vec()).collect())
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    /// The first with something written in it.
    fn first_bright(&self) -> Option<usize> {
        let bright = |text: &Vec<u8>| text.iter().filter(|pixel| **pixel > 128).count();
        self.0
            .iter()
            .position(|text| bright(text) > text.len() / 100)
    }

    /// How much of the text is another in two pictures: 0 to 1.
    fn difference(&self, one: usize, other: usize) -> f64 {
        let (one, other) = (&self.0[one], &self.0[other]);
        let pairs = one.iter().zip(other);
        let differ = pairs.filter(|(a, b)| a.abs_diff(**b) > 64).count();
        differ as f64 / one.len() as f64
    }
}

fn rust() -> Command {
    installed::example("steer")
}

fn python() -> Command {
    // The system's own, which has GStreamer's bindings.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(repository().join("examples/steer.py"));
    command
}
