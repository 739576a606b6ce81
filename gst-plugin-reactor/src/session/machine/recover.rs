// SPDX-License-Identifier: MIT

//! A connection that is lost, and how the session is resumed on a new one.
//!
//! The platform keeps a session for a while after its connection is gone: a
//! new offer under the same connection id goes on where the old one ended. The
//! server is asked what became of the session first, again and again until it
//! can be reached, so that no connection is built for a session that is over.

use std::time::Duration;

use super::{
    Action, CHECK_LIMIT, Machine, MachineEvent, Phase, Progress, RECOVERY_STEP_LIMIT,
    RECOVERY_WINDOW, Status, emit, live::Live,
};
use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
};

/// Between two questions: doubled from the one to the other.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_SLOWEST: Duration = Duration::from_millis(1000);
/// What a server that answers with an error and does not say when to come back
/// is given. (The platform's documents.)
const REFUSED_DEFAULT: Duration = Duration::from_secs(3);
/// A connection that held for so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Recovery {
    /// Why the connection was lost; nothing if the user asked for another.
    cause: Option<Error>,
    since: Duration,
    /// The end of the platform's patience.
    pub(super) give_up: Duration,
    /// The elements know.
    told: bool,
    /// The session is to be resumed; if not, only its end is looked into.
    pub(super) resume: bool,
    /// It is another session now; the one before, if it was ours to end.
    restarted: Option<Option<String>>,
}

/// Asking the server what became of the session, perhaps repeatedly.
#[derive(Debug)]
pub(super) struct Checking {
    /// When to ask again. What was asked before may still be answered.
    pub(super) next: Duration,
}

impl Machine {
    pub(super) fn transport_failed(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        match &self.phase {
            Phase::Live(_) => self.lost(now, Some(error), out),
            Phase::Preparing(_)
            | Phase::Offering(_)
            | Phase::Polling(..)
            | Phase::Connecting(_) => {
                self.fail(now, error, out);
            }
            _ => {}
        }
    }

    /// A server that ends a session just closes the connection: ask it before
    /// calling that a failure.
    pub(super) fn lost(&mut self, now: Duration, cause: Option<Error>, out: &mut Vec<Action>) {
        if let Phase::Live(Live { since, .. }) = self.phase
            && now.saturating_sub(since) > GOOD
        {
            self.attempts = 0;
        }
        let resume = self.policy.reconnect || cause.is_none();
        let window = if resume { RECOVERY_WINDOW } else { CHECK_LIMIT };
        self.recovery = Some(Recovery {
            cause,
            since: now,
            give_up: now + window,
            told: false,
            resume,
            restarted: None,
        });
        // A connection that does not hold is not made anew in a hurry.
        let wait = match self.attempts {
            0 => Duration::ZERO,
            _ => self.backoff(),
        };
        self.check(now, wait, out);
    }

    fn check(&mut self, now: Duration, wait: Duration, out: &mut Vec<Action>) {
        let mut next = now + wait;
        if wait.is_zero() {
            next = now + CHECK_LIMIT;
            out.push(Action::Describe);
        }
        self.phase = Phase::Checking(Checking { next });
    }

    pub(super) fn tick_checking(&mut self, now: Duration, out: &mut Vec<Action>) {
        let (Phase::Checking(checking), Some(recovery)) = (&self.phase, &self.recovery) else {
            return;
        };
        if now >= recovery.give_up {
            let error = recovery.in_vain(None);
            self.give_up(now, error, out);
        } else if now >= checking.next {
            self.interrupt(out);
            let wait = self.backoff();
            out.push(Action::Describe);
            self.phase = Phase::Checking(Checking { next: now + wait });
        }
    }

    /// The elements hear that nothing flows, and what was asked of the old
    /// connection is not answered any more.
    fn interrupt(&mut self, out: &mut Vec<Action>) {
        if let Some(recovery) = &mut self.recovery
            && !std::mem::replace(&mut recovery.told, true)
        {
            let cause = recovery.cause.clone();
            self.suspend(cause, out);
            emit(out, MachineEvent::Status(Status::Connecting));
            emit(
                out,
                MachineEvent::Progress(Progress::Start("Reconnecting to the model")),
            );
        }
    }

    fn suspend(&mut self, cause: Option<Error>, out: &mut Vec<Action>) {
        let why = Error::gpu(
            Code::Disconnected,
            "the connection was interrupted before the reply came; it may have been acted on",
        );
        self.requests.interrupt(&why, out);
        self.drop_transport(out);
        emit(out, MachineEvent::Interrupted(cause));
    }

