// SPDX-License-Identifier: MIT

//! The part of wire v1 (protobuf) that the peer needs, encoded and decoded by hand: the code under
//! test must not test itself.

use serde_json::Value;

use super::ClientMessage;

const NOTIFICATION: u64 = 3;
const RESPONSE: u64 = 2;

/// A field's content; the values of numbers are not needed.
#[derive(Clone, Copy)]
enum Content<'a> {
    Number,
    Bytes(&'a [u8]),
}

/// The request's id and the message.
pub(super) fn read(label: &str, bytes: &[u8]) -> (String, ClientMessage) {
    let Some(fields) = fields(bytes) else {
        return (String::new(), ClientMessage::Other);
    };
    let id = text(&fields, 1);
    let payload = fields.iter().find_map(|(number, content)| match content {
        Content::Bytes(bytes) if *number >= 10 => Some((*number, *bytes)),
        _ => None,
    });
    let Some((number, payload)) = payload else {
        return (id, ClientMessage::Other);
    };
    let name = self::fields(payload).map_or_else(String::new, |inner| text(&inner, 1));
    let message = match (label, number) {
        ("control", 10) => ClientMessage::Ping,
        ("control", 11) => ClientMessage::RequestSchema,
        ("control", 16) => ClientMessage::Pause(name),
        ("control", 17) => ClientMessage::Resume(name),
        ("data", 10) => ClientMessage::Command {
            name,
            data: Value::Null,
        },
        _ => ClientMessage::Other,
    };
    (id, message)
}

/// A `ModelSchema` with the document `{"openapi":"3.1.0"}`.
pub(super) fn schema(id: &str) -> Vec<u8> {
    let value = bytes(3, b"3.1.0");
    let entry = [bytes(1, b"openapi"), bytes(2, &value)].concat();
    let openapi = bytes(1, &entry);
    answer(id, RESPONSE, &bytes(1, &openapi))
}

/// The reply to a command: a model's message of the same name.
pub(super) fn reply(id: &str, name: &str) -> Vec<u8> {
    answer(id, RESPONSE, &bytes(1, name.as_bytes()))
}

/// A broadcast message of the model.
pub(super) fn message(name: &str) -> Vec<u8> {
    answer("", NOTIFICATION, &bytes(1, name.as_bytes()))
}

/// Responses and notifications have their payload in field 10.
fn answer(id: &str, kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    if !id.is_empty() {
        message = bytes(1, id.as_bytes());
    }
    varint(&mut message, 2 << 3);
    varint(&mut message, kind);
    message.extend(bytes(10, payload));
    message
}

fn text(fields: &[(u64, Content)], wanted: u64) -> String {
    let found = fields.iter().find_map(|(number, content)| match content {
        Content::Bytes(bytes) if *number == wanted => Some(*bytes),
        _ => None,
    });
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Content<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let number = take_varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => Content::Number,
            2 => {
                let (content, rest) = bytes.split_at_checked(usize::try_from(number).ok()?)?;
                bytes = rest;
                Content::Bytes(content)
            }
            _ => return None,
        };
        fields.push((tag >> 3, content));
    }
    Some(fields)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    varint(&mut field, number << 3 | 2);
    varint(&mut field, content.len() as u64);
    field.extend_from_slice(content);
    field
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_official_client_are_decoded() {
        let say = |bytes: &[u8]| read("control", bytes);
        assert_eq!(say(&[0x10, 3, 0x52, 0]).1, ClientMessage::Ping);
        let resume = [0x10, 3, 0x8a, 1, 3, 0x0a, 1, 0x76];
        assert_eq!(say(&resume).1, ClientMessage::Resume("v".into()));
        let pause = [0x10, 3, 0x82, 1, 3, 0x0a, 1, 0x76];
        assert_eq!(say(&pause).1, ClientMessage::Pause("v".into()));
        let schema = [0x0a, 1, 0x61, 0x10, 1, 0x5a, 0];
        assert_eq!(say(&schema), ("a".into(), ClientMessage::RequestSchema));
    }
}
