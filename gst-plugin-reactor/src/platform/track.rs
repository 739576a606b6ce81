// SPDX-License-Identifier: MIT

//! Media tracks as the platform describes them to a client. Plain data.

use serde::Deserialize;

/// The kind of media of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Audio,
    Video,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

/// The direction of a track, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The model sends, the client receives.
    RecvOnly,
    /// The client sends, the model receives.
    SendOnly,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::RecvOnly => "recvonly",
            Direction::SendOnly => "sendonly",
        }
    }
}

/// A track of the model's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Track {
    pub name: String,
    pub kind: Kind,
    pub direction: Direction,
}
