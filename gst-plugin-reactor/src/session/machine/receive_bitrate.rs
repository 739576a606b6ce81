// SPDX-License-Identifier: MIT

//! The bound on received video while the session runs: the user's, or a lower one
//! that the link makes necessary. The offer states it (`b=AS`), which libwebrtc
//! keeps its encoders within. Another one is stated in messages on the connection
//! (REMB) where that is enough, else in the offer of another connection.
//!
//! The server estimates by itself what a link carries, but not below
//! [`MIN_ESTIMATE`]. Where a queue stands although it sends no more than that, the
//! session goes on with a bound. What the link carries is measured by the model's
//! schema, a message of many packets that is requested without any other effect:
//! at the start, before any media flows, and from time to time while there is a
//! bound. Where the schema is too short for that, the bound is
//! lifted from time to time.

use std::time::Duration;

use super::{
    connect::START_BITRATE,
    state::{Machine, Phase, Ready},
    types::{Action, LinkState, NEVER},
};
use crate::platform::{track::Direction, wire::ClientMessage};

/// What libwebrtc's estimate of the runtime 3.10.0 does not go below, whatever
/// messages say, in bits per second.
const MIN_ESTIMATE: u32 = 500_000;
/// What arrives at that estimate, with the headers of UDP and IP, and at most.
const MIN_ESTIMATE_RECEIVED: u32 = 580_000;
/// What a link has to carry for the bound to be lifted.
const ROOM: u32 = 640_000;
/// The part of the link that video may take: sound, messages, retransmissions and
/// keyframes need the rest.
const LINK_SHARE: f64 = 0.75;
/// With less there is no picture to speak of, in bits per second.
const MIN_BOUND: u32 = 50_000;
/// A bound is raised by this factor or more: it costs pictures.
const LEAST_RAISE: f64 = 1.25;
/// How long after it is ready a connection is a new one: what the first message
/// shows of the link counts.
const NEW_CONNECTION: Duration = Duration::from_secs(4);
/// The old connection goes on until this time passes without a packet, since its
/// tracks are paused then, and the queue is shown: longer than between two packets
/// of sound.
const DRAINED: Duration = Duration::from_millis(60);
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_DRAIN_TIME: Duration = Duration::from_secs(1);
/// How often the link is measured, which is a queue of its own on a narrow link: at
/// first, and later after this part of the time for which there is a bound. What
/// was narrow from the start is less likely to change.
const MEASURE_AFTER: Duration = Duration::from_secs(2);
const MAX_MEASURE_AFTER: Duration = Duration::from_secs(30);
const WAS_WIDE: u32 = 4;
const WAS_NARROW: u32 = 1;
/// The number of measurements in turn that have to show the room.
const MEASUREMENTS: u32 = 2;
/// The next one follows at once.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);
/// How long a measurement may be the cause of a queue.
const MEASUREMENT_QUEUE: Duration = Duration::from_secs(2);
/// When a bound is lifted that cannot be measured. The time doubles when the bound
/// has to be lowered again soon.
const LIFT_AFTER: Duration = Duration::from_secs(12);
const MAX_LIFT_AFTER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);
/// The server probes with three times the first estimate: no more than the link
/// carries. Its own is 4 Mbit/s.
const START_SHARE: u32 = 3;
const MAX_START_BITRATE: u32 = 4_000_000;

/// A queue that stands for longer is not lowered by the server itself: what it sends
/// is bounded by messages then, to this part of what passes.
const QUEUE_LIMIT: Duration = Duration::from_secs(1);
const REMB_SHARE: f64 = 0.85;
/// Without a queue, that bound is raised in steps, until no more than a part of it
/// arrives.
const REMB_STEP_AFTER: Duration = Duration::from_secs(2);
const REMB_STEP: f64 = 1.25;
const REMB_UNUSED: f64 = 0.5;

/// The bound that the link makes necessary.
#[derive(Debug)]
pub(super) struct LinkBound {
    /// In bits per second.
    bitrate: Option<u32>,
    /// When it was set.
    lowered: Duration,
    lifted: Option<Duration>,
    lift_after: Duration,
    /// What the link carries, if that was measured and no queue has stood since.
    capacity: Option<u32>,
    /// Since when the tracks are paused, for the connection with the new bound.
    draining: Option<Duration>,
    next_look: Duration,
    /// When anything arrived last.
    last_arrival: Duration,
    measurement: Measurement,
    /// Since when a queue stands that the server itself should lower.
    queued_since: Option<Duration>,
    /// The bound by messages on this connection, and when it was set.
    remb: Option<(u32, Duration)>,
}

/// Of what the link carries, while there is a bound.
#[derive(Debug, Default)]
struct Measurement {
    /// The server's schema is long enough.
    is_possible: bool,
    requested: Option<Duration>,
    least_interval: Duration,
    /// [`WAS_WIDE`] or [`WAS_NARROW`].
    patience: u32,
    /// Counts those in turn that showed room.
    confirmations: u32,
}

