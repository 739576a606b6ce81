// SPDX-License-Identifier: MIT

//! The messages of both wire versions, as types. Plain data; the encodings are in
//! `v0` and `v1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    client_stats::ClientStats,
    frame::{Channel, WireVersion},
    value,
};
use crate::platform::{Code, Error};

/// The files of a command, by parameter name.
pub type UploadReferences = BTreeMap<String, FileRef>;

/// A file that was uploaded, as a command refers to it (`UploadReference`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub upload_id: String,
    pub name: String,
    pub mime_type: String,
    /// In bytes. Signed 64 bits on the wire.
    pub size: u64,
}

/// The promise of a clip or a recording (`ClipReady`). Markers are seconds of
/// recorded media since the recording began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Clip {
    /// The recording's id, which is not the id of the session.
    pub session_id: String,
    /// `snap` or `recording`.
    pub kind: String,
    pub start_marker: f64,
    pub end_marker: f64,
    pub now_marker: f64,
    /// Unix time in milliseconds at which the playlist should be there.
    pub predicted_ready_at_ms: i64,
    /// A path, to be resolved against the API's address.
    pub playlist_url: String,
}

/// The platform's moderation of an input.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moderation {
    /// `warn`, after which the session goes on, or `terminate`.
    pub action: String,
    /// `text`, `image`, or empty.
    pub input_kind: String,
    pub command: String,
    pub categories: Vec<String>,
    pub message: String,
}

/// A message of the client. The numbers are the fields of `ControlClientMessage`
/// in v1, and of `DataClientMessage` for the command.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// The heartbeat. Never answered. Field 10.
    Ping,
    /// Asks for the model's OpenAPI document. Field 11.
    RequestSchema,
    /// Says that the bytes of a file are there. Field 12.
    FileUploaded(FileRef),
    /// Requests the last `seconds` of the recording. Field 13.
    RequestClip { seconds: f64 },
    /// Asks for the whole recording. Field 14.
    RequestRecording,
    /// Claims an input track before media is sent on it. Field 15.
    PublishTrack(String),
    /// Gives an input track back. Field 18.
    UnpublishTrack(String),
    /// Stops an output track. Field 16.
    PauseTrack(String),
    /// Starts an output track: they all begin paused. Field 17.
    ResumeTrack(String),
    /// The quality that this client sees. Never answered; v1 only. Field 19.
    ClientStats(Box<ClientStats>),
    /// Runs a handler of the model's. Field 10 on `data`. A file goes into
    /// `uploads` under the name of its parameter, not into `data`.
    Command {
        name: String,
        data: Map<String, Value>,
        uploads: UploadReferences,
    },
}

impl ClientMessage {
    /// Whether the server answers. A command is only answered in v1.
    pub fn expects_reply(&self, version: WireVersion) -> bool {
        match self {
            ClientMessage::RequestSchema
            | ClientMessage::RequestClip { .. }
            | ClientMessage::RequestRecording
            | ClientMessage::PublishTrack(_) => true,
            ClientMessage::Command { .. } => version == WireVersion::V1,
            _ => false,
        }
    }

    /// Whether the answer carries the request's id. In v0 only the claim of a
    /// track has one; other answers come in the order of the questions.
    pub fn correlated(&self, version: WireVersion) -> bool {
        match version {
            WireVersion::V1 => self.expects_reply(version),
            WireVersion::V0 => matches!(self, ClientMessage::PublishTrack(_)),
        }
    }

    /// The channel the message belongs on: in v1 only commands go on `data`,
    /// in v0 everything but what is about a track.
    pub fn channel(&self, version: WireVersion) -> Channel {
        let control = match version {
            WireVersion::V1 => !matches!(self, ClientMessage::Command { .. }),
            WireVersion::V0 => matches!(
                self,
                ClientMessage::PublishTrack(_)
                    | ClientMessage::UnpublishTrack(_)
                    | ClientMessage::PauseTrack(_)
                    | ClientMessage::ResumeTrack(_)
            ),
        };
        if control {
            Channel::Control
        } else {
            Channel::Data
        }
    }

