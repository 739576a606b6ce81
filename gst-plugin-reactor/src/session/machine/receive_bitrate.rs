// SPDX-License-Identifier: MIT

//! The bound on received video while the session runs: the user's, or a lower one
//! that the link makes necessary. The offer states it (`b=AS`), which libwebrtc
//! keeps its encoders within. Another one is stated in messages on the connection
//! (REMB) where that is enough, else in the offer of another connection.
//!
//! The server estimates by itself what a link carries, but not below
//! [`MIN_ESTIMATE`]. Where a queue stands although it sends no more than that, the
//! session goes on with a bound. Whether the link carries more again is only seen
//! by sending more, so the bound is lifted from time to time, unless the packets of
//! a frame show that it would be in vain.

use std::time::Duration;

use super::{
    state::{Machine, Phase, Ready},
    types::{Action, LinkState, NEVER},
};
use crate::platform::{track::Direction, wire::ClientMessage};

/// What libwebrtc's estimate of the runtime 3.10.0 does not go below, whatever
/// messages say, in bits per second.
const MIN_ESTIMATE: u32 = 500_000;
/// What arrives at that estimate, with the headers of UDP and IP, and at most.
const MIN_ESTIMATE_RECEIVED: u32 = 580_000;
/// The part of the link that video may take: sound, messages, retransmissions and
/// keyframes need the rest.
const LINK_SHARE: f64 = 0.75;
/// With less there is no picture to speak of, in bits per second.
const MIN_BOUND: u32 = 50_000;
/// How long a queue has to stand: a link may be slow for a moment. On a new
/// connection it is not waited for.
const QUEUE_LIMIT: Duration = Duration::from_millis(200);
const NEW_CONNECTION: Duration = Duration::from_secs(4);
/// How long the old connection goes on: its tracks are paused then, and the queue
/// is shown.
const DRAIN_TIME: Duration = Duration::from_millis(200);
/// The least that the packets of a frame have to show, as a multiple of the bound.
const LEAST_ROOM: f64 = 1.5;
/// When a bound is lifted. The time doubles when the bound has to be lowered again
/// soon.
const LIFT_AFTER: Duration = Duration::from_secs(12);
const MAX_LIFT_AFTER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

/// The bound that the link makes necessary.
#[derive(Debug)]
pub(super) struct LinkBound {
    /// In bits per second.
    bitrate: Option<u32>,
    /// Since when a queue stands.
    queued_since: Option<Duration>,
    lowered: Duration,
    lifted: Option<Duration>,
    lift_after: Duration,
    /// When to make the connection with the new bound.
    replace_at: Option<Duration>,
}

impl Default for LinkBound {
    fn default() -> Self {
        Self {
            bitrate: None,
            queued_since: None,
            lowered: Duration::ZERO,
            lifted: None,
            lift_after: LIFT_AFTER,
            replace_at: None,
        }
    }
}

impl LinkBound {
    pub(super) fn deadline(&self) -> Duration {
        self.replace_at.unwrap_or(NEVER)
    }
}

impl Machine {
    pub(super) fn set_max_receive_bitrate(&mut self, bitrate: Option<u32>) {
        if std::mem::replace(&mut self.policy.max_receive_bitrate, bitrate) != bitrate {
            self.apply_receive_bound();
        }
    }

    /// The bound on received video of all tracks together, in bits per second.
    pub(super) fn receive_bound(&self) -> Option<u32> {
        let bounds = [self.policy.max_receive_bitrate, self.link_bound.bitrate];
        bounds.into_iter().flatten().min()
    }

    /// Bounds what is received on a connection that is ready. Others are bounded
    /// by their offer, or when they are ready.
    pub(super) fn apply_receive_bound(&mut self) {
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        let (wanted, offered) = (self.receive_bound(), self.offered_receive_bitrate);
        match wanted {
            // The offer's bound is enough; one by messages is lifted.
            _ if wanted == offered => self.actions.push(Action::SetMaxReceiveBitrate(None)),
            Some(bitrate) if bitrate >= MIN_ESTIMATE && offered.is_none_or(|o| bitrate <= o) => {
                self.actions.push(Action::SetMaxReceiveBitrate(wanted));
            }
            _ => self.replace_connection(),
        }
    }

    pub(super) fn link_observed(&mut self, link: LinkState) {
        let Phase::Ready(Ready { since, .. }) = self.phase else {
            return;
        };
        if self.link_bound.replace_at.is_some() {
            return;
        }
        if !link.queued {
            self.link_bound.queued_since = None;
            return self.lift_link_bound(link);
        }
        let queued_since = *self.link_bound.queued_since.get_or_insert(self.now);
        let is_new = self.now.saturating_sub(since) < NEW_CONNECTION;
        let lasts = is_new || self.now.saturating_sub(queued_since) >= QUEUE_LIMIT;
        // The server itself lowers what is above its least estimate.
        if lasts && link.received < MIN_ESTIMATE_RECEIVED {
            self.lower_link_bound(link.received);
        }
    }

    fn lower_link_bound(&mut self, received: u32) {
        let present = self.receive_bound().unwrap_or(u32::MAX);
        let lowest = f64::from(received.min(present)) * LINK_SHARE;
        let bound = (lowest as u32).max(MIN_BOUND);
        if bound >= present {
            return;
        }
        let link = &mut self.link_bound;
        let lifted = link.lifted.take();
        if lifted.is_some_and(|lifted| self.now.saturating_sub(lifted) < SOON) {
            link.lift_after = (link.lift_after * 2).min(MAX_LIFT_AFTER);
        }
        link.bitrate = Some(bound);
        link.lowered = self.now;
        self.change_link_bound();
    }

    fn lift_link_bound(&mut self, link: LinkState) {
        let Some(present) = self.link_bound.bitrate else {
            return;
        };
        let is_due = self.now.saturating_sub(self.link_bound.lowered) >= self.link_bound.lift_after;
        let in_vain = f64::from(present) * LEAST_ROOM;
        let in_vain = link
            .capacity
            .is_some_and(|capacity| f64::from(capacity) < in_vain);
        if is_due && !in_vain {
            self.link_bound.bitrate = None;
            self.link_bound.lifted = Some(self.now);
            self.change_link_bound();
        }
    }

    fn change_link_bound(&mut self) {
        self.link_bound.queued_since = None;
        if self.receive_bound() == self.offered_receive_bitrate {
            return;
        }
        // What the server sends until it hears of the next connection would fill
        // the queue, in which the offer waits, too.
        for track in self.received_tracks() {
            self.requests
                .notify(&ClientMessage::PauseTrack(track), &mut self.actions);
        }
        self.link_bound.replace_at = Some(self.now + DRAIN_TIME);
    }

    pub(super) fn replace_for_link_bound(&mut self) {
        self.link_bound.replace_at = None;
        self.replace_connection_at_once();
    }

    /// The tracks that the server sends now.
    fn received_tracks(&self) -> Vec<String> {
        let tracks = self.planned_tracks.iter().map(|planned| &planned.track);
        let received = tracks.filter(|track| {
            track.direction == Direction::RecvOnly && !self.is_track_paused(&track.name)
        });
        received.map(|track| track.name.clone()).collect()
    }
}
