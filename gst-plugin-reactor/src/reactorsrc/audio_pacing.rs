// SPDX-License-Identifier: MIT

//! Running times of Opus packets: a listener hears it when they are uneven.
//!
//! Owns the schedule of one audio track. `TrackStream` calls it on the
//! transport's streaming thread, under its own lock. It reads no clock and
//! never touches a buffer.

use super::clock_step::is_clock_step;

/// A packet that is later than this, in ns, is not jittered: the sender paused
/// or the network path changed.
const MAX_LATE: i64 = 200_000_000;
/// Packets that are ahead of their time by more than this, in ns, came too late
/// or too fast. They are dropped: played after the others, they would leave the
/// sound behind the picture.
const MAX_SURPLUS: i64 = 200_000_000;
/// A packet may stay scheduled this much after its arrival, in ns.
const EARLY_TOLERANCE: i64 = 20_000_000;
/// A packet moves towards its arrival by 1/n of the difference ...
const CORRECTION_DIVISOR: i64 = 8;
/// ... and by no more than this, in ns.
const MAX_CORRECTION: i64 = 1_000_000;
/// Limit of all backward corrections together, in ns: decoders and encoders
/// that are 40 ms ahead (their usual tolerance) produce an overlap.
const MAX_BACKWARD_SHIFT: i64 = 15_000_000;
/// Packets between two that are dropped.
const MIN_DROP_SPACING: u32 = 10;
/// Packets that arrive at shorter intervals than this had queued up.
const BURST_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(8);

/// Schedules packets one after the other without a seam, and lets them drift
/// towards their arrival. A machine that was busy for a moment delivers
/// packets in a burst: with their arrival times, an encoder downstream would
/// produce a gap and then an overlap.
///
/// Packets that are scheduled after their arrival move back a little; if that
/// is not enough one of them is dropped, since time never goes back for good. A
/// surplus of more than [`MAX_SURPLUS`] is dropped at once.
#[derive(Debug, Default)]
pub struct AudioPacing {
    next: Option<gst::ClockTime>,
    /// When the last packet was due.
    last_due: Option<gst::ClockTime>,
    /// Packets are dropped until one is due when it can be scheduled.
    drops_surplus: bool,
    /// The sum of the backward corrections, in ns.
    backward_shift: i64,
    packets_since_drop: u32,
}

impl AudioPacing {
    /// The end of the packet that was scheduled last.
    pub fn end(&self) -> Option<gst::ClockTime> {
        self.next
    }

    /// Delays the next packet by `shift`.
    pub fn delay_next(&mut self, shift: gst::ClockTime) {
        self.next = self.next.map(|next| next + shift);
    }

    /// Schedules the next packet after one that is at `start`.
    pub fn continue_from(&mut self, start: gst::ClockTime, duration: gst::ClockTime) {
        self.next = Some(start + duration);
    }

    /// The running time for a packet that was due at `due`; `None` if the
    /// packet has to be dropped.
    pub fn schedule(
        &mut self,
        due: gst::ClockTime,
        duration: gst::ClockTime,
    ) -> Option<gst::ClockTime> {
        let since =
            |time: gst::ClockTime| due.nseconds().cast_signed() - time.nseconds().cast_signed();
        let last_due = self.last_due.replace(due);
        let has_other_clock = last_due.is_some_and(|last| is_clock_step(last, due));
        let follows = |next: &gst::ClockTime| since(*next) <= MAX_LATE && !has_other_clock;
        let Some(next) = self.next.filter(follows) else {
            *self = Self {
                last_due: Some(due),
                ..Self::default()
            };
            self.continue_from(due, duration);
            return Some(due);
        };
        let late = since(next);
        self.drops_surplus |= late < -MAX_SURPLUS;
        self.drops_surplus &= late < -EARLY_TOLERANCE;
        if self.drops_surplus {
            return None;
        }
        self.packets_since_drop = self.packets_since_drop.saturating_add(1);
        let correction = match late + EARLY_TOLERANCE {
            _ if late > 0 => (late / CORRECTION_DIVISOR).min(MAX_CORRECTION),
            early if early >= 0 => 0,
            early if self.backward_shift < MAX_BACKWARD_SHIFT => {
                (early / CORRECTION_DIVISOR).max(-MAX_CORRECTION)
            }
            early
                if early.unsigned_abs() >= duration.nseconds()
                    && self.packets_since_drop >= MIN_DROP_SPACING =>
            {
                self.packets_since_drop = 0;
                return None;
            }
            _ => 0,
        };
        self.backward_shift = (self.backward_shift - correction).max(0);
        let start = next.nseconds().saturating_add_signed(correction);
        let start = gst::ClockTime::from_nseconds(start);
        self.continue_from(start, duration);
        Some(start)
    }
}

