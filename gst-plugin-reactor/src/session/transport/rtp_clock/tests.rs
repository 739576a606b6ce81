// SPDX-License-Identifier: MIT

use super::*;

const VIDEO_HZ: u32 = 90_000;
const AUDIO_HZ: u32 = 48_000;

/// A sent stream, whose RTP timestamps and sequence numbers wrap soon. Times are
/// in milliseconds on the sender's clock.
struct SentStream {
    ssrc: u32,
    clock_rate: u32,
    first_timestamp: u32,
    sequence_number: u16,
}

impl SentStream {
    fn new(clock_rate: u32) -> Self {
        Self {
            ssrc: clock_rate,
            clock_rate,
            first_timestamp: u32::MAX - clock_rate,
            sequence_number: u16::MAX - 5,
        }
    }

    fn packet(&mut self, sent: i64) -> RtpHeader {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        RtpHeader {
            ssrc: self.ssrc,
            sequence_number: self.sequence_number,
            timestamp: self.timestamp(sent),
        }
    }

    fn timestamp(&self, sent: i64) -> u32 {
        let ticks = sent * i64::from(self.clock_rate) / 1000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    /// The NTP epoch is long before the first packet.
    fn report(&self, sent: i64) -> SenderReport {
        SenderReport {
            ssrc: self.ssrc,
            ntp_timestamp: (4_000_000_000 << 32) + ((sent << 32) / 1000) as u64,
            rtp_timestamp: self.timestamp(sent),
        }
    }

    /// Sends a packet every 20 ms of this span, with this network delay. Returns
    /// each presentation time minus the time of sending.
    fn send(
        &mut self,
        rtp_clock: &mut RtpClock,
        span: std::ops::Range<i64>,
        delay: impl Fn(i64) -> i64,
    ) -> Vec<i64> {
        let sent = span.step_by(20);
        sent.map(|sent| {
            let packet = self.packet(sent);
            rtp_clock.observe_packet(packet, self.clock_rate, (sent + delay(sent)) * NS_PER_MS);
            let time = rtp_clock.presentation_time(packet);
            (time.unwrap_or(i64::MIN) - sent * NS_PER_MS) / NS_PER_MS
        })
        .collect()
    }

    /// Skips the sequence numbers of packets that the network loses.
    fn lose(&mut self, count: u16) {
        self.sequence_number = self.sequence_number.wrapping_add(count);
    }
}

/// Sends both streams in these seconds, video with a network delay of 10 ms and audio
/// with 80, and a report of each every second. Returns the last of what `send` returns
/// of video.
fn send_both(
    rtp_clock: &mut RtpClock,
    video: &mut SentStream,
    audio: &mut SentStream,
    seconds: std::ops::Range<i64>,
) -> i64 {
    let mut last = i64::MIN;
    for second in seconds {
        rtp_clock.observe_sender_report(video.report(1_000 * second));
        rtp_clock.observe_sender_report(audio.report(1_000 * second));
        let span = 1_000 * second..1_000 * (second + 1);
        audio.send(rtp_clock, span.clone(), |_| 80);
        last = video.send(rtp_clock, span, |_| 10)[49];
    }
    last
}

/// An uneven delay of 0 to 38 ms.
fn jitter(sent: i64) -> i64 {
    (sent / 20 * 7 % 20) * 2
}

#[test]
fn jittered_stream_is_presented_at_least_delay() {
    let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(AUDIO_HZ));
    let off = stream.send(&mut rtp_clock, 0..10_000, |sent| 5 + jitter(sent));
    assert!(off[20..].iter().all(|&off| off == 5), "{off:?}");
    // Presentation times never go back.
    let times: Vec<i64> = off.iter().zip(0..).map(|(off, n)| off + 20 * n).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn packets_of_one_frame_share_presentation_time() {
    let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(VIDEO_HZ));
    let first = stream.packet(0);
    rtp_clock.observe_packet(first, VIDEO_HZ, 30 * NS_PER_MS);
    let presented = rtp_clock.presentation_time(first);
    let second = stream.packet(0);
    rtp_clock.observe_packet(second, VIDEO_HZ, 10 * NS_PER_MS);
    assert_eq!(rtp_clock.presentation_time(second), presented);
    assert_eq!(presented, Some(30 * NS_PER_MS));
    // The next frame has the lesser delay, and is not before the first.
    let next = stream.packet(33);
    rtp_clock.observe_packet(next, VIDEO_HZ, 43 * NS_PER_MS);
    assert_eq!(rtp_clock.presentation_time(next), Some(43 * NS_PER_MS));
}

