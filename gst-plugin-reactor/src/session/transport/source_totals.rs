// SPDX-License-Identifier: MIT

//! What is counted of an SSRC for as long as the connection lasts. RTPSource, which
//! counts it in rtpsession, does not: rtpsession (1.22) removes one of which nothing
//! comes for 5 s to 25 s, by the interval of its sender reports, or that said BYE 2 s
//! ago. So it does where a track is paused. It makes another one, which counts from 0,
//! with the next packet. Sources of sent tracks, and of their retransmissions, go and
//! come likewise. Pure; the statistics' reader calls it.

/// What one RTPSource counts, received or sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceCounts {
    pub packets: u64,
    pub bytes: u64,
    /// Of a received SSRC.
    pub lost: u64,
    pub nacks: u64,
    pub plis: u64,
    pub firs: u64,
}

/// What all RTPSources of one SSRC counted.
#[derive(Debug, Default)]
pub(super) struct SourceTotals {
    /// Of those that are over.
    base: SourceCounts,
    last: SourceCounts,
    reported_lost: i64,
}

impl SourceTotals {
    /// Takes in what the present source counts, 0 where there is none; returns the
    /// totals.
    pub(super) fn update(&mut self, current: SourceCounts) -> SourceCounts {
        let last = std::mem::replace(&mut self.last, current);
        let base = &mut self.base;
        // By the packets: a packet that comes late after all makes `lost` less.
        if current.packets < last.packets {
            base.lost += last.lost;
        }
        SourceCounts {
            packets: total(&mut base.packets, last.packets, current.packets),
            bytes: total(&mut base.bytes, last.bytes, current.bytes),
            lost: base.lost + current.lost,
            nacks: total(&mut base.nacks, last.nacks, current.nacks),
            plis: total(&mut base.plis, last.plis, current.plis),
            firs: total(&mut base.firs, last.firs, current.firs),
        }
    }

    /// Takes in what the server reports as lost of a sent SSRC; returns its last report.
    /// The server's counter goes on, but the report is gone with the RTPSource.
    pub(super) fn reported_lost(&mut self, report: Option<i32>) -> i64 {
        if let Some(lost) = report {
            self.reported_lost = lost.into();
        }
        self.reported_lost
    }
}

/// Each counter by itself: where sequence numbers jump, a source begins again with
/// packets and bytes, and goes on with the feedback that was sent (init_seq() in 1.22).
fn total(base: &mut u64, last: u64, current: u64) -> u64 {
    if current < last {
        *base += last;
    }
    *base + current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(packets: u64, lost: u64, nacks: u64) -> SourceCounts {
        SourceCounts {
            packets,
            bytes: 1000 * packets,
            lost,
            nacks,
            plis: nacks / 2,
            firs: 1,
        }
    }

    #[test]
    fn counters_continue_with_next_source_of_ssrc() {
        let mut totals = SourceTotals::default();
        let gone = SourceCounts::default();
        for current in [counts(100, 3, 4), counts(250, 5, 6), gone, gone] {
            let expected = if current == gone {
                counts(250, 5, 6)
            } else {
                current
            };
            assert_eq!(totals.update(current), expected);
        }
        let again = SourceCounts {
            firs: 2,
            ..counts(257, 6, 10)
        };
        assert_eq!(totals.update(counts(7, 1, 4)), again);
        // Made anew between two readings.
        let total = totals.update(counts(2, 0, 0));
        assert_eq!((total.packets, total.bytes), (259, 259_000));
        assert_eq!((total.lost, total.nacks, total.plis), (6, 10, 5));
    }

    #[test]
    fn jump_of_sequence_numbers_counts_feedback_once() {
        let mut totals = SourceTotals::default();
        totals.update(counts(100, 3, 4));
        let total = totals.update(counts(20, 0, 4));
        assert_eq!(
            (total.packets, total.lost, total.nacks, total.firs),
            (120, 3, 4, 1)
        );
    }

    #[test]
    fn last_report_of_loss_counts() {
        let mut totals = SourceTotals::default();
        for (report, expected) in [(None, 0), (Some(5), 5), (None, 5), (Some(4), 4)] {
            assert_eq!(totals.reported_lost(report), expected);
        }
    }

    #[test]
    fn packet_that_was_late_is_lost_no_more() {
        let mut totals = SourceTotals::default();
        totals.update(counts(100, 3, 0));
        assert_eq!(totals.update(counts(101, 2, 0)).lost, 2);
        assert_eq!(totals.update(counts(102, 2, 0)).lost, 2);
    }
}
