// SPDX-License-Identifier: MIT

//! Presentation times of received packets: RTP timestamps on the receiver's
//! clock. Pure arithmetic, called by `rtp_probes` on streaming threads under a
//! lock; it reads no clock and knows no GStreamer type.
//!
//! GStreamer's jitter buffer computes such times too. But it starts again at any
//! packet that is late by more than its latency, or first after an outage, and
//! needs a second or two to forget the error. rtpbin then moves the other
//! streams by that error until the next sender report of the wrong one, which
//! for audio may be 5 s away. (Measured: 0.93 s, after 2 s without a network.)
//!
//! Here a stream continues by its RTP timestamps across any gap, at the delay of
//! its fastest packets. Late packets move nothing, unless all packets are late.
//! Sender reports (RFC 3550, 6.4.1) keep the streams in sync.

use std::collections::{HashMap, VecDeque};

// All times and durations in this module are in nanoseconds.
const NS_PER_SECOND: i128 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// The least delay is taken over this number of buckets of this length. Time
/// without packets belongs to no bucket.
const MIN_DELAY_BUCKETS: usize = 8;
const BUCKET_NS: i64 = 250 * NS_PER_MS;
/// When all packets of two buckets are delayed by more than this, the path has
/// become longer.
const DELAY_CHANGE_NS: i64 = 60 * NS_PER_MS;
/// A sender that was silent for longer than this, and of which no packet is
/// missing, may have stopped its RTP clock.
const SENDER_PAUSE_NS: i64 = 500 * NS_PER_MS;
/// No queue delays packets by more than this.
const MAX_QUEUE_NS: i64 = 10_000 * NS_PER_MS;
/// Streams of one sender have similar delays. A difference above this is an
/// error of the reports.
const MAX_SYNC_SHIFT_NS: i64 = 500 * NS_PER_MS;
/// The others do not wait for a stream that is silent for longer: it is paused or over.
/// One that goes on is not silent for that long: audio without sound has a packet each
/// 400 ms (libopus, DTX), and slow models make a picture every second or two.
const MAX_SYNC_SILENCE_NS: i64 = 5_000 * NS_PER_MS;
/// How far a stream moves towards sync per frame or packet.
const SYNC_STEP_NS: i64 = NS_PER_MS;

/// The streams of a connection, by SSRC.
#[derive(Debug, Default)]
pub(super) struct RtpClock {
    streams: HashMap<u32, Stream>,
    last_arrival: Option<i64>,
    /// The longest time between two packets of any streams.
    longest_silence: i64,
    /// The most by which a packet was presented after its presentation time.
    longest_lateness: i64,
}

/// Part of an RTP packet's header (RFC 3550, 5.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct RtpHeader {
    pub ssrc: u32,
    pub sequence_number: u16,
    pub timestamp: u32,
}

/// One instant on the sender's clock (NTP format: RFC 3550, 4) and on the RTP
/// clock of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderReport {
    pub ssrc: u32,
    pub ntp_timestamp: u64,
    pub rtp_timestamp: u32,
}

impl RtpClock {
    /// Takes in a packet before the jitter buffer; `clock_rate` is in Hz.
    pub(super) fn observe_packet(&mut self, packet: RtpHeader, clock_rate: u32, arrival: i64) {
        let before = self.last_arrival.replace(arrival).unwrap_or(arrival);
        self.longest_silence = self.longest_silence.max(arrival - before);
        let stream = self.streams.entry(packet.ssrc).or_default();
        stream.observe_packet(packet, clock_rate, arrival);
    }

    /// The longest time without a packet since the previous call.
    pub(super) fn take_longest_silence(&mut self) -> i64 {
        std::mem::take(&mut self.longest_silence)
    }

    /// The most by which a packet has been presented after its presentation time
    /// since the previous call.
    pub(super) fn take_longest_lateness(&mut self) -> i64 {
        std::mem::take(&mut self.longest_lateness)
    }

    pub(super) fn observe_sender_report(&mut self, report: SenderReport) {
        let stream = self.streams.get_mut(&report.ssrc);
        if let Some(stream) = stream.filter(|s| s.clock_rate != 0) {
            // NTP timestamps count 2^-32 s.
            let ntp = ((i128::from(report.ntp_timestamp) * NS_PER_SECOND) >> 32) as i64;
            let rtp = stream.to_ns(stream.extend(report.rtp_timestamp));
            stream.ntp_offset = Some(ntp - rtp);
        }
    }

    /// The presentation time of a packet of an observed stream. It never goes
    /// back while RTP timestamps go on.
    pub(super) fn presentation_time(&mut self, packet: RtpHeader) -> Option<i64> {
        let slowest = self.slowest_transit(packet.ssrc);
        let stream = self.streams.get_mut(&packet.ssrc);
        let stream = stream.filter(|s| s.clock_rate != 0)?;
        let time = stream.presentation_time(packet.timestamp, slowest);
        // A packet is presented when it arrives, or when the one arrives that it
        // waited for.
        let lateness = self.last_arrival.unwrap_or(time) - time;
        self.longest_lateness = self.longest_lateness.max(lateness);
        Some(time)
    }

    /// Of the streams that go on, and of `ssrc`, so that it is never less than its own.
    fn slowest_transit(&self, ssrc: u32) -> Option<i64> {
        let now = self.last_arrival?;
        let goes_on = |stream: &Stream| now - stream.arrival <= MAX_SYNC_SILENCE_NS;
        let streams = self.streams.iter();
        let streams = streams.filter(|(of, stream)| **of == ssrc || goes_on(stream));
        streams.filter_map(|(_, stream)| stream.transit()).max()
    }
}

