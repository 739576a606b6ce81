// SPDX-License-Identifier: MIT

//! Version 1 of the wire: protobuf in binary messages. Pure functions.

use prost::Message;

use super::{
    client_stats,
    frame::{Channel, WireFrame, WireVersion, undecodable},
    message::{
        ClientMessage, Clip, FileRef, InboundMessage, MessageRole, Moderation, ServerMessage,
    },
    proto::{self, ControlClientPayload, ControlServerPayload, DataServerPayload, MessageKind},
    value,
};
use crate::platform::Error;

pub fn encode(message: &ClientMessage, request_id: &str) -> WireFrame {
    let request_id = request_id.to_owned();
    let kind = match message.expects_reply(WireVersion::V1) {
        true => MessageKind::Request.into(),
        false => MessageKind::Notification.into(),
    };
    let empty = proto::Empty {};
    let track = |name: &String| proto::TrackName { name: name.clone() };
    let payload = match message {
        ClientMessage::Ping => ControlClientPayload::Ping(empty),
        ClientMessage::RequestSchema => ControlClientPayload::RequestSchema(empty),
        ClientMessage::FileUploaded(file) => ControlClientPayload::FileUploaded(reference(file)),
        ClientMessage::RequestClip { seconds } => {
            let duration_seconds = *seconds;
            ControlClientPayload::RequestClip(proto::RequestClip { duration_seconds })
        }
        ClientMessage::RequestRecording => ControlClientPayload::RequestRecording(empty),
        ClientMessage::PublishTrack(name) => ControlClientPayload::PublishTrack(track(name)),
        ClientMessage::UnpublishTrack(name) => ControlClientPayload::UnpublishTrack(track(name)),
        ClientMessage::PauseTrack(name) => ControlClientPayload::PauseTrack(track(name)),
        ClientMessage::ResumeTrack(name) => ControlClientPayload::ResumeTrack(track(name)),
        ClientMessage::ClientStats(stats) => {
            ControlClientPayload::ClientStats(client_stats::to_proto(stats))
        }
        ClientMessage::Command {
            name,
            data,
            uploads,
        } => {
            let files = uploads.iter();
            let command = proto::Command {
                name: name.clone(),
                data: Some(value::to_struct(data)),
                uploads: files
                    .map(|(k, file)| (k.clone(), reference(file)))
                    .collect(),
            };
            return frame(&proto::DataClientMessage {
                request_id,
                kind,
                payload: Some(proto::DataClientPayload::Command(command)),
            });
        }
    };
    frame(&proto::ControlClientMessage {
        request_id,
        kind,
        payload: Some(payload),
    })
}

fn frame(message: &impl Message) -> WireFrame {
    WireFrame::Binary(message.encode_to_vec().into())
}

fn reference(file: &FileRef) -> proto::UploadReference {
    proto::UploadReference {
        upload_id: file.upload_id.clone(),
        name: file.name.clone(),
        mime_type: file.mime_type.clone(),
        size: file.wire_size(),
    }
}

pub fn decode(channel: Channel, bytes: &[u8]) -> Result<InboundMessage, Error> {
    let broken = |_| {
        let why = "it is not what the protocol says";
        undecodable(WireVersion::V1, channel, bytes.len(), why)
    };
    match channel {
        Channel::Control => {
            let message = proto::ControlServerMessage::decode(bytes).map_err(broken)?;
            let payload = message.payload.map(control_message);
            Ok(inbound(message.request_id, message.kind, payload))
        }
        Channel::Data => {
            let message = proto::DataServerMessage::decode(bytes).map_err(broken)?;
            // A payload of a kind not known here is skipped in decoding; that
            // must not pass for the empty answer, hence the look at the size.
            let empty = message.payload.is_none() && message.encoded_len() == bytes.len();
            let payload = message.payload.map(data_message);
            let mut inbound = inbound(message.request_id, message.kind, payload);
            if empty && inbound.role == MessageRole::Response && inbound.request_id.is_some() {
                inbound.message = ServerMessage::Ack;
            }
            Ok(inbound)
        }
    }
}

fn inbound(request_id: String, kind: i32, message: Option<ServerMessage>) -> InboundMessage {
    let request_id = Some(request_id).filter(|id| !id.is_empty());
    let role = match MessageKind::try_from(kind) {
        Ok(MessageKind::Request) => MessageRole::Request,
        Ok(MessageKind::Response) => MessageRole::Response,
        Ok(MessageKind::Notification) => MessageRole::Notification,
        Ok(MessageKind::Unspecified) | Err(_) => match request_id {
            Some(_) => MessageRole::Response,
            None => MessageRole::Notification,
        },
    };
    InboundMessage {
        version: WireVersion::V1,
        role,
        request_id,
        message: message.unwrap_or(ServerMessage::Unknown),
    }
}

