// SPDX-License-Identifier: MIT

//! A session without a connection that is kept for the user: after
//! [`Input::Disconnect`](super::Input), and after a loss where no connection is made
//! by itself. It lasts as long as the server keeps it.

use std::time::Duration;

use super::{
    requests::disconnected_error,
    state::{Machine, Phase, RECOVERY_WINDOW, Suspended},
    types::{Action, MachineEvent, Progress, Status},
};
use crate::platform::{Code, Error, Failure, coordinator::SessionDescriptor, wire::ServerMessage};

/// How often to ask, after the [`RECOVERY_WINDOW`], whether the session is still
/// there: a local runtime keeps it for 60 s by default (3.10).
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// A server that cannot be reached for this time has ended the session.
const UNREACHABLE_LIMIT: Duration = RECOVERY_WINDOW.saturating_mul(2);

const DISCONNECTED_BY_USER: &str = "disconnected by the application";

impl Machine {
    /// Takes the connection down for the user and keeps the session, or ends it.
    pub(super) fn disconnect(&mut self, token: u64, recoverable: bool) {
        match &self.phase {
            Phase::Closing(_) if !recoverable => {
                // The session may still be opened: it ends, too.
                self.policy.recoverable = false;
                self.disconnecting.push(token);
            }
            Phase::Idle | Phase::Closing(_) | Phase::Closed if recoverable => {
                self.reply(token, Err(over_error("disconnect")));
            }
            Phase::Idle | Phase::Closed => self.reply(token, Ok(())),
            _ if !recoverable => {
                // The property is for a session whose element stops.
                self.policy.recoverable = false;
                self.disconnecting.push(token);
                self.emit(MachineEvent::Ended {
                    reason: Some(DISCONNECTED_BY_USER.to_owned()),
                    requested: true,
                });
                self.close(&Error::gpu(Code::Disconnected, DISCONNECTED_BY_USER));
            }
            Phase::Suspended(_) => self.reply(token, Ok(())),
            _ if self.session.is_some() && !self.planned_tracks.is_empty() => {
                self.suspend_for_user();
                self.reply(token, Ok(()));
            }
            _ => {
                let text = "there is no connection yet that could be made anew";
                let error = Error::api(Code::InvalidState, text);
                self.reply(token, Err(error.during("disconnect")));
            }
        }
    }

    fn suspend_for_user(&mut self) {
        let reported = self.recovery.take().is_some_and(|r| r.reported);
        if reported {
            self.report_progress(Progress::Canceled("Disconnected"));
            self.drop_transport();
        } else {
            self.interrupt_connection(None);
        }
        let why = disconnected_error();
        self.requests.fail_all(&why, &mut self.actions);
        self.reply_to_reconnects(Err(why));
        self.suspend(self.now);
    }

    fn suspend(&mut self, since: Duration) {
        self.phase = Phase::Suspended(Suspended {
            since,
            next: (since + RECOVERY_WINDOW).max(self.now),
        });
        self.emit(MachineEvent::Status(Status::Disconnected));
    }

    /// The connection is lost, and no other is to be made by itself: keeps the
    /// session for the user. `restart-session` is for one that cannot be resumed.
    pub(super) fn keep_session(&mut self, mut error: Error) {
        error.failure.get_or_insert(Failure::GpuConnection);
        let since = self.recovery.take().map_or(self.now, |r| r.since);
        self.drop_transport();
        let why = Error::gpu(Code::Disconnected, error.message.clone());
        self.requests.fail_all(&why, &mut self.actions);
        self.report_progress(Progress::Error(error.message.clone()));
        self.emit(MachineEvent::Lost(error));
        self.suspend(since);
    }

    pub(super) fn tick_suspended(&mut self) {
        if let Phase::Suspended(suspended) = &mut self.phase
            && self.now >= suspended.next
        {
            suspended.next = self.now + POLL_INTERVAL;
            self.actions.push(Action::DescribeSession);
        }
    }

    pub(super) fn suspended_session_described(&mut self, result: Result<SessionDescriptor, Error>) {
        let Phase::Suspended(suspended) = &self.phase else {
            return;
        };
        let over = match result {
            Ok(descriptor) => descriptor.is_over(),
            Err(error) if matches!(error.code, Code::NotFound | Code::SessionTerminal) => true,
            Err(_) => self.now.saturating_sub(suspended.since) >= UNREACHABLE_LIMIT,
        };
        if over {
            let reason = "the server ended the session, which had no connection any more";
            self.session_over(Some(reason.to_owned()));
        }
    }

    /// Answers the user's requests for a new connection.
    pub(super) fn reply_to_reconnects(&mut self, result: Result<(), Error>) {
        for token in std::mem::take(&mut self.reconnecting) {
            let result = result.clone().map_err(|error| error.during("reconnect"));
            self.reply(token, result);
        }
    }

    pub(super) fn reply(&mut self, token: u64, result: Result<(), Error>) {
        let result = result.map(|()| ServerMessage::Ack);
        self.actions.push(Action::Reply { token, result });
    }
}

/// The error for an action on a session that is over.
pub(super) fn over_error(operation: &'static str) -> Error {
    let text = "the session is over; READY and PAUSED begin another";
    Error::api(Code::InvalidState, text).during(operation)
}
