// SPDX-License-Identifier: MIT

//! The limits of a download. Values, without a thread of their own.

use std::time::Duration;

use crate::platform::Error;

/// The largest media initialization section, in bytes.
pub(super) const MAX_INIT_SECTION: usize = 4 << 20;

/// The longest pause before a retry, in the absence of a Retry-After...
const MAX_BACKOFF: Duration = Duration::from_secs(4);

/// ...and with one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a download does not exceed.
#[derive(Debug, Clone)]
pub struct DownloadLimits {
    /// How long a playlist may take to be ready. None: as long as the session
    /// lives, and then [`Self::last_wait`].
    pub ready_timeout: Option<Duration>,
    /// How long a playlist may still take to be ready once the session is
    /// over: the last segment of a recording is closed by then.
    pub last_wait: Duration,
    /// The shortest and the longest interval at which a playlist that is not
    /// ready is requested, whatever the server says. As the official client
    /// has them.
    pub poll_interval: (Duration, Duration),
    /// How many segments are fetched at once.
    pub parallel: usize,
    /// How much of a clip is in memory at once, in bytes, besides the segment
    /// that is needed next.
    pub memory: usize,
    /// The largest segment, in bytes.
    pub max_segment: usize,
    /// The largest playlist, in bytes.
    pub max_playlist: usize,
    /// How often one request is made before it counts as failed.
    pub tries: u32,
    /// How often a playlist is requested at first where nothing listens.
    pub tries_refused: u32,
    /// The pause before the second try; it doubles from then on, up to 4 s.
    pub backoff: Duration,
    /// How long no byte of a body may arrive.
    pub idle: Duration,
    /// How long a body may take, whatever its size...
    pub grace: Duration,
    /// ...plus a second for each of this number of bytes.
    pub bytes_per_second: u64,
    /// The shortest and the longest interval at which a playlist that grows is
    /// reloaded. Between them the playlist's own target duration counts.
    pub reload: (Duration, Duration),
    /// How long an incomplete playlist may stay unchanged.
    pub stall: Duration,
    /// How often one segment may turn out to have another address by now.
    pub renewals: u32,
}

impl Default for DownloadLimits {
    fn default() -> Self {
        Self {
            ready_timeout: None,
            last_wait: Duration::from_secs(30),
            poll_interval: (Duration::from_millis(200), Duration::from_secs(2)),
            parallel: 6,
            memory: 32 << 20,
            max_segment: 64 << 20,
            max_playlist: 16 << 20,
            tries: 6,
            tries_refused: 6,
            backoff: Duration::from_millis(250),
            idle: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            bytes_per_second: 16 << 10,
            reload: (Duration::from_millis(500), Duration::from_secs(10)),
            stall: Duration::from_secs(60),
            renewals: 3,
        }
    }
}

impl DownloadLimits {
    /// The pause after the last of a number of failures.
    pub(super) fn pause_after(&self, failures: u32, last: &Error) -> Duration {
        let backoff = self.backoff.saturating_mul(1 << failures.min(16));
        let retry_after = last.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        backoff.min(MAX_BACKOFF).max(retry_after)
    }
}
