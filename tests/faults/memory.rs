// SPDX-License-Identifier: MIT

//! A process with too little memory (`ulimit -v`): it plays, gets an error, or is ended by whoever
//! could not go on, with a word of it. Never does it hang or crash.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    time::Duration,
};

use reactor_tests::{http, process::Process, server::Server, slow};

use crate::support::TIMEOUT;

/// Where a run ends by itself, it takes one or two seconds.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Outcome {
    Played,
    Refused,
    /// GLib and Rust end a process that gets no memory or no thread.
    Ended,
}

fn judge(status: ExitStatus, output: &str) -> Outcome {
    match status.signal() {
        None if status.success() => Outcome::Played,
        None => {
            // The error does not call a plugin missing that is installed and cannot be loaded.
            let is_typed = output.contains("[api:") || output.contains("[gpu:");
            assert!(is_typed, "{status}\n{output}");
            assert!(!output.contains("is not installed"), "{output}");
            Outcome::Refused
        }
        Some(libc::SIGTRAP | libc::SIGABRT) => {
            let reasons = [
                "failed to allocate",
                "memory allocation of",
                "creating thread",
            ];
            let says_why = reasons.iter().any(|reason| output.contains(reason));
            assert!(says_why, "{status}\n{output}");
            Outcome::Ended
        }
        Some(_) => panic!("{status}\n{output}"),
    }
}

#[test]
fn little_memory_plays_or_ends_with_a_reason() {
    let server = Server::playground_640x360();
    // In MiB; all that is mapped counts, and each thread maps 8 MiB of stack and 64 MiB of heap.
    let limits: Vec<u64> = match slow() {
        true => (300..=2000).step_by(50).collect(),
        false => vec![800, 4000],
    };
    let mut outcomes = Vec::new();
    for limit in limits {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={}", limit << 20));
        command.args(["gst-launch-1.0", "reactorsrc", "local=true"]);
        command.arg(format!("api-url={}", server.url()));
        command.args("! identity eos-after=20 ! fakesink".split(' '));
        let mut child = Process::start("memory", command);
        let status = child.wait(LIMIT);
        let outcome = judge(status, &child.output());
        if outcome == Outcome::Ended {
            // The local runtime keeps a session whose client is gone.
            let url = format!("{}/stop_session", server.url());
            http::request("POST", &url, &[], "").expect("an end");
        }
        server.wait_for_state("ready", TIMEOUT);
        outcomes.push((limit, outcome));
    }
    println!("MiB and outcome: {outcomes:?}");
    assert_ne!(outcomes[0].1, Outcome::Played, "{outcomes:?}");
    let last = outcomes.last().expect("limits");
    assert_eq!(last.1, Outcome::Played, "{outcomes:?}");
}
