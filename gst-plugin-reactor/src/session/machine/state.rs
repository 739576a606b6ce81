// SPDX-License-Identifier: MIT

//! The state machine's state: its phases, what each keeps, and the time limits. The
//! modules beside this one make the transitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    receive_bitrate::LinkBound,
    requests::Requests,
    resumed_tracks::ResumedTracks,
    trickle::Trickle,
    types::{Action, MachineEvent, NEVER, Policy, Progress},
};
use crate::platform::{
    Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp::{Fingerprint, OfferedSection},
    signaling::IceServer,
    track::Track,
};

/// From the answer to both channels open. (The platform's clients: 30 s.)
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// From the description of the session to the server's acceptance of the offer.
pub(super) const OFFER_LIMIT: Duration = Duration::from_secs(15);
/// How long to retry while another session on the server is ending.
pub(super) const CONFLICT_LIMIT: Duration = Duration::from_secs(10);
/// How long the server may take to describe a session whose connection is lost.
pub(super) const QUERY_LIMIT: Duration = Duration::from_millis(1000);
/// How long the platform keeps a session without a connection. (The platform's
/// FAQ.)
pub(super) const RECOVERY_WINDOW: Duration = Duration::from_secs(30);
/// How long each step of resuming it may take.
pub(super) const RECOVERY_STEP_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection of a resumed session is waited for if neither side has named
/// a candidate. libnice 0.1.21 and libwebrtc take no address that an interface gets
/// later (one of IPv6 takes a second): another connection does. A relay's candidate
/// may still come.
pub(super) const NO_CANDIDATES_LIMIT: Duration = Duration::from_secs(1);
/// The interval of pings. The server drops a connection that is silent for 20 s.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long the tracks stay paused on a new connection. A server sends each one a
/// black picture of a size of its own, before its first message. It is lost on a
/// paused track, so the tracks are resumed after that message, or after this limit.
const RESUME_LIMIT: Duration = Duration::from_millis(500);

/// See the [module](super).
#[derive(Debug)]
pub struct Machine {
    /// The time of the present input.
    pub(super) now: Duration,
    /// The actions for the present input so far.
    pub(super) actions: Vec<Action>,
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    /// The id of the session and whether it is ours to end.
    pub(super) session: Option<(String, Ownership)>,
    /// There is a peer connection to close.
    pub(super) has_transport: bool,
    /// The tracks of the offer, in the order of its m-lines.
    pub(super) planned_tracks: Vec<Track>,
    /// The tracks that elements have paused or resumed, also before the session
    /// was ready, and those of the offer: they are paused until then.
    pub(super) paused_tracks: BTreeMap<String, bool>,
    /// The tracks that the user has paused.
    pub(super) user_paused_tracks: BTreeSet<String>,
    pub(super) requests: Requests,
    /// The server's number for the connection, to make another offer on it.
    pub(super) connection_id: Option<u32>,
    /// The ICE candidates of the present connection.
    pub(super) trickle: Trickle,
    /// Counts the connections that were begun.
    pub(super) connections: u64,
    /// How the search for another connection goes, when one is lost.
    pub(super) recovery: Option<Recovery>,
    /// The tokens of the user's `Input::Reconnect` that are not answered yet.
    pub(super) reconnecting: Vec<u64>,
    /// The tokens of the user's `Input::Disconnect` that end the session.
    pub(super) disconnecting: Vec<u64>,
    /// Counts the recent attempts, for the backoff.
    pub(super) attempts: u32,
    /// The state of the random numbers for the backoff's jitter.
    pub(super) random: u64,
    /// The elements have received the model's schema.
    pub(super) schema_reported: bool,
    pub(super) timings: Timings,
    /// When the session got its GPU, and began to cost.
    pub(super) costs_since: Option<Duration>,
    /// The bound on received video in the last offer.
    pub(super) offered_receive_bitrate: Option<u32>,
    pub(super) link_bound: LinkBound,
    /// Of the last offer.
    pub(super) descriptor: Option<SessionDescriptor>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// Requesting a session, perhaps repeatedly.
    Opening(Opening),
    /// The session is there and has no GPU yet.
    Waiting(Waiting),
    /// Collecting what the offer needs.
    Preparing(Preparing),
    /// The offer is being posted.
    Offering(Negotiation),
    /// Polling for the answer.
    Polling(Negotiation, Polling),
    /// The answer is applied; ICE, DTLS and SCTP connect.
    Connecting(Connecting),
    Ready(Ready),
    /// The connection is lost; the server is asked for the session's state.
    QueryingSession {
        /// When to send the next request. An earlier one may still be answered.
        next: Duration,
    },
    /// There is no connection, and the session is kept for the user to reconnect.
    Suspended(Suspended),
    Closing(Closing),
    Closed,
}

