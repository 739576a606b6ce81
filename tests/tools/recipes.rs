// SPDX-License-Identifier: MIT

//! The scripts of `pipelines` that steer a model or combine models: what their picture shows.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use reactor_tests::{
    TIMEOUT, audio, media, model_messages,
    pipeline::{TestPipeline, wait_for_status, wait_until},
    process::Process,
    server::{Server, free_port},
};
use serde::Deserialize;

use crate::support::{CONNECTED, TempDirectory, local, local_model, script};

/// How long a script goes on after the last thing that it is to show.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Another participant of the session: it hears the model, and keeps the session between scripts.
struct Listener {
    running: TestPipeline,
    prompts: Arc<Mutex<Vec<PromptChanged>>>,
}

#[derive(Debug, Deserialize)]
struct PromptChanged {
    prompt: String,
}

impl Listener {
    fn join(server: &Server) -> Self {
        let running = TestPipeline::parse(&format!(
            "reactorsrc name=r local=true api-url={} r.messages ! fakesink",
            server.url()
        ));
        let source = running.by_name("r");
        let prompts = model_messages::collect(&source, "prompt_changed");
        running.play();
        wait_for_status(&source, "ready", TIMEOUT);
        Self { running, prompts }
    }

    /// Waits until the model has told of these prompts, and of no other since the last call.
    fn expect(&self, prompts: &[&str], process: &mut Process) {
        wait_until("the prompts", TIMEOUT, || {
            assert!(!process.has_ended(), "{}", process.output());
            self.prompts.lock().unwrap().len() >= prompts.len()
        });
        let heard: Vec<_> = self.prompts.lock().unwrap().drain(..).collect();
        let heard: Vec<_> = heard.iter().map(|said| &said.prompt).collect();
        assert_eq!(heard, prompts);
    }
}

/// The column up to which the prompt at the bottom of a 640x360 picture of the playground goes.
pub(crate) fn prompt_width(picture: &[u8]) -> usize {
    let rows = picture[320 * 640..].chunks_exact(640);
    let ends = rows.filter_map(|row| row.iter().rposition(|luma| *luma > 140));
    ends.max().unwrap_or(0)
}

/// The prompts in a recording, in their order: from which counter on, and how wide.
fn prompts_shown(file: &Path) -> Vec<(u32, usize)> {
    let (width, height, pictures) = media::pictures(file);
    assert_eq!((width, height), (640, 360));
    let widths = pictures.chunks_exact(width * height).map(prompt_width);
    let mut shown: Vec<(u32, usize)> = Vec::new();
    for (counter, width) in media::counters(file).into_iter().zip(widths) {
        // A picture of few bits does not have each edge in its place.
        if shown.last().is_none_or(|last| last.1.abs_diff(width) > 8) {
            shown.push((counter, width));
        }
    }
    shown
}

fn finish(mut process: Process) {
    thread::sleep(AFTERWARDS);
    process.interrupt_group();
    process.assert_succeeds(TIMEOUT);
}

#[test]
fn show_voice_and_camera_steer_model() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("steered");
    let listener = Listener::join(&server);
    show_has_each_prompt_at_its_time(&server, &scrap, &listener);
    voice_becomes_prompt(&server, &scrap, &listener);
    camera_is_reference_image(&server, &scrap);
    listener.running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

fn show_has_each_prompt_at_its_time(server: &Server, scrap: &TempDirectory, listener: &Listener) {
    let [srt, file] = ["show.srt", "show.mp4"].map(|name| scrap.0.join(name));
    let subtitles = "1\n00:00:00,500 --> 00:00:01,000\nmist\n\n\
                     2\n00:00:01,500 --> 00:00:02,000\na forest, at <i>dawn</i>\n\n\
                     3\n00:00:03,000 --> 00:00:04,000\nit's \"green\" & wet, with ferns\n";
    fs::write(&srt, subtitles).unwrap();
    let options = ["--record", file.to_str().unwrap()];
    let mut show = Process::start("show", local("show.sh", server, &options, &srt));
    let prompts = [
        "mist",
        "a forest, at dawn",
        "it's \"green\" & wet, with ferns",
    ];
    listener.expect(&prompts, &mut show);
    finish(show);
    media::assert_decodes(&file);
    let shown = prompts_shown(&file);
    let [none, mist, forest, ferns] = shown[..] else {
        panic!("{shown:?}")
    };
    assert_eq!(none.1, 0, "{shown:?}");
    assert!(mist.1 < forest.1 && forest.1 < ferns.1, "{shown:?}");
    // 1 s and 1.5 s at 30 frames/s.
    let apart = [forest.0 - mist.0, ferns.0 - forest.0];
    assert!(apart[0].abs_diff(30) < 15, "{shown:?}");
    assert!(apart[1].abs_diff(45) < 15, "{shown:?}");
}

