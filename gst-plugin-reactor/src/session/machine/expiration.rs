// SPDX-License-Identifier: MIT

//! The end of a session that is known in advance (`max-session-duration`). It is
//! kept here whatever the server does about it: a session costs while it runs.

use std::time::Duration;

use super::{
    state::{Machine, Phase},
    types::{MachineEvent, NEVER},
};
use crate::platform::{Code, Error};

impl Machine {
    /// When the session is ended, by the machine's time, if that is known.
    pub fn expiration(&self) -> Option<Duration> {
        let running = !matches!(self.phase, Phase::Idle | Phase::Closing(_) | Phase::Closed);
        let since = self.costs_since.filter(|_| running)?;
        Some(since + self.policy.max_session_duration?)
    }

    pub(super) fn expiration_deadline(&self) -> Duration {
        self.expiration().unwrap_or(NEVER)
    }

    /// Another element shares the session: the least limit counts.
    pub fn lower_session_limit(&mut self, limit: Duration) {
        let before = self.policy.max_session_duration.unwrap_or(NEVER);
        self.policy.max_session_duration = Some(before.min(limit));
    }

    /// Ends the session, or leaves one that another client has created, once its
    /// time is over; returns whether it did.
    pub(super) fn expire(&mut self) -> bool {
        if self.now < self.expiration_deadline() {
            return false;
        }
        let limit = self.policy.max_session_duration.unwrap_or_default();
        let reason = format!("max-session-duration, {} s, is over", limit.as_secs());
        let why = Error::gpu(Code::SessionTerminal, reason.clone());
        let reason = Some(reason);
        self.emit(MachineEvent::Ended {
            reason,
            // Nobody waits for this end, so where it brings no EOS it is an error.
            requested: false,
        });
        // Nobody is to resume it.
        self.policy.recoverable = false;
        self.close(&why);
        true
    }
}
