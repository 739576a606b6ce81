// SPDX-License-Identifier: MIT

//! What the packets that arrive tell of the link that they came through: whether a
//! queue stands in front of it, the bitrate that passes, and what would pass. Pure
//! arithmetic, called by `rtp_probes` on a streaming thread under a lock; it reads
//! no clock and knows no GStreamer type.
//!
//! A packet's delay is the time from its RTP timestamp to its arrival, compared
//! with the quickest packet of its stream. Where the least delay of a while is
//! long, a queue stands, and what arrives is all that the link carries
//! (draft-ietf-rmcat-gcc-02, 5; CoDel, RFC 8289, 3). A link without a queue shows
//! its capacity by the distance of packets that the server sends at once: those of
//! a frame, which are few, or those of a large message (`packet_train`).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::packet_train::{self, PacketTrain};
use crate::session::machine::LinkState;

/// The queue and the bitrate are those of this time.
const WINDOW: Duration = Duration::from_millis(300);
/// The least part of it that has to be known.
const MIN_SPAN: Duration = Duration::from_millis(250);
const MIN_PACKETS: usize = 8;
/// The least delay that is a queue: more than jitter.
const QUEUE_DELAY: Duration = Duration::from_millis(100);
/// In front of a queue, packets come one after the other. A longer pause is the
/// sender's, or an outage.
const MAX_GAP: Duration = Duration::from_millis(150);
/// The quickest packet is the quickest of this number of seconds.
const BASE_SECONDS: usize = 20;
/// How often the state is assessed while it does not change.
const INTERVAL: Duration = Duration::from_secs(1);
/// While a queue stands.
const QUEUE_INTERVAL: Duration = Duration::from_millis(100);
/// The capacity is the median of the last pairs of packets: a receiver that is late
/// reads some of them at once.
const MAX_PAIRS: usize = 20;
const MIN_PAIRS: usize = 3;
const PAIRS_AGE: Duration = Duration::from_secs(4);
/// On a link that is full, three of four pairs are no faster than this multiple of
/// what arrives, of the least number of pairs in this time.
const FULL_RATIO: f64 = 1.5;
const MIN_FULL_PAIRS: usize = 5;
const FULL_AGE: Duration = Duration::from_millis(700);
/// A network that lets packets overtake each other delays each by itself: how far
/// apart they arrive says nothing of a queue, which reorders none. For this time.
const REORDERED_AGE: Duration = Duration::from_secs(4);

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Since any fixed instant.
    pub at: Duration,
    /// In bytes, with the headers of UDP and IP.
    pub size: u32,
    /// Of a data channel.
    pub is_data: bool,
    /// Of media, but not of retransmissions, which are sent later.
    pub media: Option<MediaTime>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MediaTime {
    pub ssrc: u32,
    pub sequence_number: u16,
    pub timestamp: u32,
    /// In Hz.
    pub clock_rate: u32,
}

#[derive(Debug, Default)]
pub(super) struct ReceiveBandwidthEstimator {
    streams: HashMap<u32, Stream>,
    /// The arrivals of the window, with their delays in nanoseconds.
    window: VecDeque<(Arrival, Option<i64>)>,
    /// When pairs of packets came, the size of the second, and their distance.
    pairs: VecDeque<(Duration, u32, Duration)>,
    train: PacketTrain,
    assessed: Duration,
    /// What the link carries, in bits per second, or more.
    available: Option<u32>,
    /// When a packet last came after one that was sent later.
    reordered: Option<Duration>,
    /// All packets were late at some time since [`Self::take_late`].
    was_late: bool,
}

/// One SSRC. Times are in nanoseconds.
#[derive(Debug, Default)]
struct Stream {
    /// The extended timestamp and its last 32 bits.
    timestamp: Option<(i64, u32)>,
    /// The least time from timestamp to arrival in each second.
    bases: VecDeque<(u64, i64)>,
    /// The highest sequence number.
    newest: Option<u16>,
}

impl Stream {
    /// Whether a packet of a higher number came before this one.
    fn is_overtaken(&mut self, number: u16) -> bool {
        let ahead = number.wrapping_sub(self.newest.unwrap_or(number)) as i16;
        if ahead >= 0 {
            self.newest = Some(number);
        }
        ahead < 0
    }

