// SPDX-License-Identifier: MIT

//! A program in a terminal of its own: tmux's, whose screen is read as text.

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{pipeline::wait_until, plugin_environment};

/// What the shell around the program says when it has ended, before its exit status.
const ENDED: &str = "ended with";

/// The end of what `stty -a` says after that.
const LAST_SETTING: &str = "-extproc";

/// Ends with its test, and the program with it.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Starts a program in a terminal of this size, in columns and lines. `name` may be used again.
    pub fn start(name: &str, program: &Command, (width, height): (u16, u16)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("{name}-{}-{count}", std::process::id()));
        let terminal = Self { socket };
        // The path of a socket is short. What the terminal is afterwards is seen: the shell stays.
        let shell =
            format!("trap : INT; echo before; \"$@\"; echo \"{ENDED} $?\"; stty -a; exec cat");
        let mut tmux = terminal.tmux(&["new-session", "-d"]);
        tmux.args(["-x", &width.to_string(), "-y", &height.to_string()])
            .args(["--", "sh", "-c", &shell, "sh"])
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        plugin_environment::set(&mut tmux).env("LC_ALL", "C.UTF-8");
        let output = tmux.output().expect("tmux");
        assert!(output.status.success(), "{output:?}");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-S"]);
        command.arg(&self.socket).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.tmux(arguments).output().expect("tmux");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What is on the screen, a line each.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Panics when the limit has passed, and as soon as the program has ended without the text.
    pub fn wait_for(&self, text: &str, limit: Duration) {
        self.wait_while(text, limit, |screen| !screen.contains(ENDED));
    }

    /// Waits for what comes after the program's end.
    pub fn wait_for_shell(&self, text: &str, limit: Duration) {
        self.wait_while(text, limit, |_| true);
    }

    fn wait_while(&self, text: &str, limit: Duration, may_come: impl Fn(&str) -> bool) {
        let mut screen = String::new();
        let deadline = std::time::Instant::now() + limit;
        while std::time::Instant::now() < deadline {
            screen = self.screen();
            if screen.contains(text) {
                return;
            }
            assert!(may_come(&screen), "the program ended, no {text}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no {text} on the screen after {limit:?}:\n{screen}");
    }

    pub fn wait_until_gone(&self, text: &str, limit: Duration) {
        wait_until("it is gone", limit, || !self.screen().contains(text));
    }

    /// Types a text as it is.
    pub fn type_text(&self, text: &str) {
        self.run(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key by tmux's name: `Enter`, `Tab`, `C-c`...
    pub fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    pub fn resize(&self, (width, height): (u16, u16)) {
        let (width, height) = (width.to_string(), height.to_string());
        self.run(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// The process that runs in it, or its shell.
    pub fn program_pid(&self, name: &str) -> i32 {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]);
        let output = Command::new("pgrep")
            .args(["--parent", shell.trim(), name])
            .output();
        let output = output.expect("pgrep").stdout;
        let pid = String::from_utf8_lossy(&output);
        pid.trim().parse().expect("one process")
    }

    /// Waits until the program has ended, and panics unless the terminal is as it was before.
    /// Returns what is on the screen, which begins with [`ENDED`] and the exit status.
    pub fn wait_for_end(&self, limit: Duration) -> String {
        self.wait_for(ENDED, limit);
        self.wait_for_shell(LAST_SETTING, limit);
        let screen = self.screen();
        for setting in ["icanon", "echo", "icrnl", "isig"] {
            let is_set = screen.split_whitespace().any(|word| word == setting);
            assert!(is_set, "{setting}:\n{screen}");
        }
        let modes = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(
            modes.trim(),
            "0 1",
            "the other screen, or no cursor:\n{screen}"
        );
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
        let _ = std::fs::remove_file(&self.socket);
    }
}
