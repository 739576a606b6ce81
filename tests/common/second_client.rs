// SPDX-License-Identifier: MIT

//! One of the platform's own clients in the same session, driven step by step: Python's, and that
//! of browsers. It reports each picture that it shows.

use std::{collections::HashSet, path::PathBuf, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    frames::FrameReader,
    official_client,
    pipeline::wait_until,
    process::Process,
    server::{Server, repository},
};

#[derive(Debug)]
pub struct SecondClient {
    process: Process,
    /// How many bytes of its output are read.
    read: u64,
    done: Vec<Value>,
    pictures: Vec<(u32, u32)>,
}

impl SecondClient {
    /// `reactor-sdk`, with the steps of `tests/programs/second_client.py`.
    pub fn python(server: &Server) -> Self {
        let mut command = Command::new(official_client::python());
        command.arg(repository().join("tests/programs/second_client.py"));
        Self::start("second-client", command.arg(server.url()))
    }

    /// `@reactor-team/js-sdk` in headless Chromium, with the steps of
    /// `tests/programs/js_client/js_client.py`. `None` if it was not built, see [`bundle`].
    pub fn browser(server: &Server) -> Option<Self> {
        let mut command = Command::new("python3");
        command.arg(repository().join("tests/programs/js_client/js_client.py"));
        command.arg(bundle()?);
        Some(Self::start("js-client", command.arg(server.url())))
    }

    fn start(name: &str, command: &mut Command) -> Self {
        let mut owned = Command::new(command.get_program());
        owned.args(command.get_args());
        Self {
            process: Process::start_with_stdin(name, owned),
            read: 0,
            done: Vec::new(),
            pictures: Vec::new(),
        }
    }

    /// Takes note of what it has reported since the last time.
    fn read(&mut self) {
        let added = self.process.output_since(self.read);
        let whole = added.iter().rposition(|byte| *byte == b'\n');
        let whole = &added[..whole.map_or(0, |end| end + 1)];
        self.read += whole.len() as u64;
        for line in whole.split(|byte| *byte == b'\n') {
            let Ok(report) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            match serde_json::from_value(report["frame"].clone()) {
                Ok(code) => self.pictures.push(code),
                Err(_) if report.get("done").is_some() => self.done.push(report),
                Err(_) => {}
            }
        }
    }

    /// Has it take a step; returns what it reports at the end.
    pub fn step(&mut self, step: &str, limit: Duration) -> Value {
        let before = self.done.len();
        self.process.write(&format!("{step}\n"));
        wait_until(step, limit, || {
            assert!(!self.process.has_ended(), "{}", self.process.output());
            self.read();
            self.done.len() > before
        });
        let done = self.done[before].clone();
        assert_eq!(done["done"], step, "{done}");
        assert_eq!(done.get("failed"), None, "{done}");
        done
    }

    /// Counter and time of emission of each picture so far.
    pub fn pictures(&mut self) -> &[(u32, u32)] {
        self.read();
        &self.pictures
    }

    /// Waits until a picture that both see from now on is the same one: its number, and the time at
    /// which the model made it.
    pub fn wait_for_shared_picture(&mut self, reader: &FrameReader, limit: Duration) {
        let (own, theirs) = (reader.len(), self.pictures().len());
        wait_until("a picture that both see", limit, || {
            // All pictures so far are compared.
            thread::sleep(Duration::from_millis(100));
            let pictures: HashSet<_> = self.pictures()[theirs..].iter().copied().collect();
            let frames = reader.frames();
            let mut codes = frames[own..]
                .iter()
                .map(|frame| (frame.counter, frame.emitted));
            codes.any(|code| pictures.contains(&code))
        });
    }
}

impl Drop for SecondClient {
    /// It ends with its input.
    fn drop(&mut self) {
        self.process.close_stdin();
        self.process.ends_within(Duration::from_secs(10));
    }
}

/// The client's JavaScript, bundled: `tests/js-client.sh` builds it.
fn bundle() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("REACTOR_JS_CLIENT")?);
    file.exists().then_some(file)
}