impl Default for LinkBound {
    fn default() -> Self {
        Self {
            bitrate: None,
            lowered: Duration::ZERO,
            lifted: None,
            lift_after: LIFT_AFTER,
            capacity: None,
            draining: None,
            next_look: NEVER,
            last_arrival: Duration::ZERO,
            measurement: Measurement::default(),
            queued_since: None,
            remb: None,
        }
    }
}

impl LinkBound {
    pub(super) fn deadline(&self) -> Duration {
        self.draining.map_or(NEVER, |_| self.next_look)
    }

    /// The connection was replaced, for whatever reason.
    pub(super) fn end_draining(&mut self) {
        self.draining = None;
        (self.queued_since, self.remb) = (None, None);
    }

    pub(super) fn arrived(&mut self, at: Duration) {
        self.last_arrival = self.last_arrival.max(at);
    }
}

impl Machine {
    /// What an earlier session has measured of the link, in bits per second.
    pub fn set_link_capacity(&mut self, capacity: Option<u32>) {
        self.link_bound.capacity = capacity;
    }

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
            _ if wanted == offered => self.send_receive_bound(None),
            Some(bitrate) if bitrate >= MIN_ESTIMATE && offered.is_none_or(|o| bitrate <= o) => {
                self.send_receive_bound(wanted);
            }
            _ => self.replace_connection(),
        }
    }

    /// The first estimate of the next connection, in bits per second.
    pub(super) fn start_bitrate(&self) -> u32 {
        let measured = self.link_bound.capacity.unwrap_or_default();
        let start = (measured / START_SHARE).min(MAX_START_BITRATE);
        start.max(START_BITRATE)
    }

    pub(super) fn link_observed(&mut self, link: LinkState) {
        let Phase::Ready(Ready { since, .. }) = self.phase else {
            return;
        };
        if self.link_bound.draining.is_some() {
            return;
        }
        let is_new = self.now.saturating_sub(since) < NEW_CONNECTION;
        if let Some(capacity) = link.measured {
            return self.link_measured(capacity, is_new);
        }
        if !link.queued {
            self.raise_remb(link.received);
            return self.look_for_room(link.capacity);
        }
        let requested = self.link_bound.measurement.requested;
        let is_ours = requested.is_some_and(|at| self.now < at + MEASUREMENT_QUEUE);
        if link.received >= MIN_ESTIMATE_RECEIVED {
            self.lower_remb(link.received);
        } else if !is_ours {
            let present = self.receive_bound().unwrap_or(u32::MAX);
            self.lower_link_bound(share(link.received.min(present)), is_new);
        }
    }

    /// Bounds what the server sends by messages, in bits per second: to this and
    /// to what the link makes necessary.
    fn send_receive_bound(&mut self, bitrate: Option<u32>) {
        let remb = self.link_bound.remb.map(|(bitrate, _)| bitrate);
        let bound = [bitrate, remb].into_iter().flatten().min();
        self.actions.push(Action::SetMaxReceiveBitrate(bound));
    }

    /// The server lowers what is above its least estimate by itself, unless a queue
    /// stands for a long time.
    fn lower_remb(&mut self, received: u32) {
        let link = &mut self.link_bound;
        let since = *link.queued_since.get_or_insert(self.now);
        let present = link.remb.map_or(u32::MAX, |(bitrate, _)| bitrate);
        let bitrate = ((f64::from(received) * REMB_SHARE) as u32).max(MIN_ESTIMATE);
        if self.now.saturating_sub(since) >= QUEUE_LIMIT && bitrate < present {
            link.queued_since = None;
            self.remember_capacity(None);
            self.set_remb(Some(bitrate));
        }
    }

    fn raise_remb(&mut self, received: u32) {
        self.link_bound.queued_since = None;
        let Some((bitrate, set)) = self.link_bound.remb else {
            return;
        };
        if self.now.saturating_sub(set) >= REMB_STEP_AFTER {
            let is_unused = f64::from(received) < f64::from(bitrate) * REMB_UNUSED;
            let raised = (f64::from(bitrate) * REMB_STEP) as u32;
            self.set_remb((!is_unused).then_some(raised));
        }
    }

    fn set_remb(&mut self, bitrate: Option<u32>) {
        self.link_bound.remb = bitrate.map(|bitrate| (bitrate, self.now));
        let users = self.receive_bound();
        self.send_receive_bound(users.filter(|_| users != self.offered_receive_bitrate));
    }

    fn link_measured(&mut self, capacity: u32, is_new: bool) {
        self.link_bound.measurement.is_possible = true;
        let Some(present) = self.link_bound.bitrate else {
            // Later, media takes a part of it.
            if is_new && capacity < MIN_ESTIMATE_RECEIVED {
                self.lower_link_bound(share(capacity), is_new);
            } else if is_new {
                self.remember_capacity(Some(capacity));
            }
            return;
        };
        let measurement = &mut self.link_bound.measurement;
        if !raises(present, capacity) {
            measurement.confirmations = 0;
            return;
        }
        measurement.confirmations += 1;
        if measurement.confirmations >= MEASUREMENTS {
            self.raise_link_bound(Some(capacity));
        }
    }

    /// Requests what shows the capacity of the link.
    fn measure_link(&mut self) {
        self.link_bound.measurement.requested = Some(self.now);
        self.requests.request_schema(self.now, &mut self.actions);
    }

    fn lower_link_bound(&mut self, bound: u32, is_new: bool) {
        if self.receive_bound().is_some_and(|present| bound >= present) {
            return;
        }
        let link = &mut self.link_bound;
        let lifted = link.lifted.take();
        let mut after = MEASURE_AFTER;
        if lifted.is_some_and(|lifted| self.now.saturating_sub(lifted) < SOON) {
            link.lift_after = (link.lift_after * 2).min(MAX_LIFT_AFTER);
            after = link.lift_after.min(MAX_MEASURE_AFTER);
        }
        let was_wide = !is_new && link.bitrate.is_none();
        link.bitrate = Some(bound);
        link.lowered = self.now;
        link.measurement = Measurement {
            is_possible: link.measurement.is_possible,
            requested: None,
            least_interval: after,
            patience: if was_wide { WAS_WIDE } else { WAS_NARROW },
            confirmations: 0,
        };
        self.remember_capacity(None);
        self.change_link_bound();
    }

    /// What later connections begin with, of this session and of others.
    pub(super) fn remember_capacity(&mut self, capacity: Option<u32>) {
        if self.link_bound.capacity != capacity {
            self.link_bound.capacity = capacity;
            self.actions.push(Action::RememberLinkCapacity(capacity));
        }
    }

    /// Finds out whether the link carries more than the bound leaves to it, unless
    /// the packets of frames hint that it does not.
    fn look_for_room(&mut self, hint: Option<u32>) {
        let link = &self.link_bound;
        let Some(present) = link.bitrate else {
            return;
        };
        if hint.is_some_and(|hint| !raises(present, hint)) {
            return;
        }
        let measurement = &link.measurement;
        if !measurement.is_possible {
            if self.now.saturating_sub(link.lowered) >= link.lift_after {
                self.raise_link_bound(None);
            }
            return;
        }
        let last = measurement.requested.unwrap_or(link.lowered);
        let interval = last.saturating_sub(link.lowered) / measurement.patience.max(1);
        let interval = interval.clamp(measurement.least_interval, MAX_MEASURE_AFTER);
        let since = self.now.saturating_sub(last);
        let is_to_be_confirmed = measurement.confirmations > 0 && since < CONFIRM_LIMIT;
        if is_to_be_confirmed || since >= interval {
            self.measure_link();
        }
    }

    /// Lifts the bound, or raises it to what the link carries.
    fn raise_link_bound(&mut self, capacity: Option<u32>) {
        let raised = capacity.filter(|capacity| *capacity < ROOM);
        let link = &mut self.link_bound;
        link.bitrate = raised.map(share);
        link.lifted = Some(self.now);
        link.lowered = self.now;
        link.measurement.requested = None;
        link.measurement.confirmations = 0;
        self.remember_capacity(capacity);
        self.change_link_bound();
    }

    fn change_link_bound(&mut self) {
        if self.receive_bound() == self.offered_receive_bitrate {
            return;
        }
        if self.resume_pending() {
            // Nothing flows yet. The message that showed it is still arriving.
            return;
        }
        // What the server sends until it hears of the next connection would fill
        // the queue, in which the offer waits, too.
        for track in self.received_tracks() {
            self.requests
                .notify(&ClientMessage::PauseTrack(track), &mut self.actions);
        }
        self.link_bound.draining = Some(self.now);
        self.link_bound.next_look = self.now + DRAINED;
    }

    /// Whether the link makes a connection with another bound necessary before the
    /// tracks of this one are resumed.
    pub(super) fn is_replaced_before_resuming(&self) -> bool {
        self.resume_pending()
            && self.link_bound.bitrate.is_some()
            && self.receive_bound() != self.offered_receive_bitrate
    }

    /// Makes the connection with the new bound, once the queue is gone.
    pub(super) fn tick_draining(&mut self) {
        let link = &mut self.link_bound;
        let drained = self.now.saturating_sub(link.last_arrival) >= DRAINED;
        let since = link.draining.unwrap_or(self.now);
        if drained || self.now.saturating_sub(since) >= MAX_DRAIN_TIME {
            return self.replace_for_link_bound();
        }
        link.next_look = self.now + DRAIN_INTERVAL;
    }

    pub(super) fn replace_for_link_bound(&mut self) {
        self.link_bound.draining = None;
        self.replace_connection_at_once();
    }

    /// The tracks that the server sends now.
    fn received_tracks(&self) -> Vec<String> {
        let received = self.planned_tracks.iter().filter(|track| {
            track.direction == Direction::RecvOnly && !self.is_track_paused(&track.name)
        });
        received.map(|track| track.name.clone()).collect()
    }
}

/// The bound for a link that carries this.
fn share(capacity: u32) -> u32 {
    ((f64::from(capacity) * LINK_SHARE) as u32).max(MIN_BOUND)
}

/// Whether a link that carries this leaves room above a bound.
fn raises(bound: u32, capacity: u32) -> bool {
    capacity >= ROOM || f64::from(share(capacity)) >= f64::from(bound) * LEAST_RAISE
}
