// SPDX-License-Identifier: MIT

//! The times of audio packets, which are heard when they are uneven.

/// Later than this is no jitter: a pause, or another path.
const JUMP: i64 = 200_000_000;
/// Earlier than this is another clock.
const LEAP_BACK: i64 = 1_000_000_000;
/// How much too late packets may stand for good.
const TOLERANCE: i64 = 20_000_000;
/// How much a packet may be moved towards its arrival, as 1/n and at most.
const SHARE: i64 = 8;
const STEP: i64 = 1_000_000;
/// By how much times may go back in all: decoders and encoders that find
/// themselves 40 ms ahead (their usual tolerance) make an overlap of it.
const BACK_LIMIT: i64 = 15_000_000;
/// From one packet that is left out to the next.
const DROP_DISTANCE: u32 = 10;

/// Packets follow each other without a seam and drift towards their arrival.
/// A machine that was busy for a moment hands them over in a bunch: taken at
/// their word, an encoder behind makes a gap and then an overlap of that.
///
/// What stands later than it arrives goes back a little; if that is not enough
/// a packet is left out, since time never goes back for good.
#[derive(Debug, Default)]
pub struct AudioPacing {
    next: Option<gst::ClockTime>,
    /// How far times went back from where they would have been.
    back: i64,
    since_drop: u32,
}

/// Packets that come so close together were waiting for one another.
const BUNCH: gst::ClockTime = gst::ClockTime::from_mseconds(8);

/// Where a stream begins. Its first packets come in a bunch, because the first
/// of them waits in the jitter buffer and for the elements behind: by the time
/// of the first alone, the others would be ahead of their time, and the jitter
/// buffer moves them back over a second or two. So they are looked at together.
#[derive(Debug)]
pub struct Beginning<T> {
    waiting: Vec<(T, Packet)>,
    /// When one came last.
    arrived: Option<gst::ClockTime>,
}

/// When a packet came and how long it plays.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub running: gst::ClockTime,
    pub duration: gst::ClockTime,
}

impl<T> Default for Beginning<T> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            arrived: None,
        }
    }
}

impl<T> Beginning<T> {
    /// Takes one more; returns all with their times once the bunch is over,
    /// which the first packet after it tells.
    pub fn take(
        &mut self,
        item: T,
        packet: Packet,
        arrived: gst::ClockTime,
    ) -> Option<Vec<(T, gst::ClockTime)>> {
        self.waiting.push((item, packet));
        let last = self.arrived.replace(arrived);
        let over = last.is_some_and(|last| arrived.saturating_sub(last) > BUNCH);
        over.then(|| self.place())
    }

    fn place(&mut self) -> Vec<(T, gst::ClockTime)> {
        let mut offset = gst::ClockTime::ZERO;
        let mut first: Option<gst::ClockTime> = None;
        for (_, packet) in &self.waiting {
            let start = packet.running.saturating_sub(offset);
            first = Some(first.map_or(start, |first| first.min(start)));
            offset += packet.duration;
        }
        let mut next = first.unwrap_or_default();
        let placed = self.waiting.drain(..).map(|(item, packet)| {
            let time = next;
            next += packet.duration;
            (item, time)
        });
        placed.collect()
    }
}

impl AudioPacing {
    /// Where what was put last ends.
    pub fn end(&self) -> Option<gst::ClockTime> {
        self.next
    }

    /// What comes next stands later than it would have.
    pub fn shift(&mut self, by: gst::ClockTime) {
        self.next = self.next.map(|next| next + by);
    }

    /// A packet was put there.
    pub fn follow(&mut self, placed: gst::ClockTime, duration: gst::ClockTime) {
        self.next = Some(placed + duration);
    }

    /// The time for a packet of this duration that arrived at `running`, or
    /// nothing if it is better left out.
    pub fn place(
        &mut self,
        running: gst::ClockTime,
        duration: gst::ClockTime,
    ) -> Option<gst::ClockTime> {
        let late =
            |next: gst::ClockTime| running.nseconds().cast_signed() - next.nseconds().cast_signed();
        let held = |next: &gst::ClockTime| (-LEAP_BACK..=JUMP).contains(&late(*next));
        let Some(next) = self.next.filter(held) else {
            *self = Self::default();
            self.follow(running, duration);
            return Some(running);
        };
        let late = late(next);
        self.since_drop = self.since_drop.saturating_add(1);
        let step = match late + TOLERANCE {
            _ if late > 0 => (late / SHARE).min(STEP),
            early if early >= 0 => 0,
            early if self.back < BACK_LIMIT => (early / SHARE).max(-STEP),
            early
                if early.unsigned_abs() >= duration.nseconds()
                    && self.since_drop >= DROP_DISTANCE =>
            {
                self.since_drop = 0;
                return None;
            }
            _ => 0,
        };
        self.back = (self.back - step).max(0);
        let placed = gst::ClockTime::from_nseconds(next.nseconds().saturating_add_signed(step));
        self.follow(placed, duration);
        Some(placed)
    }
}

