// SPDX-License-Identifier: MIT

//! The latency that the application's pipeline is told: how late packets come.
//! Called by the transport thread every [`POLL_INTERVAL`]; pure arithmetic that
//! reads no clock and sets no property.
//!
//! It rises from the user's `latency` when packets repeatedly leave the jitter
//! buffers later than that, because they waited for a retransmission, or when they
//! arrive too late to be used. Each change is a new latency of the whole pipeline:
//! video stands still and audio has a hole of that length. So it rises in few large
//! steps, and falls in one, after a long time in which no packet had to be waited
//! for. Video that is lost is waited for up to the limit in any case
//! (`retransmission_timing`).

use std::time::Duration;

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Polls closer together than this count as one: they see too few packets.
const MIN_POLL_DISTANCE: Duration = Duration::from_millis(400);
/// The latency rises when this number of the last 8 polls saw avoidable loss. The
/// burst at the start of a stream causes one or two such polls, and a longer
/// latency is no remedy for it.
const LOSSY_POLLS_TO_RAISE: u32 = 3;
/// Or when this number of them saw a packet leave too late.
const LATE_POLLS_TO_RAISE: u32 = 2;
/// A longer time without packets is an outage. After it more packets are
/// requested than can arrive in time, for as long as the recovery.
const OUTAGE: Duration = Duration::from_millis(400);
const OUTAGE_RECOVERY: Duration = Duration::from_secs(3);
/// A step multiplies the latency by at least this.
const RAISE_FACTOR: u32 = 2;
/// The latency falls after this time without a missing packet: at first, and at
/// most. The time doubles with each fall.
const LOWER_AFTER: Duration = Duration::from_secs(60);
const MAX_LOWER_AFTER: Duration = Duration::from_secs(960);

/// What the jitter buffers of a connection have counted since its start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct JitterBufferStats {
    /// Packets that left in time.
    pub pushed: u64,
    /// Packets given up that might have arrived later.
    pub lost: u64,
    /// Packets that arrived after a newer one had left.
    pub late: u64,
    /// NACKs, and retransmissions that arrived in time.
    pub rtx_requests: u64,
    pub rtx_successes: u64,
    /// The average time from NACK to retransmission.
    pub rtx_round_trip: Duration,
    pub jitter: Duration,
    /// The longest time without a packet since the previous poll.
    pub longest_silence: Duration,
    /// The longest time after its presentation time at which a packet left since
    /// the previous poll.
    pub longest_lateness: Duration,
    /// A queue stood in front of the link since then. What is late then is not
    /// jitter, and a longer latency no remedy: the server has to send less.
    pub queued: bool,
}

impl JitterBufferStats {
    fn since(self, before: Self) -> Self {
        Self {
            pushed: self.pushed.saturating_sub(before.pushed),
            lost: self.lost.saturating_sub(before.lost),
            late: self.late.saturating_sub(before.late),
            rtx_requests: self.rtx_requests.saturating_sub(before.rtx_requests),
            rtx_successes: self.rtx_successes.saturating_sub(before.rtx_successes),
            ..self
        }
    }

    /// Packets waited for a retransmission longer than the latency.
    fn is_late(self, latency_ms: u32) -> bool {
        let latency = Duration::from_millis(latency_ms.into());
        self.rtx_requests > 0 && self.longest_lateness > latency
    }

    /// Missing packets do arrive, but not all in time. One missing packet costs
    /// all frames until the next keyframe.
    fn has_avoidable_loss(self) -> bool {
        self.lost > 0 && (self.rtx_successes > 0 || self.late > 0)
    }

    /// Long enough for three NACKs of one packet, in milliseconds. GStreamer sends
    /// the first after twice the jitter, and each of the others after a round trip
    /// and twice the jitter.
    fn required_latency_ms(self) -> f64 {
        let needed = self.rtx_round_trip * 3 + self.jitter * 8;
        needed.max(self.longest_lateness).as_secs_f64() * 1000.0
    }
}

