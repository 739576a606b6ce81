// SPDX-License-Identifier: MIT

//! The state of a track as elements show it. Plain data of the driver's.

use crate::platform::track::Track;

/// The state of one of the model's tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackState {
    pub track: Track,
    /// The m-line of the connection.
    pub mid: Option<String>,
    /// The encoding name of what is received or sent.
    pub codec: Option<&'static str>,
    /// The server has granted to send it; only of a track that is sent.
    pub published: bool,
    /// The server does not send it for now; only of a track that is received.
    pub paused: bool,
}
