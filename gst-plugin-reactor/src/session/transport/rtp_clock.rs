// SPDX-License-Identifier: MIT

//! When what arrives was due: RTP time on the receiver's clock.
//!
//! GStreamer's jitter buffer does that too, but begins anew with whatever
//! packet comes late (by more than its latency) or first after an outage, and
//! takes a second or two to forget it. rtpbin then moves the other streams by
//! what one of them is wrong, until that one's next sender report, which for
//! sound is 5 s away. (Seen: 0.93 s, after 2 s without a network.)
//!
//! Here a stream goes on where its RTP time says, across any gap, and stands
//! where its quickest packets do; what is late is late and moves nothing,
//! unless all of it is. Sender reports keep the streams together.

use std::collections::{HashMap, VecDeque};

/// All times in here are in nanoseconds.
const MS: i64 = 1_000_000;
/// The quickest packet is looked for in so many parts of a stream, each so
/// long. Time in which nothing comes is in none.
const PARTS: usize = 8;
const PART: i64 = 250 * MS;
/// When all packets of two parts are later than that, it is for good.
const LATER: i64 = 60 * MS;
/// A sender that was quiet for so long, and of which nothing is missing, has
/// stopped its clock.
const QUIET: i64 = 500 * MS;
/// Further away than any queue is long.
const FAR: i64 = 10_000 * MS;
/// Streams of one sender are on their way about equally long; a difference of
/// more is none of theirs.
const APART: i64 = 500 * MS;
/// How much it moves from one picture or packet to the next to be together.
const STEP: i64 = MS;

/// The streams of a connection, by SSRC.
#[derive(Debug, Default)]
pub(super) struct RtpClock {
    streams: HashMap<u32, Stream>,
    /// When something came, and the longest time in which nothing did.
    at: Option<i64>,
    silence: i64,
}

/// What the header of an RTP packet says.
#[derive(Debug, Clone, Copy)]
pub(super) struct RtpHeader {
    pub ssrc: u32,
    pub number: u16,
    pub time: u32,
}

/// What a sender report says: the sender's clock (RFC 3550, 4) and its RTP time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderReport {
    pub ssrc: u32,
    pub ntp: u64,
    pub time: u32,
}

impl RtpClock {
    /// A packet of a stream whose clock has this rate came.
    pub(super) fn arrived(&mut self, packet: RtpHeader, rate: u32, at: i64) {
        let before = self.at.replace(at).unwrap_or(at);
        self.silence = self.silence.max(at - before);
        let stream = self.streams.entry(packet.ssrc).or_default();
        stream.arrived(packet, rate, at);
    }

    /// For how long at most nothing came, since that was asked before.
    pub(super) fn silence(&mut self) -> i64 {
        std::mem::take(&mut self.silence)
    }

    /// A sender's report came.
    pub(super) fn reported(&mut self, report: SenderReport) {
        if let Some(stream) = self.streams.get_mut(&report.ssrc).filter(|s| s.rate != 0) {
            // In units of 2^-32 s.
            let ntp = ((i128::from(report.ntp) * 1_000_000_000) >> 32) as i64;
            let rtp = stream.nanoseconds(stream.unwrap(report.time));
            stream.sender = Some(ntp - rtp);
        }
    }

    /// When a packet that came was due. Never goes back while RTP time goes on.
    pub(super) fn place(&mut self, packet: RtpHeader) -> Option<i64> {
        let slowest = self.streams.values().filter_map(Stream::transit).max();
        let stream = self.streams.get_mut(&packet.ssrc).filter(|s| s.rate != 0)?;
        Some(stream.place(packet.time, slowest))
    }
}

/// One of them. RTP time is kept without its wrapping.
#[derive(Debug, Default)]
struct Stream {
    rate: u32,
    /// The latest packet.
    number: u16,
    time: i64,
    at: i64,
    /// From RTP time to the arrival of the quickest packets.
    offset: i64,
    /// The least of it in each part, and where the last part began.
    parts: VecDeque<i64>,
    begun: i64,
    /// From RTP time to the sender's clock.
    sender: Option<i64>,
    /// What it waits for slower streams.
    shift: i64,
    /// What was placed last: its RTP time, and where.
    placed: Option<(i64, i64)>,
}

