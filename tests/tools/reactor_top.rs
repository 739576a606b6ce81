// SPDX-License-Identifier: MIT

//! `examples/reactor-top` in a terminal, looked at and typed into as its users do.

use std::process::{Command, Stdio};

use reactor_coordinator::CoordinatorSettings;
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator, wait_closed},
    pipeline::wait_until,
    plugin_environment,
    process::send_signal,
    server::{Server, free_port, repository},
    terminal::Terminal,
};

use crate::{display::Display, recipes::prompt_width};

const USUAL: (u16, u16) = (150, 40);

fn reactor_top(arguments: &[&str]) -> Command {
    let mut command = plugin_environment::example("reactor-top");
    command.args(arguments).env("REACTOR_API_KEY", "rk_unseen");
    command.env("RUST_BACKTRACE", "0");
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// Without sound: what libraries say where there is none is not looked at.
fn playing(server: &Server) -> Command {
    reactor_top(&["--no-audio", "--api-url", &server.url()])
}

fn submit(terminal: &Terminal, line: &str) {
    terminal.type_text(line);
    terminal.press("Enter");
}

#[test]
fn typed_commands_get_their_replies_and_quit_leaves_nothing() {
    let server = Server::playground_640x360();
    let terminal = Terminal::start("reactor-top", &playing(&server), USUAL);
    terminal.wait_for(" READY ", TIMEOUT);
    terminal.wait_for("F1 lists them", TIMEOUT);
    let ready = terminal.screen();
    for said in [
        "model playground",
        &format!("server 127.0.0.1:{}", server.port),
    ] {
        assert!(ready.contains(said), "{said}:\n{ready}");
    }
    // Statistics are there, with the phases of connecting.
    terminal.wait_for("640x360", TIMEOUT);
    terminal.wait_for("bit/s", TIMEOUT);
    terminal.wait_for("› ready ", TIMEOUT);

    // Without a display the picture is here; the sound is not played, and measured.
    terminal.wait_for("▀▀▀▀▀▀▀▀", TIMEOUT);
    terminal.wait_for(" -23 dB", TIMEOUT);

    // The first Tab lists the commands that begin so; each further Tab inserts the next of them.
    terminal.type_text("set_p");
    terminal.press("Tab");
    terminal.wait_for("set_paused  set_prompt", TIMEOUT);
    terminal.press("Tab");
    terminal.press("Tab");
    terminal.wait_for("> set_prompt", TIMEOUT);
    submit(&terminal, "it's a 🌲, at dawn");
    terminal.wait_for("< set_prompt: done", TIMEOUT);
    terminal.wait_for(r#""prompt":"it's a 🌲, at dawn"}"#, TIMEOUT);
    submit(&terminal, "echo text='hello there'");
    terminal.wait_for(
        r#"< echo: echoed {"length":11,"text":"hello there"}"#,
        TIMEOUT,
    );
    submit(&terminal, "{echo:{text:'JSON5'}}");
    terminal.wait_for(r#""text":"JSON5"}"#, TIMEOUT);
    let image = repository().join("docs/playground.jpg");
    submit(&terminal, &format!("set_image {}", image.display()));
    terminal.wait_for("< set_image: done", TIMEOUT);
    submit(&terminal, "set_image nowhere.jpg");
    terminal.wait_for("! set_image: ", TIMEOUT);
    submit(&terminal, "fail");
    terminal.wait_for("! fail: told_to_fail: You asked for it.", TIMEOUT);
    submit(&terminal, "set_promt x");
    terminal.wait_for("did you mean set_prompt?", TIMEOUT);
    submit(&terminal, "set_brightness 7");
    terminal.wait_for("! set_brightness: invalid_command", TIMEOUT);
    submit(&terminal, "set_paused true");
    terminal.wait_for(" READY, NO PICTURE ", TIMEOUT);
    submit(&terminal, "set_paused false");
    terminal.wait_for(" READY ", TIMEOUT);
    submit(&terminal, "set_brightness 7");
    terminal.press("Up");
    terminal.type_text("8");
    terminal.wait_for("> set_brightness 78", TIMEOUT);
    // With the next key in one read, it would be Alt and that key.
    terminal.press("Escape");
    terminal.wait_until_gone("> set_brightness 78", TIMEOUT);

    // A terminal that is too small for anything, a usual one again, and a great message.
    terminal.resize((10, 3));
    terminal.wait_until_gone("bit/s", TIMEOUT);
    submit(&terminal, "blob 1000000");
    terminal.resize(USUAL);
    terminal.wait_for("< blob: blob_data", TIMEOUT);
    assert!(!terminal.screen().contains("rk_unseen"));

    submit(&terminal, "q");
    let left = terminal.wait_for_end(TIMEOUT);
    assert!(left.contains("ended with 0"), "{left}");
    server.wait_for_state("ready", TIMEOUT);
}

/// A pipeline of the user's own, with what is sent and received; a server that is away for a
/// while; Ctrl-C.
#[test]
fn outage_is_shown_until_connected_again() {
    let server = Server::playground_640x360();
    let url = format!("api-url={}", server.url());
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! reactorfilter local=true \
         {url} stall-timeout=1000 ! fakesink"
    );
    let words: Vec<_> = pipeline.split_whitespace().collect();
    let terminal = Terminal::start("reactor-top", &reactor_top(&words), USUAL);
    terminal.wait_for(" READY ", TIMEOUT);
    terminal.wait_for("320x240", TIMEOUT);
    server.signal(libc::SIGSTOP);
    terminal.wait_for(" RECONNECTING ", TIMEOUT);
    server.signal(libc::SIGCONT);
    terminal.wait_for(" READY ", TIMEOUT);
    terminal.wait_for("connected again after", TIMEOUT);
    terminal.wait_for("outages 1", TIMEOUT);
    terminal.press("C-c");
    assert!(terminal.wait_for_end(TIMEOUT).contains("ended with 0"));
    server.wait_for_state("ready", TIMEOUT);
}

/// Nobody listens; later somebody does. SIGTERM leaves a clean terminal as well.
#[test]
fn failure_is_shown_and_restart_plays() {
    let port = free_port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let command = reactor_top(&["--no-audio", "--api-url", &url]);
    let terminal = Terminal::start("reactor-top", &command, USUAL);
    terminal.wait_for(" FAILED ", TIMEOUT);
    terminal.wait_for("NETWORK_ERROR; ", TIMEOUT);
    submit(&terminal, "echo {text:'x'}");
    terminal.wait_for("there is no session to send it to", TIMEOUT);
    submit(&terminal, ":restart");
    terminal.wait_for("starting again", TIMEOUT);
    terminal.wait_for(" FAILED ", TIMEOUT);
    send_signal(terminal.program_pid("reactor-top"), libc::SIGTERM);
    let left = terminal.wait_for_end(TIMEOUT);
    assert!(left.contains("ended with 1"), "{left}");
    assert!(left.contains("Error: model: "), "{left}");
}

/// A model of the cloud, with the key in the environment, which is never seen. The window of the
/// terminal is closed: the session is ended as well.
#[test]
fn cloud_session_ends_with_the_terminal() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let mut command = reactor_top(&["--model", "playground", "--api-url", &coordinator.url()]);
    command.arg("--no-audio").env("REACTOR_API_KEY", KEY);
    let terminal = Terminal::start("reactor-top", &command, USUAL);
    terminal.wait_for(" READY ", TIMEOUT);
    terminal.wait_for("F1 lists them", TIMEOUT);
    submit(&terminal, &format!("echo text={KEY}"));
    terminal.wait_for(r#"echoed {"length":7,"text":"•••"}"#, TIMEOUT);
    drop(terminal);
    assert_eq!(wait_closed(&coordinator, TIMEOUT).len(), 1);
    server.wait_for_state("ready", TIMEOUT);
}

/// On a display the picture is in a window, also of a model of the cloud.
#[test]
fn window_shows_model_of_cloud_and_what_is_typed() {
    let server = Server::playground_640x360();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let display = Display::start();
    let mut command = reactor_top(&["--model", "playground", "--api-url", &coordinator.url()]);
    command.arg("--no-audio").env("REACTOR_API_KEY", KEY);
    command.env("DISPLAY", &display.name);
    let terminal = Terminal::start("reactor-top", &command, USUAL);
    terminal.wait_for(" READY ", TIMEOUT);
    let mut first = None;
    wait_until("a picture is in the window", TIMEOUT, || {
        first = display.counter();
        first.is_some()
    });
    wait_until("the pictures go on", TIMEOUT, || display.counter() > first);
    assert!(!terminal.screen().contains('▀'), "{}", terminal.screen());
    // The schema of the cloud's model completes: a command, and its only parameter.
    terminal.wait_for("F1 lists them", TIMEOUT);
    terminal.type_text("set_pr");
    terminal.press("Tab");
    terminal.wait_for("> set_prompt", TIMEOUT);
    terminal.wait_for("Show this text", TIMEOUT);
    assert_eq!(prompt_width(&display.picture()), 0);
    submit(&terminal, "it's seen");
    terminal.wait_for("< set_prompt: done", TIMEOUT);
    wait_until("the prompt stands below the picture", TIMEOUT, || {
        prompt_width(&display.picture()) > 50
    });
    terminal.press("C-c");
    let left = terminal.wait_for_end(TIMEOUT);
    assert!(left.contains("ended with 0"), "{left}");
    assert_eq!(wait_closed(&coordinator, TIMEOUT).len(), 1);
}

/// Neither in a window, although there is a display, nor in the terminal.
#[test]
fn picture_is_not_shown_at_all_where_it_is_not_wanted() {
    let server = Server::playground_640x360();
    let display = Display::start();
    let mut command = playing(&server);
    command.args(["--video", "none"]);
    command.env("DISPLAY", &display.name);
    let terminal = Terminal::start("reactor-top", &command, USUAL);
    terminal.wait_for(" READY ", TIMEOUT);
    // The screen states the size of the pictures that the element receives.
    terminal.wait_for("640x360", TIMEOUT);
    submit(&terminal, "echo text=hello");
    terminal.wait_for("< echo: echoed", TIMEOUT);
    assert!(!terminal.screen().contains('▀'), "{}", terminal.screen());
    assert_eq!(display.counter(), None);
    submit(&terminal, "q");
    assert!(terminal.wait_for_end(TIMEOUT).contains("ended with 0"));
}

#[test]
fn what_cannot_work_is_said_before_the_screen() {
    for (arguments, said) in [
        (&["videotestsrc ! fakesink"][..], "no element of the plugin"),
        (&["nonsense"], "no element \"nonsense\""),
        (
            &["reactorsrc", "api-key=rk_x", "!", "fakesink"],
            "from the environment only",
        ),
        (&["--model", "x", "fakesink"], "cannot be used with"),
    ] {
        let terminal = Terminal::start("reactor-top", &reactor_top(arguments), USUAL);
        let left = terminal.wait_for_end(TIMEOUT);
        assert!(left.contains(said), "{said}:\n{left}");
        assert!(!left.contains("ended with 0"), "{left}");
    }
    let mut piped = reactor_top(&[]);
    let output = piped.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("this needs a terminal"), "{text}");
}
