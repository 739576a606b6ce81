// SPDX-License-Identifier: MIT

//! A session of the cloud that has no GPU yet. It keeps its place in the queue for
//! as long as its state is polled.

use std::time::Duration;

use super::{
    state::{Machine, Phase, Waiting},
    types::{Action, MachineEvent, NEVER, Progress, Status, emit},
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
    pub(super) fn wait_for_gpu(
        &mut self,
        now: Duration,
        descriptor: &SessionDescriptor,
        out: &mut Vec<Action>,
    ) {
        let limit = self.policy.waiting_limit;
        let mut waiting = Waiting {
            next: Some(now + POLL_FIRST),
            interval: POLL_FIRST,
            since: now,
            deadline: limit.map_or(NEVER, |limit| now + limit),
            failing_since: None,
            reported: String::new(),
        };
        waiting.report_state(descriptor, out);
        self.phase = Phase::Waiting(waiting);
    }

    pub(super) fn tick_waiting(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Waiting(waiting) = &mut self.phase else {
            return;
        };
        if now >= waiting.deadline {
            let waited = (waiting.deadline - waiting.since).as_millis();
            let text = format!("no GPU became free within waiting-timeout, {waited} ms");
            let error = Error::api(Code::WaitedTooLong, text).during("session");
            self.fail(now, error, out);
        } else if waiting.next.is_some_and(|next| now >= next) {
            waiting.next = None;
            out.push(Action::DescribeSession);
        }
    }

    pub(super) fn queued_session_described(
        &mut self,
        now: Duration,
        result: Result<SessionDescriptor, Error>,
        out: &mut Vec<Action>,
    ) {
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
                self.fail(now, error, out);
            }
            Ok(descriptor) if descriptor.is_ready() => {
                self.prepare_connection(now, descriptor, out)
            }
            Ok(descriptor) => {
                waiting.failing_since = None;
                waiting.report_state(&descriptor, out);
                waiting.schedule_poll(now, None);
            }
            Err(error) => {
                let since = *waiting.failing_since.get_or_insert(now);
                if error.recoverable() && now.saturating_sub(since) < FAILING_LIMIT {
                    waiting.schedule_poll(now, error.retry_after);
                } else {
                    self.fail(now, error, out);
                }
            }
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

    /// Emits the session's state when it has changed.
    fn report_state(&mut self, descriptor: &SessionDescriptor, out: &mut Vec<Action>) {
        let text = format!("Waiting for a GPU ({})", descriptor.state);
        if self.reported != text {
            emit(out, MachineEvent::Status(Status::Waiting));
            emit(
                out,
                MachineEvent::Progress(Progress::Continue(text.clone())),
            );
            self.reported = text;
        }
    }
}
