// SPDX-License-Identifier: MIT

//! One piece, until it is there or cannot be had.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{sync::OnceCell, time::sleep};
use url::Url;

use super::{
    MAX_HEADER, OPERATION, Piece, PieceKind,
    boxes::flaw,
    listing::{Part, Range},
    memory_limit::{MemoryLimit, MemoryPermit},
    source::{Keeper, Newest, is_passing},
    transfer::{Failure, Partial, attempt},
};
use crate::platform::{Code, Error, http::display_url, lock};

/// A try that brings so much is none of those that are counted.
const PROGRESS: usize = 256 << 10;

/// How often a piece may arrive broken.
const BROKEN: u32 = 2;

/// How many headers are kept for when they come again.
const HEADERS: usize = 8;

/// Fetches the pieces of a clip.
pub(super) struct Fetcher {
    keeper: Arc<Keeper>,
    budget: Arc<MemoryLimit>,
    headers: Mutex<VecDeque<Kept>>,
}

/// A header that was fetched, or is being.
struct Kept {
    url: Url,
    range: Option<Range>,
    bytes: Arc<OnceCell<Bytes>>,
}

/// How a piece has fared so far.
#[derive(Default)]
struct Trouble {
    /// How far it had come when failures were last forgiven.
    reached: usize,
    failures: u32,
    broken: u32,
    renewals: u32,
}

impl Fetcher {
    pub(super) fn new(keeper: Arc<Keeper>, budget: Arc<MemoryLimit>) -> Self {
        Self {
            keeper,
            budget,
            headers: Mutex::default(),
        }
    }

    /// Fetches the piece of that number.
    pub(super) async fn piece(self: Arc<Self>, n: usize) -> Result<(Piece, MemoryPermit), Error> {
        let mut room = self.budget.room(n);
        let (part, _) = self.part(n)?;
        let bytes = match part.kind {
            PieceKind::Segment => self.fetch(n, &mut room).await?,
            PieceKind::Header => {
                let cell = self.header(&part);
                // Small, and shared with pieces that wait for this one: it
                // takes nothing of the budget.
                let fetch = async || self.fetch(n, &mut self.budget.room(0)).await;
                cell.get_or_try_init(fetch).await?.clone()
            }
        };
        let piece = Piece {
            kind: part.kind,
            bytes,
            duration: part.duration,
            discontinuity: part.discontinuity,
        };
        Ok((piece, room))
    }

    fn part(&self, n: usize) -> Result<(Part, u64), Error> {
        let Newest { listing, edition } = self.keeper.newest();
        // A playlist never gets shorter.
        let part = listing.parts.get(n).cloned().ok_or_else(|| {
            let message = "a piece of the clip is not in its playlist";
            Error::api(Code::Internal, message).during(OPERATION)
        })?;
        Ok((part, edition))
    }

    /// Where a header is, or will be.
    fn header(&self, part: &Part) -> Arc<OnceCell<Bytes>> {
        let mut headers = lock(&self.headers);
        let known = |kept: &&Kept| kept.url == part.url && kept.range == part.range;
        if let Some(kept) = headers.iter().find(known) {
            return kept.bytes.clone();
        }
        if headers.len() == HEADERS {
            headers.pop_front();
        }
        let bytes = Arc::<OnceCell<Bytes>>::default();
        headers.push_back(Kept {
            url: part.url.clone(),
            range: part.range,
            bytes: bytes.clone(),
        });
        bytes
    }

    async fn fetch(&self, n: usize, room: &mut MemoryPermit) -> Result<Bytes, Error> {
        let mut got = Partial::default();
        let mut trouble = Trouble::default();
        loop {
            let (part, edition) = self.part(n)?;
            let source = &self.keeper.source;
            let limit = match part.kind {
                PieceKind::Header => MAX_HEADER.min(source.limits.max_piece),
                PieceKind::Segment => source.limits.max_piece,
            };
            let result = attempt(source, &part, limit, &mut got, room).await;
            if got.len() >= trouble.reached + PROGRESS {
                trouble.reached = got.len();
                trouble.failures = 0;
            }
            let failure = match result {
                Ok(()) => match flaw(part.kind, got.bytes()) {
                    None => return Ok(got.take()),
                    Some(flaw) => Failure::Broken(self.broken(&part, &mut got, flaw)),
                },
                Err(failure) => failure,
            };
            self.go_on(n, &part, edition, failure, &mut trouble).await?;
        }
    }

    /// Does what is needed before the next try, if there is to be one.
    async fn go_on(
        &self,
        n: usize,
        part: &Part,
        edition: u64,
        failure: Failure,
        trouble: &mut Trouble,
    ) -> Result<(), Error> {
        let limits = &self.keeper.source.limits;
        let (error, may_pass) = match failure {
            Failure::Moved(e) => {
                trouble.renewals += 1;
                if trouble.renewals > limits.renewals {
                    return Err(failed(e));
                }
                self.keeper.renew(edition).await?;
                return match self.part(n)?.0.url == part.url {
                    true => Err(failed(e)),
                    false => Ok(()),
                };
            }
            Failure::Broken(e) => {
                trouble.broken += 1;
                (e, trouble.broken < BROKEN)
            }
            Failure::Passing(e) => (e, true),
            Failure::Final(e) => (e, false),
        };
        trouble.failures += 1;
        if !may_pass || trouble.failures >= limits.tries {
            return Err(failed(error));
        }
        sleep(limits.backoff(trouble.failures - 1, &error)).await;
        Ok(())
    }

    fn broken(&self, part: &Part, got: &mut Partial, flaw: &str) -> Error {
        let what = match part.kind {
            PieceKind::Header => "the header",
            PieceKind::Segment => "the piece",
        };
        let size = got.len();
        got.clear();
        let message = format!("{what} {} ({size} bytes) {flaw}", display_url(&part.url));
        Error::api(Code::ChunkFetchFailed, message).during(OPERATION)
    }
}

/// What that is for a clip. What is wrong with key or token stays that.
fn failed(mut e: Error) -> Error {
    let own = e.operation == Some(OPERATION);
    if own && !matches!(e.code, Code::Internal | Code::InvalidSettings) {
        e.code = Code::ChunkFetchFailed;
    }
    e
}

/// What a request that came to nothing means for the next.
pub(super) fn judge(e: Error, part: &Part, got: &mut Partial) -> Failure {
    match e.http_status {
        _ if is_passing(&e) => Failure::Passing(e),
        _ if e.operation != Some(OPERATION) => Failure::Final(e),
        // A signed address is good for minutes, and some storage says 400 when
        // they are over. That something is missing or gone, the playlist tells.
        Some(401 | 403 | 404 | 410) => Failure::Moved(e),
        Some(400) if part.url.query().is_some() => Failure::Moved(e),
        Some(416) if got.len() > 0 => {
            got.clear();
            Failure::Passing(e)
        }
        _ => Failure::Final(e),
    }
}
