// SPDX-License-Identifier: MIT

//! Requests for the media playlist, with retries. Called by a download's
//! tasks. Keeps no playlist; the watcher does.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    errors::{clip_error, is_transient, playlist_failed},
    events::{DownloadEvent, EventSender},
    limits::DownloadLimits,
    location::PlaylistLocation,
    media_playlist::MediaPlaylist,
};
use crate::platform::{
    Code, Error,
    http::{ServerRole, parse_retry_after},
};

/// The interval of requests for a playlist that is not ready, in the absence
/// of a Retry-After.
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last request may take, which is made when the time is over.
const LAST_LOAD_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct PlaylistLoader {
    pub(super) location: PlaylistLocation,
    pub(super) limits: DownloadLimits,
}

pub(super) enum PlaylistResponse {
    Ready(MediaPlaylist),
    /// To be requested again after this.
    NotReady(Duration),
}

impl PlaylistLoader {
    /// Waits until the playlist is ready. `session_over` shortens the wait.
    ///
    /// # Errors
    ///
    /// [`Code::ClipNotReady`] when the time is over; what the server answers.
    pub(super) async fn wait_until_ready(
        &self,
        mut session_over: watch::Receiver<bool>,
        events: &EventSender,
    ) -> Result<MediaPlaylist, Error> {
        let limits = &self.limits;
        let since = Instant::now();
        let mut deadline = limits
            .ready_timeout
            .and_then(|time| since.checked_add(time));
        let mut over = false;
        let mut tries_refused = limits.tries_refused;
        loop {
            let response = self.load_before(deadline, tries_refused).await;
            tries_refused = limits.tries;
            let wait = match response {
                None => return Err(self.not_ready(since.elapsed(), over)),
                Some(Err(error)) => return Err(error),
                Some(Ok(PlaylistResponse::Ready(playlist))) => return Ok(playlist),
                Some(Ok(PlaylistResponse::NotReady(wait))) => wait,
            };
            let now = Instant::now();
            if !over && *session_over.borrow_and_update() {
                over = true;
                let last = now + limits.last_wait;
                deadline = Some(deadline.map_or(last, |deadline| deadline.min(last)));
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(self.not_ready(since.elapsed(), over));
            }
            events.send_event(DownloadEvent::NotReady(wait)).await;
            let next = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(deadline.map_or(next, |deadline| deadline.min(next))) => {}
                _ = session_over.changed(), if !over => {}
            }
        }
    }

    /// As [`Self::load_with`]; `None` if the time is over before the response is there,
    /// however slowly it comes.
    async fn load_before(
        &self,
        deadline: Option<Instant>,
        tries_refused: u32,
    ) -> Option<Result<PlaylistResponse, Error>> {
        let Some(deadline) = deadline else {
            return Some(self.load_with(tries_refused).await);
        };
        let deadline = deadline.max(Instant::now() + LAST_LOAD_LIMIT);
        timeout_at(deadline, self.load_with(tries_refused))
            .await
            .ok()
    }

    fn not_ready(&self, waited: Duration, session_over: bool) -> Error {
        let why = match session_over {
            true => "and the session is over",
            false => "does the model still produce anything?",
        };
        let message = format!(
            "{}: the clip is not complete on the server after {:.1} s; {why}",
            self.location.display_url(),
            waited.as_secs_f64()
        );
        clip_error(Code::ClipNotReady, message)
    }

    /// The error for a playlist that `reason` is said of.
    pub(super) fn invalid(&self, reason: &str) -> Error {
        let message = format!("the playlist {} {reason}", self.location.display_url());
        clip_error(Code::InvalidPlaylist, message)
    }

    /// Requests the playlist, and retries after transient errors.
    pub(super) async fn load(&self) -> Result<PlaylistResponse, Error> {
        let DownloadLimits { tries, .. } = self.limits;
        self.load_with(tries).await
    }

    /// As [`Self::load`], but where nothing listens only `tries_refused` times.
    async fn load_with(&self, tries_refused: u32) -> Result<PlaylistResponse, Error> {
        let mut failures = 0;
        loop {
            let tries = |e: &Error| match e.is_refused_connection {
                true => tries_refused,
                false => self.limits.tries,
            };
            match self.load_once().await {
                Err(e) if is_transient(&e) && failures + 1 < tries(&e) => {
                    sleep(self.limits.pause_after(failures, &e)).await;
                    failures += 1;
                }
                result => return result.map_err(playlist_failed),
            }
        }
    }

    async fn load_once(&self) -> Result<PlaylistResponse, Error> {
        let PlaylistLocation { url, trust, .. } = &self.location;
        let response = self
            .location
            .get(url, HeaderMap::new(), ServerRole::Playlist);
        let response = response.await?;
        let status = response.status();
        let after = response
            .header(RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        let body = response
            .read_to_end(self.limits.max_playlist, self.limits.grace)
            .await?;
        match status {
            202 => {
                let (shortest, longest) = self.limits.poll_interval;
                let after = after.unwrap_or(DEFAULT_POLL_INTERVAL);
                Ok(PlaylistResponse::NotReady(after.clamp(shortest, longest)))
            }
            200 => {
                let (url, trust) = (url.clone(), *trust);
                // A large one takes long to parse.
                let parse = move || MediaPlaylist::parse(&body, &url, trust);
                let playlist = tokio::task::spawn_blocking(parse).await.map_err(|e| {
                    let message = format!("the thread that reads a playlist failed: {e}");
                    clip_error(Code::Internal, message)
                })?;
                playlist
                    .map(PlaylistResponse::Ready)
                    .map_err(|e| self.invalid(&e))
            }
            _ => {
                let shown = self.location.display_url();
                let message = format!("{shown} answered {status} where a playlist was due");
                Err(clip_error(Code::PlaylistFetchFailed, message).with_status(status))
            }
        }
    }
}
