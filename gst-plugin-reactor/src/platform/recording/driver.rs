// SPDX-License-Identifier: MIT

//! What a download does, in order.

use std::{collections::VecDeque, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    Limits, OPERATION, Piece, Playlist, Step,
    fetch::Fetcher,
    memory_limit::{MemoryLimit, MemoryPermit},
    source::{Keeper, Newest, Source},
};
use crate::platform::{Code, Error};

/// A task that ends with whoever has this.
pub(super) struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl<T: Send + 'static> Task<Result<T, Error>> {
    async fn result(&mut self) -> Result<T, Error> {
        (&mut self.0).await.unwrap_or_else(|e| {
            let message = format!("a task that fetches a clip failed: {e}");
            Err(Error::api(Code::Internal, message).during(OPERATION))
        })
    }
}

/// What goes to whoever waits for the clip.
pub(super) enum Parcel {
    /// With the memory that it takes, until it has arrived.
    Step(Step, Option<MemoryPermit>),
    Failure(Error),
    /// The clip is complete.
    End,
}

pub(super) struct Outlet(mpsc::Sender<Parcel>);

impl Outlet {
    pub(super) fn new() -> (Self, mpsc::Receiver<Parcel>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    pub(super) async fn tell(&self, step: Step) {
        self.send(Parcel::Step(step, None)).await;
    }

    async fn send(&self, parcel: Parcel) {
        // Where nobody listens any more, this task is being taken down.
        let _ = self.0.send(parcel).await;
    }
}

/// Waits for a playlist and hands on what it leads to.
pub(super) async fn run(
    playlist: Playlist,
    limits: Limits,
    over: watch::Receiver<bool>,
    outlet: Outlet,
) {
    let end = match download(playlist, limits, over, &outlet).await {
        Ok(()) => Parcel::End,
        Err(e) => Parcel::Failure(e),
    };
    outlet.send(end).await;
}

async fn download(
    playlist: Playlist,
    limits: Limits,
    over: watch::Receiver<bool>,
    outlet: &Outlet,
) -> Result<(), Error> {
    let parallel = limits.parallel.max(1);
    let budget = MemoryLimit::new(limits.budget);
    let source = Source { playlist, limits };
    let listing = source.ready(over, outlet).await?;
    let keeper = Keeper::new(source, listing);
    let mut news = keeper.subscribe();
    let mut growth = Task::spawn(keeper.clone().follow());
    let mut grows = true;
    let mut failure = None;
    let fetcher = Arc::new(Fetcher::new(keeper, budget.clone()));
    let mut queue: VecDeque<Task<Result<(Piece, MemoryPermit), Error>>> = VecDeque::new();
    let (mut told, mut taken) = (None, 0);
    loop {
        let Newest { listing, .. } = news.borrow_and_update().clone();
        let listed = Step::Listed {
            total: listing.parts.len() as u64,
            complete: listing.complete,
            duration: listing.duration,
        };
        if told.as_ref() != Some(&listed) {
            outlet.tell(listed.clone()).await;
            told = Some(listed);
        }
        while queue.len() < parallel && taken + queue.len() < listing.parts.len() {
            let piece = fetcher.clone().piece(taken + queue.len());
            queue.push_back(Task::spawn(piece));
        }
        let Some(first) = queue.front_mut() else {
            if listing.complete {
                return Ok(());
            }
            // What was there before it failed has been handed on.
            if let Some(e) = failure {
                return Err(e);
            }
            tokio::select! {
                _ = news.changed() => {}
                result = growth.result(), if grows => {
                    grows = false;
                    failure = result.err();
                }
            }
            continue;
        };
        tokio::select! {
            result = first.result() => {
                let (piece, room) = result?;
                queue.pop_front();
                taken += 1;
                outlet.send(Parcel::Step(Step::Piece(piece), Some(room))).await;
                budget.advance(taken);
            }
            _ = news.changed() => {}
            result = growth.result(), if grows => {
                grows = false;
                failure = result.err();
            }
        }
    }
}
