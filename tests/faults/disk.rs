// SPDX-License-Identifier: MIT

//! Disks that are full.

use std::{path::Path, process::Command, thread, time::Duration};

use reactor_tests::{
    clips::{playlist_url, record},
    media,
    pipeline::{BusError, TestPipeline},
    process::Process,
    server::{Server, repository},
    tiny_disk::TinyDisk,
};

use crate::support::TIMEOUT;

/// In KiB: no clip of some seconds is as small.
const TINY: u32 = 64;

/// Some seconds of encoded video, on a machine that may be busy.
const ENCODED: Duration = Duration::from_secs(120);

/// The error of a reactorclip with these properties that writes into this file.
fn clip_error(url: &str, properties: &str, file: &Path) -> BusError {
    let running = TestPipeline::launch(&format!(
        "reactorclip name=c local=true playlist-url=\"{url}\" {properties} ! filesink location={}",
        file.display()
    ));
    let failure = running.wait_error(TIMEOUT);
    running.stop();
    failure
}

/// What the assembly needs is gone with the error, what filesink has written is the application's.
#[test]
fn full_disk_posts_no_space() {
    let Some(disk) = TinyDisk::mount("disk", TINY) else {
        return;
    };
    let server = Server::recording();
    let clip = record(&server, 4.0);
    let url = playlist_url(&server, &clip);
    let properties = format!("temp-directory={}", disk.path().display());
    let failure = clip_error(&url, &properties, Path::new("/dev/null"));
    assert_eq!(failure.code(), "NO_SPACE");
    let text = failure.error.message();
    assert!(text.contains(&*disk.path().to_string_lossy()), "{text}");
    assert_eq!(disk.files(), []);

    let failure = clip_error(&url, "", &disk.path().join("clip.mp4"));
    let is_full = failure.error.matches(gst::ResourceError::NoSpaceLeft);
    assert!(is_full, "{failure:?}");
    server.wait_for_state("ready", TIMEOUT);
}

/// A script of `pipelines` that writes into this file or directory.
fn script(name: &str, server: &Server, options: &[&str], target: &Path) -> Process {
    let mut command = Command::new(repository().join("pipelines").join(name));
    for variable in ["REACTOR_API_KEY", "REACTOR_JWT"] {
        command.env_remove(variable);
    }
    command.args(["--local", "--api-url", &server.url()]);
    command.args(options).arg(target);
    Process::start("disk", command)
}

/// clip.sh writes a whole clip or none, and leaves the file that it would have replaced.
#[test]
fn clip_for_full_disk_leaves_what_was_there() {
    let Some(disk) = TinyDisk::mount("disk-clip", TINY) else {
        return;
    };
    let server = Server::recording();
    let file = disk.path().join("clip.mp4");
    std::fs::write(&file, b"before").unwrap();
    let mut saves = script("clip.sh", &server, &["--seconds", "3"], &file);
    saves.wait_for_output("Connected to the model", TIMEOUT);
    thread::sleep(Duration::from_secs(4));
    saves.interrupt_group();
    let status = saves.wait(TIMEOUT);
    let output = saves.output();
    assert_ne!(status.code(), Some(0), "{output}");
    assert!(output.contains("No space left on the resource"), "{output}");
    assert_eq!(disk.files(), [("clip.mp4".to_owned(), 6)]);
    server.wait_for_state("ready", TIMEOUT);
}

/// Recordings end with an error, and their session with them. Of what there was room for, all but
/// the last 3 s can be played.
#[test]
fn recording_on_full_disk_ends_and_is_playable() {
    let Some(disk) = TinyDisk::mount("disk-recording", 1000) else {
        return;
    };
    let server = Server::playground();
    for name in ["record.sh", "hls.sh"] {
        let target = match name {
            "record.sh" => disk.path().join("recording.mp4"),
            _ => disk.path().join("hls"),
        };
        let mut child = script(name, &server, &[], &target);
        let status = child.wait(ENCODED);
        let output = child.output();
        assert_ne!(status.code(), Some(0), "{name}: {output}");
        assert!(output.contains("ERROR"), "{name}: {output}");
        assert!(!output.contains("CRITICAL"), "{name}: {output}");
        server.wait_for_state("ready", TIMEOUT);
        let part = disk.path().join("recording-00000.mp4");
        if name == "record.sh" {
            let counters = media::counters(&part);
            media::assert_nearly_contiguous_or_held(&counters);
            assert!(counters.len() > 10, "{} pictures", counters.len());
            std::fs::remove_file(&part).unwrap();
        }
    }
}
