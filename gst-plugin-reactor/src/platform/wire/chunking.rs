// SPDX-License-Identifier: MIT

//! Messages larger than one data-channel message. Pure; the state machine owns one
//! [`Reassembler`] for each channel, which never holds more than the agreed size.
//!
//! If both session descriptions carry [`ATTRIBUTE`], everything on both
//! channels is framed: each data-channel message is binary and begins with a
//! byte of flags, and a message may take several of them, one right after the
//! other. The server takes an unframed message for an error and closes the
//! channel. Without the attribute messages go as they are, and one beyond
//! 64 KiB would be lost silently. (As runtime 3.10 behaves.)

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::WireFrame;
use crate::platform::{Code, Error};

/// The session-level SDP attribute that stands for framing.
pub const ATTRIBUTE: &str = "x-reactor-dc-chunking";

/// The largest message this client declares.
pub const MAX_MESSAGE: usize = 67_108_864;

/// The largest data-channel message, its byte of flags included.
pub const MAX_FRAME: usize = 65_536;

/// Flag: more frames of this message follow.
const MORE: u8 = 0x01;
/// Flag, equal on all frames of a message: it is text.
const TEXT: u8 = 0x02;

/// The attribute to offer, without the `a=` before it and the line end after
/// it: `x-reactor-dc-chunking:1 max-message-size=67108864`.
pub fn attribute_line() -> String {
    format!("{ATTRIBUTE}:1 max-message-size={MAX_MESSAGE}")
}

/// How messages are put on a data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As they are, up to `max` bytes.
    Plain { max: usize },
    /// In frames, up to `max` bytes before framing.
    Chunked { max: usize },
}

impl Framing {
    /// Without the attribute: 64 KiB, which is all that goes either way if the
    /// offer names no size.
    pub fn plain() -> Self {
        Framing::Plain { max: MAX_FRAME }
    }

    /// With the attribute; `limit` is what the server declared. The smaller of
    /// both sides' sizes counts.
    pub fn chunked(limit: usize) -> Self {
        Framing::Chunked {
            max: limit.min(MAX_MESSAGE),
        }
    }

    /// The largest message, in bytes.
    pub fn max(&self) -> usize {
        match *self {
            Framing::Plain { max } | Framing::Chunked { max } => max,
        }
    }

    /// Splits a message into frames, to be sent in this order and without other
    /// frames between them on that channel.
    pub fn split(&self, message: WireFrame) -> Result<Vec<WireFrame>, Error> {
        if message.len() > self.max() {
            return Err(too_large("to be sent", message.len(), self.max()));
        }
        if let Framing::Plain { .. } = self {
            return Ok(vec![message]);
        }
        let text = match message {
            WireFrame::Text(_) => TEXT,
            WireFrame::Binary(_) => 0,
        };
        let mut rest = message.as_bytes();
        let mut frames = Vec::with_capacity(rest.len() / (MAX_FRAME - 1) + 1);
        loop {
            let (payload, left) = rest.split_at(rest.len().min(MAX_FRAME - 1));
            let more = if left.is_empty() { 0 } else { MORE };
            let mut frame = BytesMut::with_capacity(payload.len() + 1);
            frame.put_u8(text | more);
            frame.put_slice(payload);
            frames.push(WireFrame::Binary(frame.freeze()));
            if left.is_empty() {
                return Ok(frames);
            }
            rest = left;
        }
    }
}

/// Reassembles messages. One for each channel and connection.
///
/// After an error the rest of the message it was about is dropped, and what
/// comes then is read again.
#[derive(Debug)]
pub struct Reassembler {
    framing: Framing,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The next frame begins a message.
    Idle,
    /// The frames of a message so far.
    Partial { text: bool, payload: BytesMut },
    /// The rest of a message that failed is being dropped.
    Skipping,
}

