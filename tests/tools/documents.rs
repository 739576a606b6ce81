// SPDX-License-Identifier: MIT

//! The commands of README.md, docs/ and examples/README.md, each as it stands there, by a shell.
//! What a test machine lacks is replaced: cameras, microphones, windows, loudspeakers and the
//! addresses of the servers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use reactor_tests::{
    TIMEOUT,
    nginx::Nginx,
    plugin_environment,
    process::Process,
    scratch,
    server::{Server, repository},
};

use crate::support::CONNECTED;

/// How long a pipeline plays before Ctrl-C.
const PLAYS: Duration = Duration::from_secs(1);

/// Lines that need what only their reader has: the address of a clip.
const NOT_RUN: [&str; 1] = ["playlist-url=\"http://localhost:8080/clips?"];

const REPLACED: [(&str, &str); 6] = [
    ("model=NAME", "local=true"),
    ("v4l2src", "videotestsrc is-live=true"),
    ("autoaudiosrc", "audiotestsrc is-live=true"),
    ("autovideosink", "fakesink sync=true"),
    ("autoaudiosink", "fakesink sync=true"),
    ("-m ", ""),
];

/// What the first word of a command begins with. Other lines in fenced blocks are what programs print
/// or read.
const PROGRAMS: [&str; 13] = [
    "gst-",
    "pipelines/",
    "examples/",
    "tests/",
    "./",
    "cargo",
    "echo",
    "gcc",
    "export",
    "mkdir",
    "ln",
    "systemctl",
    "packaging/",
];

/// Commands that are not run here: where they are, or why they are not.
const ELSEWHERE: [(&str, &str); 13] = [
    ("gst-play-1.0 ", "uris.rs"),
    ("gst-launch-1.0 ", "each_pipeline_of_documents_plays"),
    ("pipelines/demo.sh", "demo.rs, with and without a display"),
    ("tests/run.sh", "how this test was started"),
    (
        "examples/models/serve.sh run",
        "serve_status_sees_server_in_foreground",
    ),
    (
        "cargo run --release -p reactor-top",
        "reactor_top.rs, in a terminal",
    ),
    (
        "cargo run --release -p save-clip -- fetch",
        "save_clip.rs, with the address of a clip",
    ),
    (
        "cargo build --release -p gst-plugin-reactor",
        "the build of the tests",
    ),
    (
        "mkdir -p target/gst-plugins/release",
        "build_plugin, before the tests",
    ),
    (
        "ln -sf ../../release/libgstreactor.so",
        "build_plugin, before the tests",
    ),
    ("export GST_PLUGIN_PATH=", "the environment of the tests"),
    ("export REACTOR_API_KEY=", "the tests of cloud"),
    ("systemctl restart janus", "Debian's"),
];

/// Commands that end by themselves.
const END: [&str; 3] = [
    "gcc ",
    "echo 'a tree' |",
    "pipelines/fanout.sh --mountpoint",
];

/// The document and the line of each command in a fenced block, in the order of the documents.
fn commands() -> Vec<(String, String)> {
    let mut documents = vec![
        repository().join("README.md"),
        repository().join("examples/README.md"),
    ];
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    let mut found = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let name = document.strip_prefix(repository()).unwrap();
        // Every second part is inside a fence.
        for block in text.split("```").skip(1).step_by(2) {
            let is_command = |line: &&str| PROGRAMS.iter().any(|program| line.starts_with(program));
            let lines = block.lines().filter(is_command);
            found.extend(lines.map(|line| (name.display().to_string(), line.to_owned())));
        }
    }
    found
}

/// The example in the description of each element, as gst-inspect-1.0 shows it.
fn inspected_examples() -> Vec<(String, String)> {
    reactor_tests::init();
    let factories = ["reactorsrc", "reactorsink", "reactorfilter", "reactorclip"];
    let example = |name: &str| {
        let factory = gst::ElementFactory::find(name).expect(name);
        let description = factory.metadata("description").expect(name);
        let (_, line) = description.split_once("Example: ").expect(name);
        (format!("gst-inspect-1.0 {name}"), line.to_owned())
    };
    factories.into_iter().map(example).collect()
}

/// Each pipeline once.
fn pipelines() -> Vec<(String, String)> {
    let mut found = commands();
    found.extend(inspected_examples());
    found.retain(|(_, line)| line.starts_with("gst-launch-1.0 "));
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
    launch.wait_for_output(CONNECTED, TIMEOUT);
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
    let server = Server::recording();
    for (number, (document, line)) in pipelines.iter().enumerate() {
        play(number, document, line, &server);
    }
}

