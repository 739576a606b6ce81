// SPDX-License-Identifier: MIT

//! Lines without a converter, typed as they stand into the real gst-launch-1.0.

use reactor_tests::{TIMEOUT, media, process::Process, scratch::TempFile, server::Server};

/// Runs a line until it ends by itself; returns what it printed.
fn launch(line: &str) -> String {
    let mut launch = Process::gst_launch("launch-line", &[], line, &[]);
    launch.assert_succeeds(TIMEOUT);
    launch.output()
}

#[test]
fn lines_need_no_converter() {
    let server = Server::playground();
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

/// At the level that tells the story, and at the highest without a secret.
#[test]
fn log_tells_what_happens() {
    let server = Server::playground();
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
    let passwords: Vec<_> = log
        .lines()
        .filter(|line| line.contains("ice-pwd"))
        .collect();
    assert!(
        passwords.iter().all(|line| line.ends_with("ice-pwd:***")),
        "{passwords:?}"
    );
}