    fn drop_transport(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.transport) {
            out.push(Action::CloseTransport);
        }
    }

    pub(super) fn described(
        &mut self,
        now: Duration,
        result: Result<SessionDescriptor, Error>,
        out: &mut Vec<Action>,
    ) {
        let (Phase::Checking(_), Some(recovery)) = (&self.phase, &self.recovery) else {
            return;
        };
        match result {
            // A runtime that goes down with its model is no end in order.
            Ok(descriptor) if descriptor.has_crashed() => {
                let text = "the runtime has terminated, perhaps because the model crashed";
                let error = recovery.but(text);
                self.give_up(now, error, out);
            }
            Ok(descriptor) if descriptor.is_over() => self.is_over(now, out),
            Ok(descriptor) if recovery.resume => self.resume(now, descriptor, out),
            Ok(_) => {
                let error = recovery.but("the session itself is still there");
                self.give_up(now, error, out);
            }
            Err(error) if matches!(error.code, Code::NotFound | Code::SessionTerminal) => {
                self.is_over(now, out);
            }
            Err(error) if recovery.resume && is_worth_another_try(&error) => {
                let wait = self.wait_after(&error);
                self.interrupt(out);
                self.phase = Phase::Checking(Checking { next: now + wait });
            }
            Err(error) if recovery.resume => self.give_up(now, error, out),
            Err(error) => {
                let mut cause = recovery.but(&error.message);
                cause.http_status = error.http_status;
                self.give_up(now, cause, out);
            }
        }
    }

    /// The session ended: in order, if that is why the connection closed;
    /// while nobody was connected, it is lost.
    fn is_over(&mut self, now: Duration, out: &mut Vec<Action>) {
        match &self.recovery {
            Some(recovery) if recovery.told => {
                let error = recovery.in_vain(Some("the session is over"));
                self.lease = None;
                self.give_up(now, error, out);
            }
            _ => self.end(now, None, out),
        }
    }

    /// Makes a new connection to the session that is still there.
    fn resume(&mut self, now: Duration, descriptor: SessionDescriptor, out: &mut Vec<Action>) {
        self.interrupt(out);
        self.attempts = self.attempts.saturating_add(1);
        self.gather(now + RECOVERY_STEP_LIMIT, descriptor, true, out);
    }

    /// Whether a step that failed is tried again, from the beginning.
    pub(super) fn retry(&mut self, now: Duration, error: &Error, out: &mut Vec<Action>) -> bool {
        let Some(recovery) = self.recovery.as_ref().filter(|r| r.restarted.is_none()) else {
            return false;
        };
        if !is_worth_another_try(error) {
            return false;
        }
        if now >= recovery.give_up {
            let error = recovery.in_vain(Some(&error.message));
            self.give_up(now, error, out);
            return true;
        }
        // The session is there; it may have forgotten the connection.
        if matches!(
            error.code,
            Code::NotFound | Code::BadRequest | Code::Conflict
        ) {
            self.connection_id = None;
        }
        let text = format!("Reconnecting again: {}", error.message);
        emit(out, MachineEvent::Progress(Progress::Continue(text)));
        self.drop_transport(out);
        let wait = self.wait_after(error);
        self.phase = Phase::Checking(Checking { next: now + wait });
        true
    }

    /// How long a step may take: shorter than at first, since nothing is
    /// built up on the server any more.
    pub(super) fn limit(&self, usual: Duration) -> Duration {
        match self.is_resuming() {
            true => usual.min(RECOVERY_STEP_LIMIT),
            false => usual,
        }
    }

    pub(super) fn is_resuming(&self) -> bool {
        self.recovery
            .as_ref()
            .is_some_and(|r| r.restarted.is_none())
    }

    /// For how long another session is asked for in vain.
    pub(super) fn restarts_until(&self) -> Option<Duration> {
        let recovery = self.recovery.as_ref().filter(|r| r.restarted.is_some());
        recovery.map(|r| r.give_up)
    }

    /// A local runtime that lost us may still have our session.
    pub(super) fn was_ours(&self, id: &str) -> bool {
        let restarted = self.recovery.as_ref().and_then(|r| r.restarted.as_ref());
        restarted.is_some_and(|before| before.as_deref() == Some(id))
    }

    /// Live again.
    pub(super) fn resumed(&mut self, now: Duration, out: &mut Vec<Action>) -> bool {
        let Some(recovery) = self.recovery.take() else {
            return false;
        };
        let outage = now.saturating_sub(recovery.since);
        self.timings.reconnects += 1;
        self.timings.outage = Some(outage);
        emit(
            out,
            MachineEvent::Resumed {
                outage,
                restarted: recovery.restarted.is_some(),
            },
        );
        true
    }

    /// The session could not be resumed: another one, if the user wants that.
    pub(super) fn restart(&mut self, now: Duration, error: &Error, out: &mut Vec<Action>) -> bool {
        let wanted = self.policy.restart && self.policy.adopt.is_none();
        if !wanted || !self.is_resuming() || !is_worth_another_try(error) {
            return false;
        }
        self.interrupt(out);
        let before = self.lease.take();
        let ours = before.filter(|(_, ownership)| *ownership == Ownership::Created);
        if let Some(recovery) = &mut self.recovery {
            recovery.restarted = Some(ours.map(|(id, _)| id));
            // The network may be down for longer than the session was kept.
            recovery.give_up = now + RECOVERY_WINDOW;
        }
        self.drop_transport(out);
        self.connection_id = self.policy.connection_id;
        self.schema_told = false;
        self.attempts = 0;
        let text = format!("Starting another session: {}", error.message);
        emit(out, MachineEvent::Warning(error.clone()));
        emit(out, MachineEvent::SessionId(None));
        emit(out, MachineEvent::Progress(Progress::Continue(text)));
        self.begin(now, out);
        true
    }

    /// The user wants another connection, or the old one back.
    pub(super) fn reconnect(&mut self, now: Duration, out: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Live(_) | Phase::Parked => {
                self.attempts = 0;
                let parked = matches!(self.phase, Phase::Parked);
                self.lost(now, None, out);
                if parked && let Some(recovery) = &mut self.recovery {
                    recovery.told = true;
                    emit(out, MachineEvent::Status(Status::Connecting));
                    let text = "Reconnecting to the model";
                    emit(out, MachineEvent::Progress(Progress::Start(text)));
                }
            }
            Phase::Checking(_) => self.check(now, Duration::ZERO, out),
            // It is being connected, or over.
            _ => {}
        }
    }

    /// The user wants no connection: for now, or any more.
    pub(super) fn disconnect(&mut self, now: Duration, recoverable: bool, out: &mut Vec<Action>) {
        let why = "disconnected by the application";
        match &self.phase {
            Phase::Idle | Phase::Closing(_) | Phase::Closed => {}
            _ if !recoverable => {
                let reason = Some(why.to_owned());
                emit(out, MachineEvent::Ended { reason });
                let error = Error::gpu(Code::Aborted, why);
                self.close(now, &error, out);
            }
            Phase::Parked => {}
            _ if self.lease.is_some() && !self.plan.is_empty() => {
                let told = self.recovery.take().is_some_and(|r| r.told);
                if told {
                    emit(
                        out,
                        MachineEvent::Progress(Progress::Canceled("Disconnected")),
                    );
                    self.drop_transport(out);
                } else {
                    self.suspend(None, out);
                }
                self.phase = Phase::Parked;
                emit(out, MachineEvent::Status(Status::Disconnected));
            }
            _ => {
                let text = "there is no connection yet that could be made anew";
                emit(
                    out,
                    MachineEvent::Warning(Error::api(Code::InvalidState, text)),
                );
            }
        }
    }

    /// How long to wait after this: what the server says, if it does.
    fn wait_after(&mut self, error: &Error) -> Duration {
        let refused = error.http_status.is_some();
        match error.retry_after {
            Some(after) => after.clamp(RETRY_FIRST, RECOVERY_WINDOW),
            None if refused => REFUSED_DEFAULT,
            None => self.backoff(),
        }
    }

    /// Up to a quarter more or less, so that clients that lost the same server
    /// do not all come back at once.
    pub(super) fn backoff(&mut self) -> Duration {
        let doubled = RETRY_FIRST.saturating_mul(1 << self.attempts.min(4));
        self.attempts = self.attempts.saturating_add(1);
        // xorshift64, George Marsaglia, 2003.
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        let part = (x % 512) as f64 / 1024.0;
        doubled.min(RETRY_SLOWEST).mul_f64(0.75 + part)
    }
}