impl Stream {
    fn arrived(&mut self, packet: RtpHeader, rate: u32, at: i64) {
        if self.rate != rate {
            *self = Self {
                rate,
                time: packet.time.into(),
                number: packet.number.wrapping_sub(1),
                ..Self::default()
            };
            self.begin(at - self.nanoseconds(self.time), at);
        }
        let time = self.unwrap(packet.time);
        let offset = at - self.nanoseconds(time);
        let late = offset - self.offset;
        let next = packet.number == self.number.wrapping_add(1);
        let stopped = next && at - self.at > QUIET && late > LATER;
        if stopped || late.abs() > FAR {
            self.begin(offset, at);
        }
        if (packet.number.wrapping_sub(self.number) as i16) > 0 {
            self.number = packet.number;
            self.time = time;
            self.at = at;
        }
        self.follow(offset, at);
    }

    /// Starts again from there.
    fn begin(&mut self, offset: i64, at: i64) {
        self.offset = offset;
        self.parts.clear();
        self.begun = at;
        // RTP time may have another meaning now.
        self.sender = None;
    }

    /// Quicker ones are followed at once, slower ones when there are no others.
    fn follow(&mut self, offset: i64, at: i64) {
        if offset < self.offset - LATER {
            self.begin(offset, at);
        }
        self.offset = self.offset.min(offset);
        if self.parts.is_empty() || at - self.begun >= PART {
            self.conclude();
            self.parts.push_back(offset);
            self.begun = at;
        }
        if let Some(least) = self.parts.back_mut() {
            *least = offset.min(*least);
        }
    }

    /// A part is complete.
    fn conclude(&mut self) {
        let least = |parts: usize| self.parts.iter().rev().take(parts).min().copied();
        if let Some(least) = least(2).filter(|least| least - self.offset > LATER)
            && self.parts.len() >= 2
        {
            return self.begin(least, self.begun);
        }
        if self.parts.len() == PARTS {
            let later = least(PARTS).unwrap_or_default() - self.offset;
            self.offset += later.max(0) / PARTS as i64;
            self.parts.pop_front();
        }
    }

    /// How long its packets are on their way, and some constant. Not before
    /// that is known well: what comes first may have waited.
    fn transit(&self) -> Option<i64> {
        let sender = self.sender.filter(|_| self.parts.len() == PARTS);
        sender.map(|sender| self.offset - sender)
    }

    /// Waits for the slowest of the sender's streams, a little more each time.
    fn keep_together(&mut self, slowest: Option<i64>) {
        let Some((own, slowest)) = self.transit().zip(slowest) else {
            return;
        };
        let shift = slowest - own;
        if shift <= APART {
            self.shift += (shift - self.shift).clamp(-STEP, STEP);
        }
    }

    fn place(&mut self, time: u32, slowest: Option<i64>) -> i64 {
        let time = self.unwrap(time);
        if let Some((_, placed)) = self.placed.filter(|(last, _)| *last == time) {
            return placed;
        }
        self.keep_together(slowest);
        let mut at = self.nanoseconds(time) + self.offset + self.shift;
        if let Some((_, placed)) = self.placed.filter(|(last, _)| *last < time) {
            at = at.max(placed);
        }
        self.placed = Some((time, at));
        at
    }

    fn unwrap(&self, time: u32) -> i64 {
        let ahead = time.wrapping_sub(self.time as u32) as i32;
        self.time + i64::from(ahead)
    }

    fn nanoseconds(&self, time: i64) -> i64 {
        (i128::from(time) * 1_000_000_000 / i128::from(self.rate.max(1))) as i64
    }
}

#[cfg(test)]
mod tests;
