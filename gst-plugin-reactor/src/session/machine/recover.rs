// SPDX-License-Identifier: MIT

//! What happens when the connection is lost, and how the session is resumed on a
//! new one.
//!
//! The platform keeps a session for a while after its connection is lost: a new
//! offer with the connection's id resumes it. The server is asked for the session's
//! state first, repeatedly until it can be reached, so that no connection is made
//! for a session that is over.

use std::time::Duration;

use super::{
    state::{
        Machine, Phase, QUERY_LIMIT, RECOVERY_STEP_LIMIT, RECOVERY_WINDOW, Ready, Recovery, Timings,
    },
    suspended::over_error,
    types::{Action, MachineEvent, Progress, Status},
};
use crate::platform::{
    Code, Error, Failure,
    coordinator::{Ownership, SessionDescriptor},
};

/// The intervals of requests: the first one, doubled each time up to the slowest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_SLOWEST: Duration = Duration::from_millis(1000);
/// The delay after an error reply without `Retry-After`. (The platform's
/// documents.)
const REFUSED_DEFAULT: Duration = Duration::from_secs(3);
/// When to ask again whether a session has a client other than us.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);
/// A connection that lasted longer resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);

impl Machine {
    pub(super) fn transport_failed(&mut self, error: Error, closed_by_server: bool) {
        match &self.phase {
            Phase::Ready(_) => {
                self.connection_lost(Some(error));
                if let Some(recovery) = &mut self.recovery {
                    recovery.closed_by_server = closed_by_server;
                }
            }
            Phase::Preparing(_)
            | Phase::Offering(_)
            | Phase::Polling(..)
            | Phase::Connecting(_) => {
                let error = self.trickle.explain(error);
                self.fail(error);
            }
            _ => {}
        }
    }

    /// A server that ends a session just closes the connection, so it is asked for
    /// the session's state before that counts as a failure.
    pub(super) fn connection_lost(&mut self, mut cause: Option<Error>) {
        if let Some(cause) = &mut cause {
            cause.failure.get_or_insert(Failure::GpuConnection);
        }
        if let Phase::Ready(Ready { since, .. }) = self.phase
            && self.now.saturating_sub(since) > STABLE_AFTER
        {
            self.attempts = 0;
        }
        // It may have been lost because the machine is on another network now.
        self.remember_capacity(None);
        self.begin_recovery(cause);
        // Connections that are lost soon are replaced after a backoff.
        let wait = match self.attempts {
            0 => Duration::ZERO,
            _ => self.next_backoff(),
        };
        self.query_session(wait);
    }

    fn begin_recovery(&mut self, cause: Option<Error>) {
        let resume = self.policy.reconnect || cause.is_none();
        let window = if resume { RECOVERY_WINDOW } else { QUERY_LIMIT };
        self.recovery = Some(Recovery {
            cause,
            since: self.now,
            deadline: self.now + window,
            reported: false,
            resume,
            closed_by_server: false,
            has_client: false,
            restarted: None,
        });
    }

    /// Replaces a connection that is ready, of a session that is known to be there.
    pub(super) fn replace_connection_at_once(&mut self) {
        let Some(descriptor) = self.descriptor.clone() else {
            return self.replace_connection();
        };
        self.attempts = 0;
        self.begin_recovery(None);
        self.resume(descriptor);
    }

    /// Asks the server for the session's state after `wait`: at once, if that is
    /// zero.
    fn query_session(&mut self, wait: Duration) {
        let mut next = self.now + wait;
        if wait.is_zero() {
            next = self.now + QUERY_LIMIT;
            self.actions.push(Action::DescribeSession);
        }
        self.phase = Phase::QueryingSession { next };
    }

    pub(super) fn tick_querying(&mut self) {
        let (Phase::QueryingSession { next }, Some(recovery)) = (&self.phase, &self.recovery)
        else {
            return;
        };
        if self.now >= recovery.deadline {
            let error = recovery.resume_error(None);
            if recovery.resume {
                self.give_up(error);
            } else {
                self.keep_session(error);
            }
        } else if self.now >= *next {
            if recovery.resume {
                self.interrupt();
            }
            let wait = self.next_backoff();
            self.actions.push(Action::DescribeSession);
            self.phase = Phase::QueryingSession {
                next: self.now + wait,
            };
        }
    }

    /// Tells the elements that the connection is lost, unless they know, and fails
    /// the pending requests.
    fn interrupt(&mut self) {
        if let Some(recovery) = &mut self.recovery
            && !std::mem::replace(&mut recovery.reported, true)
        {
            let cause = recovery.cause.clone();
            self.interrupt_connection(cause);
            self.report_reconnecting();
        }
    }

    fn report_reconnecting(&mut self) {
        self.emit(MachineEvent::Status(Status::Connecting));
        self.report_progress(Progress::Start("Reconnecting to the model"));
    }

