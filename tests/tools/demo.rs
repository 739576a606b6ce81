// SPDX-License-Identifier: MIT

//! `pipelines/demo.sh` on a display, which is a virtual one (Xvfb): what the window shows, and that
//! what is typed is the next prompt.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reactor_tests::{TIMEOUT, frames, pipeline::wait_until, terminal::Terminal};

use crate::{recipes::prompt_width, support::script};

struct Display {
    server: Child,
    name: String,
}

impl Display {
    fn start() -> Self {
        // It chooses a free number, and writes it when it can be connected to. Without -noreset it
        // starts anew when its last client leaves, which xvimagesink does just before ximagesink
        // comes, and refuses a client that comes at that moment (xserver 21.1).
        let mut server = Command::new("Xvfb")
            .args("-displayfd 1 -screen 0 800x600x24 -nolisten tcp -noreset".split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb");
        let mut number = String::new();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        output.read_line(&mut number).unwrap();
        Self {
            server,
            name: format!(":{}", number.trim()),
        }
    }

    /// What is where the window of the playground is, which no window manager moves.
    fn picture(&self) -> Vec<u8> {
        let output = Command::new("ffmpeg")
            .args("-nostdin -v error -f x11grab -video_size 640x360 -i".split(' '))
            .arg(&self.name)
            .args("-frames:v 1 -f rawvideo -pix_fmt gray -".split(' '))
            .output()
            .expect("ffmpeg");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// The counter of the playground's picture in the window.
    fn counter(&self) -> Option<u32> {
        frames::decode_frame_code(&self.picture(), 640, 640, 360).map(|(counter, _)| counter)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

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
