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
        self.expiration.filter(|_| running)
    }

    pub(super) fn expiration_deadline(&self) -> Duration {
        self.expiration().unwrap_or(NEVER)
    }

    /// The session has its GPU, and costs from now on.
    pub(super) fn limit_duration(&mut self) {
        let limit = self.policy.max_session_duration;
        self.expiration = limit.map(|limit| self.now + limit);
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
            requested: true,
        });
        // Nobody is to resume it.
        self.policy.recoverable = false;
        self.close(&why);
        true
    }
}
