// SPDX-License-Identifier: MIT

//! Media tracks as the platform describes them to a client. Plain data.

use std::collections::HashSet;

use serde::Deserialize;

use super::{Code, Error, http::sanitize};

/// The tracks that a model may have at most: each costs an m-section, a pad and
/// elements. Models have a handful.
const MAX_TRACKS: usize = 64;

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

/// Checks that a track of this name and direction is among the model's.
///
/// # Errors
///
/// [`Code::NotFound`], with the names of those that are.
pub fn require_track<'a>(
    tracks: impl Iterator<Item = &'a Track>,
    direction: Direction,
    name: &str,
) -> Result<(), Error> {
    let names = tracks.filter(|track| track.direction == direction);
    let names: Vec<_> = names.map(|track| track.name.as_str()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let kind = match direction {
        Direction::RecvOnly => "output",
        Direction::SendOnly => "input",
    };
    let names = names.join(", ");
    let text = format!("the model has no {kind} track '{name}'; it has: {names}");
    Err(Error::api(Code::NotFound, text))
}

/// Checks that pads can be made for these tracks.
///
/// # Errors
///
/// When there are too many, or two of one name: messages and pads tell them apart
/// by their names alone.
pub fn check_tracks(tracks: &[Track]) -> Result<(), Error> {
    if tracks.len() > MAX_TRACKS {
        let count = tracks.len();
        let text =
            format!("the model has {count} tracks, more than the {MAX_TRACKS} that are taken");
        return Err(Error::api(Code::DecodeFailed, text).during("session"));
    }
    let mut names = HashSet::new();
    match tracks
        .iter()
        .find(|track| !names.insert(track.name.as_str()))
    {
        None => Ok(()),
        Some(track) => {
            let name = sanitize(&track.name);
            let text = format!("the model has two tracks with the name '{name}'");
            Err(Error::api(Code::DecodeFailed, text).during("session"))
        }
    }
}
