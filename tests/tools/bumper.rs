// SPDX-License-Identifier: MIT

//! Tests of `pipelines/bumper.sh`. Its recording must show the bumper's picture, and hold the bumper's
//! tone, while the model waits for a GPU and while the model's packets are lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use reactor_coordinator::{Coordinator, CoordinatorSettings, GpuWait};
use reactor_tests::{
    TIMEOUT, audio,
    cloud::{KEY, start_coordinator_before, wait_closed},
    http, media,
    nginx::Nginx,
    pipeline::wait_until,
    plugin_environment,
    process::Process,
    proxy::Proxy,
    relay::{LinkConditions, Relay},
    scratch,
    server::{Server, free_port},
};

use crate::support::{CONNECTED, TempDirectory, script};

/// How long the model's packets are lost: longer than `--after` and shorter than `stall-timeout`,
/// so that the connection survives.
const OUTAGE: Duration = Duration::from_millis(3500);
/// Elements that make a red picture.
const RED: &str = "videotestsrc is-live=true pattern=red";
const FRAMES_PER_SECOND: usize = 30;
/// The bumper's tone, in Hz, and the model's.
const BUMPER_TONE: f64 = 1500.0;
const MODEL_TONE: f64 = 440.0;
/// Both have an amplitude of 0.1. A busy server sends less sound than pictures.
const HEARD: f64 = 0.05;

/// What is in a picture of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Bumper,
    Model,
}

/// What is shown, one after the other, and for how many pictures.
fn sequence(file: &Path) -> Vec<(Shown, usize)> {
    let codes = media::codes(file, [0, 0, 640, 360]);
    let colours = media::colours(file, [0, 0, 640, 360]);
    assert_eq!(codes.len(), colours.len());
    let mut sequence: Vec<(Shown, usize)> = Vec::new();
    for (code, [red, green, blue]) in codes.into_iter().zip(colours) {
        // The server begins with a black one if the model has none yet (runtime 3.10.0).
        if code.is_none() && red.max(green).max(blue) < 20 {
            continue;
        }
        let is_red = red > 200 && green < 60 && blue < 60;
        assert!(code.is_some() != is_red, "{code:?} {red} {green} {blue}");
        let shown = if is_red { Shown::Bumper } else { Shown::Model };
        match sequence.last_mut() {
            Some(last) if last.0 == shown => last.1 += 1,
            _ => sequence.push((shown, 1)),
        }
    }
    sequence
}

/// Waits until more of the recording is written.
pub(crate) fn record_more(file: &Path, process: &mut Process) {
    let length = || fs::metadata(file).map_or(0, |file| file.len());
    for _ in 0..2 {
        let before = length();
        wait_until("more of the recording", TIMEOUT, || {
            assert!(!process.has_ended(), "{}", process.output());
            length() > before
        });
    }
}

/// A copy of a recording without its last half second.
fn without_end(file: &Path) -> PathBuf {
    let packets = media::packets(file, "v");
    let [first, last] = [packets.first(), packets.last()].map(|packet| packet.unwrap().begin);
    let copy = file.with_extension("whole.ts");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "fatal", "-i"]).arg(file);
    ffmpeg.args(["-t", &(last - first - 0.5).to_string(), "-c", "copy"]);
    assert!(ffmpeg.arg(&copy).status().unwrap().success());
    copy
}

/// A red picture.
pub(crate) fn red_picture(file: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(
        "-nostdin -v error -f lavfi -i color=red:size=1280x720 -frames:v 1 -update 1".split(' '),
    );
    assert!(ffmpeg.arg(file).status().unwrap().success());
}

/// The script with the model of the cloud.
fn bumper(coordinator: &Coordinator, mixer: &str) -> Command {
    let mut command: Command = script("bumper.sh");
    plugin_environment::add_fallbackswitch(&mut command);
    command.env("REACTOR_API_KEY", KEY);
    command.args(["--model", "playground", "--api-url", &coordinator.url()]);
    command.args(["--size", "640x360", "--mixer", mixer]);
    command
}

/// A bumper with a tone.
fn start(coordinator: &Coordinator, (mixer, picture): (&str, &str), target: &Path) -> Process {
    let mut command = bumper(coordinator, mixer);
    command.args(["--bumper", picture]);
    let tone = format!("audiotestsrc is-live=true volume=0.1 freq={BUMPER_TONE}");
    command.args(["--sound", &tone]).arg(target);
    Process::start("bumper", command)
}

