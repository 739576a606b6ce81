// SPDX-License-Identifier: MIT

//! What is said on the data channels.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use gst::glib;
use gst_webrtc::WebRTCDataChannel;
use serde_json::{Value, json};

use super::{Shared, connection, report, v1};

/// A message of the client's, in either encoding.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Ping,
    RequestSchema,
    Resume(String),
    Pause(String),
    Command { name: String, data: Value },
    Other,
}

#[derive(Debug, Clone)]
pub struct Heard {
    pub at: Instant,
    /// The channel's label.
    pub channel: String,
    /// v1, that is; JSON comes as text.
    pub binary: bool,
    pub said: Said,
}

enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

/// Listens on a channel that the client opened.
pub(super) fn attach(shared: &Weak<Shared>, channel: &WebRTCDataChannel) {
    let weak = shared.clone();
    channel.connect_on_message_string(move |channel, text| {
        let text = text.unwrap_or_default().to_owned();
        hear(&weak, channel, Frame::Text(text));
    });
    let weak = shared.clone();
    channel.connect_on_message_data(move |channel, data| {
        let bytes = data.map(|data| data.to_vec()).unwrap_or_default();
        hear(&weak, channel, Frame::Binary(bytes));
    });
}

fn hear(weak: &Weak<Shared>, channel: &WebRTCDataChannel, frame: Frame) {
    let Some(shared) = weak.upgrade() else {
        return;
    };
    let label = channel.label().unwrap_or_default();
    let binary = matches!(frame, Frame::Binary(_));
    let (id, said) = match &frame {
        Frame::Text(text) => (String::new(), read_v0(&label, text)),
        Frame::Binary(bytes) => v1::read(&label, bytes),
    };
    report(format!("{label}, binary {binary}: {said:?}"));
    shared.heard.lock().unwrap().push(Heard {
        at: Instant::now(),
        channel: label.to_string(),
        binary,
        said: said.clone(),
    });
    if binary && shared.config.v0_only {
        return;
    }
    // The first message decides for the whole connection.
    shared.binary.lock().unwrap().get_or_insert(binary);
    match &said {
        Said::Resume(track) => connection::set_flowing(weak, track, true),
        Said::Pause(track) => connection::set_flowing(weak, track, false),
        Said::RequestSchema if binary => send(channel, Frame::Binary(v1::schema(&id))),
        Said::RequestSchema => send(channel, v0("runtime", "modelSchema", &openapi())),
        Said::Command { name, .. } if binary => {
            send(channel, Frame::Binary(v1::reply(&id, name)));
        }
        Said::Command { name, data } => send(channel, v0("application", name, data)),
        Said::Ping | Said::Other => {}
    }
}

pub(super) fn say(shared: &Arc<Shared>, name: &str, data: &Value) {
    let connection = shared.connection().expect("a connection");
    let channel = connection.channel("data").expect("the data channel");
    let binary = shared.binary.lock().unwrap().unwrap_or(false);
    let frame = match binary {
        true => Frame::Binary(v1::message(name)),
        false => v0("application", name, data),
    };
    send(&channel, frame);
}

fn send(channel: &WebRTCDataChannel, frame: Frame) {
    let sent = match frame {
        Frame::Text(text) => channel.send_string_full(Some(&text)),
        Frame::Binary(bytes) => channel.send_data_full(Some(&glib::Bytes::from_owned(bytes))),
    };
    if let Err(error) = sent {
        report(format!("not sent: {error}"));
    }
}

fn openapi() -> Value {
    json!({ "openapi": "3.1.0", "paths": {} })
}

fn v0(scope: &str, name: &str, data: &Value) -> Frame {
    let message = json!({ "scope": scope, "data": { "type": name, "data": data } });
    Frame::Text(message.to_string())
}

fn read_v0(label: &str, text: &str) -> Said {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if label == "control" {
        let track = text(&message["data"]["name"]);
        return match message["event"].as_str() {
            Some("resume_track") => Said::Resume(track),
            Some("pause_track") => Said::Pause(track),
            _ => Said::Other,
        };
    }
    let body = &message["data"];
    match (message["scope"].as_str(), body["type"].as_str()) {
        (Some("runtime"), Some("ping")) => Said::Ping,
        (Some("runtime"), Some("requestSchema")) => Said::RequestSchema,
        (Some("application"), Some(name)) => Said::Command {
            name: name.to_owned(),
            data: body["data"].clone(),
        },
        _ => Said::Other,
    }
}
