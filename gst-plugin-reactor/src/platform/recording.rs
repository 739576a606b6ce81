// SPDX-License-Identifier: MIT

//! Downloads a recorded clip: a media playlist (HLS, RFC 8216) that may not be
//! ready yet, and segments of fragmented MP4. Runs in tokio tasks that end
//! with their [`Download`].
//!
//! Everything in the playlist comes out in order and complete, or there is an
//! error that says what is wrong with it: no part of a recording is ever left
//! out without an error.

mod download;
mod errors;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod limits;
mod location;
mod media_playlist;
mod memory_limit;
mod playlist_loader;
mod playlist_watcher;
mod segment;
mod segment_check;
mod segment_fetcher;
mod transfer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use download::Download;
pub use events::DownloadEvent;
pub use limits::DownloadLimits;
pub use location::PlaylistLocation;
pub use segment::{ClipSegment, SegmentKind};