/// Records the bumper, the model, the bumper and the model.
fn record(coordinator: &Coordinator, relay: &Relay, mixer: &str, file: &Path) {
    coordinator.set_waiting(GpuWait::forever());
    let mut bumper = start(coordinator, (mixer, RED), file);
    bumper.wait_for_output("Waiting for a GPU", TIMEOUT);
    record_more(file, &mut bumper);
    coordinator.set_waiting(GpuWait::default());
    bumper.wait_for_output(CONNECTED, TIMEOUT);
    record_more(file, &mut bumper);
    relay.set_both(LinkConditions {
        loss: 1.0,
        ..LinkConditions::default()
    });
    thread::sleep(OUTAGE);
    relay.set_both(LinkConditions::default());
    // A busy machine shows the model late.
    for _ in 0..6 {
        record_more(file, &mut bumper);
    }
    bumper.interrupt_group();
    bumper.assert_succeeds(TIMEOUT);
    wait_closed(coordinator, TIMEOUT);
    media::assert_decodes(file);
}

/// Panics unless the recording shows bumper, model, bumper and model, each with its tone. With
/// `is_mixed`, the model's parts hold the bumper's tone, too.
fn assert_shown(file: &Path, is_mixed: bool) {
    let mut sequence = sequence(file);
    // The model may end before the bumper does.
    sequence.truncate(4);
    let order: Vec<_> = sequence.iter().map(|(shown, _)| *shown).collect();
    use Shown::{Bumper, Model};
    assert_eq!(order, [Bumper, Model, Bumper, Model], "{sequence:?}");
    assert!(sequence.iter().all(|part| part.1 > 5), "{sequence:?}");
    let samples = media::samples(file);
    // The amplitudes of both tones in each twentieth of a second.
    let heard = |tone| {
        let parts = samples.chunks_exact(audio::RATE as usize / 20);
        let amplitudes = parts.map(|part| audio::amplitude(part, tone));
        amplitudes.collect::<Vec<_>>()
    };
    let [bumper, model] = [BUMPER_TONE, MODEL_TONE].map(heard);
    let mut begin = 0;
    let mut is_heard = false;
    for (shown, pictures) in sequence {
        let at = |picture: usize| picture * 20 / FRAMES_PER_SECOND;
        let parts = bumper
            .iter()
            .zip(&model)
            .map(|(bumper, model)| (*bumper > HEARD, *model > HEARD));
        let mut parts = parts.take(at(begin + pictures)).skip(at(begin));
        match shown {
            Bumper => assert!(
                parts.any(|part| part == (true, false)),
                "{bumper:?} {model:?}"
            ),
            Model => is_heard |= parts.any(|part| part == (is_mixed, true)),
        }
        begin += pictures;
    }
    assert!(is_heard, "{bumper:?} {model:?}");
}

#[test]
fn bumper_is_shown_until_model_is_there_and_during_outage() {
    let server = Server::playground_640x360();
    let proxy = Proxy::before(&server);
    let relay = Relay::behind(&proxy, 1);
    let coordinator = start_coordinator_before(proxy.url(), CoordinatorSettings::default());
    let scrap = TempDirectory::new("bumper");
    for (mixer, is_mixed) in [("mix", true), ("switch", false)] {
        let file = scrap.0.join(format!("{mixer}.mp4"));
        record(&coordinator, &relay, mixer, &file);
        assert_shown(&file, is_mixed);
    }
}

