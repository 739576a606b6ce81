// SPDX-License-Identifier: MIT

//! The messages of the two data channels, and the bytes they travel as. Pure:
//! called by the session's state machine, without a socket or a clock.
//!
//! There are two encodings: v1 is protobuf (`reactor_wire.v1`) in binary
//! messages, v0 is JSON in text messages. The server settles on one per
//! connection by the first message that it receives; [`WireVersion::sniff`] is
//! its rule, used here for what comes back.

pub mod chunking;
mod client_stats;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod message;
mod pending_requests;
mod proto;
#[cfg(test)]
mod testing;
mod v0;
mod v1;
mod value;

use super::{Code, Error};

pub use chunking::{Framing, Reassembler};
pub use client_stats::{ClientEnvironment, ClientStats, ClientTrackStats, FrameStage, Metrics};
use frame::undecodable;
pub use frame::{Channel, WireFrame, WireVersion};
#[cfg(test)]
pub use message::UploadReferences;
pub use message::{
    ClientMessage, Clip, FileRef, InboundMessage, MessageRole, Moderation, ServerMessage,
};
pub use pending_requests::{PendingRequests, RequestIds};

/// Encodes a message, and names the channel to send it on.
///
/// A message whose answer is correlated ([`ClientMessage::correlated`]) needs
/// a `request_id`, best from [`RequestIds`]; for any other it is ignored.
pub fn encode(
    version: WireVersion,
    message: &ClientMessage,
    request_id: Option<&str>,
) -> Result<(Channel, WireFrame), Error> {
    message.check()?;
    let request_id = match request_id {
        _ if !message.correlated(version) => "",
        Some(id) if !id.is_empty() => id,
        _ => {
            return Err(Error::gpu(
                Code::Internal,
                "a request was to be sent without an id, its answer could not be told apart",
            ));
        }
    };
    let frame = match version {
        WireVersion::V1 => v1::encode(message, request_id),
        WireVersion::V0 => v0::encode(message, request_id)?,
    };
    // The server would take the frame, and with it the connection, for v0.
    if WireVersion::sniff(&frame) != version {
        return Err(Error::gpu(
            Code::Internal,
            format!(
                "a request id of {} bytes makes a v1 message look like JSON",
                request_id.len()
            ),
        ));
    }
    Ok((message.channel(version), frame))
}

