// SPDX-License-Identifier: MIT

//! How fast may be sent: what the transport estimates that the network takes,
//! shared out among the tracks that are fed.

/// How fast a track may be sent, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitrateLimits {
    pub min: u32,
    pub start: u32,
    pub max: u32,
}

impl BitrateLimits {
    /// However they were set.
    pub fn clamp(&self, bitrate: u32) -> u32 {
        bitrate.clamp(self.min, self.max.max(self.min))
    }
}

/// What goes over the network for each bit out of an encoder: RTP headers,
/// retransmissions. A packet of 1200 bytes has 20 of header; those at the end
/// of a frame are smaller.
const OVERHEAD: f64 = 1.05;

/// What the tracks that are fed have to share.
#[derive(Debug, Default)]
pub(super) struct BitrateAllocator {
    tracks: Vec<(String, BitrateLimits)>,
    /// Over the network: as measured, else what the tracks start with.
    estimate: u32,
    measured: bool,
    changed: bool,
}

impl BitrateAllocator {
    /// A track is sent from now on. It brings what it starts with, as the
    /// network is asked for that much more.
    pub(super) fn open(&mut self, track: &str, limits: BitrateLimits) {
        // A new transport has to hear of it even if it is not new here.
        self.changed = true;
        if self.tracks.iter().any(|(name, _)| name == track) {
            return;
        }
        self.tracks.push((track.to_owned(), limits));
        let start = over_the_network(u64::from(limits.clamp(limits.start)));
        self.estimate = self.estimate.saturating_add(start);
    }

    /// What a track leaves that is not fed any more is for the others.
    pub(super) fn retain(&mut self, fed: impl Fn(&str) -> bool) {
        let before = self.tracks.len();
        self.tracks.retain(|(name, _)| fed(name));
        self.changed |= self.tracks.len() != before;
    }

    /// The transport has measured what the network takes.
    pub(super) fn measure(&mut self, estimate: u32) {
        self.estimate = estimate;
        self.measured = true;
    }

    pub(super) fn is_measured(&self) -> bool {
        self.measured
    }

    /// Another transport may not be able to measure.
    pub(super) fn forget_measure(&mut self) {
        self.measured = false;
    }

    /// Within which limits to estimate, and from where to go on, if that is
    /// not as before.
    pub(super) fn take_change(&mut self) -> Option<BitrateLimits> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let sum = |of: fn(&BitrateLimits) -> u32| {
            let each = self.tracks.iter().map(|(_, limits)| u64::from(of(limits)));
            over_the_network(each.sum())
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

    /// Who may send how much: all the same, within the limits of each. Those
    /// that cannot change are left out.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&str, u32)> {
        let total = (f64::from(self.estimate) / OVERHEAD) as u64;
        let level = self.level(total);
        let tracks = self.tracks.iter().filter(|(_, l)| l.min < l.max);
        tracks.map(move |(name, limits)| (name.as_str(), limits.clamp(level)))
    }

    /// The highest that everybody can be raised to.
    fn level(&self, total: u64) -> u32 {
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

fn over_the_network(bitrate: u64) -> u32 {
    (bitrate as f64 * OVERHEAD) as u32
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
            allocator.open(name, *limits);
        }
        allocator.take_change();
        allocator
    }

    fn shares(allocator: &mut BitrateAllocator, encoded: u32) -> Vec<(String, u32)> {
        allocator.measure(over_the_network(encoded.into()));
        let shares = allocator.shares();
        shares
            .map(|(name, share)| (name.to_owned(), share))
            .collect()
    }

    /// Multiplying and dividing by the overhead may cost a bit or two.
    fn assert_shares(mut allocator: BitrateAllocator, encoded: u32, expected: &[(&str, u32)]) {
        let got = shares(&mut allocator, encoded);
        let names: Vec<_> = got.iter().map(|(name, _)| name.as_str()).collect();
        let wanted: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, wanted);
        for ((_, got), (name, expected)) in got.iter().zip(expected) {
            assert!(
                got.abs_diff(*expected) <= 2,
                "{name}: {got}, not {expected}"
            );
        }
    }

    #[test]
    fn one_track_has_it_all_within_its_limits() {
        let one = || allocator(&[("camera", VIDEO)]);
        assert_shares(one(), 1_500_000, &[("camera", 1_500_000)]);
        assert_shares(one(), 9_000_000, &[("camera", VIDEO.max)]);
        assert_shares(one(), 50_000, &[("camera", VIDEO.min)]);
    }

    #[test]
    fn sound_keeps_its_own() {
        let both = allocator(&[("microphone", AUDIO), ("camera", VIDEO)]);
        assert_shares(both, 1_064_000, &[("camera", 1_000_000)]);
    }

    #[test]
    fn equals_have_equal_shares() {
        let two = allocator(&[("left", VIDEO), ("right", VIDEO)]);
        assert_shares(two, 3_000_000, &[("left", 1_500_000), ("right", 1_500_000)]);
    }

    #[test]
    fn what_one_does_not_use_is_for_the_others() {
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
    fn the_estimator_hears_of_what_changes() {
        let mut allocator = BitrateAllocator::default();
        assert_eq!(allocator.take_change(), None);
        allocator.open("microphone", AUDIO);
        allocator.open("camera", VIDEO);
        let all = allocator.take_change().unwrap();
        assert_eq!(all.min, over_the_network(264_000));
        assert!(all.start.abs_diff(over_the_network(1_064_000)) <= 2);
        assert_eq!(all.max, over_the_network(4_064_000));
        assert_eq!(allocator.take_change(), None);

        // A late one brings its own share to what was measured.
        allocator.measure(3_000_000);
        allocator.open("second", VIDEO);
        let all = allocator.take_change().unwrap();
        assert_eq!(all.start, 3_000_000 + over_the_network(1_000_000));
        assert_eq!(all.max, over_the_network(8_064_000));

        // What is too much for those that are left is not kept.
        allocator.measure(8_000_000);
        allocator.retain(|track| track == "camera");
        let all = allocator.take_change().unwrap();
        assert_eq!((all.start, all.max), (4_200_000, 4_200_000));
        assert_eq!(
            allocator.shares().collect::<Vec<_>>(),
            [("camera", VIDEO.max)]
        );
    }

    #[test]
    fn a_new_transport_goes_on_from_there() {
        let mut allocator = allocator(&[("camera", VIDEO)]);
        allocator.measure(2_500_000);
        allocator.forget_measure();
        assert!(!allocator.is_measured());
        allocator.open("camera", VIDEO);
        assert_eq!(allocator.take_change().unwrap().start, 2_500_000);
    }

    #[test]
    fn nothing_and_nonsense_are_no_trouble() {
        let mut none = BitrateAllocator::default();
        none.measure(u32::MAX);
        assert_eq!(none.shares().count(), 0);
        none.open("camera", VIDEO);
        none.retain(|_| false);
        assert_eq!(none.take_change().unwrap().max, 0);
        let odd = BitrateLimits {
            min: 500,
            start: 10,
            max: 100,
        };
        assert_eq!(odd.clamp(odd.start), 500);
        assert_shares(allocator(&[("odd", odd)]), 1_000, &[]);
    }
}
