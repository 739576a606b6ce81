// SPDX-License-Identifier: MIT

//! One download from start to end: its handle, and the task that orders the
//! work of the others. Called on a tokio runtime; never blocks a thread.

use std::{collections::VecDeque, fmt, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    errors::clip_error,
    events::{DownloadEvent, DownloadMessage, EventSender},
    limits::DownloadLimits,
    location::PlaylistLocation,
    media_playlist::MediaPlaylist,
    memory_limit::{MemoryLimit, MemoryPermit},
    playlist_loader::PlaylistLoader,
    playlist_watcher::PlaylistWatcher,
    segment::ClipSegment,
    segment_fetcher::SegmentFetcher,
};
use crate::platform::{Code, Error};

/// A task that is aborted when this is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> AbortOnDrop<T> {
    fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl<T: Send + 'static> AbortOnDrop<Result<T, Error>> {
    /// Cancel-safe.
    async fn join(&mut self) -> Result<T, Error> {
        (&mut self.0).await.unwrap_or_else(|e| {
            let message = format!("a task that fetches a clip failed: {e}");
            Err(clip_error(Code::Internal, message))
        })
    }
}

/// The download of a clip. Dropping it cancels all requests at once.
pub struct Download {
    messages: mpsc::Receiver<DownloadMessage>,
    ended: bool,
    session_over: watch::Sender<bool>,
    _task: AbortOnDrop<()>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Download {
    /// Starts on the tokio runtime that it is called in.
    pub fn start(location: PlaylistLocation, limits: DownloadLimits) -> Self {
        let (events, messages) = EventSender::channel();
        let (session_over, is_over) = watch::channel(false);
        let task = async move {
            let message = match run(location, limits, is_over, &events).await {
                Ok(()) => DownloadMessage::Complete,
                Err(e) => DownloadMessage::Failed(e),
            };
            events.send(message).await;
        };
        Self {
            messages,
            ended: false,
            session_over,
            _task: AbortOnDrop::spawn(task),
        }
    }

    /// The next event; None when the clip is complete, and after an error.
    pub async fn next(&mut self) -> Option<Result<DownloadEvent, Error>> {
        if self.ended {
            return None;
        }
        let message = self.messages.recv().await;
        self.ended = !matches!(message, Some(DownloadMessage::Event(..)));
        match message {
            Some(DownloadMessage::Event(event, permit)) => {
                drop(permit);
                Some(Ok(event))
            }
            Some(DownloadMessage::Failed(e)) => Some(Err(e)),
            Some(DownloadMessage::Complete) => None,
            None => {
                let message = "the download of a clip ended early";
                Some(Err(clip_error(Code::Internal, message)))
            }
        }
    }

    /// To be called when the session is over: a playlist that is not ready now
    /// is given [`DownloadLimits::last_wait`].
    pub fn session_is_over(&self) {
        self.session_over.send_replace(true);
    }
}

/// Waits for a playlist and sends its segments.
async fn run(
    location: PlaylistLocation,
    limits: DownloadLimits,
    session_over: watch::Receiver<bool>,
    events: &EventSender,
) -> Result<(), Error> {
    let memory = MemoryLimit::new(limits.memory);
    let parallel = limits.parallel.max(1);
    let loader = PlaylistLoader { location, limits };
    let playlist = loader.wait_until_ready(session_over, events).await?;
    let watcher = PlaylistWatcher::new(loader, playlist);
    let mut newest = watcher.subscribe();
    let mut follower = AbortOnDrop::spawn(watcher.clone().follow());
    let (mut follows, mut failure) = (true, None);
    let mut queue = FetchQueue {
        fetcher: Arc::new(SegmentFetcher::new(watcher, memory.clone())),
        memory,
        parallel,
        tasks: VecDeque::new(),
        sent: 0,
    };
    let mut announced = None;
    loop {
        let playlist = newest.borrow_and_update().playlist.clone();
        let event = announcement(&playlist);
        if announced.as_ref() != Some(&event) {
            events.send_event(event.clone()).await;
            announced = Some(event);
        }
        queue.fill(playlist.entries.len());
        if queue.tasks.is_empty() {
            if playlist.complete {
                return Ok(());
            }
            // The segments known before the failure have been sent.
            if let Some(e) = failure {
                return Err(e);
            }
        }
        tokio::select! {
            result = queue.next(), if !queue.tasks.is_empty() => queue.send(result?, events).await,
            _ = newest.changed() => {}
            result = follower.join(), if follows => {
                follows = false;
                failure = result.err();
            }
        }
    }
}

fn announcement(playlist: &MediaPlaylist) -> DownloadEvent {
    DownloadEvent::Playlist {
        total: playlist.entries.len() as u64,
        complete: playlist.complete,
        duration: playlist.duration,
    }
}

type Fetched = (ClipSegment, MemoryPermit);

/// The segments that are fetched now, in the playlist's order.
struct FetchQueue {
    fetcher: Arc<SegmentFetcher>,
    memory: Arc<MemoryLimit>,
    parallel: usize,
    tasks: VecDeque<AbortOnDrop<Result<Fetched, Error>>>,
    /// Segments that left the queue.
    sent: usize,
}

impl FetchQueue {
    /// Fetches further segments out of `total`.
    fn fill(&mut self, total: usize) {
        while self.tasks.len() < self.parallel && self.sent + self.tasks.len() < total {
            let index = self.sent + self.tasks.len();
            let fetch = self.fetcher.clone().fetch(index);
            self.tasks.push_back(AbortOnDrop::spawn(fetch));
        }
    }

    /// Waits for the first segment. Cancel-safe.
    async fn next(&mut self) -> Result<Fetched, Error> {
        match self.tasks.front_mut() {
            Some(task) => task.join().await,
            None => std::future::pending().await,
        }
    }

    /// Sends the first segment.
    async fn send(&mut self, (segment, permit): Fetched, events: &EventSender) {
        self.tasks.pop_front();
        self.sent += 1;
        let event = DownloadEvent::Segment(segment);
        let message = DownloadMessage::Event(event, Some(permit));
        events.send(message).await;
        self.memory.set_next(self.sent);
    }
}
