// SPDX-License-Identifier: MIT

//! Publishes the session's events as bus messages, signals and properties.
//! Called on the element's event thread only, as it runs the application's
//! code. Never changes the session, but for the startup commands of a new one.

use std::time::Duration;

use gst::prelude::*;

use super::{bus, debug::CAT, errors, membership::SessionMembership};
use crate::{
    platform::Error,
    session::{MachineEvent, Progress, assert_unlocked},
};

/// What the element itself has to act on after an event.
#[derive(Debug)]
pub enum Outcome {
    /// The connection is lost; no media flows.
    Interrupted,
    /// The connection is lost, and only the application makes another.
    Lost(Error),
    /// Media flows again.
    Resumed,
    Ended {
        reason: Option<String>,
        /// The application asked for it.
        requested: bool,
    },
    Failed(Error),
}

impl SessionMembership {
    /// Publishes an event. An event of an earlier `generation` updates the
    /// properties only, and is ignored once there is a new session.
    pub fn publish(
        &self,
        element: &gst::Element,
        generation: u64,
        event: MachineEvent,
    ) -> Option<Outcome> {
        let state = &self.state;
        let current = state.is_current(generation);
        if !current && self.session().is_some() {
            return None;
        }
        match event {
            MachineEvent::Status(status) => {
                state.publish_status(element, generation, status.into())
            }
            MachineEvent::SessionId(id) => state.publish_session_id(element, generation, id),
            MachineEvent::Described(descriptor) => {
                state.publish_description(element, generation, &descriptor)
            }
            MachineEvent::SessionExpiration(at) => {
                state.publish_session_expiration(element, generation, at)
            }
            MachineEvent::Tracks(tracks) => state.publish_tracks(element, generation, &tracks),
            MachineEvent::Warning(error) if !current => {
                gst::warning!(CAT, obj = element, "{error}");
            }
            _ if !current => {}
            MachineEvent::Joined => {
                let structure = gst::Structure::builder("reactor-session-joined")
                    .field("session-id", state.session_id());
                bus::post(element, structure.build());
            }
            MachineEvent::Progress(progress) => {
                if matches!(progress, Progress::Start(_)) {
                    state.wait_for_playing();
                }
                bus::post_progress(element, progress);
            }
            MachineEvent::Message { name, data } => {
                let message = "reactor-message";
                bus::post_json(element, "message", message, &name, &data);
            }
            MachineEvent::RuntimeMessage { name, data } => {
                let message = "reactor-runtime-message";
                bus::post_json(element, "runtime-message", message, name, &data);
            }
            MachineEvent::Warning(error) => {
                errors::post_warning(element, &error, state.session_id().as_deref());
            }
            MachineEvent::Interrupted(error) => {
                if let Some(error) = &error {
                    let details = state.publish_error(element, error);
                    errors::post_warning_with(element, error, details);
                }
                self.post_interrupted(element, error);
                return Some(Outcome::Interrupted);
            }
            MachineEvent::Lost(error) => {
                if !state.wait_for_playing() {
                    return None;
                }
                self.post_interrupted(element, Some(error.clone()));
                return Some(Outcome::Lost(error));
            }
            MachineEvent::Resumed { outage, restarted } => {
                self.post_resumed(element, outage, restarted);
                return Some(Outcome::Resumed);
            }
            MachineEvent::Ended { reason, requested } => {
                self.post_ended(element, reason.as_deref());
                return Some(Outcome::Ended { reason, requested });
            }
            MachineEvent::Failed(error) => {
                return state.wait_for_playing().then_some(Outcome::Failed(error));
            }
            MachineEvent::Closed => {}
        }
        None
    }

    fn post_interrupted(&self, element: &gst::Element, error: Option<Error>) {
        let id = self.state.session_id();
        let mut structure =
            gst::Structure::builder("reactor-interrupted").field("session-id", id.clone());
        if let Some(error) = error {
            structure = structure.field("error", errors::details(&error, id.as_deref()));
        }
        bus::post(element, structure.build());
    }

    fn post_resumed(&self, element: &gst::Element, outage: Duration, restarted: bool) {
        let structure = gst::Structure::builder("reactor-resumed")
            .field("session-id", self.state.session_id())
            .field("outage-ms", outage.as_millis() as u64)
            .field("restarted", restarted)
            .build();
        bus::post(element, structure);
        if restarted {
            self.send_startup_commands(element);
        }
    }

    fn post_ended(&self, element: &gst::Element, reason: Option<&str>) {
        let structure = gst::Structure::builder("reactor-session-ended")
            .field("reason", reason)
            .field("session-id", self.state.session_id())
            .build();
        bus::post(element, structure);
        assert_unlocked();
        element.emit_by_name::<()>("session-ended", &[&reason]);
    }
}
