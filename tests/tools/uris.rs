// SPDX-License-Identifier: MIT

//! URIs of the cloud and of local runtimes in GStreamer's own players.

use std::{path::Path, process::Command, thread, time::Duration};

use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator},
    media,
    pipeline::wait_until,
    plugin_environment,
    process::Process,
    scratch::TempFile,
    server::Server,
};

use crate::{
    bumper::{record_more, red_picture},
    support::{CONNECTED, TempDirectory},
};

fn gst_play(options: &[&str], uri: &str, environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new("gst-play-1.0");
    command
        .args(["--no-interactive", "--audiosink=fakesink"])
        .args(options)
        .arg(uri)
        .envs(environment.iter().copied());
    Process::start("gst-play", command)
}

/// Plays a URI until there is a picture, in a file of this name, and looks at it.
fn assert_played(name: &str, options: &[&str], uri: &str, environment: &[(&str, &str)]) {
    let picture = TempFile::new(&format!("gst-play-{name}.jpg"));
    let sink = format!(
        "--videosink=jpegenc ! multifilesink location={}",
        picture.0.display()
    );
    let mut play = gst_play(&[options, &[&sink]].concat(), uri, environment);
    wait_until("a picture", TIMEOUT, || {
        assert!(!play.has_ended(), "{}", play.output());
        picture.0.exists()
    });
    play.interrupt_group();
    play.wait(TIMEOUT);
    assert_shows_model(&picture.0);
}

fn assert_shows_model(picture: &Path) {
    assert_eq!(media::counters(picture).len(), 1);
}

#[test]
fn players_play_uri_of_local_runtime() {
    let server = Server::playground_640x360();
    let uri = format!("reactor+{}?latency=20", server.url());
    assert_played("playbin", &[], &uri, &[]);
    assert_played("playbin3", &["--use-playbin3"], &uri, &[]);
    // EOS from below, as of `jpegenc snapshot=true`, crashes decodebin3 1.22.0.
    for (source, decoder) in [
        ("uridecodebin", ""),
        ("uridecodebin3", ""),
        ("urisourcebin", "vp9dec !"),
    ] {
        let picture = TempFile::new("uri.jpg");
        let line = format!(
            "{source} uri={uri} ! {decoder} videoconvert ! jpegenc ! multifilesink location={}",
            picture.0.display()
        );
        let mut launch = Process::gst_launch("launch-uri", &[], &line, &[]);
        wait_until("a picture", TIMEOUT, || picture.0.exists());
        launch.interrupt_group();
        launch.assert_succeeds(TIMEOUT);
        assert_shows_model(&picture.0);
    }
}

#[test]
fn fallbacksrc_plays_uri() {
    let server = Server::playground_640x360();
    let picture = TempFile::new("fallbacksrc.jpg");
    let mut command = Command::new("gst-launch-1.0");
    plugin_environment::add_fallbackswitch(&mut command);
    let line = format!(
        "fallbacksrc uri=reactor+{}?on-gap=stall ! video/x-raw ! videoconvert ! jpegenc ! \
         multifilesink location={}",
        server.url(),
        picture.0.display()
    );
    command.args(line.split_whitespace());
    let mut launch = Process::start("fallbacksrc", command);
    // The pictures of fallbacksrc itself are black, and of another size.
    wait_until("a picture of the model", TIMEOUT, || {
        assert!(!launch.has_ended(), "{}", launch.output());
        let mut probe = Command::new("ffprobe");
        probe.args(["-v", "quiet", "-of", "csv=p=0"]);
        probe
            .args(["-show_entries", "stream=width"])
            .arg(&picture.0);
        probe.output().unwrap().stdout.starts_with(b"640")
    });
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
    assert_shows_model(&picture.0);
    server.wait_for_state("ready", TIMEOUT);
}

