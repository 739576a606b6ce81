// SPDX-License-Identifier: MIT

//! The content of a buffer of the pad `messages`: the whole message, or the value
//! in it that a JSON pointer (RFC 6901) names, as JSON or as text. Pure.

use gst::glib;
use serde_json::Value;

use crate::{
    platform::{Code, Error},
    property::EnumField,
};

/// The format of the pad's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorMessageFormat")]
pub enum MessageFormat {
    #[default]
    #[enum_value(name = "JSON: one value and a newline", nick = "json")]
    Json,
    #[enum_value(name = "Text: a string as it is, another value as JSON", nick = "text")]
    Text,
}

impl EnumField for MessageFormat {}

impl MessageFormat {
    pub fn caps(self) -> gst::Caps {
        match self {
            Self::Json => gst::Caps::new_empty_simple("application/x-json"),
            Self::Text => gst::Caps::builder("text/x-raw")
                .field("format", "utf8")
                .build(),
        }
    }

    /// The content of the buffer for a message, of which the pointer names a value
    /// in `{"type":name,"data":data}`; `None` if the message does not
    /// have what the pointer names, or null there.
    pub fn content(self, pointer: &str, name: &str, data: &Value) -> Option<String> {
        let name = Value::from(name);
        let text = match pointer {
            "" => format!("{{\"type\":{name},\"data\":{data}}}"),
            _ => {
                // A pointer to anything else names nothing.
                let selected = match pointer {
                    "/type" => Some(&name),
                    _ => data.pointer(pointer.strip_prefix("/data")?),
                };
                match selected.filter(|value| !value.is_null())? {
                    Value::String(text) if self == Self::Text => text.clone(),
                    value => value.to_string(),
                }
            }
        };
        Some(match self {
            Self::Json => text + "\n",
            Self::Text => text,
        })
    }
}

/// Fails unless the text is a JSON pointer: empty, or `/` before each of its
/// tokens, in which `~` is written as `~0` and `/` as `~1`.
pub fn check_pointer(text: &str) -> Result<(), Error> {
    let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
    let has_tokens = text.is_empty() || text.starts_with('/');
    if has_tokens && text.split('~').skip(1).all(is_escaped) {
        return Ok(());
    }
    let text = format!(
        "pad messages: path \"{text}\" is not a JSON pointer (RFC 6901); expected one such as \
         /data/prompt"
    );
    Err(Error::api(Code::InvalidSettings, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn content_is_whole_message_or_what_pointer_names() {
        let data = json!({"prompt": "a \"red\"\nship", "n": [1, {"a/b~c": true}], "none": null});
        let json = |path| MessageFormat::Json.content(path, "prompt_changed", &data);
        let text = |path| MessageFormat::Text.content(path, "prompt_changed", &data);
        let whole: Value = serde_json::from_str(&json("").unwrap()).unwrap();
        assert_eq!(whole, json!({"type": "prompt_changed", "data": data}));
        assert!(json("").unwrap().ends_with("}\n"));
        assert_eq!(json("/type").unwrap(), "\"prompt_changed\"\n");
        assert_eq!(text("/type").unwrap(), "prompt_changed");
        assert_eq!(json("/data/prompt").unwrap(), "\"a \\\"red\\\"\\nship\"\n");
        assert_eq!(text("/data/prompt").unwrap(), "a \"red\"\nship");
        assert_eq!(text("/data/n/0").unwrap(), "1");
        assert_eq!(text("/data/n/1/a~1b~0c").unwrap(), "true");
        assert_eq!(text("/data/n").unwrap(), "[1,{\"a/b~c\":true}]");
        for missing in [
            "/data/none",
            "/data/x",
            "/data/n/2",
            "/datax",
            "/other",
            "/type/x",
        ] {
            assert_eq!(text(missing), None, "{missing}");
        }
    }

    #[test]
    fn pointer_that_is_none_is_refused() {
        for pointer in ["", "/", "/data", "/data/a~0b~1c", "/data//x"] {
            assert!(check_pointer(pointer).is_ok(), "{pointer}");
        }
        for other in ["data", "data/prompt", "/a~", "/a~2", "$.data"] {
            let error = check_pointer(other).unwrap_err();
            assert!(error.message.contains(other), "{error}");
        }
    }
}
