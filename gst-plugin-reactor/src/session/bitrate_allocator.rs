// SPDX-License-Identifier: MIT

//! Allocates the bandwidth that the transport estimates to the tracks that are
//! sent: equally, within the limits of each encoder. Used on the driver's task;
//! it measures nothing itself.

/// The bitrates of an encoder, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitrateLimits {
    pub min: u32,
    pub start: u32,
    pub max: u32,
}

impl BitrateLimits {
    /// Brings a bitrate within the limits; `min` wins over a `max` below it.
    pub fn clamp(&self, bitrate: u32) -> u32 {
        bitrate.clamp(self.min, self.max.max(self.min))
    }
}

/// Bits on the network for each bit out of an encoder: RTP headers and
/// retransmissions. A packet of 1200 bytes has a header of 20; those at the end of
/// a frame are smaller.
const NETWORK_OVERHEAD: f64 = 1.05;

#[derive(Debug, Default)]
pub(super) struct BitrateAllocator {
    tracks: Vec<(String, BitrateLimits)>,
    /// Bits per second on the network: as measured, else the sum of the tracks'
    /// start bitrates.
    estimate: u32,
    measured: bool,
    changed: bool,
}

impl BitrateAllocator {
    /// Adds a track that is sent from now on. The estimate grows by its start
    /// bitrate.
    pub(super) fn add_track(&mut self, track: &str, limits: BitrateLimits) {
        // A new transport needs the limits even if the track is known here.
        self.changed = true;
        if self.tracks.iter().any(|(name, _)| name == track) {
            return;
        }
        self.tracks.push((track.to_owned(), limits));
        let start = with_overhead(u64::from(limits.clamp(limits.start)));
        self.estimate = self.estimate.saturating_add(start);
    }

    /// Removes the tracks that are not sent any more; the others get their part.
    pub(super) fn retain_tracks(&mut self, is_sent: impl Fn(&str) -> bool) {
        let before = self.tracks.len();
        self.tracks.retain(|(name, _)| is_sent(name));
        self.changed |= self.tracks.len() != before;
    }

    /// Replaces the limits of a track.
    pub(super) fn set_limits(&mut self, track: &str, limits: BitrateLimits) {
        let mut tracks = self.tracks.iter_mut();
        if let Some((_, old)) = tracks.find(|(name, old)| name == track && *old != limits) {
            *old = limits;
            self.changed = true;
        }
    }

    /// Sets the bandwidth that the transport measured, in bits per second.
    pub(super) fn set_measurement(&mut self, estimate: u32) {
        self.estimate = estimate;
        self.measured = true;
    }

    pub(super) fn is_measured(&self) -> bool {
        self.measured
    }

    /// For another transport, which may not be able to measure. The estimate
    /// stays.
    pub(super) fn clear_measurement(&mut self) {
        self.measured = false;
    }

