// SPDX-License-Identifier: MIT

//! Limits the bytes of a clip that are in memory at once. Shared by the tasks
//! of a download. Never holds up the segment that is needed next.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The bytes that one permit of the semaphore stands for.
const UNIT: usize = 1024;

/// Memory for segments that have not been received yet.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    free: Arc<Semaphore>,
    units: u32,
    /// The index of the segment that is needed next. It is never held up, for
    /// all others wait for it.
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

    /// The segments before this index have been received.
    pub(super) fn set_next(&self, next: usize) {
        self.next.send_replace(next);
    }

    /// A permit for the segment with that index, of 0 bytes at first.
    pub(super) fn permit(self: &Arc<Self>, index: usize) -> MemoryPermit {
        MemoryPermit {
            limit: self.clone(),
            index,
            bytes: 0,
            permit: None,
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(1)
}

/// The memory of one segment, released when this is dropped.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    limit: Arc<MemoryLimit>,
    index: usize,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    /// Waits until there is memory for `bytes` in total, or this is the segment
    /// that is needed next.
    pub(super) async fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.bytes {
            return;
        }
        let held = self.permit.as_ref();
        let held = held.map_or(0, OwnedSemaphorePermit::num_permits);
        // Not more than the limit.
        let wanted = units(bytes).min(self.limit.units as usize);
        self.bytes = bytes;
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return;
        }
        let mut next = self.limit.next.subscribe();
        let permit = tokio::select! {
            biased;
            permit = self.limit.free.clone().acquire_many_owned(more) => permit.ok(),
            _ = next.wait_for(|next| *next >= self.index) => None,
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
    async fn next_segment_beyond_limit_does_not_wait() {
        let limit = MemoryLimit::new(4 * UNIT);
        let mut later = limit.permit(2);
        later.grow_to(3 * UNIT).await;
        later.grow_to(4 * UNIT).await;
        let mut waits = limit.permit(1);
        assert!(timeout(SOON, waits.grow_to(UNIT)).await.is_err());
        let mut next = limit.permit(0);
        next.grow_to(99 * UNIT).await;
        let mut waits = limit.permit(1);
        let task = tokio::spawn(async move { waits.grow_to(9 * UNIT).await });
        limit.set_next(1);
        timeout(Duration::from_secs(5), task)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn permit_dropped_releases_memory() {
        let limit = MemoryLimit::new(4 * UNIT);
        let mut one = limit.permit(1);
        one.grow_to(2 * UNIT + 1).await;
        assert_eq!(limit.free.available_permits(), 1);
        let mut two = limit.permit(2);
        assert!(timeout(SOON, two.grow_to(2 * UNIT)).await.is_err());
        drop((one, two));
        assert_eq!(limit.free.available_permits(), 4);
        // Beyond the limit: as much as there is.
        let mut three = limit.permit(3);
        timeout(SOON, three.grow_to(9 * UNIT)).await.unwrap();
        assert_eq!(limit.free.available_permits(), 0);
    }
}
