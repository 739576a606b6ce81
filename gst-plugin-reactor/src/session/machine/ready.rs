// SPDX-License-Identifier: MIT

//! A session that is ready: pings, watchdog, messages, and how the loss of the
//! connection is noticed.

use std::time::Duration;

use super::{
    requests::{Received, closed_error, disconnected_error},
    state::{Machine, PING_INTERVAL, Phase},
    suspended::over_error,
    types::{Action, MachineEvent, NEVER},
};
use crate::platform::{
    Code, Error,
    track::{Direction, require_track},
    wire::{Channel, ClientMessage, Moderation, ServerMessage, WireFrame, WireVersion},
};

impl Machine {
    pub(super) fn enter_ready(&mut self) {
        let limit = self.policy.stall_limit.unwrap_or(NEVER);
        self.requests.start_probe(self.now, limit);
        if self.requests.version_known && self.schema_reported {
            // A connection after the first: its answer would only take time on a
            // narrow link.
            self.requests
                .notify(&ClientMessage::Ping, &mut self.actions);
            self.resume_tracks();
        } else {
            self.send_greeting();
        }
        self.requests.flush(self.now, &mut self.actions);
    }

    /// Sends the first messages of a connection, in the present encoding. The ping
    /// is the first one: the server tells the encodings apart by the first frame.
    fn send_greeting(&mut self) {
        self.requests
            .notify(&ClientMessage::Ping, &mut self.actions);
        self.requests.request_schema(self.now, &mut self.actions);
    }