/// Chooses the latency. Times are since any fixed instant.
#[derive(Debug, Clone)]
pub(super) struct JitterLatencyController {
    min_ms: u32,
    max_ms: u32,
    latency_ms: u32,
    /// When the previous poll was, and its statistics.
    previous: Option<(Duration, JitterBufferStats)>,
    /// Which of the last 8 polls saw avoidable loss: the newest is bit 0.
    lossy_polls: u8,
    /// Likewise, those in which a packet left too late.
    late_polls: u8,
    /// Until then the statistics show the consequences of an outage.
    outage_until: Duration,
    /// Since when no packet was missing.
    undisturbed_since: Option<Duration>,
    lower_after: Duration,
}

impl JitterLatencyController {
    /// Starts at `latency_ms`, which an earlier connection may have reached.
    pub(super) fn new(min_ms: u32, max_ms: u32, latency_ms: u32) -> Self {
        Self {
            min_ms,
            max_ms,
            latency_ms: latency_ms.clamp(min_ms, max_ms.max(min_ms)),
            previous: None,
            lossy_polls: 0,
            late_polls: 0,
            outage_until: Duration::ZERO,
            undisturbed_since: None,
            lower_after: LOWER_AFTER,
        }
    }

    pub(super) fn latency_ms(&self) -> u32 {
        self.latency_ms
    }

    /// The limits leave no choice.
    pub(super) fn is_fixed(&self) -> bool {
        self.max_ms <= self.min_ms
    }

    /// Starts again from a latency that the user sets.
    pub(super) fn set_min_latency(&mut self, min_ms: u32) {
        *self = Self {
            previous: self.previous,
            ..Self::new(min_ms, self.max_ms, min_ms)
        };
    }

    /// Takes in the statistics of a poll; returns the new latency in
    /// milliseconds if it changes.
    pub(super) fn update(&mut self, now: Duration, stats: JitterBufferStats) -> Option<u32> {
        let Some((polled, before)) = self.previous else {
            self.previous = Some((now, stats));
            return None;
        };
        let delta = stats.since(before);
        if self.is_fixed() || now.saturating_sub(polled) < MIN_POLL_DISTANCE {
            return None;
        }
        self.previous = Some((now, stats));
        if delta.pushed == 0 {
            // No packets at all: a longer latency is no remedy.
            return None;
        }
        if delta.longest_silence > OUTAGE || delta.queued {
            self.outage_until = now + OUTAGE_RECOVERY;
        }
        if now < self.outage_until {
            (self.lossy_polls, self.late_polls) = (0, 0);
            return None;
        }
        let latency_ms = self.choose_latency_ms(now, delta);
        (latency_ms != std::mem::replace(&mut self.latency_ms, latency_ms)).then_some(latency_ms)
    }

    fn choose_latency_ms(&mut self, now: Duration, delta: JitterBufferStats) -> u32 {
        if delta.rtx_requests > 0 || delta.lost > 0 || delta.late > 0 {
            self.undisturbed_since = None;
        }
        let undisturbed = now.saturating_sub(*self.undisturbed_since.get_or_insert(now));
        self.lossy_polls = self.lossy_polls << 1 | u8::from(delta.has_avoidable_loss());
        self.late_polls = self.late_polls << 1 | u8::from(delta.is_late(self.latency_ms));
        if self.lossy_polls.count_ones() >= LOSSY_POLLS_TO_RAISE
            || self.late_polls.count_ones() >= LATE_POLLS_TO_RAISE
        {
            (self.lossy_polls, self.late_polls) = (0, 0);
            return self.raised_latency_ms(delta.required_latency_ms());
        }
        if undisturbed >= self.lower_after && self.latency_ms > self.min_ms {
            self.lower_after = (self.lower_after * 2).min(MAX_LOWER_AFTER);
            return self.min_ms;
        }
        self.latency_ms
    }

