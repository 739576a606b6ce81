// SPDX-License-Identifier: MIT

//! How long the jitter buffers wait for what is missing.
//!
//! From the `latency` that the user sets it goes up when packets that could be
//! had come too late again and again, in few steps, since each is a new latency
//! for the whole pipeline: pictures stand still and sound has a hole of that
//! length. For the same reason it goes down in one, and only when nothing had
//! to be waited for in a long time.

use std::{collections::VecDeque, time::Duration};

/// How often to look.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// So many of the last looks have to be bad: the burst of a beginning makes one
/// or two so, and waiting longer is no remedy for it.
const LOOKS: usize = 8;
const BAD: usize = 3;
/// Shorter spans have too few packets.
const SPAN: Duration = Duration::from_millis(400);
/// Nothing at all came for so long: an outage, of which more is asked for again
/// afterwards than can come in time.
const OUTAGE: Duration = Duration::from_millis(400);
const AFTERMATH: Duration = Duration::from_secs(3);
/// A step is to that many times what there is, at least.
const STEP: u32 = 2;
/// Nothing was waited for in so long: at first, and at most. Twice as long each
/// time that it was too early.
const QUIET: Duration = Duration::from_secs(60);
const LONGEST_QUIET: Duration = Duration::from_secs(960);

/// What the jitter buffers of a connection have counted so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub pushed: u64,
    /// Given up, of what may come if it is waited for.
    pub lost: u64,
    /// Came after something newer had been passed on.
    pub late: u64,
    /// Asked for again, and had in time.
    pub requested: u64,
    pub repaired: u64,
    /// How long that takes on average.
    pub round_trip: Duration,
    pub jitter: Duration,
    /// The longest time since the look before in which nothing came.
    pub silence: Duration,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            pushed: self.pushed.saturating_sub(before.pushed),
            lost: self.lost.saturating_sub(before.lost),
            late: self.late.saturating_sub(before.late),
            requested: self.requested.saturating_sub(before.requested),
            repaired: self.repaired.saturating_sub(before.repaired),
            ..self
        }
    }

    /// What is missing does come, but not all of it in time. One packet that is
    /// missing costs all pictures until the next keyframe.
    fn is_bad(self) -> bool {
        self.lost > 0 && (self.repaired > 0 || self.late > 0)
    }

    /// Enough for what is lost to be asked for twice, in milliseconds.
    fn need(self) -> f64 {
        (self.round_trip.as_secs_f64() * 3.0 + self.jitter.as_secs_f64() * 4.0) * 1000.0
    }
}

/// All latencies are in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct JitterLatencyController {
    floor: u32,
    most: u32,
    now: u32,
    /// The last look and what it saw.
    looked: Option<(Duration, Counts)>,
    bad: VecDeque<bool>,
    /// When the last outage is over and done with.
    over: Duration,
    /// Since when nothing had to be waited for, and how long that has to be.
    quiet: Option<Duration>,
    enough: Duration,
}

impl JitterLatencyController {
    /// Begins with `now`, which an earlier connection may have come to.
    pub(super) fn new(floor: u32, most: u32, now: u32) -> Self {
        Self {
            floor,
            most,
            now: now.clamp(floor, most.max(floor)),
            looked: None,
            bad: VecDeque::new(),
            over: Duration::ZERO,
            quiet: None,
            enough: QUIET,
        }
    }

    pub(super) fn latency(&self) -> u32 {
        self.now
    }

    /// There is nothing to find out where it is fixed.
    pub(super) fn is_fixed(&self) -> bool {
        self.most <= self.floor
    }

    /// The user wants another one, from which it begins again.
    pub(super) fn set_floor(&mut self, floor: u32) {
        *self = Self {
            looked: self.looked,
            ..Self::new(floor, self.most, floor)
        };
    }

    /// Looks at what was counted by then; returns another latency if it is
    /// time for that.
    pub(super) fn look(&mut self, now: Duration, counts: Counts) -> Option<u32> {
        let Some((looked, before)) = self.looked else {
            self.looked = Some((now, counts));
            return None;
        };
        let seen = counts.since(before);
        if self.is_fixed() || now.saturating_sub(looked) < SPAN {
            return None;
        }
        self.looked = Some((now, counts));
        if seen.pushed == 0 {
            // Nothing comes at all: waiting is not what is wrong.
            return None;
        }
        if seen.silence > OUTAGE {
            self.over = now + AFTERMATH;
        }
        if now < self.over {
            self.bad.clear();
            return None;
        }
        if seen.requested > 0 || seen.lost > 0 || seen.late > 0 {
            self.quiet = None;
        }
        let quiet = now.saturating_sub(*self.quiet.get_or_insert(now));
        if self.bad.len() == LOOKS {
            self.bad.pop_front();
        }
        self.bad.push_back(seen.is_bad());
        let latency = if self.bad.iter().filter(|bad| **bad).count() >= BAD {
            self.bad.clear();
            self.longer(seen.need())
        } else if quiet >= self.enough && self.now > self.floor {
            self.enough = (self.enough * 2).min(LONGEST_QUIET);
            self.floor
        } else {
            self.now
        };
        (latency != std::mem::replace(&mut self.now, latency)).then_some(latency)
    }

