// SPDX-License-Identifier: MIT

//! JSON as a person types it into a pipeline: JSON5 (spec.json5.org), or the name
//! of a file that holds it. Errors tell the place, and how to quote a text that a
//! shell or gst-launch has cut. Pure, but for reading that file.
//!
//! What programs send is JSON, and is parsed by serde_json where it arrives.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

use super::{Code, Error, http::sanitize, local_file};

#[cfg(test)]
mod tests;

/// A text that starts with it is the name of a file with the text.
const FILE_PREFIX: char = '@';

/// The largest file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// The depth to which values may be nested, as in serde_json.
const MAX_DEPTH: usize = 127;

/// How to quote a text so that gst-launch-1.0 keeps it whole.
pub const QUOTING: &str = "the text looks cut: gst-launch-1.0 ends a value at a space between double \
                       quotes. Type it with single quotes inside of double quotes, such as \
                       commands=\"[{set_prompt:{prompt:'a forest at dawn'}}]\", or put it into \
                       a file and type @FILE";

/// JSON in which the members of an object keep their order, and in which none
/// hides another of its name.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonNode {
    List(Vec<JsonNode>),
    Object(Vec<(String, JsonNode)>),
    /// A value without parts.
    Scalar(Value),
}

impl JsonNode {
    /// The ordinary value: of members with one name, the last counts.
    pub fn into_value(self) -> Value {
        match self {
            JsonNode::List(items) => items.into_iter().map(JsonNode::into_value).collect(),
            JsonNode::Object(members) => members
                .into_iter()
                .map(|(name, node)| (name, node.into_value()))
                .collect(),
            JsonNode::Scalar(value) => value,
        }
    }
}

/// Parses what a person typed. `what` names the text in the error.
///
/// Fails with [`Code::BadRequest`].
pub fn parse(text: &str, what: &str) -> Result<JsonNode, Error> {
    // JSON first: its integers and its limits stay what they are.
    if let Ok(node) = serde_json::from_str(text) {
        return Ok(node);
    }
    json5::from_str(text).map_err(|e| bad_text(describe(text, what, &e)))
}

/// The text itself, or that of the file whose name follows an `@`.
///
/// Fails with [`Code::BadRequest`] if the file cannot be read, has more than 16
/// MiB, or is not UTF-8.
pub fn resolve_file(text: String, what: &str) -> Result<String, Error> {
    let Some(path) = text.trim_start().strip_prefix(FILE_PREFIX) else {
        return Ok(text);
    };
    let path = path.trim_end();
    let failed = |message: String| bad_text(format!("{what}: {message}"));
    if path.is_empty() {
        return Err(failed("no file is named after the @".into()));
    }
    let bytes = local_file::read(Path::new(path), MAX_FILE_SIZE, "such a file", || ());
    String::from_utf8(bytes.map_err(failed)?)
        .map_err(|_| failed(format!("\"{}\" is not UTF-8", sanitize(path))))
}

/// Whether a text or a name in a document of the server's holds a zero byte: GLib's texts
/// end there, and glib-rs panics on it.
pub fn has_zero_byte(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero_byte),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_zero_byte(value)),
        _ => false,
    }
}

/// Whether a shell or gst-launch has cut the text: it ends within a string or a
/// word, or with brackets open.
pub fn looks_cut(text: &str) -> bool {
    let error = json5::from_str::<JsonNode>(text).err();
    !text.trim().is_empty() && error.is_some_and(|e| is_unfinished(&e))
}

fn is_unfinished(error: &json5::Error) -> bool {
    use json5::ErrorCode::*;
    matches!(
        error.code(),
        Some(
            EofParsingArray
                | EofParsingBool
                | EofParsingComment
                | EofParsingEscapeSequence
                | EofParsingIdentifier
                | EofParsingNull
                | EofParsingNumber
                | EofParsingObject
                | EofParsingString
                | EofParsingValue
        )
    )
}

fn describe(text: &str, what: &str, error: &json5::Error) -> String {
    // Of a text that ends too early, json5 tells where the open part begins.
    let (line, column) = match error.position().filter(|_| !is_unfinished(error)) {
        Some(position) => (position.line + 1, position.column + 1),
        None => end_of(text),
    };
    // The reason without the position, which is told first.
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let reason = match is_unfinished(error) {
        true => reason.replace("EOF parsing", "the text ends within the"),
        false => reason.to_owned(),
    };
    let mut message = format!(
        "{what} is not JSON5: line {line}, column {column}: {}",
        sanitize(&reason)
    );
    if is_unfinished(error) || lacks_quotes(text) {
        message.push_str("; ");
        message.push_str(QUOTING);
    }
    message
}

/// The line and column behind a text.
fn end_of(text: &str) -> (usize, usize) {
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

/// Whether a text has brackets and words but no quote, as after a shell took the
/// quotes of `{"prompt":"a forest"}`.
fn lacks_quotes(text: &str) -> bool {
    text.trim_start().starts_with(['[', '{']) && !text.contains(['"', '\''])
}

/// The error for text that a person wrote.
fn bad_text(message: String) -> Error {
    Error::api(Code::BadRequest, message).during("commands")
}

impl<'de> Deserialize<'de> for JsonNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NodeAt(0).deserialize(deserializer)
    }
}

/// A node at a depth.
#[derive(Clone, Copy)]
struct NodeAt(usize);

impl NodeAt {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.0 {
            MAX_DEPTH.. => Err(E::custom(format_args!(
                "more than {MAX_DEPTH} values inside of each other"
            ))),
            depth => Ok(Self(depth + 1)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for NodeAt {
    type Value = JsonNode;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonNode, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeAt {
    type Value = JsonNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<JsonNode, E> {
        // JSON5 has NaN and infinity, but JSON, which the model gets, does not.
        match Number::from_f64(value) {
            Some(number) => Ok(JsonNode::Scalar(Value::Number(number))),
            None => Err(E::custom("a number that is infinite or none")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<JsonNode, E> {
        Ok(JsonNode::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonNode, A::Error> {
        let seed = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(item);
        }
        Ok(JsonNode::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonNode, A::Error> {
        let seed = self.below()?;
        let mut object = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            object.push((name, members.next_value_seed(seed)?));
        }
        Ok(JsonNode::Object(object))
    }
}