    /// The delay of a packet.
    fn observe(&mut self, at: Duration, media: MediaTime) -> i64 {
        let (extended, last) = self.timestamp.unwrap_or((0, media.timestamp));
        let extended = extended + i64::from(media.timestamp.wrapping_sub(last).cast_signed());
        self.timestamp = Some((extended, media.timestamp));
        let sent = i128::from(extended) * 1_000_000_000 / i128::from(media.clock_rate.max(1));
        let offset = at.as_nanos() as i64 - sent as i64;
        match self.bases.back_mut() {
            Some((second, base)) if *second == at.as_secs() => *base = offset.min(*base),
            _ => self.bases.push_back((at.as_secs(), offset)),
        }
        if self.bases.len() > BASE_SECONDS {
            self.bases.pop_front();
        }
        let base = self.bases.iter().map(|(_, base)| *base).min();
        offset - base.unwrap_or(offset)
    }
}

impl ReceiveBandwidthEstimator {
    /// Takes in a packet; returns the state of the link from time to time.
    pub(super) fn observe(&mut self, arrival: Arrival) -> Option<LinkState> {
        let delay = arrival.media.map(|media| {
            let stream = self.streams.entry(media.ssrc).or_default();
            if stream.is_overtaken(media.sequence_number) {
                self.reordered = Some(arrival.at);
            }
            stream.observe(arrival.at, media)
        });
        self.observe_pair(arrival);
        let Arrival {
            at, size, is_data, ..
        } = arrival;
        let measured = self.train.observe(at, size, is_data);
        self.window.push_back((arrival, delay));
        let begin = arrival.at.saturating_sub(WINDOW);
        while self.window.front().is_some_and(|(old, _)| old.at < begin) {
            self.window.pop_front();
        }
        let since = arrival.at.saturating_sub(self.assessed);
        if since < QUEUE_INTERVAL && measured.is_none() {
            return None;
        }
        let is_late = self.is_late();
        let received = self.received();
        let queued = is_late && self.is_full(arrival.at, received);
        if !queued && since < INTERVAL && measured.is_none() {
            return None;
        }
        self.assessed = arrival.at;
        self.was_late |= is_late;
        // Only what fills the link shows how little it carries.
        let filled = measured.or(queued.then_some(received));
        let arrives = (since >= INTERVAL).then_some(received);
        self.available = filled.or(self.available.max(arrives));
        Some(LinkState {
            received,
            queued,
            capacity: self.capacity(arrival.at),
            measured,
        })
    }

    /// What the link was last seen to carry, in bits per second: what passed when
    /// it was full, or more that arrived since.
    pub(super) fn available(&self) -> Option<u32> {
        self.available
    }

    /// When the last packet arrived.
    pub(super) fn last_arrival(&self) -> Option<Duration> {
        self.window.back().map(|(arrival, _)| arrival.at)
    }

    /// Whether all packets were late at some time since the previous call.
    pub(super) fn take_late(&mut self) -> bool {
        std::mem::take(&mut self.was_late)
    }

    /// The second of two packets of one frame.
    fn observe_pair(&mut self, arrival: Arrival) {
        let key = |arrival: &Arrival| arrival.media.map(|media| (media.ssrc, media.timestamp));
        let before = self.window.back().map(|(before, _)| *before);
        let Some(before) = before.filter(|before| key(before) == key(&arrival)) else {
            return;
        };
        if key(&arrival).is_some() && arrival.size >= packet_train::MIN_SIZE {
            let gap = arrival
                .at
                .saturating_sub(before.at)
                .max(packet_train::MIN_GAP);
            self.pairs.push_back((arrival.at, arrival.size, gap));
            if self.pairs.len() > MAX_PAIRS {
                self.pairs.pop_front();
            }
        }
    }

    fn span(&self) -> Duration {
        let ends = self.window.front().zip(self.window.back());
        ends.map_or(Duration::ZERO, |((first, _), (last, _))| last.at - first.at)
    }

    /// Whether every packet of the window waited, in a queue or for a sender.
    fn is_late(&self) -> bool {
        let mut delays = self.window.iter().filter_map(|(_, delay)| *delay);
        let packets = delays.clone().count();
        let threshold = QUEUE_DELAY.as_nanos() as i64;
        let arrivals = self.window.iter().map(|(arrival, _)| arrival.at);
        let mut gaps = arrivals.clone().zip(arrivals.skip(1)).map(|(a, b)| b - a);
        packets >= MIN_PACKETS
            && self.span() >= MIN_SPAN
            && delays.all(|delay| delay >= threshold)
            && gaps.all(|gap| gap <= MAX_GAP)
    }

