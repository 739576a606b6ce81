// SPDX-License-Identifier: MIT

//! How a session fails, is ended by either side, and is closed.

use super::{
    state::{Closing, Machine, Phase},
    types::{Action, MachineEvent, Progress, Status},
};
use crate::platform::{Code, Error, Failure};

impl Machine {
    pub(super) fn stop(&mut self) {
        let why = Error::gpu(Code::Disconnected, "the element was stopped");
        match self.phase {
            Phase::Idle => {
                self.requests.fail_all(&why, &mut self.actions);
                self.finish_closing();
            }
            Phase::Closing(_) | Phase::Closed => {}
            _ => {
                let connecting = match self.phase {
                    Phase::Ready(_) | Phase::Suspended(_) => false,
                    Phase::QueryingSession { .. } => {
                        self.recovery.as_ref().is_some_and(|r| r.reported)
                    }
                    _ => true,
                };
                if connecting {
                    self.report_progress(Progress::Canceled("Stopped"));
                }
                self.close(&why);
            }
        }
    }

    /// A step failed: tries again if that makes sense, else gives up.
    pub(super) fn fail(&mut self, error: Error) {
        if !self.retry_connection(&error) {
            self.give_up(error);
        }
    }

    /// The session is lost, or could not be opened.
    pub(super) fn give_up(&mut self, mut error: Error) {
        let failure = match &self.recovery {
            None => Failure::Connection,
            Some(recovery) if recovery.resume => Failure::Reconnection,
            Some(_) => Failure::GpuConnection,
        };
        error.failure.get_or_insert(failure);
        if self.restart_session(&error) {
            return;
        }
        self.fail_for_good(error);
    }

    pub(super) fn fail_for_good(&mut self, error: Error) {
        self.report_progress(Progress::Error(error.message.clone()));
        self.emit(MachineEvent::Failed(error.clone()));
        self.close(&error);
    }

    /// The server ended the session, and not because of a failure.
    pub(super) fn session_over(&mut self, reason: Option<String>) {
        let text = reason.as_deref().unwrap_or("the session is over");
        let why = Error::gpu(
            Code::SessionTerminal,
            format!("the model ended the session: {text}"),
        );
        self.emit(MachineEvent::Ended {
            reason,
            requested: false,
        });
        // It needs no request to end it: nobody is billed for it any more.
        self.session = None;
        self.close(&why);
    }

    pub(super) fn close(&mut self, why: &Error) {
        // What the platform's clients promise for requests, however it ends.
        let disconnected = Error::gpu(Code::Disconnected, why.message.clone());
        self.requests.fail_all(&disconnected, &mut self.actions);
        self.reply_to_reconnects(Err(why.clone()));
        self.recovery = None;
        let opening_session = matches!(&self.phase, Phase::Opening(opening) if opening.pending);
        let ending_session = self.end_session();
        if self.has_transport {
            self.actions.push(Action::CloseTransport);
        }
        self.phase = Phase::Closing(Closing {
            deadline: self.now + self.policy.close_limit,
            error: None,
            transport: self.has_transport,
            ending_session,
            opening_session,
        });
        self.emit(MachineEvent::Status(Status::Disconnected));
        self.update_closing(|_| {});
    }

    /// Asks the server to end the session if it is ours to end; returns whether it
    /// was asked.
    pub(super) fn end_session(&mut self) -> bool {
        let end = self.ends_session();
        self.session = None;
        if end {
            self.actions.push(Action::EndSession);
        }
        end
    }

    /// Notes what has closed; the session is closed once everything has.
    pub(super) fn update_closing(&mut self, update: impl FnOnce(&mut Closing)) {
        if let Phase::Closing(closing) = &mut self.phase {
            update(closing);
            if !(closing.transport || closing.ending_session || closing.opening_session) {
                self.finish_closing();
            }
        }
    }

    pub(super) fn finish_closing(&mut self) {
        let result = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closing(closing) => closing.result(),
            _ => Ok(()),
        };
        for token in std::mem::take(&mut self.disconnecting) {
            self.reply(token, result.clone());
        }
        self.emit(MachineEvent::SessionId(None));
        self.emit(MachineEvent::Closed);
    }
}

impl Closing {
    /// Whether the session has been ended on the server.
    fn result(self) -> Result<(), Error> {
        let error = match self.error {
            None if self.ending_session || self.opening_session => {
                let text = "the server was not heard of within close-timeout; \
                            the session may still be there";
                Error::api(Code::RequestTimeout, text)
            }
            None => return Ok(()),
            Some(error) => error,
        };
        Err(error.during("disconnect"))
    }
}
