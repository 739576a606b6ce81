// SPDX-License-Identifier: MIT

//! Fetches segments by their index, with retries, reloads of the playlist and
//! a cache of initialization sections. One task per segment calls it. Never
//! returns a segment that is not complete MP4.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{sync::OnceCell, time::sleep};
use url::Url;

use super::{
    errors::{clip_error, segment_failed},
    limits::MAX_INIT_SECTION,
    media_playlist::{ByteRange, PlaylistEntry},
    memory_limit::{MemoryLimit, MemoryPermit},
    playlist_watcher::{PlaylistVersion, PlaylistWatcher},
    segment::{ClipSegment, SegmentKind},
    segment_check::find_defect,
    transfer::{PartialSegment, Transfer, TransferFailure},
};
use crate::platform::{Code, Error, http::display_url, lock};

/// A try that brings this number of bytes resets the count of failures.
const PROGRESS: usize = 256 << 10;

/// How often a segment may arrive complete, but not as MP4.
const MAX_CORRUPT: u32 = 2;

/// How many initialization sections are kept for when they are used again.
const CACHED_INIT_SECTIONS: usize = 8;

pub(super) struct SegmentFetcher {
    watcher: Arc<PlaylistWatcher>,
    memory: Arc<MemoryLimit>,
    init_sections: Mutex<VecDeque<CachedInitSection>>,
}

/// An initialization section that was fetched, or is being fetched.
struct CachedInitSection {
    url: Url,
    range: Option<ByteRange>,
    bytes: Arc<OnceCell<Bytes>>,
}

/// The failures of one segment so far.
#[derive(Default)]
struct RetryState {
    /// The bytes at which the failures were last reset.
    progress: usize,
    failures: u32,
    corrupt: u32,
    renewals: u32,
}

impl SegmentFetcher {
    pub(super) fn new(watcher: Arc<PlaylistWatcher>, memory: Arc<MemoryLimit>) -> Self {
        Self {
            watcher,
            memory,
            init_sections: Mutex::default(),
        }
    }

    /// Fetches the segment with that index in the playlist.
    pub(super) async fn fetch(
        self: Arc<Self>,
        index: usize,
    ) -> Result<(ClipSegment, MemoryPermit), Error> {
        let mut permit = self.memory.permit(index);
        let (entry, _) = self.entry(index)?;
        let bytes = match entry.kind {
            SegmentKind::Media => self.fetch_bytes(index, &mut permit).await?,
            SegmentKind::InitSection => {
                let cached = self.cached_init_section(&entry);
                // Small, and shared with segments that wait for this one: it
                // does not count in the memory limit.
                let fetch = async || self.fetch_bytes(index, &mut self.memory.permit(0)).await;
                cached.get_or_try_init(fetch).await?.clone()
            }
        };
        let segment = ClipSegment {
            kind: entry.kind,
            bytes,
            duration: entry.duration,
            discontinuity: entry.discontinuity,
        };
        Ok((segment, permit))
    }

    /// What the newest playlist says of a segment, and its version.
    fn entry(&self, index: usize) -> Result<(PlaylistEntry, u64), Error> {
        let PlaylistVersion { playlist, version } = self.watcher.newest();
        // A playlist never gets shorter.
        let entry = playlist.entries.get(index).cloned().ok_or_else(|| {
            let message = "a piece of the clip is not in its playlist";
            clip_error(Code::Internal, message)
        })?;
        Ok((entry, version))
    }

    fn cached_init_section(&self, entry: &PlaylistEntry) -> Arc<OnceCell<Bytes>> {
        let mut cache = lock(&self.init_sections);
        let is_it = |c: &&CachedInitSection| c.url == entry.url && c.range == entry.range;
        if let Some(cached) = cache.iter().find(is_it) {
            return cached.bytes.clone();
        }
        if cache.len() == CACHED_INIT_SECTIONS {
            cache.pop_front();
        }
        let bytes = Arc::<OnceCell<Bytes>>::default();
        cache.push_back(CachedInitSection {
            url: entry.url.clone(),
            range: entry.range,
            bytes: bytes.clone(),
        });
        bytes
    }

    async fn fetch_bytes(&self, index: usize, permit: &mut MemoryPermit) -> Result<Bytes, Error> {
        let mut partial = PartialSegment::default();
        let mut state = RetryState::default();
        loop {
            let (entry, version) = self.entry(index)?;
            let loader = &self.watcher.loader;
            let limit = match entry.kind {
                SegmentKind::InitSection => MAX_INIT_SECTION.min(loader.limits.max_segment),
                SegmentKind::Media => loader.limits.max_segment,
            };
            let transfer = Transfer {
                loader,
                entry: &entry,
                limit,
                partial: &mut partial,
                permit,
            };
            let result = transfer.request_missing().await;
            if partial.len() >= state.progress + PROGRESS {
                state.progress = partial.len();
                state.failures = 0;
            }
            let failure = match result {
                Ok(()) => match find_defect(entry.kind, partial.bytes()) {
                    None => return Ok(partial.into_bytes()),
                    Some(defect) => corrupt(&entry, &mut partial, defect),
                },
                Err(failure) => failure,
            };
            self.prepare_retry(index, &entry, version, failure, &mut state)
                .await?;
        }
    }

    /// Waits, or reloads the playlist, before the next try. Fails if there is
    /// to be none.
    async fn prepare_retry(
        &self,
        index: usize,
        entry: &PlaylistEntry,
        version: u64,
        failure: TransferFailure,
        state: &mut RetryState,
    ) -> Result<(), Error> {
        let limits = &self.watcher.loader.limits;
        let (error, may_retry) = match failure {
            TransferFailure::Moved(e) => {
                state.renewals += 1;
                if state.renewals > limits.renewals {
                    return Err(segment_failed(e));
                }
                self.watcher.reload(version).await?;
                return match self.entry(index)?.0.url == entry.url {
                    true => Err(segment_failed(e)),
                    false => Ok(()),
                };
            }
            TransferFailure::Corrupt(e) => {
                state.corrupt += 1;
                (e, state.corrupt < MAX_CORRUPT)
            }
            TransferFailure::Transient(e) => (e, true),
            TransferFailure::Fatal(e) => (e, false),
        };
        state.failures += 1;
        if !may_retry || state.failures >= limits.tries {
            return Err(segment_failed(error));
        }
        sleep(limits.pause_after(state.failures - 1, &error)).await;
        Ok(())
    }
}

/// Drops what has arrived, and says what is wrong with it.
fn corrupt(entry: &PlaylistEntry, partial: &mut PartialSegment, defect: &str) -> TransferFailure {
    let name = match entry.kind {
        SegmentKind::InitSection => "the header",
        SegmentKind::Media => "the piece",
    };
    let (url, size) = (display_url(&entry.url), partial.len());
    partial.clear();
    let message = format!("{name} {url} ({size} bytes) {defect}");
    TransferFailure::Corrupt(clip_error(Code::ChunkFetchFailed, message))
}
