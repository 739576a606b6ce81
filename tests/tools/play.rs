// SPDX-License-Identifier: MIT

//! `pipelines/play.sh`: what is typed, or comes from a script, is a prompt at once.

use std::process::Command;

use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator, wait_closed},
    process::Process,
    server::Server,
    terminal::Terminal,
};

use crate::support::{local_model, script};

fn play(server: &Server, options: &[&str]) -> Command {
    let mut command = local_model("play.sh", server, &["--picture", "none"]);
    command.args(options);
    command
}

#[test]
fn lines_are_prompts_as_they_are_entered() {
    let server = Server::playground();
    typed_lines_are_prompts(&server);
    lines_of_a_script_are_commands(&server);
    lines_reach_model_of_cloud(&server);
}

/// In a terminal, from which a background process may not read. Ctrl-C ends it, and what is typed
/// afterwards is the shell's.
fn typed_lines_are_prompts(server: &Server) {
    let terminal = Terminal::start("play", &play(server, &[]), (100, 60));
    terminal.wait_for(r#""type":"tick""#, TIMEOUT);
    for prompt in ["it's a 🌲, at dawn", "the same \"forest\" at night"] {
        terminal.type_text(prompt);
        terminal.press("Enter");
        let prompt = serde_json::Value::from(prompt);
        terminal.wait_for(&format!("\"prompt\":{prompt}"), TIMEOUT);
    }
    // After the last line it goes on.
    terminal.press("C-d");
    let ticks = || terminal.screen().matches("tick").count();
    let before = ticks();
    reactor_tests::pipeline::wait_until("it goes on", TIMEOUT, || ticks() > before);
    terminal.press("C-c");
    assert!(terminal.wait_for_end(TIMEOUT).contains("ended with 0"));
    terminal.type_text("afterwards");
    terminal.press("Enter");
    // What cat prints.
    terminal.wait_for_shell("afterwards\nafterwards", TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

fn lines_of_a_script_are_commands(server: &Server) {
    let mut play = Process::start_with_stdin("play", play(server, &["--lines", "json"]));
    // Before there is a session.
    play.write("{\"echo\":{\"text\":\"at once\"}}{\"fail\":{}}\n");
    play.wait_for_output(
        r#"{"type":"echoed","data":{"length":7,"text":"at once"}}"#,
        TIMEOUT,
    );
    play.wait_for_output("pad commands: You asked for it.", TIMEOUT);
    play.write("{\"set_prompt\":{\"prompt\":\"later\"}}\n");
    play.wait_for_output(r#""prompt":"later"}"#, TIMEOUT);
    // What was printed before the pipeline began is still there.
    assert!(
        play.output().contains("Setting pipeline to PAUSED"),
        "{}",
        play.output()
    );
    play.signal(libc::SIGTERM);
    play.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

/// The key is in the environment, and is not printed.
fn lines_reach_model_of_cloud(server: &Server) {
    let coordinator = start_coordinator(server, CoordinatorSettings::default());
    let mut command = script("play.sh");
    command.env("REACTOR_API_KEY", KEY);
    command.args(["--picture", "none", "--model", "playground", "--api-url"]);
    command.arg(coordinator.url());
    let mut play = Process::start_with_stdin("play-cloud", command);
    play.write("a forest, far away\n");
    play.wait_for_output(r#""prompt":"a forest, far away"}"#, TIMEOUT);
    play.signal(libc::SIGTERM);
    play.assert_succeeds(TIMEOUT);
    assert!(!play.output().contains(KEY), "{}", play.output());
    // One session, which the script ended.
    assert_eq!(wait_closed(&coordinator, TIMEOUT).len(), 1);
}

#[test]
fn wrong_option_is_named() {
    for (options, said) in [
        (&["--lines", "xml"][..], "--lines needs text or json: xml"),
        (
            &["--picture", "here"],
            "--picture needs window or none: here",
        ),
        (
            &["--command", "a b"],
            "--command needs the name of a command: a b",
        ),
        (&["prompts.txt"], "not an option: prompts.txt"),
        (&[], "no display for a window"),
    ] {
        let mut command = script("play.sh");
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let output = command.args(options).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}
