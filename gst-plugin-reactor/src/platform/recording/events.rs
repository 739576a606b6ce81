// SPDX-License-Identifier: MIT

//! What a download reports, and the channel to its user. The download's task
//! sends, the user's receives. Never holds more than one event.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{memory_limit::MemoryPermit, segment::ClipSegment};
use crate::platform::Error;

/// Progress of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadEvent {
    /// Not ready on the server; requested again after this.
    NotReady(Duration),
    /// The playlist, and again whenever it has grown.
    Playlist {
        /// Segments known so far, initialization sections included.
        total: u64,
        /// Whether no more will follow (EXT-X-ENDLIST).
        complete: bool,
        /// How long the segments known so far play.
        duration: Duration,
    },
    /// The next segment, in the playlist's order.
    Segment(ClipSegment),
}

/// What is on the channel.
pub(super) enum DownloadMessage {
    /// With the memory that it takes, until it has been received.
    Event(DownloadEvent, Option<MemoryPermit>),
    Failed(Error),
    /// The clip is complete.
    Complete,
}

pub(super) struct EventSender(mpsc::Sender<DownloadMessage>);

impl EventSender {
    pub(super) fn channel() -> (Self, mpsc::Receiver<DownloadMessage>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    pub(super) async fn send_event(&self, event: DownloadEvent) {
        self.send(DownloadMessage::Event(event, None)).await;
    }

    pub(super) async fn send(&self, message: DownloadMessage) {
        // Without a receiver this task is being aborted.
        let _ = self.0.send(message).await;
    }
}