#[test]
fn lateness_is_what_packets_waited_for_a_missing_one() {
    let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(VIDEO_HZ));
    stream.send(&mut rtp_clock, 0..5_000, |_| 5);
    assert_eq!(rtp_clock.take_longest_lateness(), 0);
    let missing = stream.packet(5_000);
    let waiting: Vec<_> = (1..6).map(|n| stream.packet(5_000 + 20 * n)).collect();
    for (packet, n) in waiting.iter().zip(1..) {
        let arrival = 5_005 + 20 * n;
        rtp_clock.observe_packet(*packet, VIDEO_HZ, arrival * NS_PER_MS);
    }
    rtp_clock.observe_packet(missing, VIDEO_HZ, 5_112 * NS_PER_MS);
    for packet in [missing].iter().chain(&waiting) {
        rtp_clock.presentation_time(*packet);
    }
    assert_eq!(rtp_clock.take_longest_lateness(), 107 * NS_PER_MS);
    assert_eq!(rtp_clock.take_longest_lateness(), 0);
}

#[test]
fn queued_packets_after_outage_move_nothing() {
    for clock_rate in [VIDEO_HZ, AUDIO_HZ] {
        let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(clock_rate));
        stream.send(&mut rtp_clock, 0..5_000, jitter);
        for outage in 1..6 {
            let begin = 5_000 * outage;
            stream.lose(100);
            // A queue of nearly a second empties within half a second.
            let queued = |sent: i64| (930 - 2 * (sent - begin - 2_000)).max(0);
            let off = stream.send(&mut rtp_clock, begin + 2_000..begin + 5_000, |sent| {
                queued(sent).max(jitter(sent))
            });
            assert!(off.iter().all(|&off| off == 0), "{clock_rate}: {off:?}");
        }
    }
}

#[test]
fn path_delay_longer_is_followed_soon_shorter_at_once() {
    let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(AUDIO_HZ));
    stream.send(&mut rtp_clock, 0..5_000, jitter);
    let off = stream.send(&mut rtp_clock, 5_000..8_000, |sent| 300 + jitter(sent));
    assert!(off[..25].iter().all(|&off| off == 0), "{off:?}");
    assert!(off[40..].iter().all(|&off| off == 300), "{off:?}");
    let off = stream.send(&mut rtp_clock, 8_000..9_000, jitter);
    assert!(off[20..].iter().all(|&off| off == 0), "{off:?}");
    // A change below the threshold is followed without a jump.
    let off = stream.send(&mut rtp_clock, 9_000..30_000, |sent| 40 + jitter(sent));
    let steps = off[20..].windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.max() <= Some(10), "{off:?}");
    assert!(off.last() > Some(&35), "{off:?}");
}

#[test]
fn stopped_rtp_clock_restarts_at_once() {
    let (mut rtp_clock, mut stream) = (RtpClock::default(), SentStream::new(AUDIO_HZ));
    stream.send(&mut rtp_clock, 0..5_000, jitter);
    // Nothing is sent for 3 s, and the RTP clock stops.
    let off = stream.send(&mut rtp_clock, 5_000..6_000, |_| 3_000);
    assert!(off.iter().all(|&off| off == 3_000), "{off:?}");
    // The RTP clock starts at another value.
    stream.first_timestamp = stream.first_timestamp.wrapping_add(1 << 30);
    let off = stream.send(&mut rtp_clock, 6_000..7_000, |_| 3_000);
    assert!(off.iter().all(|&off| off == 3_000), "{off:?}");
}