fn control_message(payload: ControlServerPayload) -> ServerMessage {
    match payload {
        ControlServerPayload::ModelSchema(schema) => {
            ServerMessage::Schema(value::from_struct(schema.openapi))
        }
        ControlServerPayload::ClipReady(clip) => ServerMessage::ClipReady(clip.into()),
        ControlServerPayload::ClipFailed(failed) => ServerMessage::ClipFailed {
            reason: failed.reason,
        },
        ControlServerPayload::Moderation(verdict) => ServerMessage::Moderation(verdict.into()),
        ControlServerPayload::PublishTrack(_) => ServerMessage::PublishGranted,
        ControlServerPayload::SessionEnded(ended) => ServerMessage::SessionEnded {
            reason: ended.reason,
        },
        ControlServerPayload::Error(error) => error.into(),
    }
}

fn data_message(payload: DataServerPayload) -> ServerMessage {
    match payload {
        DataServerPayload::Message(message) => ServerMessage::Model {
            name: message.name,
            data: value::from_struct(message.data),
        },
        DataServerPayload::Error(error) => error.into(),
    }
}

impl From<proto::Error> for ServerMessage {
    fn from(error: proto::Error) -> Self {
        ServerMessage::Error {
            code: error.code,
            message: error.message,
        }
    }
}

impl From<proto::ClipReady> for Clip {
    fn from(clip: proto::ClipReady) -> Self {
        Self {
            session_id: clip.session_id,
            kind: clip.kind,
            start_marker: clip.start_marker,
            end_marker: clip.end_marker,
            now_marker: clip.now_marker,
            predicted_ready_at_ms: clip.predicted_ready_at_ms,
            playlist_url: clip.playlist_url,
        }
    }
}