/// The packets at the start of a stream. They arrive in a burst, because the
/// first of them waits in the jitter buffer and until the decoder exists: from
/// the time of the first alone, the others would be ahead of their time, and
/// the jitter buffer moves them back over one or two seconds. So they are
/// scheduled together.
#[derive(Debug)]
pub struct StartBurst<T> {
    waiting: Vec<(T, PacketTiming)>,
    last_arrival: Option<gst::ClockTime>,
}

/// When a packet was due, and how long it plays.
#[derive(Debug, Clone, Copy)]
pub struct PacketTiming {
    pub due: gst::ClockTime,
    pub duration: gst::ClockTime,
}

impl<T> Default for StartBurst<T> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            last_arrival: None,
        }
    }
}

impl<T> StartBurst<T> {
    /// Adds a packet. Returns all packets with their running times once the
    /// burst is over; the first packet after the burst shows that.
    pub fn add(
        &mut self,
        packet: T,
        timing: PacketTiming,
        arrival: gst::ClockTime,
    ) -> Option<Vec<(T, gst::ClockTime)>> {
        self.waiting.push((packet, timing));
        let last = self.last_arrival.replace(arrival);
        let over = last.is_some_and(|last| arrival.saturating_sub(last) > BURST_INTERVAL);
        over.then(|| self.schedule())
    }

    fn schedule(&mut self) -> Vec<(T, gst::ClockTime)> {
        let mut offset = gst::ClockTime::ZERO;
        let starts = self.waiting.iter().map(|(_, timing)| {
            let start = timing.due.saturating_sub(offset);
            offset += timing.duration;
            start
        });
        let mut next = starts.min().unwrap_or_default();
        let scheduled = self.waiting.drain(..).map(|(packet, timing)| {
            let start = next;
            next += timing.duration;
            (packet, start)
        });
        scheduled.collect()
    }
}

