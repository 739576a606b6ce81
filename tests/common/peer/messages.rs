// SPDX-License-Identifier: MIT

//! The messages on the data channels.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use gst::glib;
use gst_webrtc::WebRTCDataChannel;
use serde_json::{Value, json};

use super::{PeerState, connection, log, v1};

/// A message of the client, in either encoding.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    Ping,
    RequestSchema,
    Resume(String),
    Pause(String),
    Command { name: String, data: Value },
    Other,
}

#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    pub at: Instant,
    /// The channel's label.
    pub channel: String,
    /// Binary is v1; JSON (v0) comes as text.
    pub binary: bool,
    pub message: ClientMessage,
}

enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

/// Receives on a channel that the client opened.
pub(super) fn attach(shared: &Weak<PeerState>, channel: &WebRTCDataChannel) {
    let weak = shared.clone();
    channel.connect_on_message_string(move |channel, text| {
        let text = text.unwrap_or_default().to_owned();
        handle_frame(&weak, channel, Frame::Text(text));
    });
    let weak = shared.clone();
    channel.connect_on_message_data(move |channel, data| {
        let bytes = data.map(|data| data.to_vec()).unwrap_or_default();
        handle_frame(&weak, channel, Frame::Binary(bytes));
    });
}

fn handle_frame(weak: &Weak<PeerState>, channel: &WebRTCDataChannel, frame: Frame) {
    let Some(shared) = weak.upgrade() else {
        return;
    };
    let label = channel.label().unwrap_or_default();
    let frame = match frame {
        Frame::Binary(bytes) if shared.config.chunking.is_some() => unframed(&bytes),
        frame => frame,
    };
    let binary = matches!(frame, Frame::Binary(_));
    let (id, message) = match &frame {
        Frame::Text(text) => (String::new(), read_v0(&label, text)),
        Frame::Binary(bytes) => v1::read(&label, bytes),
    };
    log(format!("{label}, binary {binary}: {message:?}"));
    shared.received.lock().unwrap().push(ReceivedMessage {
        at: Instant::now(),
        channel: label.to_string(),
        binary,
        message: message.clone(),
    });
    if binary && shared.config.v0_only {
        return;
    }
    // The first message selects the encoding of the whole connection.
    shared.binary.lock().unwrap().get_or_insert(binary);
    match &message {
        ClientMessage::Resume(track) => connection::set_flowing(weak, track, true),
        ClientMessage::Pause(track) => connection::set_flowing(weak, track, false),
        ClientMessage::RequestSchema if binary => {
            send(&shared, channel, Frame::Binary(v1::schema(&id)))
        }
        ClientMessage::RequestSchema => {
            send(&shared, channel, v0("runtime", "modelSchema", &openapi()))
        }
        ClientMessage::Command { name, .. } if binary => {
            send(&shared, channel, Frame::Binary(v1::reply(&id, name)));
        }
        ClientMessage::Command { name, data } => {
            send(&shared, channel, v0("application", name, data))
        }
        ClientMessage::Ping | ClientMessage::Other => {}
    }
}

pub(super) fn send_model_message(shared: &Arc<PeerState>, name: &str, data: &Value) {
    let connection = shared.connection().expect("a connection");
    let channel = connection.channel("data").expect("the data channel");
    let binary = shared.binary.lock().unwrap().unwrap_or(false);
    let frame = match binary {
        true => Frame::Binary(v1::message(name)),
        false => v0("application", name, data),
    };
    send(shared, &channel, frame);
}

/// The message in the only frame of it (flag 2: text).
fn unframed(bytes: &[u8]) -> Frame {
    match bytes.split_first() {
        Some((2, text)) => Frame::Text(String::from_utf8_lossy(text).into_owned()),
        Some((_, bytes)) => Frame::Binary(bytes.to_vec()),
        None => Frame::Binary(Vec::new()),
    }
}

fn send(shared: &PeerState, channel: &WebRTCDataChannel, frame: Frame) {
    let frame = match frame {
        frame if shared.config.chunking.is_none() => frame,
        Frame::Text(text) => Frame::Binary([&[2], text.as_bytes()].concat()),
        Frame::Binary(bytes) => Frame::Binary([&[0], bytes.as_slice()].concat()),
    };
    let sent = match frame {
        Frame::Text(text) => channel.send_string_full(Some(&text)),
        Frame::Binary(bytes) => channel.send_data_full(Some(&glib::Bytes::from_owned(bytes))),
    };
    if let Err(error) = sent {
        log(format!("not sent: {error}"));
    }
}

fn openapi() -> Value {
    json!({ "openapi": "3.1.0", "paths": {} })
}

fn v0(scope: &str, name: &str, data: &Value) -> Frame {
    let message = json!({ "scope": scope, "data": { "type": name, "data": data } });
    Frame::Text(message.to_string())
}

fn read_v0(label: &str, text: &str) -> ClientMessage {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if label == "control" {
        let track = text(&message["data"]["name"]);
        return match message["event"].as_str() {
            Some("resume_track") => ClientMessage::Resume(track),
            Some("pause_track") => ClientMessage::Pause(track),
            _ => ClientMessage::Other,
        };
    }
    let body = &message["data"];
    match (message["scope"].as_str(), body["type"].as_str()) {
        (Some("runtime"), Some("ping")) => ClientMessage::Ping,
        (Some("runtime"), Some("requestSchema")) => ClientMessage::RequestSchema,
        (Some("application"), Some(name)) => ClientMessage::Command {
            name: name.to_owned(),
            data: body["data"].clone(),
        },
        _ => ClientMessage::Other,
    }
}
