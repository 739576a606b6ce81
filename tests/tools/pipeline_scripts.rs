// SPDX-License-Identifier: MIT

//! The scripts of `pipelines`, run as their users run them; a player or server reads their output.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reactor_coordinator::{CoordinatorSettings, SessionState};
use reactor_tests::{
    TIMEOUT, audio,
    cloud::{KEY, start_coordinator},
    http, media,
    nginx::Nginx,
    pipeline::wait_until,
    process::{Process, send_signal},
    scratch,
    server::{Server, free_port, repository, serve_script},
};

use crate::support::{CONNECTED, TempDirectory, local, script};

/// The largest offset of audio against video in seconds. Most of it is for a busy server, which
/// plays audio from a queue and video at once.
const APART: f64 = 0.3;
fn assert_streams(path: &Path) {
    let streams = media::probe(path);
    let [video, audio] = ["video", "audio"].map(|kind| media::stream(&streams, kind));
    assert_eq!((&*video.codec, &*audio.codec), ("h264", "aac"), "{path:?}");
    assert_eq!((video.width, video.height), (640, 360), "{path:?}");
    let apart = (video.duration - audio.duration).abs();
    assert!(apart < APART, "{path:?}: {video:?} {audio:?}");
    media::assert_decodes(path);
}

fn assert_together(path: &Path, counters: &[u32]) {
    let lag = media::lag(path, counters);
    assert!(lag.abs() < APART, "{path:?}: sound is {lag:.3} s behind");
}

/// Lists all scripts, so that none is forgotten.
#[test]
fn help_option_prints_usage() {
    let entries = std::fs::read_dir(repository().join("pipelines")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".sh")).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "bumper.sh",
            "camera.sh",
            "chain.sh",
            "clip.sh",
            "demo.sh",
            "fanout.sh",
            "hls.sh",
            "play.sh",
            "record.sh",
            "rtmp.sh",
            "show.sh",
            "side-by-side.sh",
            "snapshot.sh",
            "srt.sh",
            "voice.sh",
        ]
    );
    for name in names.iter().filter(|name| *name != "demo.sh") {
        let output = script(name).arg("--help").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        for said in [&format!("  {name} [OPTION...]"), "--local"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        // The platform's recording is not encoded again, and a picture has no bitrate.
        let has_bitrate = !["clip.sh", "fanout.sh", "snapshot.sh"].contains(&name.as_str());
        assert_eq!(text.contains("--bitrate"), has_bitrate);
    }
}