    /// Refuses values that the wire would change or cannot carry.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            ClientMessage::RequestClip { seconds } if !(seconds.is_finite() && *seconds > 0.0) => {
                Err(Error::gpu(
                    Code::Other("INVALID_DURATION".into()),
                    "the duration of a clip must be a positive number of seconds",
                ))
            }
            ClientMessage::FileUploaded(file) => file.check(),
            ClientMessage::Command { data, uploads, .. } => {
                uploads.values().try_for_each(FileRef::check)?;
                value::check(data)
            }
            _ => Ok(()),
        }
    }
}

impl FileRef {
    /// The reference that an argument of a command is: an object with a text
    /// `upload_id` and no members but those of a reference. The others may be
    /// missing; the runtime looks at the id only.
    pub fn from_argument(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        let upload_id = members
            .get("upload_id")?
            .as_str()
            .filter(|id| !id.is_empty())?;
        let mut file = Self {
            upload_id: upload_id.to_owned(),
            name: String::new(),
            mime_type: String::new(),
            size: 0,
        };
        for (name, value) in members {
            match name.as_str() {
                "upload_id" => {}
                "name" => value.as_str()?.clone_into(&mut file.name),
                "mime_type" => value.as_str()?.clone_into(&mut file.mime_type),
                "size" => file.size = value.as_u64()?,
                _ => return None,
            }
        }
        Some(file)
    }

    /// The size as the wire has it.
    pub(super) fn wire_size(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }

    fn check(&self) -> Result<(), Error> {
        if i64::try_from(self.size).is_err() {
            return Err(Error::gpu(
                Code::BadRequest,
                format!("a file of {} bytes is beyond 2^63", self.size),
            ));
        }
        Ok(())
    }
}

/// A message of the server. The numbers are the fields of `ControlServerMessage`
/// in v1, and of `DataServerMessage` for the model's.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// The model's OpenAPI document. Field 10.
    Schema(Value),
    /// A clip or a recording is to come. Field 11.
    ClipReady(Clip),
    /// There will be no clip. Field 12.
    ClipFailed { reason: String },
    /// Field 13.
    Moderation(Moderation),
    /// The claim of an input track was granted. Field 14.
    PublishGranted,
    /// Comes only if the end has a reason to tell. Field 15.
    SessionEnded { reason: String },
    /// A message of the model's: a broadcast, or the answer to a command.
    /// Field 10 on `data`.
    Model { name: String, data: Value },
    /// A command was carried out and had nothing to say: in v1 an answer on
    /// `data` without a payload.
    Ack,
    /// A refusal, of a command or of a claim; without an id, of anything.
    /// Field 40 on either channel.
    Error { code: String, message: String },
    /// Something newer than this client, or not for it. As an answer (there is
    /// a request id) it still ends the wait for one.
    Unknown,
}

impl ServerMessage {
    /// Whether one of its texts holds a zero byte: GLib's texts end there, and glib-rs
    /// panics on it. What the model says is JSON, and written out with escapes.
    pub(super) fn has_zero_byte(&self) -> bool {
        let any = |texts: &[&String]| texts.iter().any(|text| text.contains('\0'));
        match self {
            Self::ClipReady(clip) => any(&[&clip.session_id, &clip.kind, &clip.playlist_url]),
            Self::ClipFailed { reason } | Self::SessionEnded { reason } => any(&[reason]),
            Self::Moderation(it) => {
                any(&[&it.action, &it.input_kind, &it.command, &it.message])
                    || any(&it.categories.iter().collect::<Vec<_>>())
            }
            Self::Model { name, .. } => any(&[name]),
            Self::Error { code, message } => any(&[code, message]),
            Self::Schema(_) | Self::PublishGranted | Self::Ack | Self::Unknown => false,
        }
    }
}

/// The role of a message in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageRole {
    Request,
    Response,
    Notification,
}

