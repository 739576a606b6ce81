// SPDX-License-Identifier: MIT

//! The application in C, compiled as its head says.

use std::process::Command;

use reactor_tests::{
    TIMEOUT,
    process::Process,
    scratch::TempFile,
    server::{Server, free_port, repository},
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
        .arg("une \"forêt\" à l'aube")
        .env("LC_ALL", "C.UTF-8")
        .env("REACTOR_WATCH_SINK", "fakesink")
        .env("REACTOR_WATCH_URL", server.url());
    let mut watch = Process::start("watch", command);
    watch.wait_for_output(r#""prompt":"une \"forêt\" à l'aube""#, TIMEOUT);
    watch.wait_for_output("set_prompt was answered", TIMEOUT);
    watch.interrupt_group();
    watch.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);

    // Without a server it says so, and fails.
    let mut command = Command::new(&program.0);
    command.env("REACTOR_WATCH_SINK", "fakesink").env(
        "REACTOR_WATCH_URL",
        format!("http://127.0.0.1:{}", free_port()),
    );
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("(NETWORK_ERROR)"), "{errors}");
}