/// How long an Opus packet plays (RFC 6716, section 3.1); `None` if it is not
/// an Opus packet.
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

    /// Schedules packets with these arrivals, in ms; checks that no time goes
    /// back.
    fn run(pacing: &mut AudioPacing, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut times: Vec<gst::ClockTime> = Vec::new();
        let mut drift = 0;
        for arrival in arrivals {
            let Some(placed) = pacing.schedule(ms(arrival), PACKET) else {
                continue;
            };
            if let Some(last) = times.last() {
                let step = (placed - *last).nseconds().cast_signed() - 20_000_000;
                assert!(step >= -MAX_CORRECTION, "{last} {placed}");
                drift = (drift + step).min(0);
                assert!(
                    drift >= -MAX_BACKWARD_SHIFT - MAX_CORRECTION,
                    "back by {drift} ns"
                );
            }
            times.push(placed);
        }
        times.into_iter().map(gst::ClockTime::mseconds).collect()
    }

    #[test]
    fn pacing_burst_after_stall_leaves_no_gap_and_no_overlap() {
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
    fn pacing_late_first_packet_is_corrected_without_overlap() {
        // The first packet is late, the others are on time.
        for late in [10, 50, 100, 190] {
            let mut pacing = AudioPacing::default();
            let arrivals = (1..500).map(|n| 1000 + 20 * n);
            let times = run(&mut pacing, std::iter::once(1000 + late).chain(arrivals));
            let last = 1000 + 20 * 499;
            assert!((last..=last + 40).contains(times.last().unwrap()), "{late}");
            let dropped = 500 - times.len() as u64;
            assert!(dropped <= late / 20, "{dropped} for {late} ms");
        }
    }

    #[test]
    fn pacing_fast_sender_drops_the_excess() {
        // 1 % faster than it should be: 19.8 ms.
        let arrivals = (0..5000).map(|n| 1000 + 198 * n / 10);
        let times = run(&mut AudioPacing::default(), arrivals);
        let last = 1000 + 198 * 4999 / 10;
        assert!(
            (last..=last + 41).contains(times.last().unwrap()),
            "{times:?}"
        );
        // The sender makes 1 s too much, which is 50 packets.
        assert!((45..=52).contains(&(5000 - times.len())), "{}", times.len());
    }

    #[test]
    fn pacing_early_packets_after_pause_do_not_go_back() {
        let mut pacing = AudioPacing::default();
        let times = run(&mut pacing, [1000, 1400, 1250, 1270]);
        assert_eq!(times[1], 1400);
        assert!(times[2] >= 1419, "{times:?}");
        assert_eq!(pacing.schedule(ms(20), PACKET), Some(ms(20)));
    }

    /// Seen at a server that had waited for a processor.
    #[test]
    fn pacing_drops_surplus_and_does_not_go_back() {
        // 3 s of sound in 1.5 s, and then in time.
        let arrivals = (0..150).map(|n| 1000 + 10 * n);
        let arrivals = arrivals.chain((0..200).map(|n| 2500 + 20 * n));
        let times = run(&mut AudioPacing::default(), arrivals);
        let last = 2500 + 20 * 199;
        assert!(
            (last..=last + 40).contains(times.last().unwrap()),
            "{times:?}"
        );
        // The surplus is 75 packets.
        assert!((70..=76).contains(&(350 - times.len())), "{}", times.len());
    }

    /// The running times of the packets of a burst, in ms.
    fn schedule_burst(packets: &[(u64, u64)]) -> Vec<u64> {
        let mut burst = StartBurst::default();
        for &(due, arrived) in packets {
            let timing = PacketTiming {
                due: ms(due),
                duration: PACKET,
            };
            let scheduled = burst.add((), timing, ms(arrived));
            if let Some(scheduled) = scheduled {
                return scheduled.iter().map(|(_, time)| time.mseconds()).collect();
            }
        }
        Vec::new()
    }

    #[test]
    fn start_burst_starts_at_its_earliest_packet() {
        // A packet is due at the earlier of arrival and jitter buffer time.
        let packets = [
            (100, 160),
            (120, 160),
            (140, 161),
            (160, 161),
            (161, 161),
            (181, 181),
        ];
        assert_eq!(schedule_burst(&packets), [81, 101, 121, 141, 161, 181]);
    }

    #[test]
    fn start_burst_on_time_keeps_its_times() {
        assert!(schedule_burst(&[(100, 160)]).is_empty());
        assert_eq!(schedule_burst(&[(100, 160), (120, 180)]), [100, 120]);
    }

    #[test]
    fn pacing_lasting_delay_is_followed_and_jump_is_adopted() {
        let mut pacing = AudioPacing::default();
        run(&mut pacing, (0..10).map(|n| 20 * n));
        let times = run(&mut pacing, (10..200).map(|n| 20 * n + 50));
        assert!(
            (20 * 199 + 49..=20 * 199 + 50).contains(times.last().unwrap()),
            "{times:?}"
        );
        assert_eq!(pacing.schedule(ms(60_000), PACKET), Some(ms(60_000)));
    }

    #[test]
    fn opus_duration_toc_byte_gives_the_duration() {
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
