// SPDX-License-Identifier: MIT

//! When a keyframe of a received track is requested. Depayloaders, decoders and
//! applications request one for each loss, and each costs the server a picture of
//! many times the usual size: on a link that is too small, more loss. So a request
//! is sent once the last one can have been answered, later each time that it was
//! not. Pure; `rtp_receivers` calls it on streaming threads under a lock.

use std::time::Duration;

/// The least time between two requests, in round trips (RFC 4585, 6.3.1, leaves it
/// to the sender of a PLI).
const ROUND_TRIPS: f64 = 1.5;
const MIN_INTERVAL: Duration = Duration::from_millis(150);
/// The interval doubles with each request that was not answered, up to this.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// After this time without a request, one is as urgent as the first.
const FORGET_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct KeyframeRequests {
    /// When the last one was sent, since any fixed instant.
    sent: Option<Duration>,
    /// Counts those since the last keyframe.
    unanswered: u32,
    is_postponed: bool,
}

impl KeyframeRequests {
    /// Whether a request may be sent now; else it is postponed.
    pub(super) fn request(&mut self, now: Duration, round_trip: Option<Duration>) -> bool {
        if self.sent.is_some_and(|sent| now >= sent + FORGET_AFTER) {
            self.unanswered = 0;
        }
        let may_send = self.is_possible(now, round_trip);
        self.is_postponed = !may_send;
        if may_send {
            self.sent = Some(now);
            self.unanswered += 1;
        }
        may_send
    }

    /// Whether one has to be sent later.
    pub(super) fn is_postponed(&self) -> bool {
        self.is_postponed
    }

    /// Whether one that was postponed is due.
    pub(super) fn is_due(&self, now: Duration, round_trip: Option<Duration>) -> bool {
        self.is_postponed && self.is_possible(now, round_trip)
    }

    /// A whole keyframe came: it answers all requests so far.
    pub(super) fn keyframe_received(&mut self) {
        self.unanswered = 0;
        self.is_postponed = false;
    }

    fn is_possible(&self, now: Duration, round_trip: Option<Duration>) -> bool {
        let round_trips = round_trip.unwrap_or_default().mul_f64(ROUND_TRIPS);
        let doubled = 1 << self.unanswered.saturating_sub(1).min(8);
        let interval = round_trips.max(MIN_INTERVAL);
        let interval = interval.max((interval * doubled).min(MAX_INTERVAL));
        self.sent.is_none_or(|sent| now >= sent + interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times in ms at which requests are sent, if one is wanted every 10 ms for
    /// this time, and a keyframe comes `answer` after each.
    fn storm(until: u64, round_trip: u64, answer: Option<u64>) -> Vec<u64> {
        let mut requests = KeyframeRequests::default();
        let round_trip = Some(Duration::from_millis(round_trip));
        let mut sent = Vec::new();
        for ms in (0..until).step_by(10) {
            if sent
                .last()
                .zip(answer)
                .is_some_and(|(at, answer)| at + answer == ms)
            {
                requests.keyframe_received();
            }
            if requests.request(Duration::from_millis(ms), round_trip) {
                sent.push(ms);
            }
        }
        sent
    }

    #[test]
    fn storm_is_one_request_per_round_trip_and_a_half_at_most() {
        assert_eq!(storm(1000, 200, Some(200)), [0, 300, 600, 900]);
        assert_eq!(storm(500, 10, Some(20)), [0, 150, 300, 450]);
    }

    #[test]
    fn requests_without_answer_are_backed_off() {
        assert_eq!(storm(8000, 200, None), [0, 300, 900, 2100, 4100, 6100]);
        // A round trip that is longer than the longest interval.
        assert_eq!(storm(8000, 2000, None), [0, 3000, 6000]);
    }

    #[test]
    fn postponed_request_is_due_unless_keyframe_comes() {
        let ms = Duration::from_millis;
        let mut requests = KeyframeRequests::default();
        assert!(requests.request(ms(0), None));
        assert!(!requests.is_due(ms(1000), None));
        assert!(!requests.request(ms(50), None));
        assert!(!requests.is_due(ms(140), None));
        assert!(requests.is_due(ms(150), None));
        assert!(requests.request(ms(150), None));
        assert!(!requests.request(ms(160), None));
        requests.keyframe_received();
        assert!(!requests.is_due(ms(9000), None));
        // Long after a storm.
        for time in 0..1000 {
            requests.request(ms(10_000 + time), None);
        }
        assert!(requests.request(ms(16_000), None));
        assert!(requests.request(ms(16_150), None));
    }
}