    /// The limits of the estimate and the value to continue from, on the network,
    /// if tracks were added or removed since the last call.
    pub(super) fn take_changed_limits(&mut self) -> Option<BitrateLimits> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let sum = |of: fn(&BitrateLimits) -> u32| {
            let each = self.tracks.iter().map(|(_, limits)| u64::from(of(limits)));
            with_overhead(each.sum())
        };
        let mut all = BitrateLimits {
            min: sum(|limits| limits.min),
            start: self.estimate,
            max: sum(|limits| limits.max.max(limits.min)),
        };
        all.start = all.clamp(self.estimate);
        self.estimate = all.start;
        Some(all)
    }

    /// The bitrate of each track's encoder: all equal, within the limits of each.
    /// Tracks with a fixed bitrate are left out.
    pub(super) fn allocations(&self) -> impl Iterator<Item = (&str, u32)> {
        let total = (f64::from(self.estimate) / NETWORK_OVERHEAD) as u64;
        let level = self.fair_share(total);
        let tracks = self.tracks.iter().filter(|(_, l)| l.min < l.max);
        tracks.map(move |(name, limits)| (name.as_str(), limits.clamp(level)))
    }

    /// The highest bitrate that all tracks can have, each within its limits, so
    /// that their sum is at most `total`.
    fn fair_share(&self, total: u64) -> u32 {
        let sum = |level| {
            let each = self.tracks.iter();
            each.map(|(_, l)| u64::from(l.clamp(level))).sum::<u64>()
        };
        let (mut low, mut high) = (0, u32::MAX);
        while low < high {
            let middle = high - (high - low) / 2;
            if sum(middle) <= total {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

fn with_overhead(bitrate: u64) -> u32 {
    (bitrate as f64 * NETWORK_OVERHEAD) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: BitrateLimits = BitrateLimits {
        min: 200_000,
        start: 1_000_000,
        max: 4_000_000,
    };
    const AUDIO: BitrateLimits = BitrateLimits {
        min: 64_000,
        start: 64_000,
        max: 64_000,
    };

    fn allocator(tracks: &[(&str, BitrateLimits)]) -> BitrateAllocator {
        let mut allocator = BitrateAllocator::default();
        for (name, limits) in tracks {
            allocator.add_track(name, *limits);
        }
        allocator.take_changed_limits();
        allocator
    }

    fn shares(allocator: &mut BitrateAllocator, encoded: u32) -> Vec<(String, u32)> {
        allocator.set_measurement(with_overhead(encoded.into()));
        let shares = allocator.allocations();
        shares
            .map(|(name, share)| (name.to_owned(), share))
            .collect()
    }

    /// Multiplying and dividing by the overhead may cost a bit or two.
    fn assert_shares(mut allocator: BitrateAllocator, encoded: u32, expected: &[(&str, u32)]) {
        let got = shares(&mut allocator, encoded);
        let names: Vec<_> = got.iter().map(|(name, _)| name.as_str()).collect();
        let expected_names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, expected_names);
        for ((_, got), (name, expected)) in got.iter().zip(expected) {
            assert!(
                got.abs_diff(*expected) <= 2,
                "{name}: {got}, not {expected}"
            );
        }
    }

    #[test]
    fn single_track_gets_the_estimate_within_its_limits() {
        let one = || allocator(&[("camera", VIDEO)]);
        assert_shares(one(), 1_500_000, &[("camera", 1_500_000)]);
        assert_shares(one(), 9_000_000, &[("camera", VIDEO.max)]);
        assert_shares(one(), 50_000, &[("camera", VIDEO.min)]);
    }

    #[test]
    fn fixed_bitrate_is_reserved_and_not_reported() {
        let both = allocator(&[("microphone", AUDIO), ("camera", VIDEO)]);
        assert_shares(both, 1_064_000, &[("camera", 1_000_000)]);
    }

    #[test]
    fn equal_tracks_get_equal_bitrates() {
        let two = allocator(&[("left", VIDEO), ("right", VIDEO)]);
        assert_shares(two, 3_000_000, &[("left", 1_500_000), ("right", 1_500_000)]);
    }

    #[test]
    fn bitrate_above_one_maximum_goes_to_the_other_track() {
        let small = BitrateLimits {
            max: 500_000,
            ..VIDEO
        };
        let two = || allocator(&[("small", small), ("large", VIDEO)]);
        assert_shares(
            two(),
            3_000_000,
            &[("small", 500_000), ("large", 2_500_000)],
        );
        // Nor is anybody's minimum touched.
        let greedy = BitrateLimits {
            min: 800_000,
            ..VIDEO
        };
        let two = allocator(&[("greedy", greedy), ("other", VIDEO)]);
        assert_shares(two, 1_100_000, &[("greedy", 800_000), ("other", 300_000)]);
    }

    #[test]
    fn changed_tracks_change_the_limits_of_the_estimate() {
        let mut allocator = BitrateAllocator::default();
        assert_eq!(allocator.take_changed_limits(), None);
        allocator.add_track("microphone", AUDIO);
        allocator.add_track("camera", VIDEO);
        let all = allocator.take_changed_limits().unwrap();
        assert_eq!(all.min, with_overhead(264_000));
        assert!(all.start.abs_diff(with_overhead(1_064_000)) <= 2);
        assert_eq!(all.max, with_overhead(4_064_000));
        assert_eq!(allocator.take_changed_limits(), None);

        // A track that is added later adds its start bitrate to the measurement.
        allocator.set_measurement(3_000_000);
        allocator.add_track("second", VIDEO);
        let all = allocator.take_changed_limits().unwrap();
        assert_eq!(all.start, 3_000_000 + with_overhead(1_000_000));
        assert_eq!(all.max, with_overhead(8_064_000));

        // The estimate is cut to the maximum of the remaining tracks.
        allocator.set_measurement(8_000_000);
        allocator.retain_tracks(|track| track == "camera");
        let all = allocator.take_changed_limits().unwrap();
        assert_eq!((all.start, all.max), (4_200_000, 4_200_000));
        assert_eq!(
            allocator.allocations().collect::<Vec<_>>(),
            [("camera", VIDEO.max)]
        );
    }

    #[test]
    fn changed_limits_of_a_track_change_those_of_the_estimate() {
        let mut allocator = allocator(&[("camera", VIDEO)]);
        let small = BitrateLimits {
            max: 500_000,
            ..VIDEO
        };
        allocator.set_limits("other", small);
        allocator.set_limits("camera", VIDEO);
        assert_eq!(allocator.take_changed_limits(), None);
        allocator.set_limits("camera", small);
        let all = allocator.take_changed_limits().unwrap();
        assert_eq!(all.max, with_overhead(500_000));
        assert_shares(allocator, 3_000_000, &[("camera", 500_000)]);
    }

    #[test]
    fn new_transport_continues_from_the_last_estimate() {
        let mut allocator = allocator(&[("camera", VIDEO)]);
        allocator.set_measurement(2_500_000);
        allocator.clear_measurement();
        assert!(!allocator.is_measured());
        allocator.add_track("camera", VIDEO);
        assert_eq!(allocator.take_changed_limits().unwrap().start, 2_500_000);
    }

    #[test]
    fn no_tracks_and_contradictory_limits_are_accepted() {
        let mut none = BitrateAllocator::default();
        none.set_measurement(u32::MAX);
        assert_eq!(none.allocations().count(), 0);
        none.add_track("camera", VIDEO);
        none.retain_tracks(|_| false);
        assert_eq!(none.take_changed_limits().unwrap().max, 0);
        let odd = BitrateLimits {
            min: 500,
            start: 10,
            max: 100,
        };
        assert_eq!(odd.clamp(odd.start), 500);
        assert_shares(allocator(&[("odd", odd)]), 1_000, &[]);
    }
}
