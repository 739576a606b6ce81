// SPDX-License-Identifier: MIT

//! The life of a session as a pure state machine: inputs and the time go in,
//! actions come out. It does no I/O, holds no clock and takes no lock, so
//! every path through it is a unit test.

mod connect;
mod live;
mod recover;
mod types;
mod waiting;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use types::{Action, Input, MachineEvent, PlannedTrack, Policy, Progress, Status, WireChoice};
pub use wire::NO_CLIP;

use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp::OfferedSection,
};
use live::Live;
use recover::{Checking, Recovery};
use waiting::Waiting;
use wire::Requests;

/// From the answer to both channels open. (The platform's clients: 30 s.)
pub const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// From the description of the session to an offer on the table.
pub const OFFER_LIMIT: Duration = Duration::from_secs(15);
/// How long an ending session may stand in the way of a new one.
pub const CONFLICT_LIMIT: Duration = Duration::from_secs(10);
/// How long the server may take to say what became of a lost session.
pub const CHECK_LIMIT: Duration = Duration::from_millis(1000);
/// How long a lost session is kept by the platform. (The platform's FAQ.)
pub const RECOVERY_WINDOW: Duration = Duration::from_secs(30);
/// How long each step of resuming it may take.
pub const RECOVERY_STEP_LIMIT: Duration = Duration::from_secs(5);
/// A reply to a request that has not come by then is not awaited any more.
/// (The platform's clients: 10 s.)
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The server drops a connection that is silent for 20 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A deadline that never comes.
const NEVER: Duration = Duration::MAX;

#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    /// The session and whether it is ours to end.
    lease: Option<(String, Ownership)>,
    /// Whether there is a peer connection to close.
    transport: bool,
    /// The tracks of the offer, in the order of its m-lines.
    plan: Vec<PlannedTrack>,
    /// Which tracks should flow: changes before the session is live count.
    wanted: BTreeMap<String, bool>,
    requests: Requests,
    /// The number of the connection, for another offer on it.
    connection_id: Option<u32>,
    /// How many connections were begun.
    connections: u64,
    /// The connection is lost, and how the search for another goes.
    recovery: Option<Recovery>,
    /// How often that was tried of late.
    attempts: u32,
    random: u64,
    /// The elements have heard the model's schema.
    schema_told: bool,
    timings: Timings,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Asking for the session, perhaps repeatedly.
    Beginning(Beginning),
    /// The session is there, its GPU is not.
    Waiting(Waiting),
    /// Collecting what the offer needs.
    Preparing(Preparing),
    /// The offer is being handed in.
    Offering(Negotiation),
    /// Waiting for the answer.
    Polling(Negotiation, Polling),
    /// The answer is applied; ICE, DTLS, SCTP.
    Connecting(Connecting),
    Live(Live),
    /// Lost: asking the server what became of the session.
    Checking(Checking),
    /// The user gave the connection up and keeps the session.
    Parked,
    Closing(Closing),
    Closed,
}

#[derive(Debug)]
struct Beginning {
    /// A request is under way.
    asking: bool,
    since: Duration,
    /// When to ask again.
    next: Duration,
    /// When to stop asking.
    give_up: Duration,
    /// When an ending session stops being a reason to wait.
    conflict_give_up: Option<Duration>,
    /// Why we are still here.
    last: Option<Error>,
    /// How often the server has put us off.
    refusals: u32,
}

#[derive(Debug)]
struct Preparing {
    deadline: Duration,
    descriptor: Box<SessionDescriptor>,
    /// The connection had an offer before.
    resume: bool,
    planned: bool,
    ice_servers: Option<Vec<crate::platform::signaling::IceServer>>,
    building: bool,
    offer: Option<String>,
}

#[derive(Debug)]
struct Negotiation {
    connection_id: u32,
    sections: Vec<OfferedSection>,
    deadline: Duration,
}

#[derive(Debug)]
struct Polling {
    give_up: Duration,
    interval: Duration,
    /// When to poll next; `None` while a poll is under way.
    next: Option<Duration>,
}

#[derive(Debug)]
struct Connecting {
    deadline: Duration,
    fingerprint: crate::platform::sdp::Fingerprint,
    verified: bool,
    control: bool,
    data: bool,
}

#[derive(Debug)]
struct Closing {
    deadline: Duration,
    transport: bool,
    /// The request that ends the session is under way.
    ending: bool,
    /// The request that began the session has not come back yet.
    beginning: bool,
}

