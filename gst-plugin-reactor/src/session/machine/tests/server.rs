// SPDX-License-Identifier: MIT

//! The server's messages, as protobuf (v1) and as JSON (v0).

use bytes::Bytes;
use prost::Message as _;
use prost_types::{Struct, Value, value::Kind};

use crate::platform::wire::WireFrame;

const RESPONSE: u8 = 2;
const NOTIFICATION: u8 = 3;

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn message(id: &str, kind: u8, payload: &[u8]) -> WireFrame {
    let mut bytes = Vec::new();
    if !id.is_empty() {
        bytes.extend(field(1, id.as_bytes()));
    }
    bytes.extend([0x10, kind]);
    bytes.extend_from_slice(payload);
    WireFrame::Binary(Bytes::from(bytes))
}

fn number(name: &str, value: f64) -> Vec<u8> {
    let value = Value {
        kind: Some(Kind::NumberValue(value)),
    };
    let fields = [(name.to_owned(), value)].into_iter().collect();
    Struct { fields }.encode_to_vec()
}

fn coded(code: &str, text: &str) -> Vec<u8> {
    let error = [field(1, code.as_bytes()), field(2, text.as_bytes())].concat();
    field(40, &error)
}

/// The model's schema, `{"openapi": 3}`.
pub fn schema(id: &str) -> WireFrame {
    message(id, RESPONSE, &field(10, &field(1, &number("openapi", 3.0))))
}

pub fn clip_ready(id: &str, url: &str) -> WireFrame {
    message(id, RESPONSE, &field(11, &field(7, url.as_bytes())))
}

pub fn clip_failed(id: &str, reason: &str) -> WireFrame {
    message(id, RESPONSE, &field(12, &field(1, reason.as_bytes())))
}

pub fn moderation(action: &str, text: &str) -> WireFrame {
    let verdict = [field(1, action.as_bytes()), field(5, text.as_bytes())].concat();
    message("", NOTIFICATION, &field(13, &verdict))
}

pub fn publish_granted(id: &str) -> WireFrame {
    message(id, RESPONSE, &field(14, &[]))
}

pub fn session_ended(reason: &str) -> WireFrame {
    message("", NOTIFICATION, &field(15, &field(1, reason.as_bytes())))
}

/// An empty reply to a command.
pub fn ack(id: &str) -> WireFrame {
    message(id, RESPONSE, &[])
}

/// A message from the model: a reply, or without an id a broadcast. Its data
/// is `{"n": n}`.
pub fn model(id: &str, name: &str, n: f64) -> WireFrame {
    let kind = if id.is_empty() {
        NOTIFICATION
    } else {
        RESPONSE
    };
    let body = [field(1, name.as_bytes()), field(2, &number("n", n))].concat();
    message(id, kind, &field(10, &body))
}

pub fn error(id: &str, code: &str, text: &str) -> WireFrame {
    let kind = if id.is_empty() {
        NOTIFICATION
    } else {
        RESPONSE
    };
    message(id, kind, &coded(code, text))
}

/// A reply of a kind that this client does not know.
pub fn unknown(id: &str) -> WireFrame {
    message(id, RESPONSE, &field(30, &[]))
}

/// Bytes that are no message of the protocol.
pub fn garbage() -> WireFrame {
    WireFrame::Binary(Bytes::from_static(b"\x0a\x20short"))
}

pub fn text(json: &serde_json::Value) -> WireFrame {
    WireFrame::Text(json.to_string())
}

/// A message from the platform in v0.
pub fn v0_runtime(name: &str, data: serde_json::Value) -> WireFrame {
    text(&serde_json::json!({"scope": "runtime", "data": {"type": name, "data": data}}))
}

/// A message from the model in v0.
pub fn v0_model(name: &str, data: serde_json::Value) -> WireFrame {
    text(&serde_json::json!({"scope": "application", "data": {"type": name, "data": data}}))
}
