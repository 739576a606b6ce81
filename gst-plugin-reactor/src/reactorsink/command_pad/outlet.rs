// SPDX-License-Identifier: MIT

//! When the commands of a pad are sent: in order, with a limit on those without a
//! reply and on those per second. Where they come faster, the newest of each name is
//! kept. Pure: time comes in, it reads no clock.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The commands without a reply at most. A file is the only one: the next is uploaded
/// when it is answered, so that none overtakes it.
const MAX_IN_FLIGHT: usize = 16;

/// At most this many commands wait where only the newest of each name is kept. No model has
/// 1000 commands.
const MAX_WAITING: usize = 1000;

/// A command that waits.
pub trait Waiting {
    fn name(&self) -> &str;

    /// Whether it has a file that is uploaded first.
    fn has_file(&self) -> bool;
}

#[derive(Debug)]
pub struct Outlet<C> {
    /// The oldest first.
    pending: VecDeque<C>,
    in_flight: usize,
    files_in_flight: usize,
    /// When the next may be sent, with a limit of the rate.
    not_before: Option<Instant>,
    is_open: bool,
    dropped: u64,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<C> {
    Send(C),
    /// Nothing before this time.
    At(Instant),
    /// Nothing before something changes.
    Wait,
}

impl<C> Default for Outlet<C> {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            in_flight: 0,
            files_in_flight: 0,
            not_before: None,
            is_open: false,
            dropped: 0,
        }
    }
}

impl<C: Waiting> Outlet<C> {
    /// Queues commands that belong together; with `keeps_newest` those before them
    /// that wait and have one of their names are dropped.
    pub fn offer(&mut self, commands: Vec<C>, keeps_newest: bool) {
        if !keeps_newest {
            return self.pending.extend(commands);
        }
        let waiting = self.pending.len();
        let names: BTreeSet<_> = commands.iter().map(Waiting::name).collect();
        self.pending.retain(|before| !names.contains(before.name()));
        let dropped = waiting - self.pending.len();
        self.pending.extend(commands);
        let too_many = self.pending.len().saturating_sub(MAX_WAITING);
        self.pending.drain(..too_many);
        self.dropped += (dropped + too_many) as u64;
    }

    pub fn drop_pending(&mut self) {
        self.dropped += self.pending.len() as u64;
        self.pending.clear();
    }

    /// Takes the next command, if it may be sent; `interval` is the least time
    /// between two.
    pub fn next(&mut self, now: Instant, interval: Option<Duration>) -> Next<C> {
        let Some(first) = self.pending.front().filter(|_| self.is_open) else {
            return Next::Wait;
        };
        let has_file = first.has_file();
        let is_full = self.in_flight >= MAX_IN_FLIGHT || has_file && self.in_flight > 0;
        if is_full || self.files_in_flight > 0 {
            return Next::Wait;
        }
        if interval.is_some()
            && let Some(at) = self.not_before.filter(|at| *at > now)
        {
            return Next::At(at);
        }
        self.not_before = interval.map(|interval| now + interval);
        self.in_flight += 1;
        self.files_in_flight += usize::from(has_file);
        self.pending.pop_front().map_or(Next::Wait, Next::Send)
    }

    /// A command has its reply.
    pub fn answered(&mut self, had_file: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.files_in_flight = self.files_in_flight.saturating_sub(usize::from(had_file));
    }

    pub fn set_open(&mut self, open: bool) {
        self.is_open = open;
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether commands wait, or have no reply yet.
    pub fn is_busy(&self) -> bool {
        self.has_pending() || self.in_flight > 0
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number; those from 100 on have a file, and from 1000 on another name.
    impl Waiting for u32 {
        fn name(&self) -> &str {
            if *self >= 1000 { "other" } else { "command" }
        }

        fn has_file(&self) -> bool {
            (100..1000).contains(self)
        }
    }

    fn open() -> Outlet<u32> {
        let mut outlet = Outlet::default();
        outlet.set_open(true);
        outlet
    }

    #[test]
    fn commands_go_out_in_order_and_so_many_at_once() {
        let mut outlet = Outlet::default();
        let now = Instant::now();
        for n in 0..20 {
            outlet.offer(vec![n], false);
        }
        assert_eq!(outlet.next(now, None), Next::Wait);
        outlet.set_open(true);
        for n in 0..16 {
            assert_eq!(outlet.next(now, None), Next::Send(n));
        }
        assert_eq!(outlet.next(now, None), Next::Wait);
        outlet.answered(false);
        assert_eq!(outlet.next(now, None), Next::Send(16));
        assert_eq!(outlet.next(now, None), Next::Wait);
        assert!(outlet.is_busy() && outlet.has_pending());
    }

    #[test]
    fn file_is_alone_until_it_is_answered() {
        let mut outlet = open();
        let now = Instant::now();
        for n in [1, 100, 2, 101] {
            outlet.offer(vec![n], false);
        }
        assert_eq!(outlet.next(now, None), Next::Send(1));
        assert_eq!(outlet.next(now, None), Next::Wait);
        outlet.answered(false);
        assert_eq!(outlet.next(now, None), Next::Send(100));
        assert_eq!(outlet.next(now, None), Next::Wait);
        outlet.answered(true);
        assert_eq!(outlet.next(now, None), Next::Send(2));
        outlet.answered(false);
        assert_eq!(outlet.next(now, None), Next::Send(101));
        outlet.answered(true);
        assert!(!outlet.is_busy());
    }

    #[test]
    fn rate_limit_keeps_newest() {
        let mut outlet = open();
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let interval = Some(ms(500));
        outlet.offer(vec![1], true);
        assert_eq!(outlet.next(start, interval), Next::Send(1));
        for n in 2..5 {
            outlet.offer(vec![n], true);
        }
        let due = start + ms(500);
        assert_eq!(outlet.next(start + ms(499), interval), Next::At(due));
        assert_eq!(outlet.next(due, interval), Next::Send(4));
        assert_eq!(outlet.dropped(), 2);
        assert_eq!(outlet.next(due, interval), Next::Wait);
        // The limit was lifted.
        outlet.offer(vec![5], true);
        assert_eq!(outlet.next(due, None), Next::Send(5));
    }

    #[test]
    fn live_commands_before_opening_leave_newest() {
        let mut outlet = Outlet::default();
        for n in 100..110 {
            outlet.offer(vec![n], true);
        }
        outlet.set_open(true);
        assert_eq!(outlet.next(Instant::now(), None), Next::Send(109));
        assert_eq!(outlet.dropped(), 9);
    }

    #[test]
    fn newest_of_each_name_is_kept_and_all_that_belong_together() {
        let mut outlet = Outlet::default();
        outlet.offer(vec![1, 1001], true);
        outlet.offer(vec![2], true);
        outlet.offer(vec![1002, 1003], true);
        outlet.set_open(true);
        let now = Instant::now();
        for n in [2, 1002, 1003] {
            assert_eq!(outlet.next(now, None), Next::Send(n));
        }
        assert_eq!(outlet.next(now, None), Next::Wait);
        assert_eq!(outlet.dropped(), 2);
    }

    #[test]
    fn endless_commands_of_one_value_are_bounded() {
        let mut outlet = Outlet::default();
        outlet.offer((0..5000).collect(), true);
        assert_eq!((outlet.pending.len(), outlet.dropped()), (1000, 4000));
        assert_eq!(outlet.pending.front(), Some(&4000));
    }
}
