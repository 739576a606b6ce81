// SPDX-License-Identifier: MIT

//! What the link to a server carried, as connections of this process measured it: the
//! next session begins with a bitrate that fits, rather than with one that fits
//! everywhere. Used from any thread.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::newest::Newest;
use crate::platform::lock;

/// After this time the machine may be on another network.
const KEPT: Duration = Duration::from_secs(600);
const MAX_LINKS: usize = 32;

static LINKS: Mutex<Newest<Link, MAX_LINKS>> = Mutex::new(Newest::new());

struct Link {
    /// In bits per second.
    capacity: u32,
    measured: Instant,
}

/// Stores what the link to a server carries, in bits per second; `None` forgets it.
pub(super) fn remember_capacity(server: &str, capacity: Option<u32>, now: Instant) {
    let mut links = lock(&LINKS);
    match capacity {
        Some(capacity) => links.insert(
            server,
            Link {
                capacity,
                measured: now,
            },
        ),
        None => links.remove(server),
    }
}

/// What the link to this server carries, if that was measured lately.
pub(super) fn find_capacity(server: &str, now: Instant) -> Option<u32> {
    let links = lock(&LINKS);
    let link = links.get(server)?;
    (now.duration_since(link.measured) < KEPT).then_some(link.capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_kept_for_a_time_and_replaced() {
        let now = Instant::now();
        remember_capacity("one", Some(1), now);
        remember_capacity("one", Some(2), now);
        remember_capacity("two", Some(3), now);
        assert_eq!(find_capacity("one", now), Some(2));
        assert_eq!(find_capacity("one", now + KEPT), None);
        remember_capacity("one", None, now);
        assert_eq!(find_capacity("one", now), None);
        for number in 0..MAX_LINKS {
            remember_capacity(&format!("number {number}"), Some(4), now);
        }
        assert_eq!(find_capacity("two", now), None);
        assert_eq!(find_capacity("number 0", now), Some(4));
    }
}
