// SPDX-License-Identifier: MIT

//! Lines without a converter, typed as they stand into the real gst-launch-1.0.

use reactor_tests::{
    TIMEOUT, media, pipeline::wait_until, process::Process, scratch::TempFile, server::Server,
};

use crate::display::Display;

/// Runs a line until it ends by itself; returns what it printed.
fn launch(line: &str) -> String {
    let mut launch = Process::gst_launch("launch-line", &[], line, &[]);
    launch.assert_succeeds(TIMEOUT);
    launch.output()
}

#[test]
fn lines_need_no_converter() {
    let server = Server::playground_640x360();
    let source = format!("reactorsrc local=true api-url={}", server.url());
    launch(&format!(
        "{source} ! video/x-raw,format=RGB ! fakesink num-buffers=10"
    ));
    launch(&format!(
        "{source} name=r r.audio_main_audio ! audio/x-raw,format=F32LE,rate=22050,channels=1 \
         ! fakesink num-buffers=10"
    ));
    launch(&format!(
        "{source} ! video/x-raw,framerate=30/1 ! x264enc tune=zerolatency ! h264parse \
         ! video/x-h264,framerate=30/1 ! fakesink num-buffers=10"
    ));
    let picture = TempFile::new("launch-line.jpg");
    launch(&format!(
        "{source} ! jpegenc snapshot=true ! filesink location={}",
        picture.0.display()
    ));
    assert_eq!(media::counters(&picture.0).len(), 1);

    let refused = format!("{source} ! video/x-raw,width=320,height=180 ! fakesink");
    let mut refused = Process::gst_launch("launch-line", &[], &refused, &[]);
    refused.wait_for_output("ERROR: from element", TIMEOUT);
    let output = refused.output();
    for part in [
        "takes video/x-raw, width=(int)320, height=(int)180",
        "the model sends video/x-raw, width=(int)640, height=(int)360",
        "put videoscale in between",
    ] {
        assert!(output.contains(part), "no {part} in {output}");
    }
    assert!(!output.contains("not-negotiated"), "{output}");
}

/// It asks for the keyframe that each file begins with ahead of time.
#[test]
fn splitmuxsink_gets_pictures_and_the_keyframes_it_asks_for() {
    let server = Server::playground_640x360();
    let files = ["00", "01", "02"].map(|number| TempFile::new(&format!("split-{number}.mp4")));
    let pattern = files[0].0.to_str().unwrap().replace("00.mp4", "%02d.mp4");
    let line = format!(
        "reactorsrc name=r local=true api-url={} r.video_main_video ! splitmuxsink \
         location={pattern} max-size-time=2000000000 send-keyframe-requests=true max-files=3",
        server.url()
    );
    let mut launch = Process::gst_launch("launch-split", &["-e"], &line, &[]);
    wait_until("a third file", TIMEOUT, || {
        assert!(!launch.has_ended(), "{}", launch.output());
        files[2].0.exists()
    });
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
    let output = launch.output();
    assert!(!output.contains("CRITICAL"), "{output}");
    for file in &files[..2] {
        let streams = media::probe(&file.0);
        assert_eq!(streams.len(), 1);
        let video = media::stream(&streams, "video");
        assert_eq!(video.codec, "vp9");
        // Up to the keyframe that comes after the request, which is late on a busy machine. The
        // first keyframe may come twice, each of a file of its own.
        assert!(video.duration < 4.0, "{} s", video.duration);
        media::assert_decodes(&file.0);
    }
}

/// What takes any stream is not filled with messages where the picture is meant.
#[test]
fn messages_are_not_taken_for_the_picture() {
    let server = Server::playground_640x360();
    let source = format!("reactorsrc name=r local=true api-url={}", server.url());
    for line in [
        format!("{source} ! input-selector ! fakesink"),
        format!("{source} r.messages ! funnel ! fakesink"),
    ] {
        let mut launch = Process::gst_launch("launch-any", &[], &line, &[]);
        launch.wait_for_output("ERROR: from element", TIMEOUT);
        assert!(!launch.wait(TIMEOUT).success());
        let output = launch.output();
        for part in [
            "takes any stream, and was linked to the pad messages",
            "r.video_main_video ! ...",
        ] {
            assert!(output.contains(part), "no {part} in {output}");
        }
    }
    let named = format!("{source} r.video_main_video ! input-selector ! fakesink num-buffers=10");
    launch(&named);
    // By way of a queue, it is meant.
    let queued = format!("{source} r.messages ! queue ! funnel ! fakesink num-buffers=1");
    launch(&queued);
}