#[test]
fn sender_reports_keep_streams_in_sync() {
    let mut rtp_clock = RtpClock::default();
    let (mut video, mut audio) = (SentStream::new(VIDEO_HZ), SentStream::new(AUDIO_HZ));
    video.send(&mut rtp_clock, 0..1_000, |_| 10);
    audio.send(&mut rtp_clock, 0..1_000, |_| 80);
    for second in 1..10 {
        rtp_clock.observe_sender_report(video.report(1_000 * second));
        rtp_clock.observe_sender_report(audio.report(1_000 * second));
        let span = 1_000 * second..1_000 * (second + 1);
        let off = video.send(&mut rtp_clock, span.clone(), |_| 10);
        // By at most 1 ms per packet, once the delay is known.
        let steps = off.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.clone().all(|step| (0..=1).contains(&step)), "{off:?}");
        assert!(second > 1 || off.iter().all(|&off| off == 10), "{off:?}");
        assert!(
            second < 6 || off.iter().all(|off| (79..=80).contains(off)),
            "{off:?}"
        );
        let off = audio.send(&mut rtp_clock, span, |_| 80);
        assert!(off.iter().all(|&off| off == 80), "{off:?}");
    }
    // Audio that is late for a moment does not delay video, whatever its
    // sender reports say.
    audio.lose(100);
    let late = |sent: i64| 80 + (900 - 2 * (sent - 12_000)).max(0);
    for part in 0..10 {
        let begin = 12_000 + 100 * part;
        audio.send(&mut rtp_clock, begin..begin + 100, late);
        rtp_clock.observe_sender_report(audio.report(begin + 100));
        let off = video.send(&mut rtp_clock, begin..begin + 100, |_| 10);
        assert!(off.iter().all(|off| (79..=80).contains(off)), "{off:?}");
    }
}

#[test]
fn stream_that_is_silent_delays_no_other_until_it_goes_on() {
    let mut rtp_clock = RtpClock::default();
    let (mut video, mut audio) = (SentStream::new(VIDEO_HZ), SentStream::new(AUDIO_HZ));
    // The streams begin before their first reports.
    audio.send(&mut rtp_clock, 0..1_000, |_| 80);
    video.send(&mut rtp_clock, 0..1_000, |_| 10);
    let off = send_both(&mut rtp_clock, &mut video, &mut audio, 1..10);
    assert!((79..=80).contains(&off), "{off}");
    // Audio that is silent for a moment is waited for.
    let off = video.send(&mut rtp_clock, 10_000..14_500, |_| 10);
    assert!(off.iter().all(|off| (79..=80).contains(off)), "{off:?}");
    // Then video takes its time back, by at most 1 ms per packet.
    let off = video.send(&mut rtp_clock, 14_500..20_000, |_| 10);
    let mut steps = off.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.all(|step| (-1..=0).contains(&step)), "{off:?}");
    assert_eq!(off.last(), Some(&10), "{off:?}");
    // They are in sync again, whether the RTP clock of audio went on or stopped for 9 s.
    let off = send_both(&mut rtp_clock, &mut video, &mut audio, 20..30);
    assert!((79..=80).contains(&off), "{off}");
    let off = video.send(&mut rtp_clock, 30_000..40_000, |_| 10);
    assert_eq!(off.last(), Some(&10), "{off:?}");
    audio.first_timestamp = audio.first_timestamp.wrapping_sub(9 * AUDIO_HZ);
    let off = send_both(&mut rtp_clock, &mut video, &mut audio, 40..50);
    assert!((79..=80).contains(&off), "{off}");
}

#[test]
fn implausible_sender_reports_change_nothing() {
    let mut rtp_clock = RtpClock::default();
    let (mut video, mut audio) = (SentStream::new(VIDEO_HZ), SentStream::new(AUDIO_HZ));
    rtp_clock.observe_sender_report(audio.report(0));
    video.send(&mut rtp_clock, 0..5_000, |_| 10);
    audio.send(&mut rtp_clock, 0..5_000, |_| 20);
    rtp_clock.observe_sender_report(video.report(5_000));
    // A report that is wrong by 5 s.
    rtp_clock.observe_sender_report(SenderReport {
        rtp_timestamp: audio.timestamp(0),
        ..audio.report(5_000)
    });
    let off = video.send(&mut rtp_clock, 5_000..7_000, |_| 10);
    assert!(off.iter().all(|&off| off == 10), "{off:?}");
    let unknown = RtpHeader {
        ssrc: 7,
        sequence_number: 0,
        timestamp: 0,
    };
    assert_eq!(rtp_clock.presentation_time(unknown), None);
}
