// SPDX-License-Identifier: MIT

//! Chromium without a window, as a child process of the test, steered by its DevTools protocol.

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{process::send_signal, scratch};

/// A browser that has little of the machine takes its time.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// It speaks to nobody but whom its pages name.
const OPTIONS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --no-default-browser-check \
    --disable-backgrounding-occluded-windows --disable-renderer-backgrounding \
    --disable-background-timer-throttling --autoplay-policy=no-user-gesture-required \
    --remote-debugging-pipe";

#[derive(Debug)]
pub struct Chromium {
    child: Child,
    commands: RefCell<ChildStdin>,
    messages: Receiver<Value>,
    count: Cell<u64>,
    profile: PathBuf,
}

/// An open page.
#[derive(Debug)]
pub struct Page<'a> {
    chromium: &'a Chromium,
    session: String,
}

impl Chromium {
    /// With a profile of its own, which is removed. `name` is the profile's.
    pub fn start(name: &str) -> Self {
        let profile = scratch::path(name);
        let _ = fs::remove_dir_all(&profile);
        // It reads descriptor 3, and writes to 4; messages end with a zero byte.
        let mut child = Command::new("bash")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg("chromium")
            .args(OPTIONS.split_whitespace())
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .env_remove("DISPLAY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let commands = RefCell::new(child.stdin.take().expect("a pipe"));
        Self {
            child,
            commands,
            messages,
            count: Cell::default(),
            profile,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a page in a window of its own, as another browser would: pages of one have no more than
    /// six connections to a server.
    pub fn open(&self, url: &str) -> Page<'_> {
        let context = self.call(None, "Target.createBrowserContext", &json!({}));
        let context = &context["browserContextId"];
        let target = json!({"url": url, "newWindow": true, "browserContextId": context});
        let target = self.call(None, "Target.createTarget", &target);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        Page {
            chromium: self,
            session,
        }
    }

    /// Panics on an error, or without a reply.
    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        let id = self.count.get() + 1;
        self.count.set(id);
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        let mut commands = self.commands.borrow_mut();
        commands.write_all(&bytes).expect("chromium reads");
        let deadline = Instant::now() + REPLY_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left).expect("a reply");
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its group: renderers outlive it for a moment, and write into the profile.
        send_signal(-self.pid().cast_signed(), libc::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

impl Page<'_> {
    /// The value of an expression of JavaScript.
    pub fn evaluate(&self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let chromium = self.chromium;
        let result = chromium.call(Some(&self.session), "Runtime.evaluate", &parameters);
        let exception = &result["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception}");
        result["result"]["value"].clone()
    }
}
