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

/// Caps of files, with the MIME type and the extension of each. With timestamps a buffer
/// is a whole file, a stream of bytes is one up to its end.
pub const FILES: &[(&str, &str, &str)] = &[
    ("image/jpeg", "image/jpeg", "jpg"),
    ("image/png", "image/png", "png"),
    ("image/webp", "image/webp", "webp"),
    ("audio/x-wav", "audio/wav", "wav"),
    // Of the many formats that these caps stand for, MP3 alone is the same as a file.
    (
        "audio/mpeg,mpegversion=(int)1,layer=(int)3",
        "audio/mpeg",
        "mp3",
    ),
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
        let is_known = |(known, ..): &(&str, _, _)| known.split(',').next() == Some(media_type);
        let file = || FILES.iter().position(is_known);
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

    /// How a stream of these without timestamps is taken apart; a file is not.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(caps: &str) -> Option<ContentKind> {
        gst::init().unwrap();
        let caps = caps.parse::<gst::Caps>().unwrap();
        ContentKind::of(Some(&caps)).ok()
    }

    #[test]
    fn caps_say_what_a_buffer_is() {
        assert_eq!(kind_of("text/x-raw,format=utf8"), Some(ContentKind::Text));
        assert_eq!(kind_of("application/x-json"), Some(ContentKind::Json));
        assert_eq!(kind_of("video/x-raw"), None);
        assert!(ContentKind::of(None).is_err());
        let target = Target::Command("set_voice".into());
        for (caps, name, mime) in [
            ("image/jpeg,width=1", "set_voice.jpg", "image/jpeg"),
            ("image/png", "set_voice.png", "image/png"),
            ("image/webp", "set_voice.webp", "image/webp"),
            ("audio/x-wav", "set_voice.wav", "audio/wav"),
            (
                "audio/mpeg,mpegversion=1,layer=3",
                "set_voice.mp3",
                "audio/mpeg",
            ),
            ("audio/x-flac", "set_voice.flac", "audio/flac"),
            ("audio/ogg", "set_voice.ogg", "audio/ogg"),
            ("audio/x-m4a", "set_voice.m4a", "audio/mp4"),
        ] {
            let Some(kind @ ContentKind::File(index)) = kind_of(caps) else {
                panic!("{caps}");
            };
            assert_eq!(kind.framing(), None);
            let file = target.file(index, Some("voice"), Bytes::from_static(b"x"), 0);
            let Ok(CommandContent::Value {
                command,
                parameter,
                value: ContentValue::File(source),
            }) = file
            else {
                panic!("{caps}");
            };
            assert_eq!(
                (command.as_str(), parameter.as_deref()),
                ("set_voice", Some("voice"))
            );
            assert_eq!((source.name(), source.mime_type()), (name, mime));
        }
    }

    #[test]
    fn file_is_limited_and_of_one_command() {
        let target = Target::Command("x".into());
        for (bytes, limit) in [("", 0), ("12345", 4)] {
            assert!(target.file(0, None, Bytes::from(bytes), limit).is_err());
        }
        assert!(target.file(0, None, Bytes::from("1234"), 4).is_ok());
        assert!(Target::Any.file(0, None, Bytes::from("1"), 0).is_err());
    }

    /// AAC has other endings, and MP2 is no MP3.
    #[test]
    fn pad_takes_mp3_of_all_audio_mpeg() {
        gst::init().unwrap();
        let templates = super::super::pad_templates();
        let takes = |caps: &str| {
            let caps = caps.parse::<gst::Caps>().unwrap();
            templates[0].caps().can_intersect(&caps)
        };
        assert!(takes("audio/mpeg,mpegversion=1,layer=3,rate=44100"));
        assert!(takes("audio/mpeg"), "of a filesrc");
        assert!(!takes("audio/mpeg,mpegversion=4,stream-format=adts"));
        assert!(!takes("audio/mpeg,mpegversion=1,layer=2"));
        assert!(takes("image/webp") && takes("audio/x-wav"));
    }
}