/// Decodes a message of the server's, of either version.
pub fn decode(channel: Channel, frame: &WireFrame) -> Result<InboundMessage, Error> {
    let inbound = match WireVersion::sniff(frame) {
        WireVersion::V1 => v1::decode(channel, frame.as_bytes()),
        WireVersion::V0 => v0::decode(channel, frame.as_bytes()),
    }?;
    if inbound.message.has_zero_byte() {
        let why = "a text in it holds a zero byte";
        return Err(undecodable(inbound.version, channel, frame.len(), why));
    }
    Ok(inbound)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        testing::{Random, hex},
        *,
    };

    fn binary(bytes: &[u8]) -> WireFrame {
        WireFrame::Binary(Bytes::copy_from_slice(bytes))
    }

    fn try_both(frame: &WireFrame) {
        for channel in [Channel::Control, Channel::Data] {
            if let Err(error) = decode(channel, frame) {
                assert_eq!(error.code, Code::DecodeFailed);
                assert!(error.message.contains(channel.label()));
                assert!(error.message.contains(&format!("{} bytes", frame.len())));
            }
        }
    }

    #[test]
    fn version_is_sniffed_like_server() {
        let sniff = |bytes: &[u8]| WireVersion::sniff(&binary(bytes));
        assert_eq!(
            WireVersion::sniff(&WireFrame::Text(String::new())),
            WireVersion::V0
        );
        assert_eq!(
            WireVersion::sniff(&WireFrame::Text("\x10\x03".into())),
            WireVersion::V0
        );
        assert_eq!(sniff(b"{}"), WireVersion::V0);
        assert_eq!(sniff(b" \t\n\r\x0b\x0c[]"), WireVersion::V0);
        assert_eq!(sniff(b""), WireVersion::V1);
        assert_eq!(sniff(b"  "), WireVersion::V1);
        assert_eq!(sniff(b"\x00{"), WireVersion::V1);
        assert_eq!(sniff(b"\x10\x03\x52\x00"), WireVersion::V1);
        // The trap: field 1 with a string of 123 or 91 bytes.
        assert_eq!(sniff(b"\x0a\x7b"), WireVersion::V0);
        assert_eq!(sniff(b"\x0a\x5b"), WireVersion::V0);
        assert_eq!(sniff(b"\x0a\x06ctrl_1"), WireVersion::V1);
    }

    #[test]
    fn request_id_resembling_json_is_refused() {
        for id in ["x".repeat(91), "x".repeat(123), format!("{{{:31}", "")] {
            let error =
                encode(WireVersion::V1, &ClientMessage::RequestSchema, Some(&id)).unwrap_err();
            assert_eq!(error.code, Code::Internal);
        }
        let id = "x".repeat(32);
        encode(WireVersion::V1, &ClientMessage::RequestSchema, Some(&id)).unwrap();
    }

    #[test]
    fn request_without_id_is_refused() {
        let publish = ClientMessage::PublishTrack("cam".into());
        for id in [None, Some("")] {
            for version in [WireVersion::V1, WireVersion::V0] {
                let error = encode(version, &publish, id).unwrap_err();
                assert_eq!(error.code, Code::Internal);
            }
        }
        // Version 0 has no place for it here.
        encode(WireVersion::V0, &ClientMessage::RequestSchema, None).unwrap();
    }

    #[test]
    fn random_message_never_panics() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..50_000 {
            let length = usize::try_from(random.next() % 64).unwrap();
            let mut bytes = random.bytes(length);
            try_both(&binary(&bytes));
            try_both(&WireFrame::Text(
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
            // Closer to something: the head of a real message.
            let heads: [&[u8]; 4] = [b"\x0a\x06data_1\x10\x02\x52", b"\x10\x03", b"{\"", b"{"];
            let head = heads[usize::try_from(random.next() % 4).unwrap()];
            bytes.splice(..0, head.iter().copied());
            try_both(&binary(&bytes));
        }
    }

    #[test]
    fn truncated_or_altered_message_never_panics() {
        let mut random = Random(42);
        let texts = v0::tests::SERVER
            .iter()
            .map(|text| text.as_bytes().to_vec());
        let messages = v1::tests::SERVER.iter().map(|text| hex(text).to_vec());
        for message in messages.chain(texts) {
            for end in 0..message.len() {
                try_both(&binary(&message[..end]));
                let mut altered = message.clone();
                altered[end] = random.next().to_le_bytes()[0];
                try_both(&binary(&altered));
                try_both(&WireFrame::Text(
                    String::from_utf8_lossy(&altered).into_owned(),
                ));
            }
        }
    }

    #[test]
    fn zero_byte_in_text_is_refused() {
        for text in [
            r#"{"scope":"application","data":{"type":"a\u0000b","data":{}}}"#,
            r#"{"scope":"runtime","data":{"type":"sessionEnded","data":{"reason":"a\u0000"}}}"#,
        ] {
            let frame = WireFrame::Text(text.into());
            let whole = WireFrame::Text(text.replace(r"\u0000", ""));
            assert!(decode(Channel::Data, &whole).is_ok(), "{text}");
            let error = decode(Channel::Data, &frame).unwrap_err();
            assert_eq!(error.code, Code::DecodeFailed);
            assert!(error.message.contains("zero byte"), "{error}");
        }
        let data = r#"{"scope":"application","data":{"type":"a","data":{"a\u0000b":"\u0000"}}}"#;
        assert!(decode(Channel::Data, &WireFrame::Text(data.into())).is_ok());
    }

    #[test]
    fn decode_error_hides_content() {
        let texts = [
            r#"{"scope":"runtime","data":{"type":"clipReady","data":{"start_marker":"s3cret"}}}"#,
            r#"{"scope":"runtime","data":{"type":"moderation","data":{"categories":"s3cret"}}}"#,
            r#""s3cret""#,
            r#"{"s3cret" "#,
        ];
        for text in texts {
            let error = decode(Channel::Data, &WireFrame::Text(text.into())).unwrap_err();
            assert_eq!(error.code, Code::DecodeFailed);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let error = decode(Channel::Data, &binary(b"\x0a\x20s3cret")).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
