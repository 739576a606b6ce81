// SPDX-License-Identifier: MIT

//! Janus, a WebRTC media server, as a child process of the test, with its streaming plugin; and
//! viewers who watch a mountpoint of it through webrtcbin.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::UdpSocket,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCICEGatheringState, WebRTCSDPType, WebRTCSessionDescription};
use serde_json::{Value, json};

use crate::{
    TIMEOUT,
    coturn::multiarch,
    frames::FrameReader,
    http,
    pipeline::{TestPipeline, wait_until},
    server::free_port,
};

/// How often a viewer without a picture asks for one.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(200);

/// It listens on loopback; WebRTC uses the machine's addresses.
#[derive(Debug)]
pub struct Janus {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Janus {
    /// With these mountpoints, in the syntax of `janus.plugin.streaming.jcfg`. Creates `directory`;
    /// it is removed when the test has passed.
    pub fn start(directory: PathBuf, mountpoints: &str) -> Self {
        let _ = fs::remove_dir_all(&directory);
        let port = free_port();
        configure(&directory, port, mountpoints);
        let log = File::create(directory.join("log")).expect("a log");
        let child = Command::new(root().join("usr/bin/janus"))
            .env("LD_LIBRARY_PATH", library_path(&root()))
            .arg("--config")
            .arg(directory.join("janus.jcfg"))
            .arg("--configs-folder")
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("janus, which tests/run.sh unpacks; REACTOR_JANUS says where");
        let janus = Self {
            child,
            directory,
            port,
        };
        wait_until("janus answers", TIMEOUT, || {
            http::get(&format!("{}/info", janus.url())).is_ok()
        });
        janus
    }

    /// The address of its HTTP API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/janus", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log"));
            eprintln!("{}", log.unwrap_or_default());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The root under which Debian's packages are installed, or were unpacked.
fn root() -> PathBuf {
    std::env::var_os("REACTOR_JANUS").map_or_else(|| "/".into(), PathBuf::from)
}

/// The directories of the libraries below a root.
pub fn library_path(root: &Path) -> OsString {
    let directories = ["usr/lib", "lib"].map(|it| root.join(it).join(multiarch()));
    std::env::join_paths(directories).expect("no colons")
}

/// Only what is needed of its many plugins and transports. A session without requests stays.
fn configure(directory: &Path, port: u16, mountpoints: &str) {
    for (kind, file) in [
        ("plugins", "libjanus_streaming.so"),
        ("transports", "libjanus_http.so"),
    ] {
        let to = directory.join(kind);
        fs::create_dir_all(&to).expect("a directory");
        let libraries = root().join("usr/lib").join(multiarch());
        let from = libraries.join("janus").join(kind).join(file);
        symlink(from, to.join(file)).expect("a link");
    }
    let general = format!(
        "general: {{\n configs_folder = \"{0}\"\n plugins_folder = \"{0}/plugins\"\n \
         transports_folder = \"{0}/transports\"\n events_folder = \"{0}/none\"\n \
         loggers_folder = \"{0}/none\"\n session_timeout = 0\n debug_level = 4\n}}\n",
        directory.display()
    );
    let http = format!("general: {{\n http = true\n ip = \"127.0.0.1\"\n port = {port}\n}}\n");
    let files = [
        ("janus.jcfg", &*general),
        ("janus.transport.http.jcfg", &http),
        ("janus.plugin.streaming.jcfg", mountpoints),
    ];
    for (name, text) in files {
        fs::write(directory.join(name), text).expect("a file");
    }
}

/// An even number, from which on four UDP ports are free.
pub fn free_udp_ports() -> u16 {
    loop {
        let first = free_port() & !1;
        if (first..=first.saturating_add(3))
            .all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
        {
            return first;
        }
    }
}

/// Somebody who watches mountpoint 1.
#[derive(Debug)]
pub struct Viewer {
    running: TestPipeline,
}

impl Viewer {
    /// Joins. What arrives is VP8 and Opus; `video` are the elements behind the depayloader of the
    /// picture.
    pub fn join(janus: &Janus, video: &'static str) -> Self {
        let running = TestPipeline::parse("webrtcbin name=w bundle-policy=max-bundle");
        let webrtcbin = running.by_name("w");
        let pipeline = running.pipeline.downgrade();
        webrtcbin.connect_pad_added(move |_, pad| {
            if let Some(pipeline) = pipeline.upgrade() {
                consume(&pipeline, pad, video);
            }
        });
        let viewer = Self { running };
        viewer.running.play();
        viewer.negotiate(janus);
        viewer
    }

