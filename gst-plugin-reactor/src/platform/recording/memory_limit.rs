// SPDX-License-Identifier: MIT

//! How much of a clip is in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What the budget is counted in, in bytes.
const UNIT: usize = 1024;

/// Memory for pieces that nobody has taken yet.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    free: Arc<Semaphore>,
    units: u32,
    /// The number of the piece that is to be taken next. It gets what it
    /// needs, for all others wait for it.
    next: watch::Sender<usize>,
}

impl MemoryLimit {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let units = units(bytes).min(Semaphore::MAX_PERMITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            next: watch::Sender::new(0),
        })
    }

    /// The pieces before this one have been taken.
    pub(super) fn advance(&self, next: usize) {
        self.next.send_replace(next);
    }

    /// MemoryPermit for a piece, of which nothing is taken yet.
    pub(super) fn room(self: &Arc<Self>, piece: usize) -> MemoryPermit {
        MemoryPermit {
            budget: self.clone(),
            piece,
            covered: 0,
            permit: None,
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(1)
}

/// What one piece takes of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    budget: Arc<MemoryLimit>,
    piece: usize,
    covered: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    /// Waits until there is room for so many bytes, all in all, or this is the
    /// piece that is to be taken next.
    pub(super) async fn cover(&mut self, bytes: usize) {
        if bytes <= self.covered {
            return;
        }
        let held = self
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        // No more than there is.
        let wanted = units(bytes).min(self.budget.units as usize);
        self.covered = bytes;
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return;
        }
        let mut next = self.budget.next.subscribe();
        let permit = tokio::select! {
            biased;
            permit = self.budget.free.clone().acquire_many_owned(more) => permit.ok(),
            _ = next.wait_for(|next| *next >= self.piece) => None,
        };
        match (&mut self.permit, permit) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn the_next_piece_never_waits() {
        let budget = MemoryLimit::new(4 * UNIT);
        let mut later = budget.room(2);
        later.cover(3 * UNIT).await;
        later.cover(4 * UNIT).await;
        let mut waits = budget.room(1);
        assert!(timeout(SOON, waits.cover(UNIT)).await.is_err());
        let mut next = budget.room(0);
        next.cover(99 * UNIT).await;
        let mut waits = budget.room(1);
        let task = tokio::spawn(async move { waits.cover(9 * UNIT).await });
        budget.advance(1);
        timeout(Duration::from_secs(5), task)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn room_is_given_back() {
        let budget = MemoryLimit::new(4 * UNIT);
        let mut one = budget.room(1);
        one.cover(2 * UNIT + 1).await;
        assert_eq!(budget.free.available_permits(), 1);
        let mut two = budget.room(2);
        assert!(timeout(SOON, two.cover(2 * UNIT)).await.is_err());
        drop((one, two));
        assert_eq!(budget.free.available_permits(), 4);
        // More than there is: all of it.
        let mut three = budget.room(3);
        timeout(SOON, three.cover(9 * UNIT)).await.unwrap();
        assert_eq!(budget.free.available_permits(), 0);
    }
}