    /// Whether no more passes than what arrives: most packets of a frame come one
    /// after the other, and not at once, as from a sender or to a receiver that is
    /// late.
    fn is_full(&self, now: Duration, received: u32) -> bool {
        let is_recent = |at| now.saturating_sub(at) < REORDERED_AGE;
        if self.reordered.is_some_and(is_recent) {
            return false;
        }
        let begin = now.saturating_sub(FULL_AGE);
        let rates = self.pair_rates(begin);
        let upper = rates.get(rates.len() * 3 / 4);
        let limit = f64::from(received) * FULL_RATIO;
        rates.len() >= MIN_FULL_PAIRS && upper.is_some_and(|rate| *rate <= limit)
    }

    /// The rates of the pairs since then in bits per second, the least first.
    fn pair_rates(&self, begin: Duration) -> Vec<f64> {
        let pairs = self.pairs.iter().filter(|(at, ..)| *at >= begin);
        let rate = |size: u32, gap: Duration| f64::from(size) * 8.0 / gap.as_secs_f64();
        let mut rates: Vec<f64> = pairs.map(|(_, size, gap)| rate(*size, *gap)).collect();
        rates.sort_unstable_by(f64::total_cmp);
        rates
    }

    /// In bits per second.
    fn received(&self) -> u32 {
        // The first packet came before the span.
        let bytes: u32 = self.window.iter().skip(1).map(|(a, _)| a.size).sum();
        let span = self.span().as_secs_f64();
        if span > 0.0 {
            (f64::from(bytes) * 8.0 / span) as u32
        } else {
            0
        }
    }