impl From<proto::Moderation> for Moderation {
    fn from(verdict: proto::Moderation) -> Self {
        Self {
            action: verdict.action,
            input_kind: verdict.input_kind,
            command: verdict.command,
            categories: verdict.categories,
            message: verdict.message,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::message::tests::client_messages;
    use super::super::testing::hex;
    use super::super::{decode, encode};
    use super::*;

    /// What the server's own library makes of `client_messages`.
    const CLIENT: [&str; 11] = [
        "10035200",
        "0a066374726c5f3110015a00",
        "1003621a0a03752d311205612e706e671a09696d6167652f706e6720ac02",
        "0a066374726c5f3210016a09090000000000002440",
        "0a066374726c5f3310017200",
        "0a066374726c5f3410017a080a0677656263616d",
        "10039201080a0677656263616d",
        "100382010c0a0a6d61696e5f766964656f",
        "10038a010c0a0a6d61696e5f766964656f",
        "0a06646174615f31100152490a097365745f696d61676512170a150a08737472656e6774\
         68120911000000000000e03f1a230a05696d616765121a0a03752d311205612e706e671a\
         09696d6167652f706e6720ac02",
        "0a06646174615f32100152090a0572657365741200",
    ];

    const SCHEMA: &str = "0a066374726c5f31100252230a210a120a076f70656e61706912071a05332e312e30\
                          0a0b0a05706174687312022a00";
    const CLIP_READY: &str = "0a066374726c5f3210025a300a03722d311204736e61702100000000000000402900\
                              0000000000044030d08c82e59f343a0a2f636c6970733f783d31";
    const CLIP_FAILED: &str = "0a066374726c5f32100262180a166e6f206d656469612067656e65726174656420\
                               796574";
    const MODERATION: &str = "10036a270a047761726e1204746578741a0a7365745f70726f6d70742201612201\
                              622a076361726566756c";
    const PUBLISHED: &str = "0a066374726c5f3410027200";
    const REFUSED: &str = "0a066374726c5f341002c2022a0a0f7075626c6973685f7265667573656412177472\
                           61636b20616c7265616479207075626c6973686564";
    const ENDED: &str = "10037a090a07627965206e6f77";
    const REPLY: &str = "0a06646174615f31100252180a04706f6e6712100a0e0a016e12091100000000000000\
                         40";
    const ACK: &str = "0a06646174615f311002";
    const COMMAND_ERROR: &str = "0a06646174615f311002c202250a0f696e76616c69645f636f6d6d616e641212\
                                 6e3a203530302e30203e206c652831303029";
    const ALL: &str = "1003529d010a03616c6c1295010a0e0a0166120911000000000000f83f0a090a017312041a\
                       02c3a90a170a016f12122a100a0e0a017012091100000000000000000a100a036e65671209\
                       1100000000000008c00a2b0a016c122632240a0911000000000000f03f0a031a01610a122a\
                       100a0e0a016b12091100000000000000400a070a017a120208000a0e0a016e120911000000\
                       0000405f400a070a016212022001";
    /// A step result, which is not known here.
    const STEP: &str = "0a06646174615f3910025a0b080119000000000000e03f";

    pub const SERVER: [&str; 12] = [
        SCHEMA,
        CLIP_READY,
        CLIP_FAILED,
        MODERATION,
        PUBLISHED,
        REFUSED,
        ENDED,
        REPLY,
        ACK,
        COMMAND_ERROR,
        ALL,
        STEP,
    ];

    fn read(channel: Channel, text: &str) -> (MessageRole, Option<String>, ServerMessage) {
        let inbound = decode(channel, &WireFrame::Binary(hex(text))).unwrap();
        assert_eq!(inbound.version, WireVersion::V1);
        (inbound.role, inbound.request_id, inbound.message)
    }

    fn answer(id: &str, message: ServerMessage) -> (MessageRole, Option<String>, ServerMessage) {
        (MessageRole::Response, Some(id.to_owned()), message)
    }

    #[test]
    fn client_messages_match_server_bytes() {
        for ((id, message), golden) in client_messages().into_iter().zip(CLIENT) {
            let (channel, frame) = encode(WireVersion::V1, &message, id).unwrap();
            assert_eq!(frame, WireFrame::Binary(hex(golden)), "{message:?}");
            let command = matches!(message, ClientMessage::Command { .. });
            assert_eq!(channel == Channel::Data, command);
        }
    }

    #[test]
    fn notification_has_no_id() {
        let (_, frame) = encode(WireVersion::V1, &ClientMessage::Ping, Some("ctrl_1")).unwrap();
        assert_eq!(frame, WireFrame::Binary(hex("10035200")));
    }

    #[test]
    fn control_messages_are_decoded() {
        let control = |text| read(Channel::Control, text);
        let schema = json!({"openapi": "3.1.0", "paths": {}});
        assert_eq!(
            control(SCHEMA),
            answer("ctrl_1", ServerMessage::Schema(schema))
        );
        let clip = Clip {
            session_id: "r-1".into(),
            kind: "snap".into(),
            start_marker: 0.0,
            end_marker: 2.0,
            now_marker: 2.5,
            predicted_ready_at_ms: 1_795_239_741_008,
            playlist_url: "/clips?x=1".into(),
        };
        assert_eq!(
            control(CLIP_READY),
            answer("ctrl_2", ServerMessage::ClipReady(clip))
        );
        let reason = "no media generated yet".to_owned();
        assert_eq!(
            control(CLIP_FAILED),
            answer("ctrl_2", ServerMessage::ClipFailed { reason })
        );
        assert_eq!(
            control(PUBLISHED),
            answer("ctrl_4", ServerMessage::PublishGranted)
        );
        let refused = ServerMessage::Error {
            code: "publish_refused".into(),
            message: "track already published".into(),
        };
        assert_eq!(control(REFUSED), answer("ctrl_4", refused));
    }

    #[test]
    fn notifications_are_decoded() {
        let moderation = ServerMessage::Moderation(Moderation {
            action: "warn".into(),
            input_kind: "text".into(),
            command: "set_prompt".into(),
            categories: vec!["a".into(), "b".into()],
            message: "careful".into(),
        });
        let notice = |message| (MessageRole::Notification, None, message);
        assert_eq!(read(Channel::Control, MODERATION), notice(moderation));
        let reason = "bye now".to_owned();
        assert_eq!(
            read(Channel::Control, ENDED),
            notice(ServerMessage::SessionEnded { reason })
        );
    }

    #[test]
    fn data_messages_are_decoded() {
        let data = |text| read(Channel::Data, text);
        let pong = ServerMessage::Model {
            name: "pong".into(),
            data: json!({"n": 2}),
        };
        assert_eq!(data(REPLY), answer("data_1", pong));
        assert_eq!(data(ACK), answer("data_1", ServerMessage::Ack));
        let error = ServerMessage::Error {
            code: "invalid_command".into(),
            message: "n: 500.0 > le(100)".into(),
        };
        assert_eq!(data(COMMAND_ERROR), answer("data_1", error));
        let all = ServerMessage::Model {
            name: "all".into(),
            data: json!({
                "n": 125, "f": 1.5, "neg": -3, "s": "é", "b": true, "z": null,
                "l": [1, "a", {"k": 2}], "o": {"p": 0},
            }),
        };
        assert_eq!(data(ALL), (MessageRole::Notification, None, all));
    }

    #[test]
    fn unknown_payload_is_not_an_ack() {
        assert_eq!(
            read(Channel::Data, STEP),
            answer("data_9", ServerMessage::Unknown)
        );
        // An empty answer belongs to a command only.
        assert_eq!(
            read(Channel::Control, ACK),
            answer("data_1", ServerMessage::Unknown)
        );
        let nothing = (MessageRole::Notification, None, ServerMessage::Unknown);
        assert_eq!(read(Channel::Data, ""), nothing);
        assert_eq!(read(Channel::Data, "1003"), nothing);
        // Field 30 on the control channel.
        assert_eq!(read(Channel::Control, "1003f20100"), nothing);
    }

    #[test]
    fn missing_kind_follows_from_id() {
        assert_eq!(
            read(Channel::Data, "0a06646174615f31"),
            answer("data_1", ServerMessage::Ack)
        );
        assert_eq!(read(Channel::Control, "7a00").0, MessageRole::Notification);
    }

    #[test]
    fn unknown_fields_are_skipped() {
        // A claim granted with a field 99 in the answer and beside it.
        let message = "0a066374726c5f34100272039a0600 9a060178".replace(' ', "");
        assert_eq!(
            read(Channel::Control, &message),
            answer("ctrl_4", ServerMessage::PublishGranted)
        );
    }
}
