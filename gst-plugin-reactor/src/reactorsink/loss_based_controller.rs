// SPDX-License-Identifier: MIT

//! How fast to send: a track's share of what the transport estimates, where it
//! can, else what the server's loss reports allow.
//!
//! The latter is the loss-based half of Google's congestion control (RFC 8888's
//! companion draft-ietf-rmcat-gcc, section 6): a loss above 10 % takes half of
//! it off the rate, one below 2 % lets it grow, in between it stays.

use crate::session::bitrate_allocator::BitrateLimits;

const HIGH_LOSS: f64 = 0.10;
const LOW_LOSS: f64 = 0.02;
/// Per report, of which there is one a second.
const GROWTH: f64 = 1.08;
/// An encoder is told of changes that are worth it.
const WORTHWHILE: f64 = 0.05;

#[derive(Debug, Clone, Copy)]
pub struct LossBasedController {
    limits: BitrateLimits,
    target: f64,
    told: u32,
    /// What said so last.
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Loss,
    Estimate,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Loss => "loss",
            Source::Estimate => "estimate",
        }
    }
}

impl LossBasedController {
    pub fn new(limits: BitrateLimits) -> Self {
        let start = limits.clamp(limits.start);
        Self {
            limits,
            target: f64::from(start),
            told: start,
            source: Source::Loss,
        }
    }

    pub fn source(&self) -> Source {
        self.source
    }

    pub fn target(&self) -> u32 {
        self.told
    }

    /// Takes a report: the part of the packets that was lost (0 to 1). Returns
    /// the new target if the encoder should hear of it.
    pub fn report(&mut self, lost: f64) -> Option<u32> {
        self.source = Source::Loss;
        let lost = lost.clamp(0.0, 1.0);
        if lost > HIGH_LOSS {
            self.target *= 1.0 - 0.5 * lost;
        } else if lost < LOW_LOSS {
            self.target *= GROWTH;
        }
        self.set(self.target)
    }

    /// Takes the track's share of what is estimated. Returns the new target if
    /// the encoder should hear of it.
    pub fn follow(&mut self, share: u32) -> Option<u32> {
        self.source = Source::Estimate;
        self.set(share.into())
    }

    fn set(&mut self, target: f64) -> Option<u32> {
        let (min, max) = (f64::from(self.limits.min), f64::from(self.limits.max));
        self.target = target.clamp(min, max.max(min));
        let change = (self.target - f64::from(self.told)).abs() / f64::from(self.told.max(1));
        // The limits themselves are always reached.
        let at_limit = self.target <= min || self.target >= max;
        let bitrate = self.target as u32;
        if change >= WORTHWHILE || (at_limit && bitrate != self.told) {
            self.told = bitrate;
            return Some(bitrate);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BitrateLimits = BitrateLimits {
        min: 100_000,
        start: 1_000_000,
        max: 2_000_000,
    };

    #[test]
    fn a_clean_network_is_used_up_to_the_limit() {
        let mut controller = LossBasedController::new(LIMITS);
        let told: Vec<_> = (0..20).filter_map(|_| controller.report(0.0)).collect();
        assert!(told.windows(2).all(|pair| pair[1] > pair[0]), "{told:?}");
        assert_eq!(controller.target(), LIMITS.max);
        assert_eq!(controller.report(0.0), None);
    }

    #[test]
    fn a_lossy_one_is_left_room_down_to_the_limit() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.report(0.2), Some(900_000));
        assert_eq!(controller.report(1.0), Some(450_000));
        for _ in 0..10 {
            controller.report(0.5);
        }
        assert_eq!(controller.target(), LIMITS.min);
    }

    #[test]
    fn a_little_loss_changes_nothing() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.report(0.05), None);
        assert_eq!(controller.target(), LIMITS.start);
    }

    #[test]
    fn a_share_is_followed_where_that_is_worth_it() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.source(), Source::Loss);
        assert_eq!(controller.follow(1_040_000), None);
        assert_eq!(controller.source(), Source::Estimate);
        // From what the encoder was told, not from one share to the next.
        assert_eq!(controller.follow(1_060_000), Some(1_060_000));
        assert_eq!(controller.follow(1_010_000), None);
        assert_eq!(controller.follow(300_000), Some(300_000));
        assert_eq!(controller.follow(1), Some(LIMITS.min));
        assert_eq!(controller.follow(u32::MAX), Some(LIMITS.max));
        assert_eq!(controller.follow(u32::MAX), None);
    }

    #[test]
    fn loss_takes_over_from_where_the_estimate_left_off() {
        let mut controller = LossBasedController::new(LIMITS);
        controller.follow(500_000);
        assert_eq!(controller.report(0.0), Some(540_000));
        assert_eq!(controller.source(), Source::Loss);
    }

    #[test]
    fn nonsense_is_kept_within_the_limits() {
        let odd = BitrateLimits {
            min: 500,
            start: 10,
            max: 100,
        };
        let mut controller = LossBasedController::new(odd);
        assert_eq!(controller.target(), 500);
        controller.report(f64::INFINITY);
        controller.report(-1.0);
        assert_eq!(controller.target(), 500);
    }
}
