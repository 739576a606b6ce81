// SPDX-License-Identifier: MIT

//! What the link to a server carried, as connections of this process measured it: the
//! next session begins with a bitrate that fits, rather than with one that fits
//! everywhere. Used from any thread.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::platform::lock;

/// After this time the machine may be on another network.
const KEPT: Duration = Duration::from_secs(600);
/// The newest are kept.
const MAX_LINKS: usize = 32;

static LINKS: Mutex<VecDeque<Link>> = Mutex::new(VecDeque::new());

struct Link {
    server: String,
    /// In bits per second.
    capacity: u32,
    measured: Instant,
}

/// Stores what the link to a server carries, in bits per second; `None` forgets it.
pub(super) fn remember_capacity(server: &str, capacity: Option<u32>, now: Instant) {
    let mut links = lock(&LINKS);
    links.retain(|link| link.server != server);
    if let Some(capacity) = capacity {
        if links.len() == MAX_LINKS {
            links.pop_front();
        }
        links.push_back(Link {
            server: server.to_owned(),
            capacity,
            measured: now,
        });
    }
}

/// What the link to this server carries, if that was measured lately.
pub(super) fn find_capacity(server: &str, now: Instant) -> Option<u32> {
    let links = lock(&LINKS);
    let mut found = links.iter().filter(|link| link.server == server);
    let link = found.find(|link| now.duration_since(link.measured) < KEPT);
    link.map(|link| link.capacity)
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
