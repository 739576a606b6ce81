// SPDX-License-Identifier: MIT

//! All locks are taken here. `docs/locks.md` lists them; debug builds check their order
//! (`lock_order.rs`).

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[cfg(debug_assertions)]
use super::lock_order::{self, Held};

/// Locks a mutex, also after a panic elsewhere: no lock guards a half-made change.
pub fn lock<T>(mutex: &Mutex<T>) -> Guard<'_, T> {
    let held = Held::new::<T>();
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    Guard { guard, held }
}

/// As [`MutexGuard`].
pub struct Guard<'a, T> {
    guard: MutexGuard<'a, T>,
    held: Held,
}

impl<'a, T> Guard<'a, T> {
    /// Waits until it is notified. The lock is given away meanwhile.
    pub fn wait(self, condvar: &Condvar) -> Self {
        self.give_away(|guard| condvar.wait(guard).unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it is notified, at most for `limit`.
    pub fn wait_at_most(self, condvar: &Condvar, limit: Duration) -> Self {
        self.give_away(|guard| {
            let waited = condvar.wait_timeout(guard, limit);
            waited.unwrap_or_else(PoisonError::into_inner).0
        })
    }

    /// Waits until the condition is false, at most for `limit`.
    pub fn wait_while(
        self,
        condvar: &Condvar,
        limit: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Self {
        self.give_away(|guard| {
            let waited = condvar.wait_timeout_while(guard, limit, condition);
            waited.unwrap_or_else(PoisonError::into_inner).0
        })
    }

    fn give_away(self, wait: impl FnOnce(MutexGuard<'a, T>) -> MutexGuard<'a, T>) -> Self {
        self.held.assert_alone();
        Self {
            guard: wait(self.guard),
            held: self.held,
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// Debug builds panic if this thread holds a lock: what comes calls the application's code.
pub fn assert_unlocked() {
    #[cfg(debug_assertions)]
    lock_order::assert_none();
}

#[cfg(not(debug_assertions))]
struct Held;

#[cfg(not(debug_assertions))]
impl Held {
    fn new<T>() -> Self {
        Self
    }

    fn assert_alone(&self) {}
}