#[derive(Debug)]
pub(super) struct Opening {
    /// A request is pending.
    pub(super) pending: bool,
    pub(super) since: Duration,
    /// When to send the next request.
    pub(super) next: Duration,
    /// When to stop retrying.
    pub(super) deadline: Duration,
    /// When to stop retrying because of another session that is ending.
    pub(super) conflict_deadline: Option<Duration>,
    /// Why the server refused the last request.
    pub(super) last_error: Option<Error>,
    /// Counts the refused requests.
    pub(super) refusals: u32,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// When to poll next; `None` while a poll is pending.
    pub(super) next: Option<Duration>,
    pub(super) interval: Duration,
    pub(super) since: Duration,
    pub(super) deadline: Duration,
    /// When the present series of errors began.
    pub(super) failing_since: Option<Duration>,
    /// The progress that was reported last.
    pub(super) reported: String,
}

#[derive(Debug)]
pub(super) struct Preparing {
    pub(super) deadline: Duration,
    pub(super) descriptor: Box<SessionDescriptor>,
    /// The connection had an offer before.
    pub(super) resume: bool,
    pub(super) planned: bool,
    pub(super) ice_servers: Option<Vec<IceServer>>,
    /// The transport is making the offer.
    pub(super) creating_offer: bool,
    pub(super) offer: Option<String>,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    pub(super) connection_id: u32,
    pub(super) sections: Vec<OfferedSection>,
    pub(super) deadline: Duration,
}

#[derive(Debug)]
pub(super) struct Polling {
    pub(super) deadline: Duration,
    pub(super) interval: Duration,
    /// When to poll next; `None` while a poll is pending.
    pub(super) next: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) deadline: Duration,
    /// From the answer to the deadline.
    pub(super) limit: Duration,
    pub(super) fingerprint: Fingerprint,
    pub(super) verified: bool,
    pub(super) control: bool,
    pub(super) data: bool,
}

#[derive(Debug)]
pub(super) struct Ready {
    pub(super) since: Duration,
    /// When anything was last received from the server.
    pub(super) last_received: Duration,
    /// A request was sent to find out whether the server still answers.
    pub(super) probed: bool,
    pub(super) next_ping: Duration,
    /// When to resume the tracks at the latest; `None` once they are resumed.
    pub(super) resume_by: Option<Duration>,
    pub(super) resumed_tracks: ResumedTracks,
}

#[derive(Debug)]
pub(super) struct Recovery {
    /// Why the connection was lost; `None` if the user asked for another.
    pub(super) cause: Option<Error>,
    pub(super) since: Duration,
    /// The end of the [`RECOVERY_WINDOW`].
    pub(super) deadline: Duration,
    /// The elements know that the connection is lost.
    pub(super) reported: bool,
    /// The session is to be resumed; if not, the server is only asked whether it
    /// has ended.
    pub(super) resume: bool,
    /// The server took the connection down.
    pub(super) closed_by_server: bool,
    /// The session had a client when it was asked first.
    pub(super) has_client: bool,
    /// Another session is being opened instead; the id of the lost one, if it was
    /// ours to end.
    pub(super) restarted: Option<Option<String>>,
}

#[derive(Debug)]
pub(super) struct Suspended {
    /// Since when there is no connection.
    pub(super) since: Duration,
    /// When to ask the server whether it still keeps the session.
    pub(super) next: Duration,
}

#[derive(Debug)]
pub(super) struct Closing {
    pub(super) deadline: Duration,
    /// Why the session could not be ended.
    pub(super) error: Option<Error>,
    /// The transport has not closed yet.
    pub(super) transport: bool,
    /// The request that ends the session is pending.
    pub(super) ending_session: bool,
    /// The request that opens a session is pending.
    pub(super) opening_session: bool,
}