impl Reassembler {
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            state: State::Idle,
        }
    }

    /// The bytes that are kept for a message that is not complete.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        match &self.state {
            State::Partial { payload, .. } => payload.len(),
            State::Idle | State::Skipping => 0,
        }
    }

    /// Takes a frame of the channel, and returns the message that it completes.
    pub fn push(&mut self, frame: WireFrame) -> Result<Option<WireFrame>, Error> {
        if let Framing::Plain { .. } = self.framing {
            return Ok(Some(frame));
        }
        let frame = match frame {
            WireFrame::Binary(bytes) => bytes,
            WireFrame::Text(text) => return Err(self.stray("it is text", text.len())),
        };
        let Some(&flags) = frame.first() else {
            return Err(self.stray("it is empty", 0));
        };
        if flags & !(MORE | TEXT) != 0 {
            return Err(self.stray("its flags are not known", frame.len()));
        }
        self.collect(flags & MORE != 0, flags & TEXT != 0, frame.slice(1..))
    }

    fn collect(&mut self, more: bool, text: bool, part: Bytes) -> Result<Option<WireFrame>, Error> {
        // Where an error on the way out leaves us.
        let next = if more { State::Skipping } else { State::Idle };
        let max = self.framing.max();
        let payload = match std::mem::replace(&mut self.state, next) {
            State::Skipping => return Ok(None),
            // Nearly all messages are of one frame: nothing to copy.
            State::Idle if !more => return finish(text, part, max).map(Some),
            State::Idle => append(BytesMut::new(), &part, max)?,
            State::Partial { text: first, .. } if first != text => {
                return Err(bad_frame("it is not of the same type", part.len() + 1));
            }
            State::Partial { payload, .. } => append(payload, &part, max)?,
        };
        if more {
            self.state = State::Partial { text, payload };
            return Ok(None);
        }
        finish(text, payload.freeze(), max).map(Some)
    }

    /// The error for a malformed frame. If it interrupts a message, the rest of
    /// that message is dropped.
    fn stray(&mut self, why: &str, length: usize) -> Error {
        if let State::Partial { .. } = self.state {
            self.state = State::Skipping;
        }
        bad_frame(why, length)
    }
}

fn append(mut payload: BytesMut, part: &[u8], max: usize) -> Result<BytesMut, Error> {
    let length = payload.len() + part.len();
    if length > max {
        return Err(too_large("that came in", length, max));
    }
    payload.put_slice(part);
    Ok(payload)
}

fn finish(text: bool, payload: Bytes, max: usize) -> Result<WireFrame, Error> {
    if payload.len() > max {
        return Err(too_large("that came in", payload.len(), max));
    }
    if !text {
        return Ok(WireFrame::Binary(payload));
    }
    let length = payload.len();
    String::from_utf8(payload.into())
        .map(WireFrame::Text)
        .map_err(|_| {
            Error::gpu(
                Code::DecodeFailed,
                format!("a text message of {length} bytes is not UTF-8"),
            )
        })
}

fn bad_frame(why: &str, length: usize) -> Error {
    Error::gpu(
        Code::DecodeFailed,
        format!("a data-channel frame of {length} bytes does not fit the framing: {why}"),
    )
}