#[test]
fn demo_without_display_leaves_recording_and_contact_sheet() {
    let scrap = TempDirectory::new("demo");
    let status = || {
        let mut git = Command::new("git");
        git.args(["status", "--porcelain"])
            .current_dir(repository());
        git.output().unwrap().stdout
    };
    let before = status();
    let start = |name, keep: &[&str]| {
        let mut command = script("demo.sh");
        command.args(keep).current_dir(&scrap.0);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        Process::start(name, command)
    };
    let mut demos = [start("demo", &[]), start("demo-keep", &["--keep"])];
    for demo in &mut demos {
        // Where the plugin alone has not been built yet, they build it.
        demo.assert_succeeds(Duration::from_secs(600));
        for said in [
            "H.264",
            "recording: ",
            "six moments of it: ",
            "contact sheet: ",
        ] {
            assert!(demo.output().contains(said), "{}", demo.output());
        }
    }
    // What is not kept is nowhere in the checkout that git sees.
    assert_eq!(status(), before);
    let [recording, sheet] = ["reactor-demo.mp4", "reactor-demo.png"].map(|f| scrap.0.join(f));
    assert_eq!(scrap.files(), [recording.clone(), sheet.clone()]);
    assert_streams(&recording);
    let counters = media::counters(&recording);
    media::assert_nearly_contiguous_or_held(&counters);
    assert!(counters.len() > 60, "{} pictures", counters.len());
    // Its width and height, which a PNG has after the head of its first chunk.
    let picture = std::fs::read(&sheet).unwrap();
    assert_eq!(&picture[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    assert_eq!([number(16), number(20)], [3 * 434 - 8, 2 * 248 - 8]);
}

/// The bar is for a terminal: `script` is one.
#[test]
fn progress_is_drawn_on_terminals_only() {
    let steps = "set -e; . pipelines/lib/progress.sh; progress one 4 sleep 1; progress two 0 true; \
                 progress three 0 false";
    let run = |command: &mut Command| {
        let output = command.current_dir(repository()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let plain = run(Command::new("bash").args(["-c", steps]));
    let words: String = plain.chars().filter(|c| !c.is_ascii_digit()).collect();
    assert_eq!(words, "one:  s\ntwo:  s\nthree:  s, failed\n");
    let quoted = format!("bash -c '{steps}'");
    let drawn = run(Command::new("script").args(["-qec", &quoted, "/dev/null"]));
    for said in ["one [", "...] ", "one: ", "two: ", " s, failed"] {
        assert!(drawn.contains(said), "{drawn}");
    }
}

#[test]
fn rtmp_keeps_frame_rate_through_outage() {
    let server = Server::playground_640x360();
    let nginx = Nginx::start(scratch::path("rtmp"));
    let url = nginx.rtmp("demo");
    let file = nginx.directory.join("seen.flv");
    // It waits for the stream.
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i", &url]);
    ffmpeg.args(["-t", "10", "-c", "copy"]).arg(&file);
    let mut viewer = Process::start("rtmp-viewer", ffmpeg);
    let command = local("rtmp.sh", &server, &[], Path::new(&url));
    let mut rtmp = Process::start("rtmp", command);
    rtmp.wait_for_output(CONNECTED, TIMEOUT);
    std::thread::sleep(Duration::from_secs(5));
    server.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    server.signal(libc::SIGCONT);
    viewer.assert_succeeds(2 * TIMEOUT);
    assert_eq!(viewer.output(), "");
    rtmp.signal(libc::SIGTERM);
    rtmp.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);

    assert_streams(&file);
    let pictures = media::packets(&file, "v");
    assert!(pictures.len() > 240, "{} pictures", pictures.len());
    let steps = pictures
        .windows(2)
        .map(|pair| pair[1].begin - pair[0].begin);
    // 1/30 s in whole milliseconds, except where this machine was too busy.
    let even = steps.clone().filter(|step| (0.032..0.035).contains(step));
    assert!(even.count() * 4 > pictures.len() * 3, "{pictures:?}");
    for step in steps {
        assert!((0.0..0.5).contains(&step), "{step}: {pictures:?}");
    }
    let keys: Vec<_> = pictures.iter().filter(|picture| picture.is_key).collect();
    for pair in keys.windows(2) {
        let distance = pair[1].begin - pair[0].begin;
        assert!((1.9..2.1).contains(&distance), "{pair:?}");
    }
    assert!(keys.len() >= 4 && pictures[0].is_key, "{keys:?}");
    let audio = media::packets(&file, "a");
    assert!((audio[0].begin - pictures[0].begin).abs() < 0.15);
    for pair in audio.windows(2) {
        let step = pair[1].begin - pair[0].begin;
        assert!((0.0..0.5).contains(&step), "{pair:?}");
    }
    let counters = media::counters(&file);
    assert!(counters.is_sorted(), "{counters:?}");
    let held = counters.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    assert!(held >= Some(30), "the picture was held for {held:?}");
    let mut different = counters.clone();
    different.dedup();
    assert!(different.len() > 100, "{counters:?}");
    assert_together(&file, &counters);
}

/// Checks the parts of a recording together; returns the gaps between parts.
fn assert_parts(parts: &[PathBuf]) -> Vec<(u32, u32)> {
    let mut all: Vec<u32> = Vec::new();
    let mut sound = Vec::new();
    let mut torn = Vec::new();
    for part in parts {
        assert_streams(part);
        assert!(media::packets(part, "v")[0].is_key, "{part:?}");
        let counters = media::counters(part);
        if counters.len() > 50 {
            assert_together(part, &counters);
        }
        if let Some(last) = all.last() {
            // A picture may be held across the end of a part.
            let gap = media::gaps(&[*last, counters[0]]);
            torn.extend(gap.into_iter().filter(|(before, now)| before != now));
        }
        all.extend(counters);
        sound.extend(media::samples(part));
    }
    media::assert_nearly_contiguous_or_held(&all);
    audio::assert_playground_tone(&sound[audio::RATE as usize..]);
    torn
}

#[test]
fn recording_continues_from_part_to_part() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("record");
    let record = |file: &str| {
        let options = ["--part", "2", "--commands", r#"[{"echo":{"text":"\"!"}}]"#];
        local("record.sh", &server, &options, &scrap.0.join(file))
    };
    let mut torn = Vec::new();
    // A server on a busy machine drops pictures before it encodes them, but not each time where a
    // part ends.
    for attempt in ["one.mp4", "two.mp4", "three.mp4"] {
        let before = scrap.files();
        let mut process = Process::start("record", record(attempt));
        process.wait_for_output(CONNECTED, TIMEOUT);
        std::thread::sleep(Duration::from_secs(7));
        process.interrupt_group();
        process.assert_succeeds(TIMEOUT);
        server.wait_for_state("ready", TIMEOUT);
        let mut parts = scrap.files();
        parts.retain(|file| !before.contains(file));
        assert!((3..=5).contains(&parts.len()), "{parts:?}");
        for part in &parts[..2] {
            // The number of pictures that the model makes in 2 s, minus those that a busy server
            // drops.
            let pictures = media::packets(part, "v").len();
            assert!((56..=60).contains(&pictures), "{part:?}: {pictures}");
        }
        torn = assert_parts(&parts);
        if torn.is_empty() {
            break;
        }
    }
    assert!(
        torn.is_empty(),
        "pictures are missing between parts: {torn:?}"
    );

    let mut again = Process::start("record-again", record("one.mp4"));
    assert_eq!(again.wait(TIMEOUT).code(), Some(2));
    assert!(again.output().contains("is there already"));
}

/// The cloud, with the key in the environment.
#[test]
fn snapshots_are_pictures_of_their_moments() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("snapshot");
    let options = ["--every", "1", "--count", "2"];
    let command = local("snapshot.sh", &server, &options, &scrap.0.join("a.png"));
    Process::start("snapshot", command).assert_succeeds(TIMEOUT);
    let files: [PathBuf; 2] = scrap.files().try_into().unwrap();
    // ffmpeg takes a % in the name of a picture for a pattern.
    let copy = scratch::TempFile::new("snapshot.png");
    let counters = files.map(|file| {
        std::fs::copy(file, &copy.0).unwrap();
        media::counters(&copy.0)[0]
    });
    // 30 frames/s.
    let apart = counters[1] - counters[0];
    assert!((20..=40).contains(&apart), "{counters:?}");
}

#[test]
fn end_of_session_finishes_recording() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let scrap = TempDirectory::new("end");
    let mut command = script("record.sh");
    command.args(["--api-url", &coordinator.url(), "--model", "playground"]);
    command.arg(scrap.0.join("cloud.mp4"));
    command.env("REACTOR_API_KEY", KEY);
    let mut record = Process::start("record-end", command);
    record.wait_for_output(CONNECTED, TIMEOUT);
    std::thread::sleep(Duration::from_secs(3));
    let id = coordinator.open_sessions()[0].session_id.clone();
    assert!(coordinator.end_session(&id, SessionState::Closed));
    record.assert_succeeds(TIMEOUT);
    assert!(!record.output().contains(KEY));
    let files = scrap.files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_parts(&files);
}

#[test]
fn clip_on_ctrl_c_is_whole_or_absent() {
    let server = Server::recording_640x360();
    let scrap = TempDirectory::new("clip");
    let file = scrap.0.join("clip.mp4");
    std::fs::write(&file, b"before").unwrap();
    let options = ["--seconds", "2"];
    let mut nowhere = script("clip.sh");
    nowhere.args(["--local", "--api-url", "http://127.0.0.1:1"]);
    nowhere.arg(&file);
    let mut early = Process::start("clip-early", nowhere);
    assert_ne!(early.wait(TIMEOUT).code(), Some(0), "{}", early.output());
    assert_eq!(std::fs::read(&file).unwrap(), b"before");

    let mut saves = Process::start("clip", local("clip.sh", &server, &options, &file));
    saves.wait_for_output(CONNECTED, TIMEOUT);
    std::thread::sleep(Duration::from_secs(4));
    saves.interrupt_group();
    saves.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    assert_eq!(scrap.files(), [&*file]);
    media::assert_decodes(&file);
    let (start, duration) = media::span(&file);
    assert!(
        start == 0.0 && (duration - 2.0).abs() < 0.05,
        "{start}, {duration}"
    );
    media::assert_recorded(&media::recorded_counters(&file));
}

/// SIGKILL: the file could not be finished.
#[test]
fn killed_recording_is_playable() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("cut");
    let command = local("record.sh", &server, &[], &scrap.0.join("cut.mp4"));
    let mut record = Process::start("record-cut", command);
    record.wait_for_output(CONNECTED, TIMEOUT);
    wait_until("pictures in the file", TIMEOUT, || {
        std::thread::sleep(Duration::from_millis(500));
        scrap
            .files()
            .first()
            .is_some_and(|file| media::pictures_so_far(file) > 75)
    });
    // The script does not wait for it yet.
    send_signal(record.child_pid("gst-launch-1.0"), libc::SIGKILL);
    assert_eq!(record.wait(TIMEOUT).code(), Some(128 + libc::SIGKILL));
    let files = scrap.files();
    assert_eq!(files.len(), 1, "{files:?}");
    media::assert_decodes(&files[0]);
    let counters = media::counters(&files[0]);
    media::assert_nearly_contiguous_or_held(&counters);
    assert!(counters.len() > 75, "{} pictures", counters.len());
}