/// When each step of a session's first connection was reached, since its start:
/// [`Input::Start`](super::Input), or that of the session which replaced another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    pub(super) start: Duration,
    /// The session has an id.
    pub session: Option<Duration>,
    pub described: Option<Duration>,
    pub offered: Option<Duration>,
    pub answered: Option<Duration>,
    pub connected: Option<Duration>,
    pub ready: Option<Duration>,
    /// Counts the connections that were lost and replaced.
    pub reconnects: u32,
    /// The duration of the last outage.
    pub outage: Option<Duration>,
}

impl Machine {
    pub fn new(policy: Policy) -> Self {
        Self {
            now: Duration::ZERO,
            actions: Vec::new(),
            requests: Requests::new(policy.wire),
            // xorshift must not start at zero.
            random: policy.seed | 1,
            policy,
            connection_id: None,
            trickle: Trickle::default(),
            connections: 0,
            recovery: None,
            reconnecting: Vec::new(),
            disconnecting: Vec::new(),
            attempts: 0,
            phase: Phase::Idle,
            session: None,
            has_transport: false,
            planned_tracks: Vec::new(),
            paused_tracks: BTreeMap::new(),
            user_paused_tracks: BTreeSet::new(),
            schema_reported: false,
            timings: Timings::default(),
            costs_since: None,
            offered_receive_bitrate: None,
            link_bound: LinkBound::default(),
            descriptor: None,
        }
    }

    pub fn timings(&self) -> Timings {
        self.timings
    }

    pub fn session_id(&self) -> Option<&str> {
        self.session.as_ref().map(|(id, _)| id.as_str())
    }

    /// Counts the connections that were begun. Replies to the signaling requests
    /// of an earlier one are to be dropped.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Whether the session ends on the server when it is stopped here.
    pub fn ends_session(&self) -> bool {
        let ours = matches!(self.session, Some((_, Ownership::Created)));
        ours && !self.policy.recoverable
    }

    /// Whether a session of ours is left alive on the server when it is stopped here.
    pub fn is_recoverable(&self) -> bool {
        self.policy.recoverable
    }

    /// Whether there is no connection, and the session is kept for the user.
    pub fn is_suspended(&self) -> bool {
        matches!(self.phase, Phase::Suspended(_))
    }

    /// Whether the session is over, or is being ended.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Closed)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn emit(&mut self, event: MachineEvent) {
        self.actions.push(Action::Emit(event));
    }

    pub(super) fn report_progress(&mut self, progress: Progress) {
        self.emit(MachineEvent::Progress(progress));
    }

    /// When the machine needs the next [`Input::Tick`](super::Input::Tick).
    pub fn deadline(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Idle | Phase::Closed => NEVER,
            Phase::Suspended(suspended) => suspended.next,
            Phase::Opening(opening) if opening.pending => opening.deadline,
            Phase::Opening(opening) => opening.next.min(opening.deadline),
            Phase::Waiting(waiting) => waiting.next.unwrap_or(NEVER).min(waiting.deadline),
            Phase::Preparing(preparing) => preparing.deadline,
            Phase::Offering(negotiation) => negotiation.deadline,
            Phase::Polling(_, polling) => polling.next.unwrap_or(NEVER).min(polling.deadline),
            Phase::Connecting(connecting) => connecting.deadline,
            Phase::Ready(ready) => {
                let probe = self.requests.probe_deadline();
                let bound = self.link_bound.deadline();
                ready
                    .deadline(self.policy.stall_limit)
                    .min(probe)
                    .min(bound)
            }
            Phase::QueryingSession { next } => {
                let recovery = self.recovery.as_ref().map_or(NEVER, |r| r.deadline);
                (*next).min(recovery)
            }
            Phase::Closing(closing) => closing.deadline,
        };
        let next = phase
            .min(self.requests.deadline())
            .min(self.candidates_due())
            .min(self.expiration_deadline());
        (next != NEVER).then_some(next)
    }
}

impl Ready {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            last_received: now,
            probed: false,
            next_ping: now + PING_INTERVAL,
            resume_by: Some(now + RESUME_LIMIT),
            resumed_tracks: ResumedTracks::default(),
        }
    }

    fn deadline(&self, stall_limit: Option<Duration>) -> Duration {
        let watchdog = stall_limit.map_or(NEVER, |limit| {
            let wait = if self.probed { limit } else { limit / 2 };
            self.last_received + wait
        });
        let resume = self.resume_by.unwrap_or(NEVER);
        let again = self.resumed_tracks.deadline();
        watchdog.min(self.next_ping).min(resume).min(again)
    }
}
