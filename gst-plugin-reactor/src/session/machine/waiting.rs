// SPDX-License-Identifier: MIT

//! A session of the cloud that has no GPU yet: it keeps its place in the queue
//! for as long as somebody asks for it.

use std::time::Duration;

use super::{Action, Machine, MachineEvent, NEVER, Phase, Progress, Status, emit};
use crate::platform::{Code, Error, coordinator::SessionDescriptor};

/// The pace of the platform's own clients, which stop after some 150 s and
/// give up their place.
const POLL_FIRST: Duration = Duration::from_millis(200);
const POLL_SLOWEST: Duration = Duration::from_secs(10);
/// For so long only errors in answer, and there is no use in asking on.
const FAILING_LIMIT: Duration = Duration::from_secs(60);
/// Whatever the server says.
const RETRY_SLOWEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Waiting {
    /// When to ask next; `None` while a question is under way.
    next: Option<Duration>,
    interval: Duration,
    since: Duration,
    give_up: Duration,
    /// Since when there were only errors.
    failing: Option<Duration>,
    /// What the users know of it.
    told: String,
}

impl Waiting {
    pub(super) fn deadline(&self) -> Duration {
        self.next.unwrap_or(NEVER).min(self.give_up)
    }
}

impl Machine {
    /// The session is there and has nobody to connect to.
    pub(super) fn wait(
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
            give_up: limit.map_or(NEVER, |limit| now + limit),
            failing: None,
            told: String::new(),
        };
        waiting.tell(descriptor, out);
        self.phase = Phase::Waiting(waiting);
    }

    pub(super) fn tick_waiting(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Waiting(waiting) = &mut self.phase else {
            return;
        };
        if now >= waiting.give_up {
            let waited = (waiting.give_up - waiting.since).as_millis();
            let text = format!("no GPU became free within waiting-timeout, {waited} ms");
            let error = Error::api(Code::WaitedTooLong, text).during("session");
            self.fail(now, error, out);
        } else if waiting.next.is_some_and(|next| now >= next) {
            waiting.next = None;
            out.push(Action::Describe);
        }
    }

    pub(super) fn waited(
        &mut self,
        now: Duration,
        result: Result<SessionDescriptor, Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Waiting(waiting) = &mut self.phase else {
            return;
        };
        if waiting.next.is_some() {
            // An answer from before.
            return;
        }
        match result {
            Ok(descriptor) if descriptor.is_terminal() => {
                let text = format!(
                    "the session ended before it had a GPU; its state is {}",
                    descriptor.state
                );
                // There is nothing left to end.
                self.lease = None;
                let error = Error::api(Code::SessionTerminal, text).during("session");
                self.fail(now, error, out);
            }
            Ok(descriptor) if descriptor.is_ready() => self.prepare(now, descriptor, out),
            Ok(descriptor) => {
                waiting.failing = None;
                waiting.tell(&descriptor, out);
                waiting.again(now, None);
            }
            Err(error) => {
                let since = *waiting.failing.get_or_insert(now);
                if error.recoverable() && now.saturating_sub(since) < FAILING_LIMIT {
                    waiting.again(now, error.retry_after);
                } else {
                    self.fail(now, error, out);
                }
            }
        }
    }
}

impl Waiting {
    fn again(&mut self, now: Duration, after: Option<Duration>) {
        self.interval = (self.interval * 2).min(POLL_SLOWEST);
        let wait = after.map_or(self.interval, |after| {
            after.clamp(POLL_FIRST, RETRY_SLOWEST)
        });
        self.next = Some(now + wait);
    }

    /// Says so once, and again when the server's word for it changes.
    fn tell(&mut self, descriptor: &SessionDescriptor, out: &mut Vec<Action>) {
        let text = format!("Waiting for a GPU ({})", descriptor.state);
        if self.told != text {
            emit(out, MachineEvent::Status(Status::Waiting));
            emit(
                out,
                MachineEvent::Progress(Progress::Continue(text.clone())),
            );
            self.told = text;
        }
    }
}