/// The runtime dies, and another one comes: fallbacksrc shows its fallback, and then the model of the
/// next session.
#[test]
fn fallbacksrc_shows_fallback_while_there_is_no_runtime() {
    let mut server = Server::playground_640x360();
    let scrap = TempDirectory::new("fallbacksrc");
    let red = scrap.0.join("red.png");
    red_picture(&red);
    let file = scrap.0.join("seen.mkv");
    let mut command = Command::new("gst-launch-1.0");
    plugin_environment::add_fallbackswitch(&mut command);
    let fallback = gst::glib::filename_to_uri(&red, None).unwrap();
    let uri = format!(
        "uri=reactor+{}?on-gap=stall&stall-timeout=1000",
        server.url()
    );
    command.args(["-e", "fallbacksrc", "enable-audio=false", &uri]);
    command.arg(format!("fallback-uri={fallback}"));
    command.arg("timeout=2000000000");
    // The encoder's caps stay: a mixer is between.
    let rest = "! videoconvert ! videoscale ! \
         video/x-raw,format=I420,width=640,height=360,pixel-aspect-ratio=1/1,colorimetry=bt601 ! \
         compositor start-time-selection=first ! video/x-raw,framerate=30/1 ! \
         videorate skip-to-first=true ! x264enc tune=zerolatency speed-preset=superfast key-int-max=30 bitrate=4000 ! \
         matroskamux streamable=true ! filesink";
    command.args(rest.split_whitespace());
    command.arg(format!("location={}", gst_launch_text(&file)));
    let mut launch = Process::start("fallbacksrc", command);
    launch.wait_for_output(CONNECTED, TIMEOUT);
    let connections = |launch: &Process| launch.output().matches(CONNECTED).count();
    record_more(&file, &mut launch);
    thread::sleep(Duration::from_secs(2));
    server.kill();
    thread::sleep(Duration::from_secs(5));
    let before = connections(&launch);
    server.start_again();
    wait_until("the next session", 2 * TIMEOUT, || {
        assert!(!launch.has_ended(), "{}", launch.output());
        connections(&launch) > before
    });
    thread::sleep(Duration::from_secs(2));
    record_more(&file, &mut launch);
    launch.interrupt_group();
    // decodebin3 1.22 complains when fallbacksrc restarts its source.
    let status = launch.wait(TIMEOUT);
    assert!(status.success(), "{status}\n{}", launch.output());
    server.wait_for_state("ready", TIMEOUT);
    // Each frame: the model's, the fallback, which is red, or fallbacksrc's own, which is black.
    let codes = media::codes(&file, [0, 0, 640, 360]);
    let colours = media::colours(&file, [0, 0, 640, 360]);
    let frames = codes.iter().zip(colours);
    let mut shown: Vec<_> = frames
        .filter_map(|(code, [red, green, blue])| match code {
            Some(_) => Some("model"),
            None if red > 200 && green < 60 && blue < 60 => Some("fallback"),
            None => None,
        })
        .collect();
    shown.dedup();
    // The fallback may be seen before the model is there, and at the end.
    let shown = shown.strip_prefix(&["fallback"]).unwrap_or(&shown);
    let wanted = ["model", "fallback", "model"];
    assert_eq!(shown.get(..3), Some(&wanted[..]), "{shown:?}");
}

/// A value of a property as gst-launch-1.0 takes it.
fn gst_launch_text(path: &Path) -> String {
    let text = path.to_str().unwrap();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn gst_discoverer_describes_uri() {
    let server = Server::playground_640x360();
    let uri = format!("reactor+{}", server.url());
    let mut command = Command::new("gst-discoverer-1.0");
    command.args(["-v", &uri]);
    let mut discoverer = Process::start("gst-discoverer", command);
    discoverer.assert_succeeds(TIMEOUT);
    let output = discoverer.output();
    for part in ["Frame rate: 30/1", "Width: 640", "title: playground"] {
        assert!(output.contains(part), "no {part} in {output}");
    }
}

#[test]
fn player_plays_uri_of_cloud() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let uri = format!("reactor://playground?api-url={}", coordinator.url());
    assert_played("cloud", &[], &uri, &[("REACTOR_API_KEY", KEY)]);
    // Ctrl-C kills gst-play-1.0: the platform ends the session.
    assert_eq!(coordinator.ledger().len(), 1);
}

#[test]
fn wrong_uri_says_why() {
    for (uri, why) in [
        (
            "reactor+http://127.0.0.1:1?latenci=20",
            "did you mean 'latency'?",
        ),
        (
            "reactor://m?api-key=rk_secret",
            "give a key by REACTOR_API_KEY",
        ),
        ("reactor://localhost:8080", "reactor+http://localhost:8080"),
        ("reactor+http://127.0.0.1:1", "nothing answers at"),
    ] {
        for options in [&[][..], &["--use-playbin3"]] {
            let play = gst_play(&[options, &["--videosink=fakesink"]].concat(), uri, &[]);
            wait_until(why, TIMEOUT, || play.output().contains(why));
        }
    }
}