/// A message of the server with its version, role and request id.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundMessage {
    pub version: WireVersion,
    pub role: MessageRole,
    /// The id of the request this answers. Never empty.
    pub request_id: Option<String>,
    pub message: ServerMessage,
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::encode;
    use super::*;

    pub fn file() -> FileRef {
        FileRef {
            upload_id: "u-1".into(),
            name: "a.png".into(),
            mime_type: "image/png".into(),
            size: 300,
        }
    }

    /// Every kind of client message with the id it is sent under.
    pub fn client_messages() -> Vec<(Option<&'static str>, ClientMessage)> {
        let set_image = ClientMessage::Command {
            name: "set_image".into(),
            data: Map::from_iter([("strength".to_owned(), Value::from(0.5))]),
            uploads: UploadReferences::from([("image".to_owned(), file())]),
        };
        let reset = ClientMessage::Command {
            name: "reset".into(),
            data: Map::new(),
            uploads: UploadReferences::new(),
        };
        vec![
            (None, ClientMessage::Ping),
            (Some("ctrl_1"), ClientMessage::RequestSchema),
            (None, ClientMessage::FileUploaded(file())),
            (Some("ctrl_2"), ClientMessage::RequestClip { seconds: 10.0 }),
            (Some("ctrl_3"), ClientMessage::RequestRecording),
            (Some("ctrl_4"), ClientMessage::PublishTrack("webcam".into())),
            (None, ClientMessage::UnpublishTrack("webcam".into())),
            (None, ClientMessage::PauseTrack("main_video".into())),
            (None, ClientMessage::ResumeTrack("main_video".into())),
            (Some("data_1"), set_image),
            (Some("data_2"), reset),
        ]
    }

    #[test]
    fn reply_and_id_depend_on_message_and_version() {
        for (id, message) in client_messages() {
            assert_eq!(message.correlated(WireVersion::V1), id.is_some());
            assert_eq!(message.expects_reply(WireVersion::V1), id.is_some());
            let command = matches!(message, ClientMessage::Command { .. });
            assert_eq!(
                message.expects_reply(WireVersion::V0),
                id.is_some() && !command
            );
            let publish = matches!(message, ClientMessage::PublishTrack(_));
            assert_eq!(message.correlated(WireVersion::V0), publish);
        }
    }

    #[test]
    fn clip_without_positive_duration_is_refused() {
        for seconds in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
            for version in [WireVersion::V1, WireVersion::V0] {
                let message = ClientMessage::RequestClip { seconds };
                let error = encode(version, &message, Some("a")).unwrap_err();
                assert_eq!(error.code.as_str(), "INVALID_DURATION");
            }
        }
    }

    #[test]
    fn file_size_beyond_i64_is_refused() {
        let mut file = file();
        file.size = 1 << 63;
        let message = ClientMessage::FileUploaded(file.clone());
        let error = encode(WireVersion::V1, &message, None).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        file.size -= 1;
        encode(WireVersion::V1, &ClientMessage::FileUploaded(file), None).unwrap();
    }

    #[test]
    fn file_reference_is_known_among_arguments() {
        let json = serde_json::to_value(file()).unwrap();
        assert_eq!(FileRef::from_argument(&json), Some(file()));
        let bare = FileRef::from_argument(&json!({"upload_id": "u"})).unwrap();
        assert_eq!((bare.upload_id.as_str(), bare.size), ("u", 0));
        for other in [
            json!({}),
            json!("u-1"),
            json!([json]),
            json!({"upload_id": ""}),
            json!({"upload_id": 1}),
            json!({"upload_id": "u", "size": -1}),
            json!({"upload_id": "u", "name": null}),
            json!({"upload_id": "u", "path": "x"}),
        ] {
            assert_eq!(FileRef::from_argument(&other), None, "{other}");
        }
    }

    #[test]
    fn file_reference_is_snake_case_in_json() {
        let json = serde_json::to_string(&file()).unwrap();
        let expected = r#"{"upload_id":"u-1","name":"a.png","mime_type":"image/png","size":300}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<FileRef>(&json).unwrap(), file());
    }
}