/// When each step of connecting was reached, since [`Input::Start`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    start: Duration,
    /// The session has an id.
    pub session: Option<Duration>,
    pub described: Option<Duration>,
    pub offered: Option<Duration>,
    pub answered: Option<Duration>,
    pub connected: Option<Duration>,
    pub ready: Option<Duration>,
    /// How often the connection was lost and made anew.
    pub reconnects: u32,
    /// How long that took the last time.
    pub outage: Option<Duration>,
}

impl Machine {
    pub fn new(policy: Policy) -> Self {
        Self {
            requests: Requests::new(policy.wire),
            // Never zero.
            random: policy.seed | 1,
            policy,
            connection_id: None,
            connections: 0,
            recovery: None,
            attempts: 0,
            phase: Phase::Idle,
            lease: None,
            transport: false,
            plan: Vec::new(),
            wanted: BTreeMap::new(),
            schema_told: false,
            timings: Timings::default(),
        }
    }

    pub fn timings(&self) -> Timings {
        self.timings
    }

    pub fn session_id(&self) -> Option<&str> {
        self.lease.as_ref().map(|(id, _)| id.as_str())
    }

    /// Counts the connections that were begun. What the server says to an offer
    /// of one before is of no interest any more.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// When the machine wants a [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Idle | Phase::Parked | Phase::Closed => NEVER,
            Phase::Beginning(b) if b.asking => b.give_up,
            Phase::Beginning(b) => b.next.min(b.give_up),
            Phase::Waiting(w) => w.deadline(),
            Phase::Preparing(p) => p.deadline,
            Phase::Offering(n) => n.deadline,
            Phase::Polling(_, p) => p.next.unwrap_or(NEVER).min(p.give_up),
            Phase::Connecting(c) => c.deadline,
            Phase::Live(live) => {
                let probe = self.requests.probe_deadline();
                live.deadline(&self.policy).min(probe)
            }
            Phase::Checking(c) => {
                let give_up = self.recovery.as_ref().map_or(NEVER, |r| r.give_up);
                c.next.min(give_up)
            }
            Phase::Closing(c) => c.deadline,
        };
        let next = phase.min(self.requests.deadline());
        (next != NEVER).then_some(next)
    }

    /// Takes one input at a time; `now` never goes backwards.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Stop => self.stop(now, &mut out),
            Input::Reconnect => self.reconnect(now, &mut out),
            Input::Disconnect { recoverable } => self.disconnect(now, recoverable, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Begun(result) => self.begun(now, result, &mut out),
            Input::IceServers(result) => self.ice_servers(now, result, &mut out),
            Input::Registered(result) => self.registered(now, result, &mut out),
            Input::Planned(result) => self.planned(now, result, &mut out),
            Input::OfferBuilt(result) => self.offer_built(now, result, &mut out),
            Input::OfferPosted(result) => self.offer_posted(now, result, &mut out),
            Input::AnswerPolled(result) => self.answer_polled(now, result, &mut out),
            Input::PeerConnected => self.peer_connected(&mut out),
            Input::Verified(result) => self.verified(now, result, &mut out),
            Input::ChannelOpen(channel) => self.channel_open(now, channel, &mut out),
            Input::Frame(channel, frame) => self.frame(now, channel, frame, &mut out),
            Input::LastReceived(at) => self.last_received(at),
            Input::TransportFailed(error) => self.transport_failed(now, error, &mut out),
            Input::Want { track, flowing } => self.want(track, flowing, &mut out),
            Input::Request { token, message } => self.request(now, token, message, &mut out),
            Input::Described(result) if matches!(self.phase, Phase::Waiting(_)) => {
                self.waited(now, result, &mut out);
            }
            Input::Described(result) => self.described(now, result, &mut out),
            Input::SessionEnded(result) => {
                if let Err(error) = result
                    && matches!(self.phase, Phase::Closing(_))
                {
                    emit(&mut out, MachineEvent::Warning(error));
                }
                self.close_step(&mut out, |c| c.ending = false);
            }
            Input::TransportClosed => {
                self.transport = false;
                self.close_step(&mut out, |c| c.transport = false);
            }
        }
        out
    }

    fn stop(&mut self, now: Duration, out: &mut Vec<Action>) {
        let why = Error::gpu(Code::Aborted, "the session was stopped by its user");
        match self.phase {
            Phase::Idle => {
                self.requests.abort(&why, out);
                self.closed(out);
            }
            Phase::Closing(_) | Phase::Closed => {}
            _ => {
                let connecting = match self.phase {
                    Phase::Live(_) | Phase::Parked => false,
                    Phase::Checking(_) => self.recovery.as_ref().is_some_and(Recovery::told),
                    _ => true,
                };
                if connecting {
                    emit(out, MachineEvent::Progress(Progress::Canceled("Stopped")));
                }
                self.close(now, &why, out);
            }
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.requests.expire(now, out);
        match &mut self.phase {
            Phase::Idle | Phase::Parked | Phase::Closed => {}
            Phase::Beginning(_) => self.tick_beginning(now, out),
            Phase::Waiting(_) => self.tick_waiting(now, out),
            Phase::Preparing(p) if now >= p.deadline => {
                let error = Error::api(
                    Code::RequestTimeout,
                    format!("no offer could be made within {} s", OFFER_LIMIT.as_secs()),
                );
                self.fail(now, error.during("offer"), out);
            }
            Phase::Offering(n) if now >= n.deadline => {
                let error = Error::api(
                    Code::RequestTimeout,
                    format!(
                        "the server did not take the offer within {} s",
                        OFFER_LIMIT.as_secs()
                    ),
                );
                self.fail(now, error.during("sdp_params"), out);
            }
            Phase::Polling(..) => self.tick_polling(now, out),
            Phase::Connecting(c) if now >= c.deadline => {
                let error = c.describe_timeout();
                self.fail(now, error, out);
            }
            Phase::Live(_) => self.tick_live(now, out),
            Phase::Checking(_) => self.tick_checking(now, out),
            Phase::Closing(c) if now >= c.deadline => self.closed(out),
            _ => {}
        }
    }

    /// A step failed: the session could not be had, unless it is worth trying
    /// again.
    fn fail(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        if !self.retry(now, &error, out) {
            self.give_up(now, error, out);
        }
    }

    /// The session is lost or could not be had.
    fn give_up(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        if self.restart(now, &error, out) {
            return;
        }
        emit(
            out,
            MachineEvent::Progress(Progress::Error(error.message.clone())),
        );
        emit(out, MachineEvent::Failed(error.clone()));
        self.close(now, &error, out);
    }

    /// The other side ended the session in order.
    fn end(&mut self, now: Duration, reason: Option<String>, out: &mut Vec<Action>) {
        let text = reason.as_deref().unwrap_or("the session is over");
        let why = Error::gpu(
            Code::SessionTerminal,
            format!("the model ended the session: {text}"),
        );
        emit(out, MachineEvent::Ended { reason });
        // Nobody is billed for a session that is over.
        self.lease = None;
        self.close(now, &why, out);
    }

    fn close(&mut self, now: Duration, why: &Error, out: &mut Vec<Action>) {
        self.requests.abort(why, out);
        self.recovery = None;
        let beginning = matches!(&self.phase, Phase::Beginning(b) if b.asking);
        let ending = self.end_session(out);
        if self.transport {
            out.push(Action::CloseTransport);
        }
        self.phase = Phase::Closing(Closing {
            deadline: now + self.policy.close_limit,
            transport: self.transport,
            ending,
            beginning,
        });
        emit(out, MachineEvent::Status(Status::Disconnected));
        self.close_step(out, |_| {});
    }

    /// Asks the server to end a session that is ours to end.
    fn end_session(&mut self, out: &mut Vec<Action>) -> bool {
        let ours = matches!(self.lease.take(), Some((_, Ownership::Created)));
        let end = ours && !self.policy.recoverable;
        if end {
            out.push(Action::EndSession);
        }
        end
    }

    fn close_step(&mut self, out: &mut Vec<Action>, step: impl FnOnce(&mut Closing)) {
        if let Phase::Closing(closing) = &mut self.phase {
            step(closing);
            if !(closing.transport || closing.ending || closing.beginning) {
                self.closed(out);
            }
        }
    }

    fn closed(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Closed;
        emit(out, MachineEvent::SessionId(None));
        emit(out, MachineEvent::Closed);
    }
}

fn emit(out: &mut Vec<Action>, event: MachineEvent) {
    out.push(Action::Emit(event));
}

/// The platform's backoff while it makes up its answer: 200 ms, doubled, at
/// most 15 s each, `attempts` of them. We poll more often than that, but are
/// just as patient.
fn polling_patience(attempts: u32) -> Duration {
    (0..attempts.min(1000))
        .map(|n| Duration::from_millis(200u64.saturating_mul(1 << n.min(16)).min(15_000)))
        .sum()
}