    /// Asks for a keyframe until there is a picture, as a browser does.
    pub fn ask_for_keyframes(&self, frames: &FrameReader) {
        wait_until("a keyframe", TIMEOUT, || {
            // A PLI. Of all headers, it would be a FIR, which Janus 1.1 does not pass on.
            let request = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(false);
            let request = request.build();
            for pad in self.running.by_name("w").src_pads() {
                pad.send_event(request.clone());
            }
            std::thread::sleep(KEYFRAME_INTERVAL);
            !frames.is_empty()
        });
    }

    /// The codes of the pictures behind the element of this name.
    pub fn frames(&self, element: &str) -> FrameReader {
        wait_until("the picture", TIMEOUT, || {
            self.running.pipeline.by_name(element).is_some()
        });
        FrameReader::watch(&self.running.pad(element, "src"))
    }

    fn negotiate(&self, janus: &Janus) {
        let transaction = |mut message: Value| {
            message["transaction"] = "t".into();
            message.to_string()
        };
        let post = |path: &str, message: Value| {
            let url = format!("{}{path}", janus.url());
            let reply = http::post(&url, &transaction(message)).expect("a reply");
            let reply: Value = serde_json::from_str(&reply.body).expect("JSON");
            assert_ne!(reply["janus"], "error", "{reply}");
            reply
        };
        let id = |reply: Value| reply["data"]["id"].as_u64().expect("an id");
        let session = format!("/{}", id(post("", json!({"janus": "create"}))));
        let plugin = json!({"janus": "attach", "plugin": "janus.plugin.streaming"});
        let handle = format!("{session}/{}", id(post(&session, plugin)));
        let say = |body: Value| json!({"janus": "message", "body": body});
        post(&handle, say(json!({"request": "watch", "id": 1})));
        let offer = loop {
            let event = http::get(&format!("{}{session}", janus.url())).expect("an event");
            let event: Value = serde_json::from_str(&event.body).expect("JSON");
            let refused = &event["plugindata"]["data"]["error"];
            assert!(refused.is_null(), "{event}");
            if let Some(sdp) = event["jsep"]["sdp"].as_str() {
                break sdp.to_owned();
            }
        };
        let mut start = say(json!({"request": "start"}));
        start["jsep"] = json!({"type": "answer", "sdp": self.answer(&offer)});
        post(&handle, start);
    }

    /// The answer with all candidates.
    fn answer(&self, offer: &str) -> String {
        let webrtcbin = self.running.by_name("w");
        let call = |action: &str, argument: &dyn ToValue| {
            let promise = gst::Promise::new();
            let value = argument.to_value();
            webrtcbin.emit_by_name_with_values(action, &[value, promise.to_value()]);
            assert_eq!(promise.wait(), gst::PromiseResult::Replied, "{action}");
            let reply = promise.get_reply().map(|reply| reply.to_owned());
            if let Some(error) = reply
                .as_ref()
                .and_then(|r| r.get::<glib::Error>("error").ok())
            {
                panic!("{action}: {error}");
            }
            reply
        };
        let sdp = gst_sdp::SDPMessage::parse_buffer(offer.as_bytes()).expect("SDP");
        let offer = WebRTCSessionDescription::new(WebRTCSDPType::Offer, sdp);
        call("set-remote-description", &offer);
        let reply = call("create-answer", &None::<gst::Structure>).expect("an answer");
        let answer: WebRTCSessionDescription = reply.get("answer").expect("an answer");
        call("set-local-description", &answer);
        wait_until("all candidates", TIMEOUT, || {
            let state: WebRTCICEGatheringState = webrtcbin.property("ice-gathering-state");
            state == WebRTCICEGatheringState::Complete
        });
        let local: WebRTCSessionDescription = webrtcbin.property("local-description");
        local.sdp().as_text().expect("text")
    }
}

/// Plays a track; sound is received only.
fn consume(pipeline: &gst::Pipeline, pad: &gst::Pad, video: &str) {
    let caps = pad.current_caps().expect("caps");
    let media = caps.structure(0).expect("caps").get::<String>("media");
    let line = match media.as_deref() {
        Ok("video") => {
            format!("rtpvp8depay ! {video}")
        }
        _ => "fakesink sync=false async=false".to_owned(),
    };
    let bin = gst::parse::bin_from_description(&line, true).expect("elements");
    pipeline.add(&bin).expect("a pipeline");
    bin.sync_state_with_parent().expect("PLAYING");
    pad.link(&bin.static_pad("sink").expect("a pad"))
        .expect("a link");
}