    fn longer(&self, need: f64) -> u32 {
        let need = ((need / 10.0).ceil() as u32).saturating_mul(10);
        let longer = self.now.saturating_mul(STEP).max(need);
        // What would be left is not worth a step of its own.
        let all = longer >= self.most / 4 * 3;
        if all { self.most } else { longer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of which is told what becomes of the 100 packets of each look.
    struct Network {
        jitter_latency: JitterLatencyController,
        now: Duration,
        counts: Counts,
    }

    impl Network {
        fn new(floor: u32, most: u32) -> Self {
            let mut network = Self {
                jitter_latency: JitterLatencyController::new(floor, most, floor),
                now: Duration::ZERO,
                counts: Counts {
                    round_trip: Duration::from_millis(40),
                    jitter: Duration::from_millis(10),
                    ..Counts::default()
                },
            };
            assert_eq!(network.pass(0, 0, 0), None);
            network
        }

        fn pass(&mut self, requested: u64, repaired: u64, late: u64) -> Option<u32> {
            self.now += LOOK;
            let counts = &mut self.counts;
            counts.requested += requested;
            counts.repaired += repaired;
            counts.lost += requested - repaired;
            counts.late += late;
            counts.pushed += 100 - (requested - repaired);
            self.jitter_latency.look(self.now, self.counts)
        }

        /// The changes over so many looks, and when they came.
        fn go(&mut self, looks: u32, fate: (u64, u64, u64)) -> Vec<(u32, u32)> {
            let (requested, repaired, late) = fate;
            let all = (1..=looks).map(|n| (n, self.pass(requested, repaired, late)));
            all.filter_map(|(n, latency)| Some((n, latency?))).collect()
        }
    }

    #[test]
    fn it_goes_up_to_what_a_second_request_takes_and_on_to_the_limit() {
        let mut network = Network::new(60, 400);
        // Three round trips and four times the jitter.
        assert_eq!(network.go(4, (5, 2, 1)), [(3, 160)]);
        // That is not enough.
        assert_eq!(network.go(8, (5, 4, 1)), [(2, 400)]);
        assert!(network.go(100, (5, 4, 1)).is_empty());
        assert_eq!(network.jitter_latency.latency(), 400);
    }

    #[test]
    fn it_stays_where_what_is_missing_is_had_in_time() {
        let mut network = Network::new(60, 400);
        assert!(network.go(1000, (5, 5, 0)).is_empty());
        // Now and then one is not.
        for _ in 0..100 {
            assert!(network.go(1, (5, 4, 0)).is_empty());
            assert!(network.go(3, (5, 5, 0)).is_empty());
        }
        // In every other look is too often.
        let mut every_other = (0..6).map(|n| network.pass(5, 5 - n % 2, 0));
        assert_eq!(every_other.find_map(|latency| latency), Some(160));
    }

    #[test]
    fn an_outage_and_a_bad_beginning_change_nothing() {
        let mut network = Network::new(10, 400);
        assert!(network.go(2, (50, 10, 20)).is_empty());
        for _ in 0..20 {
            assert!(network.go(10, (0, 0, 0)).is_empty());
            // What was lost in the dark is asked for in vain for a while.
            network.counts.silence = Duration::from_secs(1);
            assert!(network.go(1, (90, 2, 10)).is_empty());
            network.counts.silence = Duration::ZERO;
            assert!(network.go(5, (90, 2, 10)).is_empty());
        }
        // In which nothing comes.
        network.now += Duration::from_secs(20);
        let counts = network.counts;
        for _ in 0..20 {
            network.now += Duration::from_secs(1);
            assert_eq!(network.jitter_latency.look(network.now, counts), None);
        }
    }

    #[test]
    fn what_is_never_sent_again_is_not_waited_for() {
        let mut network = Network::new(60, 400);
        assert!(network.go(100, (5, 0, 0)).is_empty());
        // But what comes after all is.
        assert_eq!(network.go(5, (3, 0, 3)), [(3, 160)]);
    }

    #[test]
    fn it_goes_down_when_nothing_was_missing_in_a_long_time() {
        let mut network = Network::new(60, 400);
        network.go(4, (5, 2, 1));
        // What is repaired still has to be waited for.
        assert!(network.go(1000, (1, 1, 0)).is_empty());
        assert_eq!(network.go(400, (0, 0, 0)), [(120, 60)]);
        // That was too early: it will wait twice as long.
        assert_eq!(network.go(4, (5, 2, 1)), [(3, 160)]);
        assert_eq!(network.go(400, (0, 0, 0)), [(240, 60)]);
    }

    #[test]
    fn it_is_fixed_where_the_limit_says_so() {
        for most in [0, 60] {
            let mut network = Network::new(60, most);
            assert!(network.jitter_latency.is_fixed());
            assert!(network.go(100, (5, 2, 1)).is_empty());
            assert_eq!(network.jitter_latency.latency(), 60);
        }
    }

    #[test]
    fn the_user_has_the_last_word_and_a_new_connection_goes_on() {
        let mut network = Network::new(60, 400);
        network.go(4, (5, 2, 1));
        network.jitter_latency.set_floor(20);
        assert_eq!(network.jitter_latency.latency(), 20);
        assert_eq!(network.go(4, (5, 2, 1)), [(3, 160)]);
        assert_eq!(JitterLatencyController::new(20, 400, 160).latency(), 160);
        assert_eq!(JitterLatencyController::new(20, 100, 160).latency(), 100);
        assert_eq!(JitterLatencyController::new(200, 100, 160).latency(), 200);
    }

    #[test]
    fn looks_that_follow_each_other_closely_are_one() {
        let mut jitter_latency = JitterLatencyController::new(60, 400, 60);
        for n in 0..80 {
            let counts = Counts {
                pushed: 10 * n,
                lost: n,
                late: n,
                ..Counts::default()
            };
            let latency = jitter_latency.look(Duration::from_millis(12 * n), counts);
            assert_eq!(latency, None, "{n}");
        }
    }
}
