// SPDX-License-Identifier: MIT

//! Recorded clips, as they lie on a server: a playlist (HLS, RFC 8216) that
//! may not be ready yet, and pieces of fragmented MP4.
//!
//! What a playlist says of a clip either comes out of here, in order and
//! whole, or there is an error that tells what is wrong with it: of a
//! recording nothing goes missing in silence.

use std::{fmt, time::Duration};

use reqwest::header::HeaderMap;
use tokio::sync::{mpsc, watch};
use url::Url;

use super::{
    Code, Error,
    auth::TokenProvider,
    endpoint::Endpoint,
    http::{
        API_HEADERS, Credential, HttpClient, ResponseStream, ServerRole, StaticHeader,
        StreamRequest, display_url,
    },
    secret::Secret,
    url_policy::{self, Trust},
};

mod boxes;
mod driver;
mod fetch;
mod listing;
mod memory_limit;
mod piece;
mod source;
mod transfer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use driver::{Outlet, Parcel, Task};
pub use piece::{Piece, PieceKind};

/// As it appears in [`Error::operation`].
const OPERATION: &str = "clip";

/// The least and the longest time after which a playlist that is not ready is
/// asked for again, whatever the server says. As the official client has them.
pub const ASK_AGAIN_LEAST: Duration = Duration::from_millis(200);
pub const ASK_AGAIN_MOST: Duration = Duration::from_secs(2);

/// The same if the server says nothing.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a playlist may still take to be ready once the session is over:
/// the last piece of a recording is closed by then.
pub const LAST_WAIT: Duration = Duration::from_secs(30);

/// How many pieces are fetched at once.
pub const PARALLEL: usize = 6;

/// How much of a clip is in memory at once, in bytes, besides the piece that
/// is wanted next.
pub const BUDGET: usize = 32 << 20;

/// The largest piece, in bytes.
pub const MAX_PIECE: usize = 64 << 20;

/// The largest header, in bytes.
pub const MAX_HEADER: usize = 4 << 20;

/// The largest playlist, in bytes.
pub const MAX_PLAYLIST: usize = 16 << 20;

/// How often the same is asked for before it counts as failed...
pub const TRIES: u32 = 6;

/// ...and the pause before the second time, which doubles from then on...
pub const BACKOFF: Duration = Duration::from_millis(250);

/// ...up to this.
pub const BACKOFF_MOST: Duration = Duration::from_secs(4);

/// A pause that a server asks for is not longer than this.
pub const PAUSE_MOST: Duration = Duration::from_secs(10);

/// How long nothing may come of a body.
pub const IDLE: Duration = Duration::from_secs(10);

/// A body may take so long, whatever its size...
pub const GRACE: Duration = Duration::from_secs(30);

/// ...plus a second for each so many bytes.
pub const BYTES_PER_SECOND: u64 = 16 << 10;

/// The least and the longest time after which a playlist that grows is asked
/// for again. Between them it is what the playlist itself says.
pub const RELOAD_LEAST: Duration = Duration::from_millis(500);
pub const RELOAD_MOST: Duration = Duration::from_secs(10);

/// How long a playlist that is not complete may stay as it is.
pub const STALL: Duration = Duration::from_secs(60);

/// How often one piece may turn out to lie elsewhere by now.
pub const RENEWALS: u32 = 3;

/// What a download does not go beyond.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a playlist may take to be ready. None: as long as the session
    /// lives, and then [`Limits::last_wait`].
    pub ready_timeout: Option<Duration>,
    /// See [`LAST_WAIT`].
    pub last_wait: Duration,
    /// See [`ASK_AGAIN_LEAST`] and [`ASK_AGAIN_MOST`].
    pub ask_again: (Duration, Duration),
    /// See [`PARALLEL`].
    pub parallel: usize,
    /// See [`BUDGET`].
    pub budget: usize,
    /// See [`MAX_PIECE`].
    pub max_piece: usize,
    /// See [`MAX_PLAYLIST`].
    pub max_playlist: usize,
    /// See [`TRIES`].
    pub tries: u32,
    /// See [`BACKOFF`].
    pub backoff: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`GRACE`].
    pub grace: Duration,
    /// See [`BYTES_PER_SECOND`].
    pub bytes_per_second: u64,
    /// See [`RELOAD_LEAST`] and [`RELOAD_MOST`].
    pub reload: (Duration, Duration),
    /// See [`STALL`].
    pub stall: Duration,
    /// See [`RENEWALS`].
    pub renewals: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ready_timeout: None,
            last_wait: LAST_WAIT,
            ask_again: (ASK_AGAIN_LEAST, ASK_AGAIN_MOST),
            parallel: PARALLEL,
            budget: BUDGET,
            max_piece: MAX_PIECE,
            max_playlist: MAX_PLAYLIST,
            tries: TRIES,
            backoff: BACKOFF,
            idle: IDLE,
            grace: GRACE,
            bytes_per_second: BYTES_PER_SECOND,
            reload: (RELOAD_LEAST, RELOAD_MOST),
            stall: STALL,
            renewals: RENEWALS,
        }
    }
}

impl Limits {
    /// The pause after so many failures, of which this is the last.
    fn backoff(&self, failures: u32, e: &Error) -> Duration {
        let pause = self.backoff.saturating_mul(1 << failures.min(16));
        let asked = e.retry_after.unwrap_or_default().min(PAUSE_MOST);
        pause.min(BACKOFF_MOST).max(asked)
    }
}

/// Where a clip's playlist is, and what lets us have it.
#[derive(Clone)]
pub struct Playlist {
    http: HttpClient,
    url: Url,
    /// Goes to the playlist's own server only.
    bearer: Option<TokenProvider>,
    /// What every call of the platform carries, if this is one.
    headers: &'static [StaticHeader],
    word: Trust,
}