/// How long an Opus packet plays (RFC 6716, 3.1), or nothing if it is none.
pub fn opus_duration(packet: &[u8]) -> Option<gst::ClockTime> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    // In units of 0.1 ms.
    let frame = match config {
        0..12 => [100, 200, 400, 600][usize::from(config & 3)],
        12..16 => [100, 200][usize::from(config & 1)],
        _ => [25, 50, 100, 200][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(*packet.get(1)? & 0x3f),
    };
    (frames > 0).then(|| gst::ClockTime::from_useconds(100 * frame * frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: gst::ClockTime = gst::ClockTime::from_mseconds(20);

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    /// The times of packets that arrive then, in ms; checks that none goes
    /// back.
    fn run(cadence: &mut AudioPacing, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut times: Vec<gst::ClockTime> = Vec::new();
        let mut drift = 0;
        for arrival in arrivals {
            let Some(placed) = cadence.place(ms(arrival), PACKET) else {
                continue;
            };
            if let Some(last) = times.last() {
                let step = (placed - *last).nseconds().cast_signed() - 20_000_000;
                assert!(step >= -STEP, "{last} {placed}");
                drift = (drift + step).min(0);
                assert!(drift >= -BACK_LIMIT - STEP, "back by {drift} ns");
            }
            times.push(placed);
        }
        times.into_iter().map(gst::ClockTime::mseconds).collect()
    }

    #[test]
    fn a_bunch_after_a_stall_leaves_no_gap_and_no_overlap() {
        let arrivals = [1000, 1120, 1120, 1120, 1121, 1121, 1122, 1140, 1160, 1180];
        let times = run(&mut AudioPacing::default(), arrivals);
        assert_eq!(times.len(), arrivals.len());
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] <= 21),
            "{times:?}"
        );
        assert!((1180..1190).contains(times.last().unwrap()), "{times:?}");
    }

    #[test]
    fn a_late_start_is_made_good_without_an_overlap() {
        // The first packet late, what follows on time.
        for late in [10, 50, 100, 190] {
            let mut cadence = AudioPacing::default();
            let arrivals = (1..500).map(|n| 1000 + 20 * n);
            let times = run(&mut cadence, std::iter::once(1000 + late).chain(arrivals));
            let last = 1000 + 20 * 499;
            assert!((last..=last + 40).contains(times.last().unwrap()), "{late}");
            let dropped = 500 - times.len() as u64;
            assert!(dropped <= late / 20, "{dropped} for {late} ms");
        }
    }

    #[test]
    fn a_sender_that_is_faster_is_kept_up_with() {
        // 1 % faster than it should be: 19.8 ms.
        let arrivals = (0..5000).map(|n| 1000 + 198 * n / 10);
        let times = run(&mut AudioPacing::default(), arrivals);
        let last = 1000 + 198 * 4999 / 10;
        assert!(
            (last..=last + 41).contains(times.last().unwrap()),
            "{times:?}"
        );
        // A hundred packets' worth of time is too much in all.
        assert!((45..=52).contains(&(5000 - times.len())), "{}", times.len());
    }

    #[test]
    fn what_comes_early_after_a_pause_does_not_jump_back() {
        let mut cadence = AudioPacing::default();
        let times = run(&mut cadence, [1000, 1400, 1100, 1120]);
        assert_eq!(times[1], 1400);
        assert!(times[2] >= 1419, "{times:?}");
        assert_eq!(cadence.place(ms(20), PACKET), Some(ms(20)));
    }

    /// The items with their times, in ms.
    fn begin(packets: &[(u64, u64)]) -> Vec<u64> {
        let mut beginning = Beginning::default();
        for &(running, arrived) in packets {
            let packet = Packet {
                running: ms(running),
                duration: PACKET,
            };
            let placed = beginning.take((), packet, ms(arrived));
            if let Some(placed) = placed {
                return placed.iter().map(|(_, time)| time.mseconds()).collect();
            }
        }
        Vec::new()
    }

    #[test]
    fn a_bunch_at_the_beginning_is_as_early_as_its_earliest() {
        // The times are the earlier of the jitter buffer's and the arrival.
        let packets = [
            (100, 160),
            (120, 160),
            (140, 161),
            (160, 161),
            (161, 161),
            (181, 181),
        ];
        assert_eq!(begin(&packets), [81, 101, 121, 141, 161, 181]);
    }

    #[test]
    fn a_beginning_in_time_stays_where_it_is() {
        assert!(begin(&[(100, 160)]).is_empty());
        assert_eq!(begin(&[(100, 160), (120, 180)]), [100, 120]);
    }

    #[test]
    fn a_lasting_delay_is_followed_and_a_jump_taken_at_once() {
        let mut cadence = AudioPacing::default();
        run(&mut cadence, (0..10).map(|n| 20 * n));
        let times = run(&mut cadence, (10..200).map(|n| 20 * n + 50));
        assert!(
            (20 * 199 + 49..=20 * 199 + 50).contains(times.last().unwrap()),
            "{times:?}"
        );
        assert_eq!(cadence.place(ms(60_000), PACKET), Some(ms(60_000)));
    }

    #[test]
    fn packets_say_how_long_they_play() {
        // CELT fullband, 20 ms, one frame: what libwebrtc sends.
        assert_eq!(opus_duration(&[0xfc]), Some(ms(20)));
        assert_eq!(
            opus_duration(&[0xe0]),
            Some(gst::ClockTime::from_useconds(2500))
        );
        // SILK, 60 ms, two frames; hybrid, 10 ms; a count of three.
        assert_eq!(opus_duration(&[0x19]), Some(ms(120)));
        assert_eq!(opus_duration(&[0x60]), Some(ms(10)));
        assert_eq!(opus_duration(&[0xff, 3]), Some(ms(60)));
        assert_eq!(opus_duration(&[]), None);
        assert_eq!(opus_duration(&[0xff]), None);
        assert_eq!(opus_duration(&[0xff, 0]), None);
    }
}
