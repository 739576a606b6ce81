// SPDX-License-Identifier: MIT

use super::*;

const PICTURES: u32 = 90_000;
const SOUND: u32 = 48_000;

/// A sender's stream, whose RTP time begins somewhere. Times in ms.
struct Sender {
    ssrc: u32,
    rate: u32,
    first: u32,
    number: u16,
}

impl Sender {
    fn new(rate: u32) -> Self {
        let (ssrc, first, number) = (rate, u32::MAX - rate, u16::MAX - 5);
        Self {
            ssrc,
            rate,
            first,
            number,
        }
    }

    /// Sent then, by the sender's clock.
    fn packet(&mut self, sent: i64) -> RtpHeader {
        self.number = self.number.wrapping_add(1);
        RtpHeader {
            ssrc: self.ssrc,
            number: self.number,
            time: self.time(sent),
        }
    }

    fn time(&self, sent: i64) -> u32 {
        let ticks = sent * i64::from(self.rate) / 1000;
        self.first.wrapping_add(ticks as u32)
    }

    /// The sender's clock began long before.
    fn report(&self, sent: i64) -> SenderReport {
        SenderReport {
            ssrc: self.ssrc,
            ntp: (4_000_000_000 << 32) + ((sent << 32) / 1000) as u64,
            time: self.time(sent),
        }
    }

    /// Sends one every 20 ms of this span; each is on its way for so long.
    /// Returns by how much what is placed is off from when it was sent.
    fn send(
        &mut self,
        rtp_clock: &mut RtpClock,
        span: std::ops::Range<i64>,
        delay: impl Fn(i64) -> i64,
    ) -> Vec<i64> {
        let sent = span.step_by(20);
        sent.map(|sent| {
            let packet = self.packet(sent);
            rtp_clock.arrived(packet, self.rate, (sent + delay(sent)) * MS);
            let placed = rtp_clock.place(packet);
            (placed.unwrap_or(i64::MIN) - sent * MS) / MS
        })
        .collect()
    }

    /// What is lost on the way.
    fn lose(&mut self, count: u16) {
        self.number = self.number.wrapping_add(count);
    }
}

/// Uneven, and at times none: 0 to 38 ms.
fn jitter(sent: i64) -> i64 {
    (sent / 20 * 7 % 20) * 2
}

#[test]
fn it_goes_by_the_quickest() {
    let (mut rtp_clock, mut sender) = (RtpClock::default(), Sender::new(SOUND));
    let off = sender.send(&mut rtp_clock, 0..10_000, |sent| 5 + jitter(sent));
    assert!(off[20..].iter().all(|&off| off == 5), "{off:?}");
    // The first is as early as what was known, and none goes back.
    let times: Vec<i64> = off.iter().zip(0..).map(|(off, n)| off + 20 * n).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn packets_of_a_picture_have_one_time() {
    let (mut rtp_clock, mut sender) = (RtpClock::default(), Sender::new(PICTURES));
    let first = sender.packet(0);
    rtp_clock.arrived(first, PICTURES, 30 * MS);
    let placed = rtp_clock.place(first);
    let second = sender.packet(0);
    rtp_clock.arrived(second, PICTURES, 10 * MS);
    assert_eq!(rtp_clock.place(second), placed);
    assert_eq!(placed, Some(30 * MS));
    // The next knows better, and is not before it.
    let next = sender.packet(33);
    rtp_clock.arrived(next, PICTURES, 43 * MS);
    assert_eq!(rtp_clock.place(next), Some(43 * MS));
}

#[test]
fn what_waited_in_a_queue_after_an_outage_moves_nothing() {
    for rate in [PICTURES, SOUND] {
        let (mut rtp_clock, mut sender) = (RtpClock::default(), Sender::new(rate));
        sender.send(&mut rtp_clock, 0..5_000, jitter);
        for outage in 1..6 {
            let begin = 5_000 * outage;
            sender.lose(100);
            // A queue of nearly a second empties within half a second.
            let queued = |sent: i64| (930 - 2 * (sent - begin - 2_000)).max(0);
            let off = sender.send(&mut rtp_clock, begin + 2_000..begin + 5_000, |sent| {
                queued(sent).max(jitter(sent))
            });
            assert!(off.iter().all(|&off| off == 0), "{rate}: {off:?}");
        }
    }
}

#[test]
fn a_longer_way_is_followed_soon_and_a_shorter_one_at_once() {
    let (mut rtp_clock, mut sender) = (RtpClock::default(), Sender::new(SOUND));
    sender.send(&mut rtp_clock, 0..5_000, jitter);
    let off = sender.send(&mut rtp_clock, 5_000..8_000, |sent| 300 + jitter(sent));
    assert!(off[..25].iter().all(|&off| off == 0), "{off:?}");
    assert!(off[40..].iter().all(|&off| off == 300), "{off:?}");
    let off = sender.send(&mut rtp_clock, 8_000..9_000, jitter);
    assert!(off[20..].iter().all(|&off| off == 0), "{off:?}");
    // A little longer: without a jump.
    let off = sender.send(&mut rtp_clock, 9_000..30_000, |sent| 40 + jitter(sent));
    let steps = off[20..].windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.max() <= Some(10), "{off:?}");
    assert!(off.last() > Some(&35), "{off:?}");
}