/// Whatever Pango would make of it as markup.
#[test]
fn text_of_bumper_is_shown_as_it_is() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator_before(server.url(), CoordinatorSettings::default());
    coordinator.set_waiting(GpuWait::forever());
    let scrap = TempDirectory::new("bumper-text");
    let file = scrap.0.join("text.mp4");
    let mut command = bumper(&coordinator, "mix");
    command.args(["--text", "Q&A <here> at 8"]).arg(&file);
    let mut bumper = Process::start("bumper-text", command);
    bumper.wait_for_output("Waiting for a GPU", TIMEOUT);
    record_more(&file, &mut bumper);
    coordinator.set_waiting(GpuWait::default());
    bumper.wait_for_output(CONNECTED, TIMEOUT);
    record_more(&file, &mut bumper);
    bumper.interrupt_group();
    bumper.assert_succeeds(TIMEOUT);
    let (width, height, pictures) = media::pictures(&file);
    // Its letters are all that is bright in the half second before the model came.
    let pictures = pictures.chunks_exact(width * height).take(15);
    let bright = pictures.map(|picture| picture.iter().filter(|luma| **luma > 140).count());
    let bright: Vec<_> = bright.collect();
    let letters = 300..width * height / 4;
    let most = bright.iter().max().expect("a picture");
    assert!(letters.contains(most), "{bright:?}");
}

/// The bumper itself has no end.
#[test]
fn bumper_ends_with_session() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator_before(server.url(), CoordinatorSettings::default());
    let scrap = TempDirectory::new("bumper-ends");
    let file = scrap.0.join("ends.mp4");
    let mut bumper = start(&coordinator, ("mix", RED), &file);
    bumper.wait_for_output(CONNECTED, TIMEOUT);
    record_more(&file, &mut bumper);
    let stop = format!("{}/stop_session", server.url());
    http::post(&stop, r#"{"reason":"test"}"#).unwrap();
    bumper.assert_succeeds(TIMEOUT);
    media::assert_decodes(&file);
}

/// What a viewer receives from a server, from the bumper's first picture on. The picture is a file.
#[test]
fn servers_get_bumper_of_a_file_and_then_the_model() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator_before(server.url(), CoordinatorSettings::default());
    let nginx = Nginx::start(scratch::path("bumper-rtmp"));
    let scrap = TempDirectory::new("bumper-servers");
    let picture = scrap.0.join("back soon.png");
    red_picture(&picture);
    let rtmp = nginx.rtmp("bumper");
    let srt = format!("srt://127.0.0.1:{}", free_port());
    let listener = format!("{srt}?mode=listener");
    for (mixer, target, watched, file) in [
        ("mix", &rtmp, &rtmp, "seen.flv"),
        ("switch", &srt, &listener, "seen.ts"),
    ] {
        let file = scrap.0.join(file);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "fatal", "-i", watched, "-c", "copy"]);
        ffmpeg.args(["-flush_packets", "1"]).arg(&file);
        let mut viewer = Process::start("bumper-viewer", ffmpeg);
        coordinator.set_waiting(GpuWait::forever());
        let input = (mixer, picture.to_str().unwrap());
        let mut bumper = start(&coordinator, input, Path::new(target));
        bumper.wait_for_output("Waiting for a GPU", TIMEOUT);
        record_more(&file, &mut bumper);
        coordinator.set_waiting(GpuWait::default());
        bumper.wait_for_output(CONNECTED, TIMEOUT);
        thread::sleep(Duration::from_secs(3));
        bumper.interrupt_group();
        bumper.assert_succeeds(TIMEOUT);
        // nginx keeps a viewer for whom nothing comes, and ffmpeg waits for it at the first signal.
        wait_until("the viewer ends", TIMEOUT, || {
            viewer.has_ended() || {
                viewer.interrupt_group();
                false
            }
        });
        wait_closed(&coordinator, TIMEOUT);
        // srtsink drops what it has not sent when EOS comes, in the middle of a picture.
        let file = if target == &srt {
            without_end(&file)
        } else {
            file
        };
        media::assert_decodes(&file);
        let mut sequence = sequence(&file);
        // The model may end before the bumper does.
        sequence.truncate(2);
        let order: Vec<_> = sequence.iter().map(|(shown, _)| *shown).collect();
        assert_eq!(
            order,
            [Shown::Bumper, Shown::Model],
            "{target}: {sequence:?}"
        );
        let samples = media::samples(&file);
        let (first, last) = samples.split_at(samples.len() / 2);
        let heard = |samples: &[i16], tone| {
            let mut parts = samples.chunks_exact(audio::RATE as usize / 20);
            parts.any(|part| audio::amplitude(part, tone) > HEARD)
        };
        assert!(heard(first, BUMPER_TONE), "{target}");
        assert!(heard(last, MODEL_TONE), "{target}");
    }
}