impl Recovery {
    /// Whether the elements know.
    pub(super) fn told(&self) -> bool {
        self.told
    }

    /// The cause, and what else is known.
    fn but(&self, text: &str) -> Error {
        let mut error = self.cause.clone().unwrap_or_else(|| {
            Error::gpu(
                Code::Disconnected,
                "the connection was given up by its user",
            )
        });
        error.message = format!("{}; {text}", error.message);
        error
    }

    /// The error for a session that could not be resumed.
    fn in_vain(&self, last: Option<&str>) -> Error {
        match (&self.cause, self.resume) {
            (Some(cause), false) => cause.clone(),
            (cause, _) => {
                let cause = cause.as_ref().map_or("reconnecting", |c| &c.message);
                let window = RECOVERY_WINDOW.as_secs();
                let last = last.map_or_else(
                    || format!("the server was not reached again within {window} s"),
                    str::to_owned,
                );
                let text = format!("the session could not be resumed: {last} ({cause})");
                Error::gpu(Code::ReconnectionFailed, text).during("reconnect")
            }
        }
    }
}

fn is_worth_another_try(error: &Error) -> bool {
    !matches!(
        error.code,
        Code::Unauthorized
            | Code::VersionMismatch
            | Code::IdentityMismatch
            | Code::InvalidSettings
            | Code::MissingPlugin
            | Code::TrackRejected
            | Code::Aborted
    )
}