    pub(super) fn interrupt_connection(&mut self, cause: Option<Error>) {
        let why = Error::gpu(
            Code::Disconnected,
            "the connection was interrupted before the reply came; it may have been acted on",
        );
        self.requests.fail_sent(&why, &mut self.actions);
        self.drop_transport();
        self.emit(MachineEvent::Interrupted(cause));
    }

    pub(super) fn drop_transport(&mut self) {
        if std::mem::take(&mut self.has_transport) {
            self.actions.push(Action::CloseTransport);
        }
    }

    pub(super) fn session_described(&mut self, result: Result<SessionDescriptor, Error>) {
        let (Phase::QueryingSession { .. }, Some(recovery)) = (&self.phase, &self.recovery) else {
            return;
        };
        match result {
            // A runtime that crashed with its model is a failure, no regular end.
            Ok(descriptor) if descriptor.has_crashed() => {
                let text = "the runtime has terminated, perhaps because the model crashed";
                let mut error = recovery.cause_with(text);
                error.code = Code::SessionTerminal;
                // It needs no request to end it.
                self.session = None;
                self.give_up(error);
            }
            Ok(descriptor) if descriptor.is_over() => self.session_gone(),
            Ok(descriptor) if self.is_taken_by(&descriptor) => self.connection_taken(),
            Ok(descriptor) if recovery.resume => self.resume(descriptor),
            Ok(_) => {
                let error = recovery.cause_with("the session itself is still there");
                self.keep_session(error);
            }
            Err(error) if matches!(error.code, Code::NotFound | Code::SessionTerminal) => {
                self.session_gone();
            }
            Err(error) if recovery.resume && is_retryable(&error) => {
                let wait = self.retry_delay(&error);
                self.interrupt();
                self.query_session(wait);
            }
            Err(error) if recovery.resume => self.give_up(error),
            Err(error) => {
                let mut cause = recovery.cause_with(&error.message);
                cause.http_status = error.http_status;
                self.keep_session(cause);
            }
        }
    }

    /// Whether another client may have connected with the number of our connection: the
    /// server took that down, and yet the session has a client. Only a number that the
    /// application gave is known to others; other clients of the session have their own,
    /// and the cloud's `ACTIVE` does not say whether there are any.
    fn is_taken_by(&self, descriptor: &SessionDescriptor) -> bool {
        let closed = self.recovery.as_ref().is_some_and(|r| r.closed_by_server);
        closed && self.policy.connection_id.is_some() && descriptor.has_client()
    }

