// SPDX-License-Identifier: MIT

//! The times of audio packets, which are heard when they are uneven.

/// Later than this is no jitter: a pause, or another path.
const JUMP: i64 = 200_000_000;
/// Earlier than this is another clock.
const LEAP_BACK: i64 = 1_000_000_000;
/// How much too late packets may stand for good. The first ones often arrive
/// late, what follows is on time, and an encoder drops its cadence for an
/// overlap when times have gone back by 40 ms (the tolerance of
/// GstAudioEncoder).
const TOLERANCE: i64 = 20_000_000;
/// How much a packet may be moved towards its arrival, as 1/n and at most.
const SHARE: i64 = 8;
const STEP: i64 = 1_000_000;

/// Packets follow each other without a seam and drift towards their arrival.
/// A machine that was busy for a moment hands them over in a bunch: taken at
/// their word, an encoder behind makes a gap and then an overlap of that.
#[derive(Debug, Default)]
pub struct Cadence {
    next: Option<gst::ClockTime>,
}

impl Cadence {
    /// The time for a packet of this duration that arrived at `running`.
    pub fn place(&mut self, running: gst::ClockTime, duration: gst::ClockTime) -> gst::ClockTime {
        let placed = self.next.map_or(running, |next| {
            let late = running.nseconds() as i64 - next.nseconds() as i64;
            if !(-LEAP_BACK..=JUMP).contains(&late) {
                return running;
            }
            let off = late.max(0) + (late + TOLERANCE).min(0);
            let step = (off / SHARE).clamp(-STEP, STEP);
            gst::ClockTime::from_nseconds(next.nseconds().saturating_add_signed(step))
        });
        self.next = Some(placed + duration);
        placed
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PACKET: gst::ClockTime = gst::ClockTime::from_mseconds(20);

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    #[test]
    fn a_bunch_after_a_stall_leaves_no_gap_and_no_overlap() {
        let mut cadence = Cadence::default();
        let mut last = cadence.place(ms(1000), PACKET);
        // 100 ms late, then five at once, then on time again.
        let arrivals = [1120, 1120, 1120, 1121, 1121, 1122, 1140, 1160, 1180];
        for arrival in arrivals {
            let placed = cadence.place(ms(arrival), PACKET);
            let distance = (placed - last).nseconds().abs_diff(PACKET.nseconds());
            assert!(distance <= STEP as u64, "{last} {placed}");
            last = placed;
        }
        assert!((ms(1180)..ms(1190)).contains(&last), "{last}");
    }

    #[test]
    fn a_late_start_does_not_make_an_overlap() {
        let mut cadence = Cadence::default();
        // The first packet 50 ms late, what follows on time.
        let first = cadence.place(ms(1050), PACKET);
        let place = |n: u64| cadence.place(ms(1000 + 20 * n), PACKET);
        let last = (1..500).map(place).last().unwrap();
        let back = first + PACKET * 499 - last;
        assert!(back < ms(40), "{back}");
        assert!(last - ms(1000 + 20 * 499) <= ms(21), "{last}");
    }

    #[test]
    fn what_comes_early_after_a_pause_does_not_jump_back() {
        let mut cadence = Cadence::default();
        cadence.place(ms(1000), PACKET);
        let late = cadence.place(ms(1400), PACKET);
        let next = cadence.place(ms(1100), PACKET);
        assert!(next - late >= ms(19), "{late} {next}");
        assert_eq!(cadence.place(ms(20), PACKET), ms(20));
    }

    #[test]
    fn a_lasting_delay_is_followed_and_a_jump_taken_at_once() {
        let mut cadence = Cadence::default();
        for n in 0..10 {
            cadence.place(ms(20 * n), PACKET);
        }
        let placed = (10..200)
            .map(|n| cadence.place(ms(20 * n + 50), PACKET))
            .last()
            .unwrap();
        assert!(
            placed.nseconds().abs_diff(ms(20 * 199 + 50).nseconds()) < 1_000_000,
            "{placed}"
        );
        assert_eq!(cadence.place(ms(60_000), PACKET), ms(60_000));
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
