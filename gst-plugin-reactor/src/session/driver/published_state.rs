// SPDX-License-Identifier: MIT

//! What the elements show of the session that no single event says: the state of
//! the tracks, and when the session will end. Derived after each message to the
//! driver that may change it, and sent when it has changed.

use std::time::{Duration, SystemTime};

use super::{Driver, Settings, TransportReport};
use crate::{
    platform::auth::Jwt,
    session::{TrackState, machine::MachineEvent, messages::DriverMessage},
};

/// What was sent to the elements last.
pub(super) struct PublishedState {
    tracks: Vec<TrackState>,
    expiration: Option<f64>,
    /// The user's token, which may say how long it is good for; not of a local
    /// runtime, which needs none.
    jwt: Option<Jwt>,
    /// The time of the driver's epoch, since 1970, by the clock as it is set now.
    epoch: Duration,
}

/// By how much the clock has to be set for the published time to follow: what the
/// two clocks drift apart by themselves changes nothing.
const CLOCK_STEP: Duration = Duration::from_secs(1);

impl PublishedState {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            tracks: Vec::new(),
            expiration: None,
            jwt: (!settings.local).then(|| settings.jwt.clone()),
            epoch: wall_time(),
        }
    }
}

fn wall_time() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Whether a message may change what is published: not one that comes often.
pub(super) fn may_change(message: &DriverMessage) -> bool {
    match message {
        DriverMessage::Transport(_, report) => matches!(report, TransportReport::Input(_)),
        DriverMessage::StatisticsDue(_)
        | DriverMessage::Request(..)
        | DriverMessage::QueuedCommand(_)
        | DriverMessage::RequestKeyframe(_) => false,
        _ => true,
    }
}

impl Driver {
    /// Sends what has changed to the elements.
    pub(super) fn publish_state(&mut self) {
        let tracks = match self.machine.session_id() {
            Some(_) => {
                let is_paused = |track: &str| self.machine.is_track_paused(track);
                self.participants.track_states(is_paused)
            }
            None => Vec::new(),
        };
        if tracks != self.published_state.tracks {
            self.published_state.tracks.clone_from(&tracks);
            self.participants.broadcast(&MachineEvent::Tracks(tracks));
        }
        let expiration = self.session_expiration();
        if expiration != self.published_state.expiration {
            self.published_state.expiration = expiration;
            let event = MachineEvent::SessionExpiration(expiration);
            self.participants.broadcast(&event);
        }
    }

    /// When the session will end, in seconds since 1970, as far as that is known.
    fn session_expiration(&mut self) -> Option<f64> {
        self.machine.session_id()?;
        let state = &mut self.published_state;
        let epoch = wall_time().saturating_sub(self.epoch.elapsed());
        if epoch.abs_diff(state.epoch) > CLOCK_STEP {
            state.epoch = epoch;
        }
        let limit = self.machine.expiration();
        let limit = limit.map(|at| (state.epoch + at).as_secs_f64());
        let token = state.jwt.as_ref().and_then(Jwt::expiration);
        [limit, token].into_iter().flatten().reduce(f64::min)
    }
}