    /// In bits per second.
    fn capacity(&self, now: Duration) -> Option<u32> {
        let rates = self.pair_rates(now.saturating_sub(PAIRS_AGE));
        let median = rates
            .get(rates.len() / 2)
            .filter(|_| rates.len() >= MIN_PAIRS);
        median.map(|rate| *rate as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: u32 = 1;
    const AUDIO: u32 = 2;
    /// The size of an audio packet, 20 ms.
    const AUDIO_SIZE: u32 = 140;
    const MTU: u32 = 1200;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A sender of 30 frames per second and sound, and a link with a queue.
    struct Path {
        estimator: ReceiveBandwidthEstimator,
        capacity: u32,
        /// Until when the link is busy.
        busy: Duration,
        queue: Duration,
        delay: Duration,
        jitter: Duration,
        lost_percent: u64,
        sequence_numbers: HashMap<u32, u16>,
        is_numbered: bool,
        random: u64,
        video_bitrate: u32,
        has_audio: bool,
        now_ms: u64,
        states: Vec<LinkState>,
        /// Packets wait for the sender until then.
        stalled_until: Duration,
    }

    impl Path {
        fn new(capacity: u32, video_bitrate: u32) -> Self {
            Self {
                estimator: ReceiveBandwidthEstimator::default(),
                capacity,
                busy: Duration::ZERO,
                queue: ms(600),
                delay: Duration::ZERO,
                jitter: Duration::ZERO,
                lost_percent: 0,
                sequence_numbers: HashMap::new(),
                is_numbered: true,
                random: 7,
                video_bitrate,
                has_audio: true,
                now_ms: 0,
                states: Vec::new(),
                stalled_until: Duration::ZERO,
            }
        }

        fn random(&mut self, below: u64) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random % below.max(1)
        }

        fn send(
            &mut self,
            sent: Duration,
            size: u32,
            ssrc: u32,
            rate: u32,
            out: &mut Vec<Arrival>,
        ) {
            let sequence_number = self.sequence_numbers.entry(ssrc).or_default();
            *sequence_number = sequence_number.wrapping_add(self.is_numbered.into());
            let sequence_number = *sequence_number;
            let at = sent.max(self.stalled_until);
            let full = self.busy > at + self.queue;
            if full || self.random(100) < self.lost_percent {
                return;
            }
            let seconds = f64::from(size) * 8.0 / f64::from(self.capacity);
            self.busy = self.busy.max(at) + Duration::from_secs_f64(seconds);
            let jitter = self.random(self.jitter.as_micros() as u64 + 1);
            out.push(Arrival {
                at: self.busy + self.delay + Duration::from_micros(jitter),
                size,
                is_data: false,
                media: Some(MediaTime {
                    ssrc,
                    sequence_number,
                    timestamp: (sent.as_secs_f64() * f64::from(rate)) as u32,
                    clock_rate: rate,
                }),
            });
        }

        fn run(&mut self, time: Duration) -> &mut Self {
            let mut arrivals = Vec::new();
            let end = self.now_ms + time.as_millis() as u64;
            while self.now_ms < end {
                let sent = ms(self.now_ms);
                if self.now_ms.is_multiple_of(20) && self.has_audio {
                    self.send(sent, AUDIO_SIZE, AUDIO, 48_000, &mut arrivals);
                }
                if self.now_ms.is_multiple_of(33) {
                    let mut rest = self.video_bitrate / 8 / 30;
                    while rest > 0 {
                        let size = rest.min(MTU);
                        self.send(sent, size, VIDEO, 90_000, &mut arrivals);
                        rest -= size;
                    }
                }
                self.now_ms += 1;
            }
            arrivals.sort_by_key(|arrival| arrival.at);
            for arrival in arrivals {
                self.states.extend(self.estimator.observe(arrival));
            }
            self
        }

        fn queued(&self) -> Option<LinkState> {
            self.states.iter().find(|state| state.queued).copied()
        }

        fn capacity(&self) -> u32 {
            let last = self.states.iter().rev().find_map(|state| state.capacity);
            last.expect("an estimate")
        }
    }

    #[test]
    fn link_that_is_too_small_shows_queue_and_what_passes() {
        for (capacity, sent) in [(400_000, 540_000), (250_000, 540_000), (500_000, 4_000_000)] {
            let mut path = Path::new(capacity, sent);
            let state = path.run(ms(1500)).queued().expect("a queue");
            let error = state.received.abs_diff(capacity);
            assert!(error < capacity / 10, "{capacity}: {state:?}");
            let available = path.estimator.available().expect("an estimate");
            let error = available.abs_diff(capacity);
            assert!(error < capacity / 5, "{capacity}: {available}");
            // The link carries more: at least what arrives.
            path.capacity = 20_000_000;
            path.run(ms(5000));
            let available = path.estimator.available().expect("an estimate");
            assert!(available >= sent, "{available} of {sent}");
        }
    }

    #[test]
    fn step_down_shows_queue_within_a_second() {
        let mut path = Path::new(5_000_000, 800_000);
        assert_eq!(path.run(ms(3000)).queued(), None);
        path.capacity = 500_000;
        let state = path.run(ms(1000)).queued().expect("a queue");
        assert!(state.received.abs_diff(500_000) < 50_000, "{state:?}");
    }

    #[test]
    fn link_that_is_large_enough_shows_no_queue() {
        for has_audio in [true, false] {
            for (capacity, sent) in [(400_000, 250_000), (5_000_000, 4_000_000)] {
                let mut path = Path::new(capacity, sent);
                path.has_audio = has_audio;
                assert_eq!(path.run(ms(30_000)).queued(), None);
            }
        }
    }

    #[test]
    fn jitter_and_loss_are_no_queue() {
        let mut path = Path::new(5_000_000, 400_000);
        (path.jitter, path.lost_percent) = (ms(80), 5);
        assert_eq!(path.run(ms(60_000)).queued(), None);
    }

    #[test]
    fn longer_way_on_which_packets_overtake_each_other_is_no_queue() {
        // Without the numbers it looks like one.
        for (is_numbered, is_queue) in [(true, false), (false, true)] {
            let mut path = Path::new(5_000_000, 480_000);
            (path.jitter, path.has_audio) = (ms(80), false);
            path.is_numbered = is_numbered;
            path.run(ms(3000));
            path.delay = ms(120);
            path.run(ms(15_000));
            assert_eq!(path.queued().is_some(), is_queue, "{is_numbered}");
        }
    }

    #[test]
    fn sender_that_stalls_is_no_queue() {
        let mut path = Path::new(5_000_000, 400_000);
        for _ in 0..10 {
            path.run(ms(2000));
            path.stalled_until = ms(path.now_ms + 900);
        }
        assert_eq!(path.queued(), None);
    }

    #[test]
    fn packets_of_one_frame_show_capacity_without_queue() {
        for (capacity, sent) in [(400_000, 300_000), (5_000_000, 300_000)] {
            let mut path = Path::new(capacity, sent + 100_000);
            path.video_bitrate = sent;
            path.run(ms(5000));
            // Frames of 1250 bytes have one packet of each size.
            assert!(path.estimator.capacity(ms(5000)).is_none());
            path.video_bitrate = 460_000;
            path.run(ms(4000));
            assert!(path.capacity().abs_diff(capacity) < capacity / 5);
        }
    }
}
