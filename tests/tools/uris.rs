// SPDX-License-Identifier: MIT

//! URIs of the cloud and of local runtimes in GStreamer's own players.

use std::{path::Path, process::Command};

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
    let server = Server::playground();
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
    let server = Server::playground();
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

#[test]
fn gst_discoverer_describes_uri() {
    let server = Server::playground();
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
    let server = Server::playground();
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
