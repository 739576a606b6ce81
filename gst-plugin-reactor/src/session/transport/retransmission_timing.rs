// SPDX-License-Identifier: MIT

//! How long a jitter buffer waits for missing video, and how soon it repeats a
//! request for it. Pure arithmetic; the transport thread calls it every poll, and
//! streaming threads that make a jitter buffer read the latest result.
//!
//! A missing packet is waited for until `max-latency`, whatever latency the
//! application's pipeline has been told: that latency follows what was waited for
//! (`jitter_latency`). A picture that comes too late for its time costs that
//! picture; a packet that is given up costs all until the next keyframe, which
//! takes a round trip at least.

use std::{sync::Mutex, time::Duration};

use super::jitter_latency::JitterBufferStats;

/// A server that has answered none of this number of requests answers none.
const UNANSWERED_REQUESTS: u64 = 100;
/// Less than the time between two pictures, which is GStreamer's least.
const MIN_RETRY_TIMEOUT_MS: u32 = 20;
/// A round trip above that is a queue, and no retransmission is of use.
const MAX_RETRY_TIMEOUT_MS: u32 = 1000;

/// What the jitter buffers are set to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetransmissionTiming {
    /// The jitter buffers' `latency`: of audio, and of video. In GStreamer 1.22,
    /// one that receives a packet in order and later than its `latency` starts
    /// again, and takes no retransmissions from before.
    pub audio_wait_ms: u32,
    pub video_wait_ms: u32,
    /// `rtx-min-retry-timeout`. By itself, GStreamer 1.22 repeats a request every
    /// 40 ms until a first one has been answered, and while requests overlap it
    /// does not learn the round trip. `None` is its own choice.
    pub min_retry_timeout_ms: Option<u32>,
}

/// What new jitter buffers are set to.
pub(super) type SharedTiming = Mutex<RetransmissionTiming>;

impl RetransmissionTiming {
    /// By the latency of the pipeline and its limit.
    pub(super) fn choose(
        latency_ms: u32,
        max_ms: u32,
        round_trip: Option<Duration>,
        stats: &JitterBufferStats,
    ) -> Self {
        let is_answered = stats.rtx_successes > 0 || stats.rtx_requests < UNANSWERED_REQUESTS;
        let min_retry_timeout = |round_trip: Duration| {
            // With the time that the server takes, which paces what it sends.
            let milliseconds = round_trip.as_millis() * 5 / 4 + 5;
            let milliseconds = u32::try_from(milliseconds).unwrap_or(MAX_RETRY_TIMEOUT_MS);
            milliseconds.clamp(MIN_RETRY_TIMEOUT_MS, MAX_RETRY_TIMEOUT_MS)
        };
        Self {
            audio_wait_ms: latency_ms,
            video_wait_ms: match is_answered {
                true => latency_ms.max(max_ms),
                false => latency_ms,
            },
            min_retry_timeout_ms: round_trip.map(min_retry_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_by_limit_round_trip_and_answers() {
        let cases = [
            // Latency and limit, the round trip in ms, requests and successes;
            // the wait for video and the retry timeout.
            ((60, 0, None, 0, 0), (60, None)),
            ((60, 400, None, 0, 0), (400, None)),
            ((500, 400, None, 0, 0), (500, None)),
            ((60, 400, Some(1), 5, 0), (400, Some(20))),
            ((60, 400, Some(150), 99, 0), (400, Some(192))),
            // No answer at all: nothing to wait for.
            ((60, 400, Some(150), 100, 0), (60, Some(192))),
            ((60, 400, Some(150), 3000, 1), (400, Some(192))),
            ((60, 400, Some(9_000), 0, 0), (400, Some(1000))),
        ];
        for ((latency, max, round_trip, rtx_requests, rtx_successes), expected) in cases {
            let stats = JitterBufferStats {
                rtx_requests,
                rtx_successes,
                ..JitterBufferStats::default()
            };
            let round_trip = round_trip.map(Duration::from_millis);
            let timing = RetransmissionTiming::choose(latency, max, round_trip, &stats);
            let expected = RetransmissionTiming {
                audio_wait_ms: latency,
                video_wait_ms: expected.0,
                min_retry_timeout_ms: expected.1,
            };
            assert_eq!(timing, expected, "{stats:?}");
        }
    }
}
