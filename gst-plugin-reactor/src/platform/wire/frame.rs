// SPDX-License-Identifier: MIT

//! The vocabulary of both wire versions: version, channel and one message as a
//! data channel carries it. Plain data, used on any thread.

use bytes::Bytes;

use crate::platform::{Code, Error};

/// The encoding of the messages, one per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireVersion {
    /// Protobuf in binary messages: runtimes from 3.0 on.
    V1,
    /// JSON in text messages: every runtime, with less in it.
    V0,
}

impl WireVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            WireVersion::V1 => "v1",
            WireVersion::V0 => "v0",
        }
    }

    /// The server's rule: text is v0, and so is a binary message whose first
    /// non-space byte opens a JSON document; anything else is v1.
    pub fn sniff(frame: &WireFrame) -> Self {
        // The server strips ASCII white space, the vertical tab included.
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t'..=b'\r');
        match (frame, frame.as_bytes().iter().find(|byte| !is_space(byte))) {
            (WireFrame::Text(_), _) | (_, Some(b'{' | b'[')) => WireVersion::V0,
            _ => WireVersion::V1,
        }
    }
}

/// A data channel. Both carry messages in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    Control,
    Data,
}

impl Channel {
    /// The channel's label, by which both sides know it.
    pub fn label(self) -> &'static str {
        match self {
            Channel::Control => "control",
            Channel::Data => "data",
        }
    }
}

/// One message as a data channel takes or delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireFrame {
    Text(String),
    Binary(Bytes),
}

impl WireFrame {
    /// The size in bytes, which is what the limits are about.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            WireFrame::Text(text) => text.as_bytes(),
            WireFrame::Binary(bytes) => bytes,
        }
    }
}

/// The error for a message that cannot be read. It names the channel and the
/// size in bytes, never the content: messages may hold what no log should.
pub(super) fn undecodable(
    version: WireVersion,
    channel: Channel,
    length: usize,
    why: &str,
) -> Error {
    Error::gpu(
        Code::DecodeFailed,
        format!(
            "cannot read a {} message of {length} bytes on the {} channel: {why}",
            version.as_str(),
            channel.label(),
        ),
    )
}
