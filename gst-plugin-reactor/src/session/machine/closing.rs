// SPDX-License-Identifier: MIT

//! How a session fails, is ended by either side, and is closed.

use std::time::Duration;

use super::{
    state::{Closing, Machine, Phase},
    types::{Action, MachineEvent, Progress, Status, emit},
};
use crate::platform::{Code, Error, coordinator::Ownership};

impl Machine {
    pub(super) fn stop(&mut self, now: Duration, out: &mut Vec<Action>) {
        let why = Error::gpu(Code::Aborted, "the session was stopped by its user");
        match self.phase {
            Phase::Idle => {
                self.requests.fail_all(&why, out);
                self.finish_closing(out);
            }
            Phase::Closing(_) | Phase::Closed => {}
            _ => {
                let connecting = match self.phase {
                    Phase::Ready(_) | Phase::Suspended => false,
                    Phase::QueryingSession(_) => self.recovery.as_ref().is_some_and(|r| r.reported),
                    _ => true,
                };
                if connecting {
                    emit(out, MachineEvent::Progress(Progress::Canceled("Stopped")));
                }
                self.close(now, &why, out);
            }
        }
    }

    /// A step failed: tries again if that makes sense, else gives up.
    pub(super) fn fail(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        if !self.retry_connection(now, &error, out) {
            self.give_up(now, error, out);
        }
    }

    /// The session is lost, or could not be opened.
    pub(super) fn give_up(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        if self.restart_session(now, &error, out) {
            return;
        }
        emit(
            out,
            MachineEvent::Progress(Progress::Error(error.message.clone())),
        );
        emit(out, MachineEvent::Failed(error.clone()));
        self.close(now, &error, out);
    }

    /// The server ended the session, and not because of a failure.
    pub(super) fn session_over(
        &mut self,
        now: Duration,
        reason: Option<String>,
        out: &mut Vec<Action>,
    ) {
        let text = reason.as_deref().unwrap_or("the session is over");
        let why = Error::gpu(
            Code::SessionTerminal,
            format!("the model ended the session: {text}"),
        );
        emit(out, MachineEvent::Ended { reason });
        // It needs no request to end it: nobody is billed for it any more.
        self.session = None;
        self.close(now, &why, out);
    }

    pub(super) fn close(&mut self, now: Duration, why: &Error, out: &mut Vec<Action>) {
        self.requests.fail_all(why, out);
        self.recovery = None;
        let opening_session = matches!(&self.phase, Phase::Opening(opening) if opening.pending);
        let ending_session = self.end_session(out);
        if self.has_transport {
            out.push(Action::CloseTransport);
        }
        self.phase = Phase::Closing(Closing {
            deadline: now + self.policy.close_limit,
            transport: self.has_transport,
            ending_session,
            opening_session,
        });
        emit(out, MachineEvent::Status(Status::Disconnected));
        self.update_closing(out, |_| {});
    }

    /// Asks the server to end the session if it is ours to end; returns whether it
    /// was asked.
    pub(super) fn end_session(&mut self, out: &mut Vec<Action>) -> bool {
        let ours = matches!(self.session.take(), Some((_, Ownership::Created)));
        let end = ours && !self.policy.recoverable;
        if end {
            out.push(Action::EndSession);
        }
        end
    }

    /// Notes what has closed; the session is closed once everything has.
    pub(super) fn update_closing(
        &mut self,
        out: &mut Vec<Action>,
        update: impl FnOnce(&mut Closing),
    ) {
        if let Phase::Closing(closing) = &mut self.phase {
            update(closing);
            if !(closing.transport || closing.ending_session || closing.opening_session) {
                self.finish_closing(out);
            }
        }
    }

    pub(super) fn finish_closing(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Closed;
        emit(out, MachineEvent::SessionId(None));
        emit(out, MachineEvent::Closed);
    }
}