/// The first line of the documents: the sink that autovideosink finds on a display.
#[test]
fn autovideosink_shows_pictures_in_a_window() {
    let server = Server::playground_640x360();
    let display = Display::start();
    let line = format!(
        "reactorsrc local=true api-url={} ! autovideosink",
        server.url()
    );
    let environment = [("DISPLAY", display.name.as_str())];
    let mut launch = Process::gst_launch("launch-window", &[], &line, &environment);
    let mut first = None;
    wait_until("a picture is in the window", TIMEOUT, || {
        assert!(!launch.has_ended(), "{}", launch.output());
        first = display.counter();
        first.is_some()
    });
    wait_until("the pictures go on", TIMEOUT, || display.counter() > first);
    launch.interrupt_group();
    launch.assert_succeeds(TIMEOUT);
}

/// At the level that tells the story, and at the highest without a secret.
#[test]
fn log_tells_what_happens() {
    let server = Server::playground_640x360();
    let log = TempFile::new("launch-story.txt");
    let line = format!(
        "reactorsrc local=true api-url={} commands=[{{\"echo\":{{\"text\":\"hello\"}}}}] \
         ! fakesink num-buffers=60",
        server.url()
    );
    let environment = [
        ("GST_DEBUG", "reactor*:9"),
        ("GST_DEBUG_FILE", log.0.to_str().unwrap()),
        ("GST_DEBUG_NO_COLOR", "1"),
    ];
    let mut launch = Process::gst_launch("launch-story", &[], &line, &environment);
    launch.assert_succeeds(TIMEOUT);
    let log = std::fs::read_to_string(&log.0).unwrap();
    let told: Vec<_> = log.lines().filter(|line| line.contains(" INFO ")).collect();
    for part in [
        "/start_session: 200 in ",
        "created session 00000000-0000-0000-0000-000000000000",
        "the model's tracks: camera (video, sent)",
        "/sdp_params: 202 in ",
        "main_video: agreed on VP9",
        "status is Ready",
        "command echo: {\"text\":\"hello\"}",
        "command echo: message echoed: ",
        "frames per second, caps say 30/1",
        "/stop_session: 200 in ",
    ] {
        assert!(
            told.iter().any(|line| line.contains(part)),
            "no {part} in {told:#?}"
        );
    }
    assert!(log.contains("a=fingerprint:"), "no answer");
    assert_no_password(&log);
}

/// The second process of a session says that it did not begin it.
#[test]
fn log_tells_that_a_session_was_joined() {
    let server = Server::playground_640x360();
    let line = format!("reactorsrc local=true api-url={} ! fakesink", server.url());
    let mut first = Process::gst_launch("launch-first", &[], &line, &[]);
    first.wait_for_output("Connected to the model", TIMEOUT);
    let environment = [("GST_DEBUG", "reactor*:4"), ("GST_DEBUG_NO_COLOR", "1")];
    let line = format!("{line} num-buffers=10");
    let mut second = Process::gst_launch("launch-second", &[], &line, &environment);
    second.assert_succeeds(TIMEOUT);
    let told = second.output();
    let joined = "joined session 00000000-0000-0000-0000-000000000000";
    assert!(told.contains(joined), "{told}");
    assert!(!told.contains("created session"), "{told}");
    first.interrupt_group();
    first.assert_succeeds(TIMEOUT);
}

fn assert_no_password(log: &str) {
    let passwords: Vec<_> = log
        .lines()
        .filter(|line| line.contains("ice-pwd"))
        .collect();
    assert!(
        passwords.iter().all(|line| line.ends_with("ice-pwd:***")),
        "{passwords:?}"
    );
}