fn too_large(what: &str, length: usize, max: usize) -> Error {
    Error::gpu(
        Code::MessageTooLarge,
        format!("a message {what} has {length} bytes or more, the connection allows {max}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    fn chunked() -> Framing {
        Framing::chunked(MAX_MESSAGE)
    }

    fn binary(bytes: &[u8]) -> WireFrame {
        WireFrame::Binary(Bytes::copy_from_slice(bytes))
    }

    fn code(result: Result<Option<WireFrame>, Error>) -> Code {
        result.unwrap_err().code
    }

    /// Splits and joins again; `reassembler` must be as new afterwards.
    fn round_trip(reassembler: &mut Reassembler, message: &WireFrame) {
        let frames = chunked().split(message.clone()).unwrap();
        let (last, others) = frames.split_last().unwrap();
        for frame in &frames {
            assert!(matches!(frame, WireFrame::Binary(_)));
            assert!((1..=MAX_FRAME).contains(&frame.len()));
        }
        for frame in others {
            assert_eq!(frame.len(), MAX_FRAME);
            assert_eq!(reassembler.push(frame.clone()).unwrap(), None);
        }
        let joined = reassembler.push(last.clone()).unwrap().unwrap();
        assert!(joined == *message, "{} bytes differ", message.len());
    }

    #[test]
    fn chunked_message_of_any_size_is_reassembled() {
        let mut random = Random(7);
        let mut reassembler = Reassembler::new(chunked());
        let edges = [
            0, 1, 2, 65_534, 65_535, 65_536, 65_537, 131_069, 131_070, 131_071, 131_072,
        ];
        let more = (0..40).map(|_| usize::try_from(random.next() % 300_000).unwrap());
        let sizes: Vec<_> = edges.into_iter().chain([5_000_000]).chain(more).collect();
        for size in sizes {
            let bytes = random.bytes(size);
            // Three bytes each, so that frames end within a character.
            let text: String = "€".repeat(size / 3);
            round_trip(&mut reassembler, &WireFrame::Binary(bytes.into()));
            round_trip(&mut reassembler, &WireFrame::Text(text));
        }
    }

    #[test]
    fn chunked_frames_match_server() {
        let split = |message| chunked().split(message).unwrap();
        let ping = split(binary(&[0x10, 0x03, 0x52, 0x00]));
        assert_eq!(ping, [binary(&[0x00, 0x10, 0x03, 0x52, 0x00])]);
        assert_eq!(split(WireFrame::Text("{}".into())), [binary(b"\x02{}")]);
        assert_eq!(split(WireFrame::Text(String::new())), [binary(b"\x02")]);
        // A reply of 200 072 bytes of text came like this.
        let frames = split(WireFrame::Text("x".repeat(200_072)));
        let sizes: Vec<_> = frames.iter().map(WireFrame::len).collect();
        assert_eq!(sizes, [65_536, 65_536, 65_536, 3_468]);
        let flags: Vec<_> = frames.iter().map(|frame| frame.as_bytes()[0]).collect();
        assert_eq!(flags, [3, 3, 3, 2]);
        let frames = split(WireFrame::Binary(vec![0; 70_000].into()));
        let flags: Vec<_> = frames.iter().map(|frame| frame.as_bytes()[0]).collect();
        assert_eq!(flags, [1, 0]);
    }

    #[test]
    fn frames_of_any_size_are_reassembled() {
        let mut reassembler = Reassembler::new(chunked());
        for frame in [&b"\x01ab"[..], b"\x01", b"\x01c"] {
            assert_eq!(reassembler.push(binary(frame)).unwrap(), None);
        }
        let joined = reassembler.push(binary(b"\x00")).unwrap();
        assert_eq!(joined, Some(binary(b"abc")));
    }

    #[test]
    fn plain_message_is_unchanged() {
        let plain = Framing::plain();
        let mut reassembler = Reassembler::new(plain);
        for message in [
            binary(b"\x80\x01"),
            WireFrame::Text("{}".into()),
            binary(b""),
        ] {
            let frames = plain.split(message.clone()).unwrap();
            assert_eq!(frames.len(), 1);
            for frame in frames {
                assert_eq!(reassembler.push(frame).unwrap().as_ref(), Some(&message));
            }
        }
    }

    #[test]
    fn oversized_message_error_names_sizes() {
        let message = WireFrame::Text("x".repeat(65_537));
        let error = Framing::plain().split(message).unwrap_err();
        assert_eq!(error.code, Code::MessageTooLarge);
        assert!(error.message.contains("65537") && error.message.contains("65536"));
        Framing::plain()
            .split(WireFrame::Text("x".repeat(65_536)))
            .unwrap();
        let small = Framing::chunked(100);
        assert!(small.split(WireFrame::Text("x".repeat(100))).is_ok());
        let error = small.split(WireFrame::Text("x".repeat(101))).unwrap_err();
        assert_eq!(error.code, Code::MessageTooLarge);
        assert_eq!(Framing::chunked(usize::MAX).max(), MAX_MESSAGE);
    }

    #[test]
    fn reassembly_memory_is_bounded() {
        let mut reassembler = Reassembler::new(Framing::chunked(10));
        assert_eq!(reassembler.push(binary(b"\x0112345678")).unwrap(), None);
        assert_eq!(
            code(reassembler.push(binary(b"\x01abc"))),
            Code::MessageTooLarge
        );
        // The rest goes away, and the next message is read.
        assert_eq!(reassembler.push(binary(b"\x01abc")).unwrap(), None);
        assert_eq!(reassembler.push(binary(b"\x00abc")).unwrap(), None);
        let next = reassembler.push(binary(b"\x00abc")).unwrap();
        assert_eq!(next, Some(binary(b"abc")));
        assert_eq!(
            code(reassembler.push(binary(b"\x00 1234567890"))),
            Code::MessageTooLarge
        );
        let next = reassembler.push(binary(b"\x001234567890")).unwrap();
        assert_eq!(next, Some(binary(b"1234567890")));
    }

    #[test]
    fn malformed_frame_is_decode_error() {
        let mut reassembler = Reassembler::new(chunked());
        for flags in 4..=255 {
            let frame = binary(&[flags, b'x']);
            assert_eq!(code(reassembler.push(frame)), Code::DecodeFailed);
        }
        let text = WireFrame::Text("s3cret".into());
        let error = reassembler.push(text).unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed);
        assert!(!error.message.contains("s3cret"));
        assert_eq!(code(reassembler.push(binary(b""))), Code::DecodeFailed);
        assert_eq!(
            code(reassembler.push(binary(b"\x02\xff"))),
            Code::DecodeFailed
        );
        let next = reassembler.push(binary(b"\x02x")).unwrap();
        assert_eq!(next, Some(WireFrame::Text("x".into())));
    }

    #[test]
    fn frame_of_other_type_is_decode_error() {
        let pairs: [(&[u8], &[u8]); 2] = [(b"\x01a", b"\x02b"), (b"\x03a", b"\x00b")];
        for (first, second) in pairs {
            let mut reassembler = Reassembler::new(chunked());
            assert_eq!(reassembler.push(binary(first)).unwrap(), None);
            assert_eq!(code(reassembler.push(binary(second))), Code::DecodeFailed);
            let next = reassembler.push(binary(b"\x00x")).unwrap();
            assert_eq!(next, Some(binary(b"x")));
        }
    }

    #[test]
    fn stray_frame_drops_partial_message() {
        let mut reassembler = Reassembler::new(chunked());
        assert_eq!(reassembler.push(binary(b"\x01a")).unwrap(), None);
        assert_eq!(code(reassembler.push(binary(b"\x80"))), Code::DecodeFailed);
        assert_eq!(reassembler.push(binary(b"\x00b")).unwrap(), None);
        let next = reassembler.push(binary(b"\x00c")).unwrap();
        assert_eq!(next, Some(binary(b"c")));
    }

    #[test]
    fn random_frames_never_panic() {
        let mut random = Random(99);
        let mut reassembler = Reassembler::new(Framing::chunked(64));
        for _ in 0..50_000 {
            let length = usize::try_from(random.next() % 24).unwrap();
            let mut bytes = random.bytes(length);
            if let Some(flags) = bytes.first_mut() {
                *flags &= 0x07;
            }
            if let Ok(Some(message)) = reassembler.push(WireFrame::Binary(bytes.into())) {
                assert!(message.len() <= 64);
            }
        }
    }

    #[test]
    fn attribute_line_matches_server() {
        let line = attribute_line();
        assert_eq!(line, "x-reactor-dc-chunking:1 max-message-size=67108864");
    }
}
