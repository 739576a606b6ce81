// SPDX-License-Identifier: MIT

//! The example that saves clips, run as its users run it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use reactor_tests::{
    clips::{assert_lasts, assert_ordinary, playlist_url, record},
    installed,
    launch::Place,
    pipeline::wait_until,
    server::Server,
};

const SOON: Duration = Duration::from_secs(30);
const PLACE: Place = Place {
    directory: env!("CARGO_TARGET_TMPDIR"),
    test: "save-clip",
};

/// The example application; it does not outlive its test.
struct SaveClip(std::process::Child);

impl SaveClip {
    fn new(arguments: &[&str]) -> Self {
        let mut command = installed::example("save-clip");
        let child = installed::equip(command.args(arguments), PLACE.directory)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("cargo build --workspace has to run first");
        Self(child)
    }

    fn press_enter(&mut self) {
        use std::io::Write;
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn assert_succeeds(&mut self) {
        drop(self.0.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for SaveClip {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_no_parts(directory: &Path) {
    let names = std::fs::read_dir(directory).unwrap().flatten();
    let part = names
        .map(|e| e.file_name())
        .find(|n| n.to_string_lossy().ends_with(".part"));
    assert_eq!(part, None);
}

#[test]
fn a_key_press_saves_what_was_last() {
    let server = Server::playground();
    let directory = PLACE.path("keys");
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
    let mut example = SaveClip::new(&live);
    wait_until("a session", SOON, || server.session_state() == "streaming");
    std::thread::sleep(Duration::from_secs(3));
    example.press_enter();
    std::thread::sleep(Duration::from_secs(1));
    example.press_enter();
    example.assert_succeeds();
    server.wait_for_state("ready", SOON);
    let files = [directory.join("clip-1.mp4"), directory.join("clip-2.mp4")];
    let [first, second] = files.each_ref().map(|file| assert_ordinary(file));
    for (duration, _) in [&first, &second] {
        assert_lasts(*duration, 2.0);
    }
    assert!(second.1[0] > first.1[0], "{} {}", first.1[0], second.1[0]);
    assert_no_parts(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let server = Server::playground();
    let clip = record(&server, 3.0);
    let url = playlist_url(&server, &clip);
    let directory = PLACE.path("fetched");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("clip.mp4");
    let name = file.to_str().unwrap();
    // Nothing can be had there: what there was stays.
    std::fs::write(&file, b"before").unwrap();
    let gone = url.replace("session_id=", "session_id=0");
    let mut example = SaveClip::new(&["fetch", &gone, name]);
    assert!(!example.0.wait().unwrap().success());
    assert_eq!(std::fs::read(&file).unwrap(), b"before");
    assert_no_parts(&directory);
    let mut example = SaveClip::new(&["fetch", &url, name]);
    example.assert_succeeds();
    assert_ordinary(&file);
    assert_no_parts(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
}