#[test]
fn hls_playlist_plays_from_web_server() {
    let server = Server::playground_640x360();
    let nginx = Nginx::start(scratch::path("hls"));
    let scrap = TempDirectory::new("hls");
    std::os::unix::fs::symlink(&scrap.0, nginx.directory.join("www/live")).unwrap();
    let options = ["--segment", "1", "--list", "3"];
    let command = local("hls.sh", &server, &options, &scrap.0);
    let mut hls = Process::start("hls", command);
    let url = nginx.http("live/playlist.m3u8");
    let playlist = || http::get(&url).unwrap().body;
    wait_until("segments leave the list", TIMEOUT, || {
        sequence(&playlist()) >= Some(5)
    });
    assert!(!playlist().contains("ENDLIST"));
    // A viewer who joins now.
    let seen = nginx.directory.join("seen.ts");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i", &url]);
    ffmpeg.args(["-t", "4", "-c", "copy"]).arg(&seen);
    let mut viewer = Process::start("hls-viewer", ffmpeg);
    viewer.assert_succeeds(TIMEOUT);
    assert_eq!(viewer.output(), "");
    hls.signal(libc::SIGTERM);
    hls.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);

    for path in [&seen, Path::new(&url)] {
        assert_streams(path);
        let counters = media::counters(path);
        media::assert_nearly_contiguous_or_held(&counters);
        assert!(counters.len() > 60, "{} pictures", counters.len());
        assert_together(path, &counters);
        let samples = media::samples(path);
        audio::assert_playground_tone(&samples);
    }
    assert_playlist(&playlist(), &scrap);
}

