// SPDX-License-Identifier: MIT

//! The target bitrate of one track's encoder.
//!
//! It is the track's share of the transport's estimate where there is one, else
//! what the loss reports of the server allow. `EncodeChain` calls it on the
//! element's event thread. It never touches the encoder, and reads no clock.
//!
//! The reaction to loss is the loss-based half of Google's congestion control
//! (RFC 8888's companion draft-ietf-rmcat-gcc, section 6): a loss above 10 %
//! takes half of it off the rate, one below 2 % lets it grow, in between it
//! stays.

use crate::session::bitrate_allocator::BitrateLimits;

const HIGH_LOSS: f64 = 0.10;
const LOW_LOSS: f64 = 0.02;
/// Growth with each report; there is one per second.
const INCREASE_FACTOR: f64 = 1.08;
/// The least change of which the encoder is told, relative to its bitrate.
const MIN_CHANGE: f64 = 0.05;

/// Adapts the bitrate of one encoder within its limits.
#[derive(Debug, Clone, Copy)]
pub struct LossBasedController {
    limits: BitrateLimits,
    target: f64,
    /// The bitrate that the encoder was told.
    bitrate: u32,
    source: BitrateSource,
}

/// What the last target was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitrateSource {
    Loss,
    Estimate,
}

impl BitrateSource {
    /// The value of `bitrate-from` in the statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            BitrateSource::Loss => "loss",
            BitrateSource::Estimate => "estimate",
        }
    }
}

impl LossBasedController {
    pub fn new(limits: BitrateLimits) -> Self {
        let start = limits.clamp(limits.start);
        Self {
            limits,
            target: f64::from(start),
            bitrate: start,
            source: BitrateSource::Loss,
        }
    }

    pub fn source(&self) -> BitrateSource {
        self.source
    }

    /// The bitrate that the encoder has, in bit/s.
    pub fn bitrate(&self) -> u32 {
        self.bitrate
    }

    /// Adapts to a loss report: the fraction of packets lost, from 0 to 1.
    /// Returns the new bitrate in bit/s if the encoder has to change.
    pub fn apply_loss(&mut self, lost: f64) -> Option<u32> {
        self.source = BitrateSource::Loss;
        let lost = lost.clamp(0.0, 1.0);
        if lost > HIGH_LOSS {
            self.target *= 1.0 - 0.5 * lost;
        } else if lost < LOW_LOSS {
            self.target *= INCREASE_FACTOR;
        }
        self.set_target(self.target)
    }

    /// Adapts to the track's share of the estimate, in bit/s. Returns the new
    /// bitrate in bit/s if the encoder has to change.
    pub fn apply_estimate(&mut self, share: u32) -> Option<u32> {
        self.source = BitrateSource::Estimate;
        self.set_target(share.into())
    }

    /// Replaces the limits. Returns the new bitrate in bit/s if the encoder has
    /// to change.
    pub fn set_limits(&mut self, limits: BitrateLimits) -> Option<u32> {
        self.limits = limits;
        self.set_target(self.target)
    }

    fn set_target(&mut self, target: f64) -> Option<u32> {
        let (min, max) = (f64::from(self.limits.min), f64::from(self.limits.max));
        self.target = target.clamp(min, max.max(min));
        let before = f64::from(self.bitrate);
        let change = (self.target - before).abs() / before.max(1.0);
        // A small last step to a limit is taken, too.
        let at_limit = self.target <= min || self.target >= max;
        let bitrate = self.target as u32;
        let is_new = change >= MIN_CHANGE || (at_limit && bitrate != self.bitrate);
        if is_new {
            self.bitrate = bitrate;
        }
        is_new.then_some(bitrate)
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
    fn controller_without_loss_grows_to_the_maximum() {
        let mut controller = LossBasedController::new(LIMITS);
        let bitrates: Vec<_> = (0..20).filter_map(|_| controller.apply_loss(0.0)).collect();
        assert!(
            bitrates.windows(2).all(|pair| pair[1] > pair[0]),
            "{bitrates:?}"
        );
        assert_eq!(controller.bitrate(), LIMITS.max);
        assert_eq!(controller.apply_loss(0.0), None);
    }

    #[test]
    fn controller_high_loss_shrinks_to_the_minimum() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.apply_loss(0.2), Some(900_000));
        assert_eq!(controller.apply_loss(1.0), Some(450_000));
        for _ in 0..10 {
            controller.apply_loss(0.5);
        }
        assert_eq!(controller.bitrate(), LIMITS.min);
    }

    #[test]
    fn controller_medium_loss_keeps_the_bitrate() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.apply_loss(0.05), None);
        assert_eq!(controller.bitrate(), LIMITS.start);
    }

    #[test]
    fn controller_estimate_changes_bitrate_by_5_percent_or_more() {
        let mut controller = LossBasedController::new(LIMITS);
        assert_eq!(controller.source(), BitrateSource::Loss);
        assert_eq!(controller.apply_estimate(1_040_000), None);
        assert_eq!(controller.source(), BitrateSource::Estimate);
        // The change counts from the encoder's bitrate, not from the last share.
        assert_eq!(controller.apply_estimate(1_060_000), Some(1_060_000));
        assert_eq!(controller.apply_estimate(1_010_000), None);
        assert_eq!(controller.apply_estimate(300_000), Some(300_000));
        assert_eq!(controller.apply_estimate(1), Some(LIMITS.min));
        assert_eq!(controller.apply_estimate(u32::MAX), Some(LIMITS.max));
        assert_eq!(controller.apply_estimate(u32::MAX), None);
    }

    #[test]
    fn controller_loss_after_estimate_starts_from_it() {
        let mut controller = LossBasedController::new(LIMITS);
        controller.apply_estimate(500_000);
        assert_eq!(controller.apply_loss(0.0), Some(540_000));
        assert_eq!(controller.source(), BitrateSource::Loss);
    }

    #[test]
    fn controller_new_limits_apply_at_once_and_later() {
        let mut controller = LossBasedController::new(LIMITS);
        let with_max = |max| BitrateLimits { max, ..LIMITS };
        assert_eq!(controller.set_limits(with_max(400_000)), Some(400_000));
        assert_eq!(controller.set_limits(with_max(3_000_000)), None);
        assert_eq!(controller.apply_estimate(9_000_000), Some(3_000_000));
        assert_eq!(controller.source(), BitrateSource::Estimate);
    }

    #[test]
    fn controller_contradictory_limits_keep_the_minimum() {
        let odd = BitrateLimits {
            min: 500,
            start: 10,
            max: 100,
        };
        let mut controller = LossBasedController::new(odd);
        assert_eq!(controller.bitrate(), 500);
        controller.apply_loss(f64::INFINITY);
        controller.apply_loss(-1.0);
        assert_eq!(controller.bitrate(), 500);
    }
}