/// Prints a line for each one and a half seconds of sound that it hears, since a recording may begin
/// after the sound, and listens on after the last.
const TRANSCRIBER: &str = "while read -r line <&3 && \
    (($(head -c 48000 | wc -c) == 48000)); do echo \"$line\"; done 3<utterances; cat >/dev/null";

fn voice_becomes_prompt(server: &Server, scrap: &TempDirectory, listener: &Listener) {
    let file = scrap.0.join("voice.mp4");
    fs::write(scrap.0.join("utterances"), "a sea\na sea at night\n").unwrap();
    let options = [
        "--record",
        "voice.mp4",
        "--microphone",
        "audiotestsrc is-live=true",
    ];
    let mut command = local("voice.sh", server, &options, Path::new(TRANSCRIBER));
    command.current_dir(&scrap.0);
    let mut voice = Process::start("voice", command);
    listener.expect(&["a sea", "a sea at night"], &mut voice);
    finish(voice);
    let shown = prompts_shown(&file);
    let [.., sea, night] = shown[..] else {
        panic!("{shown:?}")
    };
    assert!(sea.1 < night.1, "{shown:?}");

    let mut ends = local("voice.sh", server, &options, Path::new("head -c 9000 | wc"));
    ends.current_dir(&scrap.0);
    let mut ends = Process::start("voice-ends", ends);
    assert_ne!(ends.wait(TIMEOUT).code(), Some(0), "{}", ends.output());
    assert!(ends.output().contains("the transcriber ended"));
}

fn camera_is_reference_image(server: &Server, scrap: &TempDirectory) {
    let file = scrap.0.join("camera.mp4");
    let options = [
        "--every",
        "1",
        "--camera",
        "videotestsrc is-live=true pattern=red",
    ];
    let mut command = local_model("camera.sh", server, &options);
    command.arg("--record").arg(&file);
    let mut camera = Process::start("camera", command);
    camera.wait_for_output(CONNECTED, TIMEOUT);
    thread::sleep(Duration::from_secs(3));
    finish(camera);
    // The middle of the right third.
    let colours = media::colours(&file, [480, 130, 120, 80]);
    let red = |[r, g, b]: &[u8; 3]| *r > 200 && *g < 60 && *b < 60;
    // The model has nothing red by itself; the image may be there before the first picture.
    let first = colours.iter().position(red).expect("the image");
    assert!(colours[first..].iter().all(red), "{colours:?}");
}

#[test]
fn wrong_input_says_what_to_do() {
    let scrap = TempDirectory::new("wrong");
    let srt = scrap.0.join("show.srt");
    fs::write(&srt, "").unwrap();
    let srt = srt.to_str().unwrap();
    for (name, arguments, said) in [
        ("show.sh", &["--local"][..], "which show?"),
        (
            "show.sh",
            &["no.srt"],
            "not a file that can be read: no.srt",
        ),
        ("show.sh", &[srt], "no display for a window: --record"),
        ("show.sh", &[srt, srt], "one show only"),
        (
            "show.sh",
            &[srt, "--command", "a b"],
            "needs the name of a command",
        ),
        (
            "show.sh",
            &[srt, "--record", "x.mkv"],
            "ends in .mp4: x.mkv",
        ),
        (
            "show.sh",
            &[srt, "--record", "no/x.mp4"],
            "no such directory",
        ),
        ("voice.sh", &["--local"], "which transcriber?"),
        ("camera.sh", &["--every", "0"], "--every needs a number: 0"),
        ("camera.sh", &["--quality", "101"], "from 1 to 100"),
        ("camera.sh", &["x"], "not an option: x"),
        (
            "snapshot.sh",
            &["--record", "x.mp4", "x.png"],
            "unknown option: --record",
        ),
    ] {
        let mut command: Command = script(name);
        command.args(arguments).current_dir(&scrap.0);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let mut process = Process::start("wrong", command);
        let status = process.wait(TIMEOUT);
        let output = process.output();
        assert_eq!(status.code(), Some(2), "{name} {arguments:?}: {output}");
        assert!(output.contains(said), "{said}: {output}");
    }
}

