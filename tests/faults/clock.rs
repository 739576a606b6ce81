// SPDX-License-Identifier: MIT

//! The machine's clock is set by an hour while a session plays: libfaketime sets it for a process
//! alone. What waits for a time in the kernel is not moved by it.

use std::{env, fs, path::PathBuf, time::SystemTime};

use gst::prelude::*;
use reactor_coordinator::{ApiRoute, CoordinatorSettings};
use reactor_tests::{
    cloud::{KEY, start_coordinator},
    frames::{FrameReader, assert_nearly_contiguous},
    pipeline::{TestPipeline, status, wait_until},
    process::in_own_process_with,
    scratch::TempFile,
    server::Server,
};

use crate::support::TIMEOUT;

const HOUR: f64 = 3600.0;

/// libfaketime, whose directory has the name of the machine's architecture.
fn library() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").expect("/usr/lib");
    let paths = directories.map(|entry| entry.unwrap().path().join("faketime/libfaketime.so.1"));
    let mut found = paths.filter(|path| path.exists());
    found.next().expect("the package libfaketime")
}

/// The variable with the file that says how the clock is set.
const FILE: &str = "FAKETIME_TIMESTAMP_FILE";
const URL: &str = "REACTOR_TEST_URL";

fn set_clock(seconds: f64) {
    let file = env::var(FILE).expect("a file");
    // All threads read it at any time: it is replaced, never written in place.
    let next = format!("{file}.next");
    fs::write(&next, format!("{seconds:+}\n")).unwrap();
    fs::rename(next, file).unwrap();
}

fn wall_time() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

/// The time that is left of the session, in seconds by the clock as it is set.
fn time_left(source: &gst::Element) -> f64 {
    source.property::<f64>("session-expiration") - wall_time()
}

#[test]
fn clock_set_by_an_hour_changes_nothing() {
    let file = TempFile::new("clock");
    let server_and_cloud = (env::var_os(URL).is_none()).then(|| {
        let server = Server::playground();
        let coordinator = start_coordinator(&server, CoordinatorSettings::default());
        (server, coordinator)
    });
    let is_child = in_own_process_with("clock::clock_set_by_an_hour_changes_nothing", || {
        let (_, coordinator) = server_and_cloud.as_ref().expect("a coordinator");
        fs::write(&file.0, "+0\n").unwrap();
        vec![
            (URL, coordinator.url()),
            (FILE, file.0.display().to_string()),
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    });
    if is_child {
        return play_while_clock_is_set(&env::var(URL).unwrap());
    }
    // One session, which was ended, and tokens for no other.
    let (_, coordinator) = server_and_cloud.expect("a coordinator");
    assert!(coordinator.open_sessions().is_empty());
    assert_eq!(coordinator.ledger().len(), 1);
    assert_eq!(coordinator.count(ApiRoute::Offer), 1);
    assert!(coordinator.count(ApiRoute::Tokens) <= 3);
}

fn play_while_clock_is_set(url: &str) {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r api-url={url} model=playground api-key={KEY} max-session-duration=900 \
         ! videoconvert ! video/x-raw,format=I420 ! identity name=i ! fakesink"
    ));
    let source = running.by_name("r");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, TIMEOUT);
    let session = source.property::<Option<String>>("session-id");
    for hours in [1.0, 0.0, -1.0] {
        let (real, seen) = (wall_time(), reader.len());
        set_clock(hours * HOUR);
        wait_until("the clock is set", TIMEOUT, || {
            (wall_time() - real).abs() > HOUR - 60.0
        });
        reader.wait_for(seen + 60, TIMEOUT);
        wait_until("session-expiration follows", TIMEOUT, || {
            (840.0..=901.0).contains(&time_left(&source))
        });
        eprintln!("{hours:+} h: {} s are left", time_left(&source));
    }
    let frames = reader.frames();
    assert_nearly_contiguous(&frames);
    // The same session and connection, and the sink, which waits for each picture's time, is not late.
    assert_eq!(source.property::<Option<String>>("session-id"), session);
    assert_eq!(status(&source), "ready");
    running.assert_no_error();
    running.stop();
}
