// SPDX-License-Identifier: MIT

//! The playlist, asked for and asked for again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{Limits, OPERATION, Playlist, Step, driver::Outlet, listing::Listing};
use crate::platform::{
    Code, Error,
    http::{ServerRole, parse_retry_after},
};

/// Who asks for a playlist.
pub(super) struct Source {
    pub(super) playlist: Playlist,
    pub(super) limits: Limits,
}

enum Answer {
    Ready(Listing),
    /// Ask again after this.
    NotYet(Duration),
}

impl Source {
    /// Waits until the playlist is there.
    pub(super) async fn ready(
        &self,
        mut over: watch::Receiver<bool>,
        outlet: &Outlet,
    ) -> Result<Listing, Error> {
        let limits = &self.limits;
        let since = Instant::now();
        let mut end = limits
            .ready_timeout
            .and_then(|time| since.checked_add(time));
        let mut last = false;
        loop {
            let wait = match self.ask().await? {
                Answer::Ready(listing) => return Ok(listing),
                Answer::NotYet(wait) => wait,
            };
            let now = Instant::now();
            if !last && *over.borrow_and_update() {
                last = true;
                let then = now + limits.last_wait;
                end = Some(end.map_or(then, |end| end.min(then)));
            }
            if end.is_some_and(|end| now >= end) {
                return Err(self.not_ready(since.elapsed(), last));
            }
            outlet.tell(Step::Waiting(wait)).await;
            let again = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(end.map_or(again, |end| end.min(again))) => {}
                _ = over.changed(), if !last => {}
            }
        }
    }

    fn not_ready(&self, waited: Duration, over: bool) -> Error {
        let why = match over {
            true => "and the session is over",
            false => "does the model still produce anything?",
        };
        let message = format!(
            "{}: the clip is not complete on the server after {:.1} s; {why}",
            self.playlist.display_url(),
            waited.as_secs_f64()
        );
        self.error(Code::ClipNotReady, message)
    }

    pub(super) fn error(&self, code: Code, message: String) -> Error {
        Error::api(code, message).during(OPERATION)
    }

    pub(super) fn invalid(&self, what: &str) -> Error {
        let message = format!("the playlist {} {what}", self.playlist.display_url());
        self.error(Code::InvalidPlaylist, message)
    }

    /// Asks, and asks again where that may help.
    async fn ask(&self) -> Result<Answer, Error> {
        let mut tries = 0;
        loop {
            match self.ask_once().await {
                Err(e) if is_passing(&e) && tries + 1 < self.limits.tries => {
                    sleep(self.limits.backoff(tries, &e)).await;
                    tries += 1;
                }
                other => return other.map_err(failed),
            }
        }
    }

    async fn ask_once(&self) -> Result<Answer, Error> {
        let Playlist { url, word, .. } = &self.playlist;
        let answer = self
            .playlist
            .get(url, HeaderMap::new(), ServerRole::Playlist);
        let answer = answer.await?;
        let status = answer.status();
        let after = answer
            .header(RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        let body = answer
            .read_to_end(self.limits.max_playlist, self.limits.grace)
            .await?;
        match status {
            202 => {
                let (least, most) = self.limits.ask_again;
                let after = after.unwrap_or(super::ASK_AGAIN);
                Ok(Answer::NotYet(after.clamp(least, most)))
            }
            200 => {
                let (url, word) = (url.clone(), *word);
                // A large one takes its time.
                let read = move || Listing::parse(&body, &url, word);
                let listing = tokio::task::spawn_blocking(read).await;
                let listing = listing.map_err(|e| {
                    let message = format!("the thread that reads a playlist failed: {e}");
                    self.error(Code::Internal, message)
                })?;
                Ok(Answer::Ready(listing.map_err(|e| self.invalid(&e))?))
            }
            _ => {
                let message = format!(
                    "{} answered {status} where a playlist was due",
                    self.playlist.display_url()
                );
                let error = self.error(Code::PlaylistFetchFailed, message);
                Err(error.with_status(status))
            }
        }
    }
}

/// Whether what went wrong may go right the next time.
pub(super) fn is_passing(e: &Error) -> bool {
    match e.http_status {
        Some(status) => matches!(status, 408 | 429 | 500 | 502..=599),
        None => matches!(e.code, Code::NetworkError | Code::RequestTimeout),
    }
}

/// What that is for a clip. What is wrong with key or token stays that.
fn failed(mut e: Error) -> Error {
    if e.operation != Some(OPERATION) {
        return e;
    }
    e.code = match (e.http_status, e.code) {
        (Some(404 | 410), _) => Code::ClipGone,
        (
            _,
            code @ (Code::Unauthorized
            | Code::BadRequest
            | Code::InvalidPlaylist
            | Code::InvalidSettings
            | Code::Internal),
        ) => code,
        _ => Code::PlaylistFetchFailed,
    };
    e
}

/// The newest state of the playlist, for all that need it.
pub(super) struct Keeper {
    pub(super) source: Source,
    newest: watch::Sender<Newest>,
    asking: Mutex<()>,
}

#[derive(Clone)]
pub(super) struct Newest {
    pub(super) listing: Arc<Listing>,
    /// How often it was replaced.
    pub(super) edition: u64,
}

impl Keeper {
    pub(super) fn new(source: Source, listing: Listing) -> Arc<Self> {
        let newest = Newest {
            listing: Arc::new(listing),
            edition: 0,
        };
        Arc::new(Self {
            source,
            newest: watch::Sender::new(newest),
            asking: Mutex::new(()),
        })
    }

    pub(super) fn newest(&self) -> Newest {
        self.newest.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Newest> {
        self.newest.subscribe()
    }

    /// Asks for the playlist again, unless that has been done since `edition`.
    pub(super) async fn renew(&self, edition: u64) -> Result<(), Error> {
        let _asking = self.asking.lock().await;
        let old = self.newest();
        if old.edition > edition {
            return Ok(());
        }
        for _ in 0..self.source.limits.tries {
            let listing = match self.source.ask().await? {
                Answer::Ready(listing) => listing,
                Answer::NotYet(wait) => {
                    sleep(wait).await;
                    continue;
                }
            };
            let kept = listing.continues(&old.listing);
            kept.map_err(|e| self.source.invalid(e))?;
            self.newest.send_replace(Newest {
                listing: Arc::new(listing),
                edition: old.edition + 1,
            });
            return Ok(());
        }
        let message = format!(
            "{} is not ready any more, after it was",
            self.source.playlist.display_url()
        );
        Err(self.source.error(Code::PlaylistFetchFailed, message))
    }

    /// Follows a playlist that grows, until it is complete.
    pub(super) async fn follow(self: Arc<Self>) -> Result<(), Error> {
        let (least, most) = self.source.limits.reload;
        let mut grown = Instant::now();
        let mut news = true;
        loop {
            let Newest { listing, edition } = self.newest();
            if listing.complete {
                return Ok(());
            }
            if grown.elapsed() >= self.source.limits.stall {
                let message = format!(
                    "the playlist {} does not grow any more, but is not complete; does the model still produce anything?",
                    self.source.playlist.display_url()
                );
                return Err(self.source.error(Code::ClipNotReady, message));
            }
            // RFC 8216, 6.3.4.
            let wait = if news {
                listing.target
            } else {
                listing.target / 2
            };
            sleep(wait.clamp(least, most)).await;
            self.renew(edition).await?;
            news = self.newest().listing.parts.len() > listing.parts.len();
            if news {
                grown = Instant::now();
            }
        }
    }
}