// The address may hold a signature.
impl fmt::Debug for Playlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playlist")
            .field("url", &self.display_url())
            .field("bearer", &self.bearer.is_some())
            .finish_non_exhaustive()
    }
}

impl Playlist {
    /// The clip that a live session's server announced.
    ///
    /// The address is that server's, whatever scheme, host and port it names:
    /// old ones name themselves, by a name that need not lead anywhere.
    ///
    /// Fails with [`Code::InvalidPlaylist`] if it is no address.
    pub fn of_clip(endpoint: &Endpoint, path: &str) -> Result<Self, Error> {
        let base = endpoint.base();
        let refused = |what: &str| {
            let message = format!("the address that the server gives for the clip {what}");
            Error::api(Code::InvalidPlaylist, message).during(OPERATION)
        };
        let mut url = base
            .join(path.trim())
            .map_err(|_| refused("is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("holds a user name or password"));
        }
        if path.trim().is_empty() || url_policy::move_to(&mut url, base).is_err() {
            return Err(refused("is not an HTTP URL"));
        }
        Ok(Self {
            http: endpoint.http().clone(),
            url,
            bearer: endpoint.bearer().cloned(),
            headers: &API_HEADERS,
            word: match endpoint.role() {
                ServerRole::Runtime => Trust::Runtime,
                _ => Trust::Server,
            },
        })
    }

    /// A URL that a user gives. The bearer goes along if it is for that
    /// server.
    ///
    /// Fails with [`Code::InvalidSettings`] if it is no HTTP URL, or holds a
    /// password.
    pub fn at(http: HttpClient, url: &str, bearer: Option<TokenProvider>) -> Result<Self, Error> {
        let refused = |what: &str| {
            let message = format!(
                "the clip's playlist {what}; expected a URL such as https://example.com/clip.m3u8"
            );
            Error::api(Code::InvalidSettings, message).during(OPERATION)
        };
        let mut url = Url::parse(url.trim()).map_err(|_| refused("has no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("is not at an HTTP URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("must not have a user name or password in its URL"));
        }
        url.set_fragment(None);
        Ok(Self {
            http,
            bearer: bearer.filter(|bearer| bearer.base().origin() == url.origin()),
            url,
            headers: &[],
            word: Trust::Server,
        })
    }

    /// The window that `start` and `end` of its query name, in seconds of
    /// recorded time, if they do.
    pub fn window(&self) -> Option<(f64, f64)> {
        let named = |name: &str| {
            let mut pairs = self.url.query_pairs();
            let (_, value) = pairs.find(|(key, _)| key == name)?;
            value.parse::<f64>().ok().filter(|time| time.is_finite())
        };
        let (start, end) = (named("start")?, named("end")?);
        (start >= 0.0 && end > start).then_some((start, end))
    }

    /// The address for messages: without its query.
    pub fn display_url(&self) -> String {
        display_url(&self.url)
    }

    /// Asks for the playlist, or for what it leads to. What lets us in goes to
    /// the playlist's own server only: others must not see it, and storage
    /// with signed addresses refuses it.
    async fn get(
        &self,
        url: &Url,
        ask_for: HeaderMap,
        role: ServerRole,
    ) -> Result<ResponseStream, Error> {
        let own = url.origin() == self.url.origin();
        let ask = || StreamRequest {
            headers: if own { self.headers } else { &[] },
            extra_headers: ask_for.clone(),
            role,
            operation: OPERATION,
        };
        match &self.bearer {
            Some(bearer) if own => {
                let send = async |token: Secret| {
                    let credential = Credential::Bearer(&token);
                    self.http.get(url.clone(), ask(), credential).await
                };
                bearer.send(send).await
            }
            _ => {
                let nothing = Credential::None;
                self.http.get(url.clone(), ask(), nothing).await
            }
        }
    }
}

/// What a download has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Not ready on the server; asked again after this.
    Waiting(Duration),
    /// The playlist (again, when it has grown): pieces known so far, whether
    /// that is all, and how long they play.
    Listed {
        total: u64,
        complete: bool,
        duration: Duration,
    },
    /// In order.
    Piece(Piece),
}

/// A clip on its way. Dropping it cancels everything at once.
pub struct Download {
    steps: mpsc::Receiver<Parcel>,
    ended: bool,
    session: watch::Sender<bool>,
    _task: Task<()>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Download {
    /// Begins on the tokio runtime it is called in.
    pub fn start(playlist: Playlist, limits: Limits) -> Self {
        let (outlet, steps) = Outlet::new();
        let session = watch::Sender::new(false);
        let over = session.subscribe();
        Self {
            steps,
            ended: false,
            session,
            _task: Task::spawn(driver::run(playlist, limits, over, outlet)),
        }
    }

    /// What comes next; None when the clip is complete. After an error: None.
    pub async fn next(&mut self) -> Option<Result<Step, Error>> {
        if self.ended {
            return None;
        }
        match self.steps.recv().await {
            Some(Parcel::Step(step, room)) => {
                drop(room);
                return Some(Ok(step));
            }
            Some(Parcel::Failure(e)) => {
                self.ended = true;
                return Some(Err(e));
            }
            Some(Parcel::End) => self.ended = true,
            None => {
                self.ended = true;
                let error = Error::api(Code::Internal, "the download of a clip ended early");
                return Some(Err(error.during(OPERATION)));
            }
        }
        None
    }

    /// The session is over: a playlist that is not ready now is given a last
    /// limited time.
    pub fn session_is_over(&self) {
        self.session.send_replace(true);
    }
}