    /// Resumes the tracks that are not to stay paused.
    fn resume_tracks(&mut self) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.resume_by = None;
        }
        let tracks = self.planned_tracks.iter().map(|track| &track.name);
        let needed =
            |track: &&String| !self.is_unneeded(track) && !self.user_paused_tracks.contains(*track);
        let tracks: Vec<String> = tracks.filter(needed).cloned().collect();
        for track in tracks {
            self.send_track_paused(track, false);
        }
    }

    /// The tracks of a new connection are still paused.
    pub(super) fn resume_pending(&self) -> bool {
        matches!(&self.phase, Phase::Ready(ready) if ready.resume_by.is_some())
    }

    pub(super) fn tick_ready(&mut self) {
        if self.requests.fall_back_to_v0(self.now, &mut self.actions) {
            let text = "the server does not answer wire v1, speaking v0 to it";
            let warning = Error::gpu(Code::VersionMismatch, text);
            self.emit(MachineEvent::Warning(warning));
            self.send_greeting();
            self.resume_tracks();
            self.requests.flush(self.now, &mut self.actions);
        }
        let Phase::Ready(ready) = &mut self.phase else {
            return;
        };
        if self.now >= self.link_bound.deadline() {
            return self.tick_draining();
        }
        if ready.resume_by.is_some_and(|at| self.now >= at) {
            if self.is_replaced_before_resuming() {
                self.replace_for_link_bound();
            } else {
                self.resume_tracks();
            }
            return;
        }
        for track in ready.resumed_tracks.take_due(self.now) {
            self.requests
                .notify(&ClientMessage::ResumeTrack(track), &mut self.actions);
        }
        if self.now >= ready.next_ping {
            ready.next_ping = self.now + PING_INTERVAL;
            self.requests
                .notify(&ClientMessage::Ping, &mut self.actions);
        }
        let Some(limit) = self.policy.stall_limit else {
            return;
        };
        let silence = self.now.saturating_sub(ready.last_received);
        if silence >= limit {
            let error = Error::gpu(
                Code::Disconnected,
                format!(
                    "nothing was received for {} ms (stall-timeout)",
                    limit.as_millis()
                ),
            );
            self.connection_lost(Some(error));
        } else if silence >= limit / 2 && !ready.probed {
            ready.probed = true;
            // It is the only request with a reply that has no side effect.
            self.requests.request_schema(self.now, &mut self.actions);
        }
    }

    /// Media of these tracks came last at these times.
    pub(super) fn media_received(&mut self, tracks: &[(String, Duration)]) {
        for (track, at) in tracks {
            if let Phase::Ready(ready) = &mut self.phase {
                ready.resumed_tracks.received(track, *at);
            }
            self.last_received(*at);
        }
    }

    fn last_received(&mut self, at: Duration) {
        if let Phase::Ready(ready) = &mut self.phase
            && at > ready.last_received
        {
            ready.last_received = at;
            ready.probed = false;
        }
    }

    pub(super) fn frame_received(&mut self, channel: Channel, frame: WireFrame) {
        // Before the peer is verified its messages must not be used.
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        self.last_received(self.now);
        let is_replaced = self.is_replaced_before_resuming();
        if self.resume_pending() && !is_replaced {
            self.resume_tracks();
        }
        match self
            .requests
            .receive(self.now, channel, frame, &mut self.actions)
        {
            Ok(Some(received)) => self.message_received(received),
            Ok(None) => {}
            Err(error) => self.emit(MachineEvent::Warning(error)),
        }
        if is_replaced && self.resume_pending() {
            self.replace_for_link_bound();
        }
    }

    fn message_received(&mut self, received: Received) {
        let Received {
            message,
            is_reply,
            private,
        } = received;
        match message {
            ServerMessage::ClipReady(_) | ServerMessage::ClipFailed { .. } if private => {}
            ServerMessage::SessionEnded { reason } => {
                self.emit_runtime("sessionEnded", &serde_json::json!({ "reason": reason }));
                self.session_over(Some(reason));
            }
            ServerMessage::Moderation(moderation) => self.moderation_received(moderation),
            ServerMessage::Model { name, data } => self.emit(MachineEvent::Message { name, data }),
            ServerMessage::Schema(schema) => {
                // The watchdog requests the schema again; it does not change.
                if !std::mem::replace(&mut self.schema_reported, true) {
                    self.emit_runtime("modelSchema", &schema);
                }
            }
            ServerMessage::ClipReady(clip) => self.emit_runtime("clipReady", &clip),
            ServerMessage::ClipFailed { reason } => {
                self.emit_runtime("clipFailed", &serde_json::json!({ "reason": reason }));
            }
            // An error that answers no request does not end the session.
            ServerMessage::Error { code, message } if !is_reply => {
                self.emit(MachineEvent::Warning(Error::gpu(
                    Code::Other(code.into()),
                    message,
                )));
            }
            ServerMessage::Error { .. }
            | ServerMessage::Ack
            | ServerMessage::PublishGranted
            | ServerMessage::Unknown => {}
        }
    }

    fn moderation_received(&mut self, moderation: Moderation) {
        self.emit_runtime("moderation", &moderation);
        let text = if moderation.message.is_empty() {
            "the platform's moderation stepped in".to_owned()
        } else {
            moderation.message.clone()
        };
        // The server does not send `SessionEnded` after it has terminated a session
        // for moderation.
        if moderation.action == "terminate" {
            self.session_over(Some(text));
        } else {
            self.emit(MachineEvent::Warning(Error::gpu(
                Code::Other("moderation".into()),
                text,
            )));
        }
    }

    pub(super) fn set_track_paused(&mut self, track: String, paused: bool) {
        let before = self.paused_tracks.insert(track.clone(), paused);
        if before != Some(paused) && !self.user_paused_tracks.contains(&track) {
            self.send_track_paused(track, paused);
        }
    }

    /// Pauses one of the model's tracks for the user, or ends that: it flows then
    /// if an element needs it.
    pub(super) fn pause_track(&mut self, token: u64, track: String, paused: bool) {
        if let Err(error) = self.check_output(&track) {
            let operation = if paused {
                "pause_track"
            } else {
                "resume_track"
            };
            return self.reply(token, Err(error.during(operation)));
        }
        let changed = match paused {
            true => self.user_paused_tracks.insert(track.clone()),
            false => self.user_paused_tracks.remove(&track),
        };
        if changed && !self.is_unneeded(&track) {
            self.send_track_paused(track, paused);
        }
        self.reply(token, Ok(()));
    }

    /// Whether the model has an output track of this name, and the session is not
    /// over.
    fn check_output(&self, track: &str) -> Result<(), Error> {
        if matches!(self.phase, Phase::Closing(_) | Phase::Closed) {
            return Err(over_error("pause_track"));
        }
        if self.planned_tracks.is_empty() {
            let text = "the session is not connected yet; its tracks are not known";
            return Err(Error::api(Code::InvalidState, text));
        }
        require_track(self.planned_tracks.iter(), Direction::RecvOnly, track)
    }

    fn send_track_paused(&mut self, track: String, paused: bool) {
        let now = self.now;
        let Phase::Ready(ready) = &mut self.phase else {
            return;
        };
        if ready.resume_by.is_some() {
            return;
        }
        let message = if paused {
            ready.resumed_tracks.paused(&track);
            ClientMessage::PauseTrack(track)
        } else {
            ready.resumed_tracks.resumed(&track, now);
            ClientMessage::ResumeTrack(track)
        };
        self.requests.notify(&message, &mut self.actions);
    }

    /// Whether no element needs the track.
    fn is_unneeded(&self, track: &str) -> bool {
        self.paused_tracks.get(track).copied().unwrap_or(true)
    }

    /// Whether the session is ready, and its wire known to be v1.
    pub fn speaks_v1(&self) -> bool {
        let is_v1 = self.requests.version_known && self.requests.version == WireVersion::V1;
        is_v1 && matches!(self.phase, Phase::Ready(_))
    }

    /// Whether the server does not send an output track for now.
    pub fn is_track_paused(&self, track: &str) -> bool {
        self.user_paused_tracks.contains(track)
            || self.paused_tracks.get(track).copied().unwrap_or(false)
    }

    pub(super) fn request(&mut self, token: u64, message: ClientMessage, private: bool) {
        let error = match &self.phase {
            Phase::Closing(_) | Phase::Closed => closed_error(),
            Phase::Suspended(_) => disconnected_error(),
            // The session is not resumed: the server is only asked how it ended.
            Phase::QueryingSession { .. } if !self.recovery.as_ref().is_some_and(|r| r.resume) => {
                Error::gpu(Code::Disconnected, "the connection is lost")
            }
            phase => {
                let ready = matches!(phase, Phase::Ready(_));
                self.requests.enqueue(self.now, token, message, private);
                if ready {
                    self.requests.flush(self.now, &mut self.actions);
                }
                return;
            }
        };
        let result = Err(error);
        self.actions.push(Action::Reply { token, result });
    }

    /// Emits a message of the platform's.
    fn emit_runtime(&mut self, name: &'static str, data: &impl serde::Serialize) {
        // Cannot fail: these types have string keys and finite numbers only.
        let data = serde_json::to_value(data).unwrap_or_default();
        self.emit(MachineEvent::RuntimeMessage { name, data });
    }
}