#[test]
fn a_clock_that_stopped_meanwhile_goes_on_at_once() {
    let (mut rtp_clock, mut sender) = (RtpClock::default(), Sender::new(SOUND));
    sender.send(&mut rtp_clock, 0..5_000, jitter);
    // Nothing was sent for 3 s, and RTP time did not go on.
    let off = sender.send(&mut rtp_clock, 5_000..6_000, |_| 3_000);
    assert!(off.iter().all(|&off| off == 3_000), "{off:?}");
    // Or began anew.
    sender.first = sender.first.wrapping_add(1 << 30);
    let off = sender.send(&mut rtp_clock, 6_000..7_000, |_| 3_000);
    assert!(off.iter().all(|&off| off == 3_000), "{off:?}");
}

#[test]
fn streams_wait_for_each_other_by_their_reports() {
    let mut rtp_clock = RtpClock::default();
    let (mut pictures, mut sound) = (Sender::new(PICTURES), Sender::new(SOUND));
    pictures.send(&mut rtp_clock, 0..1_000, |_| 10);
    sound.send(&mut rtp_clock, 0..1_000, |_| 80);
    for second in 1..10 {
        rtp_clock.reported(pictures.report(1_000 * second));
        rtp_clock.reported(sound.report(1_000 * second));
        let span = 1_000 * second..1_000 * (second + 1);
        let off = pictures.send(&mut rtp_clock, span.clone(), |_| 10);
        // By a little more each time, once it is sure.
        let steps = off.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.clone().all(|step| (0..=1).contains(&step)), "{off:?}");
        assert!(second > 1 || off.iter().all(|&off| off == 10), "{off:?}");
        assert!(
            second < 6 || off.iter().all(|off| (79..=80).contains(off)),
            "{off:?}"
        );
        let off = sound.send(&mut rtp_clock, span, |_| 80);
        assert!(off.iter().all(|&off| off == 80), "{off:?}");
    }
    // Sound that comes late for a moment does not delay the pictures, whatever
    // is reported meanwhile.
    sound.lose(100);
    let late = |sent: i64| 80 + (900 - 2 * (sent - 12_000)).max(0);
    for part in 0..10 {
        let begin = 12_000 + 100 * part;
        sound.send(&mut rtp_clock, begin..begin + 100, late);
        rtp_clock.reported(sound.report(begin + 100));
        let off = pictures.send(&mut rtp_clock, begin..begin + 100, |_| 10);
        assert!(off.iter().all(|off| (79..=80).contains(off)), "{off:?}");
    }
}

#[test]
fn reports_that_make_no_sense_change_nothing() {
    let mut rtp_clock = RtpClock::default();
    let (mut pictures, mut sound) = (Sender::new(PICTURES), Sender::new(SOUND));
    rtp_clock.reported(sound.report(0));
    pictures.send(&mut rtp_clock, 0..5_000, |_| 10);
    sound.send(&mut rtp_clock, 0..5_000, |_| 20);
    rtp_clock.reported(pictures.report(5_000));
    // 5 s off.
    rtp_clock.reported(SenderReport {
        time: sound.time(0),
        ..sound.report(5_000)
    });
    let off = pictures.send(&mut rtp_clock, 5_000..7_000, |_| 10);
    assert!(off.iter().all(|&off| off == 10), "{off:?}");
    let stranger = RtpHeader {
        ssrc: 7,
        number: 0,
        time: 0,
    };
    assert_eq!(rtp_clock.place(stranger), None);
}
