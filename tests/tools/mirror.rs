// SPDX-License-Identifier: MIT

//! `examples/mirror`, run as its users run it, with a pattern for the camera and without a window.

use std::time::Duration;

use reactor_tests::{TIMEOUT, plugin_environment, process::Process, server::Server};

fn start(name: &str, url: &str) -> Process {
    let mut command = plugin_environment::example("mirror");
    command.args(["--pattern", "--sink", "fakesink", "--api-url", url]);
    Process::start_with_stdin(name, command)
}

/// The prompt is a property of a child that is not there yet when it is typed.
#[test]
fn prompts_commands_and_an_outage_are_shown() {
    let server = Server::playground();
    let mut mirror = start("mirror", &server.url());
    mirror.write("a \"forest\" at dawn\n");
    mirror.wait_for_output("the model is ready", TIMEOUT);
    mirror.wait_for_output(r#""prompt":"a \"forest\" at dawn""#, TIMEOUT);
    mirror.write("/echo {\"text\":\"hello\"}\n/fail\n");
    mirror.wait_for_output("reply: echoed {", TIMEOUT);
    mirror.wait_for_output("(told_to_fail)", TIMEOUT);
    // Longer than stall-timeout, 5 s: the element makes another connection.
    server.signal(libc::SIGSTOP);
    mirror.wait_for_output("the connection is lost, another one is made", TIMEOUT);
    server.signal(libc::SIGCONT);
    mirror.wait_for_output("connected again after ", TIMEOUT);
    mirror.write("night\n");
    mirror.wait_for_output(r#""prompt":"night""#, TIMEOUT);
    mirror.interrupt_group();
    mirror.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    assert!(!mirror.output().contains("CRITICAL"), "{}", mirror.output());
}

#[test]
fn errors_that_may_pass_are_tried_again_until_ctrl_c() {
    // Nothing listens there.
    let mut mirror = start("mirror-nobody", "http://127.0.0.1:1");
    mirror.wait_for_output("(NETWORK_ERROR)\ntrying again in ", TIMEOUT);
    std::thread::sleep(Duration::from_millis(200));
    mirror.interrupt_group();
    mirror.assert_succeeds(TIMEOUT);
}
