// SPDX-License-Identifier: MIT

//! The pipelines of README.md and docs/, each as it stands there, by a shell and gst-launch-1.0.
//! What a test machine lacks is replaced: cameras, microphones, windows, loudspeakers and the
//! address of the runtime.

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use reactor_tests::{
    TIMEOUT,
    process::Process,
    scratch,
    server::{Server, repository},
};

/// How long a pipeline plays before Ctrl-C.
const PLAYS: Duration = Duration::from_secs(1);

/// Lines that need what only their reader has: a key for the cloud, the address of a clip.
const NOT_RUN: [&str; 2] = ["model=NAME", "playlist-url=\"http://localhost:8080/clips?"];

const REPLACED: [(&str, &str); 5] = [
    ("v4l2src", "videotestsrc is-live=true"),
    ("autoaudiosrc", "audiotestsrc is-live=true"),
    ("autovideosink", "fakesink sync=true"),
    ("autoaudiosink", "fakesink sync=true"),
    ("-m ", ""),
];

/// The document and the line of each pipeline in a fenced block.
fn pipelines() -> Vec<(String, String)> {
    let mut documents = vec![repository().join("README.md")];
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    let mut found = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let name = document.file_name().unwrap().to_str().unwrap();
        // Every second part is inside a fence.
        for block in text.split("```").skip(1).step_by(2) {
            let lines = block
                .lines()
                .filter(|line| line.starts_with("gst-launch-1.0 "));
            found.extend(lines.map(|line| (name.to_owned(), line.to_owned())));
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found.dedup_by(|a, b| a.1 == b.1);
    found
}

/// Plays a line until Ctrl-C in a directory of its own.
fn play(number: usize, document: &str, line: &str, server: &Server) {
    let mut typed = line.to_owned();
    for (name, replacement) in REPLACED {
        typed = typed.replace(name, replacement);
    }
    let address = format!("local=true api-url={}", server.url());
    typed = typed.replace("local=true", &address);
    let directory: PathBuf = scratch::directory().join(format!("document-{number}"));
    fs::create_dir_all(&directory).unwrap();
    let srt = "1\n00:00:00,500 --> 00:00:01,000\na forest at dawn\n";
    fs::write(directory.join("show.srt"), srt).unwrap();
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("exec {typed}")])
        .current_dir(&directory);
    let mut launch = Process::start(&format!("document-{number}"), command);
    launch.wait_for_output("Connected to the model", TIMEOUT);
    thread::sleep(PLAYS);
    launch.interrupt_group();
    let status = launch.wait(TIMEOUT);
    let output = launch.output();
    assert!(
        status.success() && !output.contains("ERROR"),
        "{document}: {line}\n{status}\n{output}"
    );
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn each_pipeline_of_documents_plays() {
    let pipelines = pipelines();
    let (left_out, pipelines): (Vec<_>, Vec<_>) = pipelines
        .into_iter()
        .partition(|(_, line)| NOT_RUN.iter().any(|needs| line.contains(needs)));
    assert_eq!(left_out.len(), NOT_RUN.len(), "{left_out:?}");
    assert!(pipelines.len() >= 12, "{pipelines:?}");
    let server = Server::playground();
    for (number, (document, line)) in pipelines.iter().enumerate() {
        play(number, document, line, &server);
    }
}