    /// One step up, in multiples of 10 ms.
    fn raised_latency_ms(&self, required_ms: f64) -> u32 {
        let required_ms = ((required_ms / 10.0).ceil() as u32).saturating_mul(10);
        let raised_ms = self
            .latency_ms
            .saturating_mul(RAISE_FACTOR)
            .max(required_ms);
        // The rest up to the limit is not worth a step of its own.
        if raised_ms >= self.max_ms / 4 * 3 {
            self.max_ms
        } else {
            raised_ms
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that carries 100 packets between two polls.
    struct SimulatedNetwork {
        controller: JitterLatencyController,
        now: Duration,
        stats: JitterBufferStats,
    }

    /// What happens to the packets between two polls: NACKs, retransmissions in
    /// time, late packets.
    type PacketFate = (u64, u64, u64);

    impl SimulatedNetwork {
        fn new(min_ms: u32, max_ms: u32) -> Self {
            let mut network = Self {
                controller: JitterLatencyController::new(min_ms, max_ms, min_ms),
                now: Duration::ZERO,
                stats: JitterBufferStats {
                    rtx_round_trip: Duration::from_millis(40),
                    jitter: Duration::from_millis(10),
                    ..JitterBufferStats::default()
                },
            };
            assert_eq!(network.poll((0, 0, 0)), None);
            network
        }

        fn poll(&mut self, (requests, successes, late): PacketFate) -> Option<u32> {
            self.now += POLL_INTERVAL;
            let stats = &mut self.stats;
            stats.rtx_requests += requests;
            stats.rtx_successes += successes;
            stats.lost += requests - successes;
            stats.late += late;
            stats.pushed += 100 - (requests - successes);
            self.controller.update(self.now, self.stats)
        }

        /// The changes of the latency, each with the number of its poll.
        fn run(&mut self, polls: u32, fate: PacketFate) -> Vec<(u32, u32)> {
            let latencies = (1..=polls).map(|n| (n, self.poll(fate)));
            latencies
                .filter_map(|(n, latency)| Some((n, latency?)))
                .collect()
        }
    }

    #[test]
    fn avoidable_loss_raises_latency_for_third_nack_then_to_limit() {
        let mut network = SimulatedNetwork::new(60, 400);
        // Three round trips and eight times the jitter.
        assert_eq!(network.run(4, (5, 2, 1)), [(3, 200)]);
        // The step is not enough.
        assert_eq!(network.run(8, (5, 4, 1)), [(2, 400)]);
        assert!(network.run(100, (5, 4, 1)).is_empty());
        assert_eq!(network.controller.latency_ms(), 400);
    }

    #[test]
    fn retransmissions_in_time_keep_latency() {
        let mut network = SimulatedNetwork::new(60, 400);
        assert!(network.run(1000, (5, 5, 0)).is_empty());
        // Now and then one is too late.
        for _ in 0..100 {
            assert!(network.run(1, (5, 4, 0)).is_empty());
            assert!(network.run(3, (5, 5, 0)).is_empty());
        }
        // In every other poll is too often.
        let mut every_other = (0..6).map(|n| network.poll((5, 5 - n % 2, 0)));
        assert_eq!(every_other.find_map(|latency| latency), Some(200));
    }

    #[test]
    fn packets_that_waited_too_long_raise_latency() {
        let mut network = SimulatedNetwork::new(60, 400);
        // Once in 4 s, a packet waits for its retransmission.
        network.stats.longest_lateness = Duration::from_millis(107);
        for _ in 0..20 {
            assert!(network.run(1, (1, 1, 0)).is_empty());
            network.stats.longest_lateness = Duration::from_millis(50);
            assert!(network.run(7, (1, 1, 0)).is_empty());
            network.stats.longest_lateness = Duration::from_millis(107);
        }
        // Twice.
        network.run(1, (1, 1, 0));
        assert_eq!(network.run(7, (1, 1, 0)), [(1, 200)]);
        // What was waited for is more than what is calculated.
        network.stats.longest_lateness = Duration::from_millis(231);
        network.stats.jitter = Duration::ZERO;
        assert_eq!(network.run(2, (1, 1, 0)), [(2, 400)]);
        let mut network = SimulatedNetwork::new(60, 1000);
        network.stats.longest_lateness = Duration::from_millis(231);
        assert_eq!(network.run(2, (1, 1, 0)), [(2, 240)]);
        // Without a request: frames that the server sends late.
        let mut network = SimulatedNetwork::new(10, 400);
        network.stats.longest_lateness = Duration::from_millis(231);
        assert!(network.run(100, (0, 0, 0)).is_empty());
    }

    #[test]
    fn outage_and_initial_burst_keep_latency() {
        let mut network = SimulatedNetwork::new(10, 400);
        assert!(network.run(2, (50, 10, 20)).is_empty());
        for _ in 0..20 {
            assert!(network.run(10, (0, 0, 0)).is_empty());
            // Packets lost in the outage are requested in vain for a while.
            network.stats.longest_silence = Duration::from_secs(1);
            assert!(network.run(1, (90, 2, 10)).is_empty());
            network.stats.longest_silence = Duration::ZERO;
            assert!(network.run(5, (90, 2, 10)).is_empty());
        }
        // An outage between two polls.
        network.now += Duration::from_secs(20);
        let stats = network.stats;
        for _ in 0..20 {
            network.now += Duration::from_secs(1);
            assert_eq!(network.controller.update(network.now, stats), None);
        }
    }

    #[test]
    fn queue_keeps_latency() {
        let mut network = SimulatedNetwork::new(60, 400);
        network.stats.queued = true;
        assert!(network.run(100, (5, 2, 1)).is_empty());
        network.stats.queued = false;
        assert!(!network.run(20, (5, 2, 1)).is_empty());
    }

    #[test]
    fn loss_without_retransmission_keeps_latency() {
        let mut network = SimulatedNetwork::new(60, 400);
        assert!(network.run(100, (5, 0, 0)).is_empty());
        // Packets that arrive late are waited for.
        assert_eq!(network.run(5, (3, 0, 3)), [(3, 200)]);
    }

    #[test]
    fn long_time_without_missing_packets_lowers_latency() {
        let mut network = SimulatedNetwork::new(60, 400);
        network.run(4, (5, 2, 1));
        // A retransmission still has to be waited for.
        assert!(network.run(1000, (1, 1, 0)).is_empty());
        assert_eq!(network.run(400, (0, 0, 0)), [(120, 60)]);
        // It fell too early: the next fall takes twice the time.
        assert_eq!(network.run(4, (5, 2, 1)), [(3, 200)]);
        assert_eq!(network.run(400, (0, 0, 0)), [(240, 60)]);
    }

    #[test]
    fn limit_not_above_latency_keeps_it_fixed() {
        for max_ms in [0, 60] {
            let mut network = SimulatedNetwork::new(60, max_ms);
            assert!(network.controller.is_fixed());
            assert!(network.run(100, (5, 2, 1)).is_empty());
            assert_eq!(network.controller.latency_ms(), 60);
        }
    }

    #[test]
    fn user_latency_restarts_and_new_connection_continues() {
        let mut network = SimulatedNetwork::new(60, 400);
        network.run(4, (5, 2, 1));
        network.controller.set_min_latency(20);
        assert_eq!(network.controller.latency_ms(), 20);
        assert_eq!(network.run(4, (5, 2, 1)), [(3, 200)]);
        assert_eq!(JitterLatencyController::new(20, 400, 160).latency_ms(), 160);
        assert_eq!(JitterLatencyController::new(20, 100, 160).latency_ms(), 100);
        assert_eq!(
            JitterLatencyController::new(200, 100, 160).latency_ms(),
            200
        );
    }

    #[test]
    fn polls_close_together_keep_latency() {
        let mut controller = JitterLatencyController::new(60, 400, 60);
        for n in 0..80 {
            let stats = JitterBufferStats {
                pushed: 10 * n,
                lost: n,
                late: n,
                ..JitterBufferStats::default()
            };
            let latency = controller.update(Duration::from_millis(12 * n), stats);
            assert_eq!(latency, None, "{n}");
        }
    }
}
