// SPDX-License-Identifier: MIT

//! A process that is stopped (SIGSTOP, as a debugger and a laptop's lid do) for longer than the
//! server waits for it, and goes on.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use reactor_tests::{pipeline::wait_until, process::Process, server::Server, slow};

use crate::support::TIMEOUT;

/// Lists each picture.
const LINE: &str = "! fakesink silent=false";
const PICTURE: &str = "last-message = chain";

fn play(server: &Server) -> Process {
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-v", "reactorsrc", "local=true"]);
    command.arg(format!("api-url={}", server.url()));
    command.args(LINE.split_whitespace());
    let mut launch = Process::start("suspended", command);
    launch.wait_for_output(PICTURE, TIMEOUT);
    launch
}

/// The local runtime notices after some 6 s without packets, and keeps its session.
#[test]
fn process_that_was_stopped_resumes_its_session() {
    let server = Server::playground();
    let mut launch = play(&server);
    launch.signal(libc::SIGSTOP);
    let stopped = Instant::now();
    server.wait_for_state("orphaned", TIMEOUT);
    if slow() {
        // The local runtime keeps the session for 60 s from now on.
        thread::sleep(Duration::from_secs(54));
    }
    launch.signal(libc::SIGCONT);
    let (took, resumed) = (stopped.elapsed(), Instant::now());
    launch.wait_for_output("Reconnected to the model", TIMEOUT);
    let seen = launch.output().matches(PICTURE).count();
    wait_until("pictures", TIMEOUT, || {
        launch.output().matches(PICTURE).count() > seen + 30
    });
    println!(
        "stopped for {took:?}: resumed after {:?}",
        resumed.elapsed()
    );
    launch.signal(libc::SIGINT);
    launch.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

/// The local runtime has ended the session meanwhile: EOS, by which gst-launch-1.0 ends.
#[test]
fn process_that_was_stopped_for_longer_than_its_session_ends() {
    if !slow() {
        return;
    }
    let server = Server::playground();
    let mut launch = play(&server);
    launch.signal(libc::SIGSTOP);
    server.wait_for_state("orphaned", TIMEOUT);
    server.wait_for_state("ready", Duration::from_secs(90));
    launch.signal(libc::SIGCONT);
    launch.assert_succeeds(TIMEOUT);
    assert!(launch.output().contains("Got EOS"), "{}", launch.output());
}
