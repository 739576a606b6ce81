// SPDX-License-Identifier: MIT

//! A virtual display (Xvfb), and what the playground's window on it shows.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use reactor_tests::frames;

/// A display without a screen; it ends when dropped.
pub(crate) struct Display {
    server: Child,
    pub(crate) name: String,
}

impl Display {
    pub(crate) fn start() -> Self {
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
    pub(crate) fn picture(&self) -> Vec<u8> {
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
    pub(crate) fn counter(&self) -> Option<u32> {
        frames::decode_frame_code(&self.picture(), 640, 640, 360).map(|(counter, _)| counter)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