fn sequence(playlist: &str) -> Option<u32> {
    let mut lines = playlist.lines();
    lines.find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")?.parse().ok())
}

/// The playlist conforms to RFC 8216, and old segments are deleted.
fn assert_playlist(playlist: &str, directory: &TempDirectory) {
    assert!(playlist.starts_with("#EXTM3U\n"), "{playlist}");
    assert!(playlist.contains("#EXT-X-TARGETDURATION:1\n"), "{playlist}");
    assert!(playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
    let lines: Vec<_> = playlist.lines().collect();
    let mut listed = Vec::new();
    for pair in lines.windows(2) {
        let Some(length) = pair[0].strip_prefix("#EXTINF:") else {
            continue;
        };
        let length: f64 = length.trim_end_matches(',').parse().unwrap();
        assert!(length.round() <= 1.0, "{playlist}");
        listed.push(pair[1]);
        let segment = directory.0.join(pair[1]);
        assert!(media::packets(&segment, "v")[0].is_key, "{segment:?}");
        media::assert_decodes(&segment);
    }
    assert_eq!(listed.len(), 3, "{playlist}");
    let files = directory.files();
    assert!((4..=8).contains(&files.len()), "{files:?}");
}

#[test]
fn failure_prints_reason_and_exit_status() {
    let server = Server::playground_640x360();
    let scrap = TempDirectory::new("fails");
    let file = scrap.0.join("out.mp4");
    let fails = |command: Command, code: i32, said: &str| {
        let mut process = Process::start("fails", command);
        let status = process.wait(TIMEOUT);
        let output = process.output();
        assert_eq!(status.code(), Some(code), "{output}");
        assert!(output.contains(said), "{said}: {output}");
    };
    for name in ["rtmp.sh", "record.sh", "hls.sh"] {
        let target = match name {
            "rtmp.sh" => Path::new("rtmp://127.0.0.1:1/live/x"),
            "record.sh" => &file,
            _ => &scrap.0,
        };
        let with = |options: &[&str]| {
            let mut command = script(name);
            command.args(options).arg(target);
            command
        };
        fails(
            with(&["--local", "--api-url", "http://127.0.0.1:1"]),
            1,
            "nothing answers",
        );
        fails(with(&["--model", "m"]), 255, "REACTOR_API_KEY");
        fails(with(&["--bitrate", "2M"]), 2, "needs a number");
        fails(with(&["--no-such", "x"]), 2, "unknown option");
        fails(with(&["another"]), 2, "one output only");
        fails(script(name), 2, "where to?");
    }
    let refused = local("rtmp.sh", &server, &[], Path::new("rtmp://127.0.0.1:1/a/b"));
    fails(refused, 1, "Connection refused");
    server.wait_for_state("ready", TIMEOUT);
    let nowhere = local("record.sh", &server, &[], &scrap.0.join("no/out.mp4"));
    fails(nowhere, 2, "no such directory");
    let below_a_file = local("hls.sh", &server, &[], Path::new("/dev/null/x"));
    fails(below_a_file, 1, "cannot create directory");
}

/// The exit status and the output of a script that is to end at once.
fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("the script runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn serve_status_sees_server_in_foreground() {
    let status = |port: u16| {
        let mut command = Command::new(serve_script());
        command.args(["status", "--bench", "--port", &port.to_string()]);
        run_to_end(command)
    };
    let server = Server::playground_640x360();
    let (code, text) = status(server.port);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"state\""), "{text}");
    let (code, text) = status(free_port());
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("nothing is served"), "{text}");
}

#[test]
fn demo_help_does_nothing_else() {
    let scratch = scratch::directory();
    for (option, expected, says) in [
        ("--help", 0, "--keep"),
        ("--nope", 2, "unknown option: --nope"),
    ] {
        let mut command = script("demo.sh");
        command.arg(option).current_dir(&scratch);
        let (code, text) = run_to_end(command);
        assert_eq!(code, Some(expected), "{text}");
        assert!(text.contains(says) && text.len() < 1200, "{text}");
    }
}
