// SPDX-License-Identifier: MIT

//! `pipelines/fanout.sh`: one session for many viewers, through Janus.

use std::path::Path;

use reactor_tests::{
    TIMEOUT,
    frames::assert_nearly_contiguous,
    http,
    janus::{Janus, Viewer, free_udp_ports},
    pipeline::wait_until,
    process::Process,
    scratch,
    server::Server,
};

use crate::support::{CONNECTED, local, script};

/// Janus with the mountpoint that the script prints, and the first of its ports.
fn start_janus(name: &str) -> (Janus, String) {
    let port = free_udp_ports().to_string();
    let mut prints = script("fanout.sh");
    prints.args(["--mountpoint", "1", "--port", &port, "127.0.0.1"]);
    let printed = prints.output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mountpoint = String::from_utf8(printed.stdout).unwrap();
    (Janus::start(scratch::path(name), &mountpoint), port)
}

fn start_fanout(server: &Server, port: &str) -> Process {
    let command = local(
        "fanout.sh",
        server,
        &["--port", port],
        Path::new("127.0.0.1"),
    );
    let mut fanout = Process::start("fanout", command);
    fanout.wait_for_output(CONNECTED, TIMEOUT);
    fanout
}

/// The model's own keyframes are 100 s apart: a viewer who sees a picture sooner has one that was
/// asked for.
#[test]
fn each_viewer_sees_model_from_keyframe_on() {
    const DECODED: &str = "vp8dec ! identity name=i ! fakesink sync=false async=false";
    let server = Server::playground();
    let (janus, port) = start_janus("janus");
    let mut fanout = start_fanout(&server, &port);
    let first = Viewer::join(&janus, DECODED);
    let first_frames = first.frames("i");
    // Janus cannot ask before it has had the first RTCP, which has the address.
    first.ask_for_keyframes(&first_frames);
    first_frames.wait_for(60, TIMEOUT);
    // This one asks for nothing: Janus does.
    let second = Viewer::join(&janus, DECODED);
    let second_frames = second.frames("i");
    second_frames.wait_for(60, TIMEOUT);
    // Nobody's picture stops because somebody comes or goes.
    drop(second);
    let so_far = first_frames.len();
    wait_until("30 more pictures", TIMEOUT, || {
        first_frames.len() > so_far + 30
    });
    assert_nearly_contiguous(&first_frames.frames());
    assert_nearly_contiguous(&second_frames.frames());
    drop(first);
    let stop = format!("{}/stop_session", server.url());
    http::post(&stop, r#"{"reason":"test"}"#).unwrap();
    fanout.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);

    let mut again = start_fanout(&server, &port);
    again.interrupt_group();
    again.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}
