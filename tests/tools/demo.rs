// SPDX-License-Identifier: MIT

//! `pipelines/demo.sh` on a display, which is a virtual one (Xvfb): what the window shows, and that
//! what is typed is the next prompt.

use std::{net::TcpStream, time::Duration};

use reactor_tests::{TIMEOUT, pipeline::wait_until, process::send_signal, terminal::Terminal};

use crate::{
    display::Display,
    recipes::prompt_width,
    support::{CONNECTED, script},
};

/// The demo with its window on this display, once the model is there.
fn start(name: &str, display: &Display) -> Terminal {
    let mut demo = script("demo.sh");
    demo.env("DISPLAY", &display.name)
        .env_remove("WAYLAND_DISPLAY");
    let terminal = Terminal::start(name, &demo, (120, 50));
    // Where the plugin alone has not been built yet, it is built.
    terminal.wait_for(CONNECTED, Duration::from_secs(600));
    terminal
}

#[test]
fn demo_on_display_shows_window_and_takes_prompts() {
    let display = Display::start();
    let terminal = start("demo-window", &display);
    let mut first = None;
    wait_until("a picture is in the window", TIMEOUT, || {
        first = display.counter();
        first.is_some()
    });
    wait_until("the pictures go on", TIMEOUT, || display.counter() > first);
    let width = || prompt_width(&display.picture());
    let mut before = 0;
    wait_until("a prompt stands below the picture", TIMEOUT, || {
        before = width();
        before > 0
    });
    terminal.type_text("a forest at night, in the fog");
    terminal.press("Enter");
    wait_until("what was typed stands there", TIMEOUT, || {
        width() > before + 50
    });
    terminal.press("C-c");
    terminal.wait_for_end(TIMEOUT);
}

/// A signal to the script alone ends the window, and the server, too.
#[test]
fn demo_on_display_ends_at_sigterm() {
    let display = Display::start();
    let terminal = start("demo-sigterm", &display);
    let screen = terminal.screen();
    let port = screen.split("port=").nth(1).expect("the server's port");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let address = format!("127.0.0.1:{port}");
    assert!(TcpStream::connect(&address).is_ok(), "{address}\n{screen}");
    send_signal(terminal.program_pid("bash"), libc::SIGTERM);
    let screen = terminal.wait_for_end(TIMEOUT);
    assert!(screen.contains("ended with 143"), "{screen}");
    assert!(TcpStream::connect(&address).is_err(), "{address}");
    // Nothing of it reads the terminal any more: this is what cat prints.
    terminal.type_text("afterwards");
    terminal.press("Enter");
    terminal.wait_for_shell("afterwards\nafterwards", TIMEOUT);
}
