// SPDX-License-Identifier: MIT

//! Tracks that were resumed and have not flowed since. When its WebRTC library refuses the
//! change, the runtime 3.10.0 logs a warning and forgets the resume until it is asked again
//! (`_apply_pauses`). Where the track flows, another resume changes nothing.

use std::{collections::BTreeMap, time::Duration};

use super::types::NEVER;

/// How long after it was resumed a track is resumed again if nothing of it has come; its
/// first packet usually comes after 0.2 s. The time doubles up to the second.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
pub(super) struct ResumedTracks(BTreeMap<String, Resumed>);

#[derive(Debug)]
struct Resumed {
    at: Duration,
    again_at: Duration,
    wait: Duration,
}

impl ResumedTracks {
    pub(super) fn resumed(&mut self, track: &str, now: Duration) {
        let resumed = Resumed {
            at: now,
            again_at: now + FIRST_WAIT,
            wait: FIRST_WAIT,
        };
        self.0.insert(track.to_owned(), resumed);
    }

    pub(super) fn paused(&mut self, track: &str) {
        self.0.remove(track);
    }

    /// A packet of the track came at this time.
    pub(super) fn received(&mut self, track: &str, at: Duration) {
        if self.0.get(track).is_some_and(|resumed| at > resumed.at) {
            self.0.remove(track);
        }
    }

    /// The tracks to resume again now.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<String> {
        let due = self.0.iter_mut().filter(|(_, r)| now >= r.again_at);
        due.map(|(track, resumed)| {
            resumed.wait = (resumed.wait * 2).min(MAX_WAIT);
            resumed.again_at = now + resumed.wait;
            track.clone()
        })
        .collect()
    }

    pub(super) fn deadline(&self) -> Duration {
        let times = self.0.values().map(|resumed| resumed.again_at);
        times.min().unwrap_or(NEVER)
    }
}