/// One SSRC. Timestamps are extended to 64 bits, so they do not wrap.
#[derive(Debug, Default)]
struct Stream {
    /// In Hz; 0 before the first packet.
    clock_rate: u32,
    /// Of the newest packet.
    sequence_number: u16,
    timestamp: i64,
    arrival: i64,
    /// From RTP time to the arrival of the fastest packets.
    offset: i64,
    /// The least offset in each bucket, and when the last bucket began.
    buckets: VecDeque<i64>,
    bucket_start: i64,
    /// From RTP time to the sender's clock.
    ntp_offset: Option<i64>,
    /// The delay added to be in sync with slower streams.
    sync_shift: i64,
    /// The latest RTP timestamp that was presented, and its time.
    presented: Option<(i64, i64)>,
}

impl Stream {
    fn observe_packet(&mut self, packet: RtpHeader, clock_rate: u32, arrival: i64) {
        if self.clock_rate != clock_rate {
            *self = Self {
                clock_rate,
                timestamp: packet.timestamp.into(),
                sequence_number: packet.sequence_number.wrapping_sub(1),
                ..Self::default()
            };
            self.restart(arrival - self.to_ns(self.timestamp), arrival);
        }
        let timestamp = self.extend(packet.timestamp);
        let offset = arrival - self.to_ns(timestamp);
        let delay = offset - self.offset;
        let ahead = packet.sequence_number.wrapping_sub(self.sequence_number) as i16;
        let paused = arrival - self.arrival > SENDER_PAUSE_NS;
        let clock_stopped = ahead == 1 && paused && delay > DELAY_CHANGE_NS;
        if clock_stopped || delay.abs() > MAX_QUEUE_NS {
            self.restart(offset, arrival);
        }
        if ahead > 0 {
            self.sequence_number = packet.sequence_number;
            self.timestamp = timestamp;
            self.arrival = arrival;
        }
        self.update_offset(offset, arrival);
    }

    fn restart(&mut self, offset: i64, arrival: i64) {
        self.offset = offset;
        self.buckets.clear();
        self.bucket_start = arrival;
        // The RTP clock may have changed, so older reports do not apply.
        self.ntp_offset = None;
    }

    /// Follows faster packets at once, slower ones when no others arrive.
    fn update_offset(&mut self, offset: i64, arrival: i64) {
        if offset < self.offset - DELAY_CHANGE_NS {
            self.restart(offset, arrival);
        }
        self.offset = self.offset.min(offset);
        if self.buckets.is_empty() || arrival - self.bucket_start >= BUCKET_NS {
            self.finish_bucket();
            self.buckets.push_back(offset);
            self.bucket_start = arrival;
        }
        if let Some(least) = self.buckets.back_mut() {
            *least = offset.min(*least);
        }
    }

    fn finish_bucket(&mut self) {
        let least = |buckets| self.buckets.iter().rev().take(buckets).min().copied();
        if let Some(least) = least(2).filter(|least| least - self.offset > DELAY_CHANGE_NS)
            && self.buckets.len() >= 2
        {
            return self.restart(least, self.bucket_start);
        }
        if self.buckets.len() == MIN_DELAY_BUCKETS {
            let delay = least(MIN_DELAY_BUCKETS).unwrap_or_default() - self.offset;
            self.offset += delay.max(0) / MIN_DELAY_BUCKETS as i64;
            self.buckets.pop_front();
        }
    }

    /// The network delay plus a constant common to the sender's streams. `None`
    /// until all buckets are full: the first packets may have been queued.
    fn transit(&self) -> Option<i64> {
        let is_known = self.buckets.len() == MIN_DELAY_BUCKETS;
        let ntp_offset = self.ntp_offset.filter(|_| is_known);
        ntp_offset.map(|ntp_offset| self.offset - ntp_offset)
    }

    /// Moves one step towards the slowest of the sender's streams.
    fn synchronise(&mut self, slowest: Option<i64>) {
        let Some((own, slowest)) = self.transit().zip(slowest) else {
            return;
        };
        let shift = slowest - own;
        if shift <= MAX_SYNC_SHIFT_NS {
            self.sync_shift += (shift - self.sync_shift).clamp(-SYNC_STEP_NS, SYNC_STEP_NS);
        }
    }

    fn presentation_time(&mut self, timestamp: u32, slowest: Option<i64>) -> i64 {
        let timestamp = self.extend(timestamp);
        if let Some((_, time)) = self.presented.filter(|(last, _)| *last == timestamp) {
            return time;
        }
        self.synchronise(slowest);
        let mut time = self.to_ns(timestamp) + self.offset + self.sync_shift;
        if let Some((_, last)) = self.presented.filter(|(last, _)| *last < timestamp) {
            time = time.max(last);
        }
        self.presented = Some((timestamp, time));
        time
    }

    /// The extended timestamp, by its distance to the newest packet's.
    fn extend(&self, timestamp: u32) -> i64 {
        let ahead = timestamp.wrapping_sub(self.timestamp as u32) as i32;
        self.timestamp + i64::from(ahead)
    }

    fn to_ns(&self, timestamp: i64) -> i64 {
        (i128::from(timestamp) * NS_PER_SECOND / i128::from(self.clock_rate.max(1))) as i64
    }
}

#[cfg(test)]
mod tests;
