// SPDX-License-Identifier: MIT

//! `examples/save-clip`, run as its users run it.

use std::{path::Path, process::ExitStatus, time::Duration};

use reactor_tests::{
    TIMEOUT,
    clips::{assert_complete_mp4, assert_duration, playlist_url, record},
    pipeline::wait_until,
    plugin_environment,
    process::Process,
    scratch,
    server::Server,
};

fn start(arguments: &[&str]) -> Process {
    let mut command = plugin_environment::example("save-clip");
    command.args(arguments);
    Process::start_with_stdin("save-clip", command)
}

/// Ends the input, and waits for the end.
fn finish(example: &mut Process) -> ExitStatus {
    example.close_stdin();
    example.wait(TIMEOUT)
}

fn assert_no_parts(directory: &Path) {
    let names = std::fs::read_dir(directory).unwrap().flatten();
    let part = names
        .map(|e| e.file_name())
        .find(|n| n.to_string_lossy().ends_with(".part"));
    assert_eq!(part, None);
}

#[test]
fn enter_key_saves_last_seconds() {
    let server = Server::recording();
    let directory = scratch::path("save-clip-keys");
    std::fs::create_dir_all(&directory).unwrap();
    let place = directory.to_str().unwrap();
    let url = server.url();
    let live = [
        "live",
        place,
        "--headless",
        "--seconds",
        "2",
        "--api-url",
        &url,
    ];
    let mut example = start(&live);
    wait_until("a session", TIMEOUT, || {
        server.session_state() == "streaming"
    });
    std::thread::sleep(Duration::from_secs(3));
    example.write("\n");
    std::thread::sleep(Duration::from_secs(1));
    example.write("\n");
    let status = finish(&mut example);
    assert!(status.success(), "{status}");
    server.wait_for_state("ready", TIMEOUT);
    let files = [directory.join("clip-1.mp4"), directory.join("clip-2.mp4")];
    let [first, second] = files.each_ref().map(|file| assert_complete_mp4(file));
    for (duration, _) in [&first, &second] {
        assert_duration(*duration, 2.0);
    }
    assert!(second.1[0] > first.1[0], "{} {}", first.1[0], second.1[0]);
    assert_no_parts(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn fetched_file_is_whole_or_absent() {
    let server = Server::recording();
    let clip = record(&server, 3.0);
    let url = playlist_url(&server, &clip);
    let directory = scratch::path("save-clip-fetched");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("clip.mp4");
    let name = file.to_str().unwrap();
    // Nothing can be fetched: the existing file stays.
    std::fs::write(&file, b"before").unwrap();
    let gone = url.replace("session_id=", "session_id=0");
    let mut example = start(&["fetch", &gone, name]);
    assert!(!finish(&mut example).success());
    assert_eq!(std::fs::read(&file).unwrap(), b"before");
    assert_no_parts(&directory);
    let mut example = start(&["fetch", &url, name]);
    let status = finish(&mut example);
    assert!(status.success(), "{status}");
    assert_complete_mp4(&file);
    assert_no_parts(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
}