/// Receives by SRT for three seconds, into a file.
/// `url` has a query. The latency is in microseconds: what a busy machine sends later is dropped.
fn receive_srt(url: &str, file: &Path) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    let url = format!("{url}&latency=3000000");
    ffmpeg.args(["-nostdin", "-v", "fatal", "-i", &url]);
    ffmpeg.args(["-t", "3", "-c", "copy"]);
    Process::start("srt-viewer", {
        ffmpeg.arg(file);
        ffmpeg
    })
}

#[test]
fn srt_serves_players_and_calls_servers() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("srt");
    let start = |url: &str| {
        let mut srt = Process::start("srt", local("srt.sh", &server, &[], Path::new(url)));
        srt.wait_for_output(CONNECTED, TIMEOUT);
        srt
    };
    let stop = |mut srt: Process| {
        srt.signal(libc::SIGTERM);
        srt.assert_succeeds(TIMEOUT);
        server.wait_for_state("ready", TIMEOUT);
    };
    let [listening, calling] = [free_port(), free_port()];

    // A server that waits for the stream.
    let seen = scrap.0.join("server.ts");
    let url = format!("srt://127.0.0.1:{calling}");
    let mut far = receive_srt(&format!("{url}?mode=listener"), &seen);
    let srt = start(&url);
    far.assert_succeeds(2 * TIMEOUT);
    stop(srt);
    assert_transport_stream(&seen);

    // A player that comes later, with a passphrase.
    let seen = scrap.0.join("player.ts");
    let secret = "passphrase=ten letters or more";
    let srt = start(&format!("srt://:{listening}?mode=listener&{secret}"));
    let mut player = receive_srt(&format!("srt://127.0.0.1:{listening}?{secret}"), &seen);
    player.assert_succeeds(2 * TIMEOUT);
    stop(srt);
    assert_transport_stream(&seen);
}

fn assert_transport_stream(file: &Path) {
    let streams = media::probe(file);
    let codecs = ["video", "audio"].map(|kind| media::stream(&streams, kind).codec);
    assert_eq!(codecs, ["h264", "aac"]);
    media::assert_decodes(file);
    assert!(media::packets(file, "v")[0].is_key);
    let counters = media::counters(file);
    assert!(counters.len() > 30 && counters.is_sorted(), "{counters:?}");
    audio::assert_playground_tone(&media::samples(file)[audio::RATE as usize / 2..]);
}

#[test]
fn two_models_are_mixed_and_chained() {
    let servers = [Server::playground_640x360(), Server::playground_640x360()];
    let other = servers[1].url();
    let scrap = TempDirectory::new("two");
    let record = |name: &str, options: &[&str]| {
        let file = scrap.0.join(format!("{name}.mp4"));
        let mut command = local_model(name, &servers[0], options);
        command.arg("--record").arg(&file);
        let mut process = Process::start(name, command);
        for server in &servers {
            server.wait_for_state("streaming", TIMEOUT);
        }
        // On a busy machine one of them may send much later than the other.
        let recorded = || fs::metadata(&file).map_or(0, |file| file.len());
        wait_until("a recording", 2 * TIMEOUT, || recorded() > 200_000);
        thread::sleep(Duration::from_secs(3));
        process.interrupt_group();
        process.assert_succeeds(TIMEOUT);
        for server in &servers {
            server.wait_for_state("ready", TIMEOUT);
        }
        file
    };
    let file = record("side-by-side.sh", &["--right-api-url", &other]);
    let halves = [0, 640].map(|x| {
        let codes = media::codes(&file, [x, 0, 640, 360]);
        let codes: Vec<_> = codes.into_iter().flatten().collect();
        assert!(codes.len() > 30, "{x}: {codes:?}");
        assert!(codes.is_sorted_by_key(|code| code.0), "{x}: {codes:?}");
        codes
    });
    // Two servers rarely send a picture of one number in one and the same microsecond.
    let both = halves[0].iter().filter(|code| halves[1].contains(code));
    let both = both.count();
    assert!(
        both < halves[0].len() / 4,
        "{both} pictures are in both halves"
    );
    assert!(media::samples(&file).iter().any(|sample| *sample > 2000));

    // What is white in the first model's picture is black in the second's, in the lower left.
    let is_black = |brightness: u8| {
        let commands = format!("[{{set_brightness:{{brightness:{brightness}}}}}]");
        let options = ["--from-api-url", &other, "--from-commands", &commands];
        let file = record("chain.sh", &options);
        let colours = media::colours(&file, [40, 220, 130, 70]);
        let last = colours.last().expect("a picture");
        last.iter().all(|part| *part < 40)
    };
    assert!(is_black(1));
    assert!(!is_black(0));
}
