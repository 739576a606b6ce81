// SPDX-License-Identifier: MIT

//! `pipelines/demo.sh` on a display, which is a virtual one (Xvfb): what the window shows, and that
//! what is typed is the next prompt.

use std::time::Duration;

use reactor_tests::{TIMEOUT, pipeline::wait_until, terminal::Terminal};

use crate::{display::Display, recipes::prompt_width, support::script};

#[test]
fn demo_on_display_shows_window_and_takes_prompts() {
    let display = Display::start();
    let mut demo = script("demo.sh");
    demo.env("DISPLAY", &display.name)
        .env_remove("WAYLAND_DISPLAY");
    let terminal = Terminal::start("demo-window", &demo, (120, 50));
    // Where the plugin alone has not been built yet, it is built.
    terminal.wait_for("Connected to the model", Duration::from_secs(600));
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
