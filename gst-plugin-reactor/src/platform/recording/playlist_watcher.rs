// SPDX-License-Identifier: MIT

//! The newest version of the media playlist, shared by a download's tasks. One
//! task follows a playlist that grows, any may have it reloaded. Never accepts
//! a version that changes what an earlier one said.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    errors::clip_error,
    media_playlist::MediaPlaylist,
    playlist_loader::{PlaylistLoader, PlaylistResponse},
};
use crate::platform::{Code, Error};

pub(super) struct PlaylistWatcher {
    pub(super) loader: PlaylistLoader,
    newest: watch::Sender<PlaylistVersion>,
    reloading: Mutex<()>,
}

#[derive(Clone)]
pub(super) struct PlaylistVersion {
    pub(super) playlist: Arc<MediaPlaylist>,
    /// How often it was reloaded.
    pub(super) version: u64,
}

impl PlaylistWatcher {
    pub(super) fn new(loader: PlaylistLoader, playlist: MediaPlaylist) -> Arc<Self> {
        let newest = PlaylistVersion {
            playlist: Arc::new(playlist),
            version: 0,
        };
        Arc::new(Self {
            loader,
            newest: watch::Sender::new(newest),
            reloading: Mutex::new(()),
        })
    }

    pub(super) fn newest(&self) -> PlaylistVersion {
        self.newest.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<PlaylistVersion> {
        self.newest.subscribe()
    }

    /// Reloads the playlist, unless that has been done since `version`.
    ///
    /// # Errors
    ///
    /// [`Code::ClipNotReady`] when that takes too long, even if a byte comes now and then.
    pub(super) async fn reload(&self, version: u64) -> Result<(), Error> {
        let _reloading = self.reloading.lock().await;
        let old = self.newest();
        if old.version > version {
            return Ok(());
        }
        let reloaded = timeout(self.loader.limits.stall, self.load_next(&old)).await;
        reloaded.unwrap_or_else(|_| Err(self.stalled()))
    }

    async fn load_next(&self, old: &PlaylistVersion) -> Result<(), Error> {
        for _ in 0..self.loader.limits.tries {
            let playlist = match self.loader.load().await? {
                PlaylistResponse::Ready(playlist) => playlist,
                PlaylistResponse::NotReady(wait) => {
                    sleep(wait).await;
                    continue;
                }
            };
            let check = playlist.check_continues(&old.playlist);
            check.map_err(|e| self.loader.invalid(e))?;
            self.newest.send_replace(PlaylistVersion {
                playlist: Arc::new(playlist),
                version: old.version + 1,
            });
            return Ok(());
        }
        let shown = self.loader.location.display_url();
        let message = format!("{shown} is not ready any more, after it was");
        Err(clip_error(Code::PlaylistFetchFailed, message))
    }

    /// Reloads a playlist that grows, until it is complete.
    ///
    /// # Errors
    ///
    /// [`Code::ClipNotReady`] when it stays unchanged for too long; those of
    /// [`Self::reload`].
    pub(super) async fn follow(self: Arc<Self>) -> Result<(), Error> {
        let mut last_growth = Instant::now();
        let mut grew = true;
        loop {
            let PlaylistVersion { playlist, version } = self.newest();
            if playlist.complete {
                return Ok(());
            }
            if last_growth.elapsed() >= self.loader.limits.stall {
                return Err(self.stalled());
            }
            sleep(self.reload_interval(playlist.target_duration, grew)).await;
            self.reload(version).await?;
            grew = self.newest().playlist.entries.len() > playlist.entries.len();
            if grew {
                last_growth = Instant::now();
            }
        }
    }

    fn stalled(&self) -> Error {
        let message = format!(
            "the playlist {} does not grow any more, but is not complete; does the model still produce anything?",
            self.loader.location.display_url()
        );
        clip_error(Code::ClipNotReady, message)
    }

    /// RFC 8216, section 6.3.4: the target duration, or half of it if the last
    /// reload brought nothing new.
    fn reload_interval(&self, target_duration: Duration, grew: bool) -> Duration {
        let (shortest, longest) = self.loader.limits.reload;
        let interval = target_duration / if grew { 1 } else { 2 };
        interval.clamp(shortest, longest)
    }
}
