// SPDX-License-Identifier: MIT

//! A session of the cloud that has no GPU yet. It keeps its place in the queue for
//! as long as its state is polled.

use std::time::Duration;

use super::{
    state::{Machine, Phase, Waiting},
    types::{Action, MachineEvent, NEVER, Progress, Status},
};
use crate::platform::{Code, Error, coordinator::SessionDescriptor};

/// The intervals of the platform's own clients, which stop after some 150 s and
/// lose their place.
const POLL_FIRST: Duration = Duration::from_millis(200);
const POLL_SLOWEST: Duration = Duration::from_secs(10);
/// The session counts as lost when every poll failed for this time.
const FAILING_LIMIT: Duration = Duration::from_secs(60);
/// The upper limit of the server's `Retry-After`.
const RETRY_SLOWEST: Duration = Duration::from_secs(60);

impl Machine {
    /// Waits for a GPU, to which the session can be connected.
    pub(super) fn wait_for_gpu(&mut self, descriptor: &SessionDescriptor) {
        let limit = self.policy.waiting_limit;
        self.phase = Phase::Waiting(Waiting {
            next: Some(self.now + POLL_FIRST),
            interval: POLL_FIRST,
            since: self.now,
            deadline: limit.map_or(NEVER, |limit| self.now + limit),
            failing_since: None,
            reported: String::new(),
        });
        self.report_waiting(descriptor);
    }

    pub(super) fn tick_waiting(&mut self) {
        let Phase::Waiting(waiting) = &mut self.phase else {
            return;
        };
        if self.now >= waiting.deadline {
            let waited = (waiting.deadline - waiting.since).as_millis();
            let text = format!("no GPU became free within waiting-timeout, {waited} ms");
            let error = Error::api(Code::WaitedTooLong, text).during("session");
            self.fail(error);
        } else if waiting.next.is_some_and(|next| self.now >= next) {
            waiting.next = None;
            self.actions.push(Action::DescribeSession);
        }
    }

    pub(super) fn queued_session_described(&mut self, result: Result<SessionDescriptor, Error>) {
        let Phase::Waiting(waiting) = &mut self.phase else {
            return;
        };
        if waiting.next.is_some() {
            // The reply to an earlier request.
            return;
        }
        match result {
            Ok(descriptor) if descriptor.is_terminal() => {
                let text = format!(
                    "the session ended before it had a GPU; its state is {}",
                    descriptor.state
                );
                // It needs no request to end it.
                self.session = None;
                let error = Error::api(Code::SessionTerminal, text).during("session");
                self.fail(error);
            }
            Ok(descriptor) if descriptor.is_ready() => self.prepare_connection(descriptor),
            Ok(descriptor) => {
                waiting.failing_since = None;
                waiting.schedule_poll(self.now, None);
                self.report_waiting(&descriptor);
            }
            Err(error) => {
                let since = *waiting.failing_since.get_or_insert(self.now);
                if error.recoverable() && self.now.saturating_sub(since) < FAILING_LIMIT {
                    waiting.schedule_poll(self.now, error.retry_after);
                } else {
                    self.fail(error);
                }
            }
        }
    }

    /// Emits the description of the queued session when its state has changed.
    fn report_waiting(&mut self, descriptor: &SessionDescriptor) {
        let text = format!("Waiting for a GPU ({})", descriptor.state);
        if let Phase::Waiting(waiting) = &mut self.phase
            && waiting.reported != text
        {
            waiting.reported.clone_from(&text);
            self.emit(MachineEvent::Status(Status::Waiting));
            self.emit(MachineEvent::Described(descriptor.clone()));
            self.report_progress(Progress::Continue(text));
        }
    }
}

impl Waiting {
    /// After the server's `Retry-After`, if it sent one.
    fn schedule_poll(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.interval = (self.interval * 2).min(POLL_SLOWEST);
        let wait = retry_after.map_or(self.interval, |delay| {
            delay.clamp(POLL_FIRST, RETRY_SLOWEST)
        });
        self.next = Some(now + wait);
    }
}
