// SPDX-License-Identifier: MIT

//! A process that may have too few descriptors or threads: it plays, or gets an error that says
//! which limit is in the way. Never does it hang or crash, or leave its session on the server.

use std::{os::unix::process::CommandExt, process::Command, time::Duration};

use reactor_tests::{TIMEOUT, link_down::in_own_namespace, process::Process, server::Server, slow};

/// A limit of `prlimit`, and what an error says of it.
struct Limit {
    option: &'static str,
    says: &'static str,
    /// Below the first one there is never room for a connection, from the second one on always.
    bounds: (usize, usize),
}

const DESCRIPTORS: Limit = Limit {
    option: "--nofile",
    says: "may not open the",
    bounds: (36, 60),
};
const THREADS: Limit = Limit {
    option: "--nproc",
    says: "may not start the",
    bounds: (20, 60),
};

/// Where a run ends by itself, it takes one or two seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// 20 pictures, on one connection.
const LINE: &str = "! identity eos-after=20 ! fakesink";

/// gst-launch-1.0 under a limit. That of threads counts all those of a user, and root has none:
/// the child is a user without any other process, who may read what root may.
fn launch(limit: &Limit, count: usize, server: &Server) -> Process {
    let mut command = if limit.option == THREADS.option {
        let mut command = Command::new("setpriv");
        let user = 60_000 + std::process::id() % 4000;
        command.arg(format!("--reuid={user}"));
        command.args(["--clear-groups", "--inh-caps=-all,+dac_override"]);
        command.args(["--ambient-caps=-all,+dac_override", "prlimit"]);
        command
    } else {
        Command::new("prlimit")
    };
    command.arg(format!("{}={count}:{count}", limit.option));
    command.args(["gst-launch-1.0", "-e"]);
    command.args(["reactorsrc", "local=true"]);
    command.arg(format!("api-url={}", server.url()));
    command.args(LINE.split_whitespace());
    without_inherited_descriptors(&mut command);
    Process::start("limits", command)
}

/// Libraries of this process open descriptors for other tests that a child would inherit.
fn without_inherited_descriptors(command: &mut Command) {
    let close_at_exec = || {
        // SAFETY: a system call, which touches no memory.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::close_range(
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: nothing but that call happens between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(close_at_exec);
    }
}

fn try_counts(server: &Server, limit: &Limit, counts: &[usize]) {
    let mut outcomes = Vec::new();
    for &count in counts {
        let mut child = launch(limit, count, server);
        let status = child.wait(LIMIT);
        let output = child.output();
        let what = format!("{} {count}: {status}\n{output}", limit.option);
        // A signal has no code.
        assert!(status.code().is_some(), "{what}");
        for bad in ["CRITICAL", "panicked", "aborted"] {
            assert!(!output.contains(bad), "{what}");
        }
        let refused = output.contains(limit.says) && output.contains("[api:RESOURCE_LIMIT]");
        assert_eq!(status.success(), !refused, "{what}");
        assert!(refused || count >= limit.bounds.0, "too early: {what}");
        assert!(!refused || count < limit.bounds.1, "too late: {what}");
        server.wait_for_state("ready", TIMEOUT);
        outcomes.push((count, refused));
    }
    println!("{}, whether it is refused: {outcomes:?}", limit.option);
}

#[test]
fn few_descriptors_or_threads_play_or_post_resource_limit() {
    let server = Server::playground();
    // GStreamer reads its plugins once, without a limit.
    let mut warm = Command::new("gst-inspect-1.0");
    warm.arg("reactorsrc");
    Process::start("limits-warm", warm).assert_succeeds(LIMIT);
    let all = |from, to| (from..=to).collect::<Vec<_>>();
    let (descriptors, threads) = match slow() {
        true => (all(20, 80), all(1, 60)),
        false => (vec![20, 35, 60], vec![1, 26, 60]),
    };
    try_counts(&server, &DESCRIPTORS, &descriptors);
    if in_own_namespace() {
        try_counts(&server, &THREADS, &threads);
    } else {
        eprintln!("not root: the limit of threads is not tried");
    }
}
