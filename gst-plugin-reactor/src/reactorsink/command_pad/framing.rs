// SPDX-License-Identifier: MIT

//! Takes a stream of bytes without timestamps apart: into lines of text, or the
//! values of a JSON text sequence, however they are spread over buffers. Pure.

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::platform::{Code, Error};

/// The longest line or value, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// The beginning of a line or value whose end has not come.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// The rest of this line belongs to something that was refused.
    skips_line: bool,
}

/// How a stream is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Lines,
    Json,
}

type Frame = Result<String, Error>;

impl Framer {
    /// Takes bytes; returns what is complete.
    pub fn push(&mut self, framing: Framing, bytes: &[u8]) -> Vec<Frame> {
        let mut bytes = bytes;
        if self.skips_line {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return Vec::new();
            };
            bytes = &bytes[end + 1..];
            self.skips_line = false;
        }
        self.bytes.extend_from_slice(bytes);
        let mut frames = self.take_complete(framing, false);
        if self.bytes.len() > MAX_LENGTH {
            self.bytes.clear();
            self.skips_line = true;
            let text = format!("a line or a JSON value is longer than {MAX_LENGTH} bytes");
            frames.push(Err(Error::api(Code::BadRequest, text)));
        }
        frames
    }

    /// The stream ends: what is left is complete.
    pub fn finish(&mut self, framing: Framing) -> Vec<Frame> {
        self.skips_line = false;
        let frames = self.take_complete(framing, true);
        self.bytes.clear();
        frames
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn take_complete(&mut self, framing: Framing, at_end: bool) -> Vec<Frame> {
        match framing {
            Framing::Lines => self.take_lines(at_end),
            Framing::Json => self.take_values(at_end),
        }
    }

    fn take_lines(&mut self, at_end: bool) -> Vec<Frame> {
        let last_newline = self.bytes.iter().rposition(|byte| *byte == b'\n');
        let end = match last_newline {
            _ if at_end => self.bytes.len(),
            Some(at) => at + 1,
            None => return Vec::new(),
        };
        let complete: Vec<_> = self.bytes.drain(..end).collect();
        let lines = complete.split(|byte| *byte == b'\n').map(text);
        lines
            .filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()))
            .collect()
    }

    fn take_values(&mut self, at_end: bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut taken = 0;
        loop {
            let rest = &self.bytes[taken..];
            let mut values = Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
            let next = values.next();
            let end = values.byte_offset();
            match next {
                // A number may go on in the next buffer.
                Some(Ok(_)) if !at_end && end == rest.len() && !ends(rest) => break,
                Some(Ok(_)) => {
                    frames.push(text(&rest[..end]));
                    taken += end;
                }
                Some(Err(error)) if error.is_eof() && !at_end => break,
                Some(Err(error)) => {
                    frames.push(Err(invalid_json(&error)));
                    let line = first_line(rest);
                    taken += line.unwrap_or(rest.len());
                    self.skips_line = line.is_none();
                }
                None => {
                    taken = self.bytes.len();
                    break;
                }
            }
        }
        self.bytes.drain(..taken);
        frames
    }
}

/// The length of the first line that is not blank, with its end, if that is there.
fn first_line(bytes: &[u8]) -> Option<usize> {
    let spaces = bytes.iter().take_while(|byte| byte.is_ascii_whitespace());
    let start = spaces.count();
    let length = bytes[start..].iter().position(|byte| *byte == b'\n')?;
    Some(start + length + 1)
}

/// Whether the last value is complete by itself.
fn ends(bytes: &[u8]) -> bool {
    matches!(bytes.last(), Some(b'}' | b']' | b'"'))
}

/// Bytes as text without line ends.
///
/// Fails when they are not UTF-8.
pub fn text(bytes: &[u8]) -> Result<String, Error> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n', '\0']).to_owned()),
        Err(error) => {
            let text = format!("the text is not UTF-8 from byte {} on", error.valid_up_to());
            Err(Error::api(Code::BadRequest, text))
        }
    }
}

/// Parses a JSON text.
pub fn parse_json(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| invalid_json(&error))
}

fn invalid_json(error: &serde_json::Error) -> Error {
    Error::api(Code::BadRequest, format!("the buffer is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of a stream whose buffers have this size.
    fn split(framing: Framing, stream: &[u8], size: usize) -> Vec<Result<String, String>> {
        let mut framer = Framer::default();
        let buffers = stream.chunks(size);
        let mut frames: Vec<_> = buffers
            .flat_map(|bytes| framer.push(framing, bytes))
            .collect();
        frames.extend(framer.finish(framing));
        frames
            .into_iter()
            .map(|frame| frame.map_err(|error| error.message))
            .collect()
    }

    #[test]
    fn lines_are_whole_whatever_the_buffers() {
        let stream = "a forest, at dawn\r\n\n  \nnoch ein Schiff: 🚢\nlast".as_bytes();
        for size in [1, 2, 3, 7, 1000] {
            let lines: Vec<_> = split(Framing::Lines, stream, size)
                .into_iter()
                .map(Result::unwrap)
                .collect();
            assert_eq!(lines, ["a forest, at dawn", "noch ein Schiff: 🚢", "last"]);
        }
    }

    #[test]
    fn json_values_are_whole_whatever_the_buffers() {
        let stream = br#"{"a":1}{"b":
            "}\n"} [1, 2]
            12 "x""#;
        for size in [1, 2, 5, 1000] {
            let values: Vec<_> = split(Framing::Json, stream, size)
                .into_iter()
                .map(|value| parse_json(&value.unwrap()).unwrap().to_string())
                .collect();
            let expected = [r#"{"a":1}"#, r#"{"b":"}\n"}"#, "[1,2]", "12", "\"x\""];
            assert_eq!(values, expected, "{size}");
        }
    }

    #[test]
    fn wrong_line_is_refused_and_next_is_taken() {
        for size in [1, 4, 1000] {
            let frames = split(Framing::Json, b"{\"a\":1}\n{oops} 3\n{\"b\":2}\n", size);
            assert_eq!(frames[0].as_deref(), Ok("{\"a\":1}"), "{size}");
            assert!(frames[1].is_err(), "{frames:?}");
            assert_eq!(frames[2..], [Ok("{\"b\":2}".to_owned())], "{size}");
            let frames = split(Framing::Lines, b"one\n\xff\xfe\nthree\n", size);
            assert_eq!(frames[0].as_deref(), Ok("one"));
            assert!(
                frames[1]
                    .as_ref()
                    .is_err_and(|text| text.contains("not UTF-8"))
            );
            assert_eq!(frames[2..], [Ok("three".to_owned())]);
        }
        let unfinished = split(Framing::Json, b"{\"a\":", 1000);
        assert!(unfinished[0].is_err() && unfinished.len() == 1);
    }

    /// Moving what follows to the front after each value would take minutes.
    #[test]
    fn many_values_of_one_buffer_are_taken_in_one_pass() {
        let stream = "[]".repeat(MAX_LENGTH / 2);
        let values = split(Framing::Json, stream.as_bytes(), MAX_LENGTH);
        assert_eq!(values.len(), MAX_LENGTH / 2);
    }

    #[test]
    fn endless_line_is_refused_once() {
        let mut stream = vec![b'x'; 3 * MAX_LENGTH];
        stream.extend_from_slice(b"\nnext\n");
        let frames = split(Framing::Lines, &stream, 4096);
        assert!(frames[0].is_err());
        assert_eq!(frames[1..], [Ok("next".to_owned())]);
    }
}