/// A command as it is typed here.
fn typed(line: &str, servers: &[Server; 2], nginx: &Nginx) -> String {
    let [first, second] = servers.each_ref().map(Server::url);
    let program = |name: &str| {
        let path = plugin_environment::example(name);
        path.get_program().to_str().unwrap().to_owned()
    };
    let root = repository().display().to_string();
    let mut typed = line.to_owned();
    for (text, replacement) in [
        ("http://localhost:8081", second.clone()),
        ("http://localhost:8080", first.clone()),
        ("--local", format!("--local --api-url {first}")),
        ("rtmp://127.0.0.1/live/demo", nginx.rtmp("document")),
        (
            "camera.sh",
            "camera.sh --camera 'videotestsrc is-live=true'".to_owned(),
        ),
        (
            "voice.sh",
            "voice.sh --microphone 'audiotestsrc is-live=true'".to_owned(),
        ),
        (
            "/etc/janus/janus.plugin.streaming.jcfg",
            "mountpoint.jcfg".to_owned(),
        ),
        (
            "examples/steer.py",
            format!("/usr/bin/python3 {root}/examples/steer.py --api-url {first}"),
        ),
        (
            "gcc examples/watch.c -o target/watch",
            format!("gcc {root}/examples/watch.c -o watch"),
        ),
        ("./target/watch", "./watch".to_owned()),
        ("--seconds 10 --output", "--seconds 2 --output".to_owned()),
    ] {
        typed = typed.replace(text, &replacement);
    }
    for name in ["steer", "mirror", "save-clip"] {
        let run = format!("cargo run --release -p {name} --");
        let replacement = match name {
            "save-clip" => program(name),
            _ => format!("{} --api-url {first}", program(name)),
        };
        typed = typed.replace(&run, &replacement);
    }
    if line.starts_with("pipelines/") {
        typed = format!("{root}/{typed}");
    }
    if line.contains("save-clip -- live") {
        typed += &format!(" --api-url {first}");
    }
    typed
}

#[test]
fn each_command_run_elsewhere_is_in_a_document() {
    let commands = commands();
    for (begin, place) in ELSEWHERE {
        let is_there = commands.iter().any(|(_, line)| line.starts_with(begin));
        assert!(is_there, "{begin}: {place}");
    }
}

#[test]
fn each_script_of_documents_runs() {
    let commands = not_elsewhere(|document| document != "examples/README.md");
    assert!(commands.len() >= 14, "{commands:?}");
    run_in_order("scripts", commands);
}

#[test]
fn each_application_of_examples_runs() {
    let commands = not_elsewhere(|document| document == "examples/README.md");
    assert!(commands.len() >= 7, "{commands:?}");
    run_in_order("applications", commands);
}

/// The commands of these documents, without what is said about them, each once.
fn not_elsewhere(of: fn(&str) -> bool) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (document, line) in commands() {
        let is_elsewhere = ELSEWHERE.iter().any(|(begin, _)| line.starts_with(begin));
        let line = line.split("  #").next().unwrap().trim_end().to_owned();
        if of(&document) && !is_elsewhere && !found.iter().any(|(_, known)| *known == line) {
            found.push((document, line));
        }
    }
    found
}

/// In one directory, since a command may use what the one before it made.
fn run_in_order(name: &str, commands: Vec<(String, String)>) {
    let directory = scratch::directory().join(format!("document-{name}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let srt = "1\n00:00:00,500 --> 00:00:01,000\na forest at dawn\n";
    fs::write(directory.join("show.srt"), srt).unwrap();
    let transcriber = directory.join("transcribe.py");
    fs::write(&transcriber, "#!/bin/sh\nexec cat >/dev/null\n").unwrap();
    fs::set_permissions(&transcriber, fs::Permissions::from_mode(0o755)).unwrap();
    let servers = [Server::recording(), Server::recording()];
    let nginx = Nginx::start(scratch::path(&format!("document-{name}-rtmp")));
    for (document, line) in commands {
        let typed = typed(&line, &servers, &nginx);
        run_typed(&document, &line, &typed, &servers[0], &directory);
        for server in &servers {
            server.wait_for_state("ready", TIMEOUT);
        }
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// Until Ctrl-C, if the command does not end by itself.
fn run_typed(document: &str, line: &str, typed: &str, server: &Server, directory: &Path) {
    let mut command = Command::new("bash");
    command.args(["-c", typed]).current_dir(directory);
    // What `autovideosink` and `autoaudiosink` then choose.
    let ranks = "fakevideosink:1024,fakeaudiosink:1024";
    command.env("GST_PLUGIN_FEATURE_RANK", ranks);
    // Nothing connects to it.
    command.env("DISPLAY", ":none");
    command.env("REACTOR_WATCH_URL", server.url());
    for variable in ["REACTOR_API_KEY", "REACTOR_JWT"] {
        command.env_remove(variable);
    }
    let mut process = Process::start_with_stdin("document-command", command);
    if END.iter().any(|begin| line.starts_with(begin)) {
        process.close_stdin();
    } else {
        reactor_tests::pipeline::wait_until(line, TIMEOUT, || {
            assert!(
                !process.has_ended(),
                "{document}: {line}\n{}",
                process.output()
            );
            server.session_state() == "streaming"
        });
        if line.starts_with("pipelines/") {
            process.wait_for_output(CONNECTED, TIMEOUT);
        }
        thread::sleep(PLAYS);
        process.interrupt_group();
    }
    let status = process.wait(2 * TIMEOUT);
    let output = process.output();
    let complains = ["ERROR", "CRITICAL"]
        .iter()
        .any(|word| output.contains(word));
    assert!(
        status.success() && !complains,
        "{document}: {line}\n{typed}\n{status}\n{output}"
    );
}
