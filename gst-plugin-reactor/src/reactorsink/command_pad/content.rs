// SPDX-License-Identifier: MIT

//! What a buffer of a command pad is: text, JSON or a file, and the commands in
//! it. Pure but for reading the buffer. It never reads a file: whatever a buffer
//! has is taken literally.

use bytes::Bytes;

use super::framing::{self, Framing};
use crate::platform::{
    Code, Error,
    command_content::{CommandContent, ContentValue},
    commands::ModelCommand,
    upload::UploadSource,
};

/// Media types of files, with the MIME type and the extension of each. A buffer is a
/// whole file.
pub const FILES: &[(&str, &str, &str)] = &[
    ("image/jpeg", "image/jpeg", "jpg"),
    ("image/png", "image/png", "png"),
    ("image/webp", "image/webp", "webp"),
    ("audio/x-wav", "audio/wav", "wav"),
    ("audio/mpeg", "audio/mpeg", "mp3"),
    ("audio/x-flac", "audio/flac", "flac"),
    ("audio/ogg", "audio/ogg", "ogg"),
    ("audio/x-m4a", "audio/mp4", "m4a"),
];

/// What the buffers of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    Text,
    Json,
    /// An entry of [`FILES`].
    File(usize),
}

impl ContentKind {
    /// Fails when there are no caps, or others than the template's.
    pub fn of(caps: Option<&gst::Caps>) -> Result<Self, Error> {
        let structure = caps.and_then(|caps| caps.structure(0));
        let media_type = structure.map_or("", |structure| structure.name().as_str());
        let file = || FILES.iter().position(|(known, ..)| *known == media_type);
        match media_type {
            "text/x-raw" => Ok(Self::Text),
            "application/x-json" => Ok(Self::Json),
            _ => file().map(Self::File).ok_or_else(|| {
                let text = "the stream has no caps; put text/x-raw,format=utf8 or \
                            application/x-json in front of the pad";
                Error::api(Code::BadRequest, text)
            }),
        }
    }

    /// How a stream of these without timestamps is taken apart; a file is a buffer.
    pub fn framing(self) -> Option<Framing> {
        match self {
            Self::Text => Some(Framing::Lines),
            Self::Json => Some(Framing::Json),
            Self::File(_) => None,
        }
    }
}

/// What a pad's buffers are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One command.
    Command(String),
    /// Whatever commands the JSON names.
    Any,
}

impl Target {
    /// The commands in a text or a JSON value.
    ///
    /// Fails when the JSON is not what a command takes.
    pub fn commands(
        &self,
        kind: ContentKind,
        param: Option<&str>,
        text: String,
    ) -> Result<Vec<CommandContent>, Error> {
        match (self, kind) {
            (Self::Any, _) => {
                let commands = ModelCommand::parse_literal_list(&text)?;
                Ok(commands.into_iter().map(CommandContent::from).collect())
            }
            (Self::Command(name), ContentKind::Json) => match framing::parse_json(&text)? {
                serde_json::Value::Object(arguments) => {
                    Ok(vec![ModelCommand::literal(name, arguments)?.into()])
                }
                _ => Err(Error::api(
                    Code::BadRequest,
                    "the buffer is not a JSON object with the command's parameters",
                )),
            },
            (Self::Command(name), _) => Ok(vec![CommandContent::Value {
                command: name.clone(),
                parameter: param.map(str::to_owned),
                value: ContentValue::Text(text),
            }]),
        }
    }

    /// The command for a file; `max_size` in bytes, 0 for no limit.
    ///
    /// Fails when the file is empty or too large.
    pub fn file(
        &self,
        index: usize,
        param: Option<&str>,
        bytes: Bytes,
        max_size: u64,
    ) -> Result<CommandContent, Error> {
        let (Self::Command(name), Some((_, mime, extension))) = (self, FILES.get(index)) else {
            return Err(Error::api(Code::BadRequest, "the pad takes JSON"));
        };
        let file_name = format!("{name}.{extension}");
        let source = UploadSource::new(bytes, &file_name, Some(mime), max_size)?;
        Ok(CommandContent::Value {
            command: name.clone(),
            parameter: param.map(str::to_owned),
            value: ContentValue::File(source),
        })
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(name) => name,
            Self::Any => super::pad::COMMANDS,
        }
    }
}
