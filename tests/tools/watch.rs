// SPDX-License-Identifier: MIT

//! The application in C, compiled as its head says.

use std::process::Command;

use reactor_tests::{
    TIMEOUT,
    process::Process,
    scratch::TempFile,
    server::{Server, repository},
};

#[test]
fn c_application_compiles_prompts_and_ends_its_session() {
    let program = TempFile::new("watch");
    let build = "gcc -Wall -Werror watch.c -o \"$0\" $(pkg-config --cflags --libs gstreamer-1.0)";
    let built = Command::new("sh")
        .args(["-c", build])
        .arg(&program.0)
        .current_dir(repository().join("examples"))
        .output()
        .unwrap();
    assert!(
        built.status.success() && built.stderr.is_empty(),
        "{built:?}"
    );
    let server = Server::playground();
    let mut command = Command::new(&program.0);
    command
        .arg("a \"forest\" at dawn")
        .env("REACTOR_WATCH_SINK", "fakesink")
        .env("REACTOR_WATCH_URL", server.url());
    let mut watch = Process::start("watch", command);
    watch.wait_for_output(r#""prompt":"a \"forest\" at dawn""#, TIMEOUT);
    watch.wait_for_output("reply: reactor-reply;", TIMEOUT);
    watch.interrupt_group();
    watch.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}