    /// Another client has connected with the same number. It keeps the session. Asks
    /// twice, since a session that ends may seem to go on for a moment.
    fn connection_taken(&mut self) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        if !std::mem::replace(&mut recovery.has_client, true) {
            return self.query_session(CONFIRM_AFTER);
        }
        let text = "another client connected with the number of this connection and took its place";
        let mut error = Error::api(Code::Conflict, text).during("connections");
        error.failure = Some(Failure::GpuConnection);
        // It is not ours any more.
        self.session = None;
        self.fail_for_good(error);
    }

    /// The session is over: ended by the server, if that closed the connection;
    /// lost, if it ended while there was no connection.
    fn session_gone(&mut self) {
        match &self.recovery {
            Some(recovery) if recovery.reported => {
                let error = recovery.resume_error(Some("the session is over"));
                self.session = None;
                self.give_up(error);
            }
            _ => self.session_over(None),
        }
    }

    /// Makes a new connection to the session, which still exists.
    fn resume(&mut self, descriptor: SessionDescriptor) {
        self.interrupt();
        self.attempts = self.attempts.saturating_add(1);
        self.emit(MachineEvent::Described(descriptor.clone()));
        self.prepare_offer(self.now + RECOVERY_STEP_LIMIT, descriptor, true);
    }

    /// Makes another connection after a failed step, if that makes sense; returns
    /// whether the failure is dealt with.
    pub(super) fn retry_connection(&mut self, error: &Error) -> bool {
        let Some(recovery) = self.recovery.as_ref().filter(|r| r.restarted.is_none()) else {
            return false;
        };
        if !is_retryable(error) {
            return false;
        }
        if self.now >= recovery.deadline {
            let error = recovery.resume_error(Some(&error.message));
            self.give_up(error);
            return true;
        }
        // The session exists; the server may not know the connection any more.
        if matches!(
            error.code,
            Code::NotFound | Code::BadRequest | Code::Conflict
        ) {
            self.connection_id = None;
        }
        let text = format!("Reconnecting again: {}", error.message);
        self.report_progress(Progress::Continue(text));
        self.drop_transport();
        let wait = self.retry_delay(error);
        self.query_session(wait);
        true
    }

    /// How long a step may take: for a session that is resumed less, since the
    /// server need not start anything.
    pub(super) fn step_limit(&self, usual: Duration) -> Duration {
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

    /// Until when to keep trying to open another session.
    pub(super) fn restart_deadline(&self) -> Option<Duration> {
        let recovery = self.recovery.as_ref().filter(|r| r.restarted.is_some());
        recovery.map(|r| r.deadline)
    }

    /// Whether a session is the lost one, which was ours to end. A local runtime may
    /// still have it when another is opened.
    pub(super) fn is_own_previous_session(&self, id: &str) -> bool {
        let restarted = self.recovery.as_ref().and_then(|r| r.restarted.as_ref());
        restarted.is_some_and(|before| before.as_deref() == Some(id))
    }

    /// Emits that the session is ready again; returns whether it was interrupted.
    pub(super) fn report_resumed(&mut self) -> bool {
        let Some(recovery) = self.recovery.take() else {
            return false;
        };
        let outage = self.now.saturating_sub(recovery.since);
        self.timings.reconnects += 1;
        self.timings.outage = Some(outage);
        self.emit(MachineEvent::Resumed {
            outage,
            restarted: recovery.restarted.is_some(),
        });
        self.reply_to_reconnects(Ok(()));
        true
    }

    /// Opens another session instead of one that could not be resumed, if the user
    /// wants that; returns whether it does.
    pub(super) fn restart_session(&mut self, error: &Error) -> bool {
        let wanted = self.policy.restart && self.policy.adopt.is_none();
        if !wanted || !self.is_resuming() || !is_retryable(error) {
            return false;
        }
        self.interrupt();
        let before = self.session.take();
        let ours = before.filter(|(_, ownership)| *ownership == Ownership::Created);
        if let Some(recovery) = &mut self.recovery {
            recovery.restarted = Some(ours.map(|(id, _)| id));
            // The network may be down for longer than the session was kept.
            recovery.deadline = self.now + RECOVERY_WINDOW;
        }
        self.drop_transport();
        self.connection_id = self.policy.connection_id;
        self.schema_reported = false;
        self.attempts = 0;
        // The other one costs nothing before it has its GPU.
        self.costs_since = None;
        self.timings = Timings {
            start: self.now,
            reconnects: self.timings.reconnects,
            outage: self.timings.outage,
            ..Timings::default()
        };
        let text = format!("Starting another session: {}", error.message);
        self.emit(MachineEvent::Warning(error.clone()));
        self.emit(MachineEvent::SessionId(None));
        self.report_progress(Progress::Continue(text));
        self.open_session();
        true
    }

    /// Replaces a connection that is ready.
    pub(super) fn replace_connection(&mut self) {
        self.attempts = 0;
        self.connection_lost(None);
    }

    /// Makes a new connection for the user.
    pub(super) fn reconnect(&mut self, token: u64) {
        match &mut self.phase {
            Phase::Ready(_) => self.replace_connection(),
            Phase::Suspended(suspended) => {
                let since = suspended.since;
                self.attempts = 0;
                self.connection_lost(None);
                if let Some(recovery) = &mut self.recovery {
                    recovery.since = since;
                    recovery.reported = true;
                    self.report_reconnecting();
                }
            }
            Phase::QueryingSession { .. } => {
                if let Some(recovery) = &mut self.recovery
                    && !std::mem::replace(&mut recovery.resume, true)
                {
                    recovery.deadline = self.now + RECOVERY_WINDOW;
                }
                self.query_session(Duration::ZERO);
            }
            Phase::Idle | Phase::Closing(_) | Phase::Closed => {
                return self.reply(token, Err(over_error("reconnect")));
            }
            // Another connection is being made already.
            _ if self.recovery.is_some() => {}
            _ => {
                let text = "the session is not connected yet; it is being connected";
                let error = Error::api(Code::InvalidState, text).during("reconnect");
                return self.reply(token, Err(error));
            }
        }
        self.reconnecting.push(token);
    }

    /// The delay before the next attempt: the server's `Retry-After`, if it sent
    /// one.
    fn retry_delay(&mut self, error: &Error) -> Duration {
        let refused = error.http_status.is_some();
        match error.retry_after {
            Some(delay) => delay.clamp(RETRY_FIRST, RECOVERY_WINDOW),
            None if refused => REFUSED_DEFAULT,
            None => self.next_backoff(),
        }
    }

    /// The next delay of the backoff, with a jitter of up to a quarter, so that
    /// clients that lost one server do not reconnect all at once.
    pub(super) fn next_backoff(&mut self) -> Duration {
        let doubled = RETRY_FIRST.saturating_mul(1 << self.attempts.min(4));
        self.attempts = self.attempts.saturating_add(1);
        // xorshift64, George Marsaglia, 2003.
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        let jitter = (x % 512) as f64 / 1024.0;
        doubled.min(RETRY_SLOWEST).mul_f64(0.75 + jitter)
    }
}

impl Recovery {
    /// The cause with an explanation added.
    fn cause_with(&self, text: &str) -> Error {
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
    fn resume_error(&self, last: Option<&str>) -> Error {
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

fn is_retryable(error: &Error) -> bool {
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
