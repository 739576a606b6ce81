// SPDX-License-Identifier: MIT

//! A session that is ready: pings, watchdog, messages, and how the loss of the
//! connection is noticed.

use std::time::Duration;

use super::{
    requests::Received,
    state::{Machine, PING_INTERVAL, Phase},
    types::{Action, MachineEvent, NEVER, emit},
};
use crate::platform::{
    Code, Error,
    wire::{Channel, ClientMessage, Moderation, ServerMessage, WireFrame},
};

impl Machine {
    pub(super) fn enter_ready(&mut self, now: Duration, out: &mut Vec<Action>) {
        let limit = self.policy.stall_limit.unwrap_or(NEVER);
        self.requests.start_probe(now, limit);
        self.send_greeting(now, out);
        self.requests.flush(now, out);
    }

    /// Sends the first messages of a connection, in the present encoding. The ping
    /// is the first one: the server tells the encodings apart by the first frame.
    fn send_greeting(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.requests.notify(&ClientMessage::Ping, out);
        self.requests.request_schema(now, out);
    }

    /// Resumes the tracks that are not to stay paused.
    fn resume_tracks(&mut self, out: &mut Vec<Action>) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.resume_by = None;
        }
        for planned in &self.planned_tracks {
            let name = &planned.track.name;
            let paused = self.paused_tracks.get(name);
            if !paused.copied().unwrap_or(planned.paused) {
                self.requests
                    .notify(&ClientMessage::ResumeTrack(name.clone()), out);
            }
        }
    }

    /// The tracks of a new connection are still paused.
    fn resume_pending(&self) -> bool {
        matches!(&self.phase, Phase::Ready(ready) if ready.resume_by.is_some())
    }

    pub(super) fn tick_ready(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.requests.fall_back_to_v0(now) {
            let text = "the server does not answer wire v1, speaking v0 to it";
            let warning = Error::gpu(Code::VersionMismatch, text);
            emit(out, MachineEvent::Warning(warning));
            self.send_greeting(now, out);
            self.resume_tracks(out);
            self.requests.flush(now, out);
        }
        let Phase::Ready(ready) = &mut self.phase else {
            return;
        };
        if ready.resume_by.is_some_and(|at| now >= at) {
            return self.resume_tracks(out);
        }
        if now >= ready.next_ping {
            ready.next_ping = now + PING_INTERVAL;
            self.requests.notify(&ClientMessage::Ping, out);
        }
        let Some(limit) = self.policy.stall_limit else {
            return;
        };
        let silence = now.saturating_sub(ready.last_received);
        if silence >= limit {
            let error = Error::gpu(
                Code::Disconnected,
                format!(
                    "nothing was received for {} ms (stall-timeout)",
                    limit.as_millis()
                ),
            );
            self.connection_lost(now, Some(error), out);
        } else if silence >= limit / 2 && !ready.probed {
            ready.probed = true;
            // It is the only request with a reply that has no side effect.
            self.requests.request_schema(now, out);
        }
    }

    pub(super) fn last_received(&mut self, at: Duration) {
        if let Phase::Ready(ready) = &mut self.phase
            && at > ready.last_received
        {
            ready.last_received = at;
            ready.probed = false;
        }
    }

    pub(super) fn frame_received(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: WireFrame,
        out: &mut Vec<Action>,
    ) {
        // Before the peer is verified its messages must not be used.
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        self.last_received(now);
        if self.resume_pending() {
            self.resume_tracks(out);
        }
        match self.requests.receive(now, channel, frame, out) {
            Ok(Some(received)) => self.message_received(now, received, out),
            Ok(None) => {}
            Err(error) => emit(out, MachineEvent::Warning(error)),
        }
    }

    fn message_received(&mut self, now: Duration, received: Received, out: &mut Vec<Action>) {
        let Received { message, is_reply } = received;
        match message {
            ServerMessage::SessionEnded { reason } => {
                emit_runtime(
                    out,
                    "sessionEnded",
                    &serde_json::json!({ "reason": reason }),
                );
                self.session_over(now, Some(reason), out);
            }
            ServerMessage::Moderation(moderation) => self.moderation_received(now, moderation, out),
            ServerMessage::Model { name, data } => emit(out, MachineEvent::Message { name, data }),
            ServerMessage::Schema(schema) => {
                // The watchdog requests the schema again; it does not change.
                if !std::mem::replace(&mut self.schema_reported, true) {
                    emit_runtime(out, "modelSchema", &schema);
                }
            }
            ServerMessage::ClipReady(clip) => emit_runtime(out, "clipReady", &clip),
            ServerMessage::ClipFailed { reason } => {
                emit_runtime(out, "clipFailed", &serde_json::json!({ "reason": reason }));
            }
            // An error that answers no request does not end the session.
            ServerMessage::Error { code, message } if !is_reply => {
                emit(
                    out,
                    MachineEvent::Warning(Error::gpu(Code::Other(code.into()), message)),
                );
            }
            ServerMessage::Error { .. }
            | ServerMessage::Ack
            | ServerMessage::PublishGranted
            | ServerMessage::Unknown => {}
        }
    }

    fn moderation_received(
        &mut self,
        now: Duration,
        moderation: Moderation,
        out: &mut Vec<Action>,
    ) {
        emit_runtime(out, "moderation", &moderation);
        let text = if moderation.message.is_empty() {
            "the platform's moderation stepped in".to_owned()
        } else {
            moderation.message.clone()
        };
        // The server does not send `SessionEnded` after it has terminated a session
        // for moderation.
        if moderation.action == "terminate" {
            self.session_over(now, Some(text), out);
        } else {
            emit(
                out,
                MachineEvent::Warning(Error::gpu(Code::Other("moderation".into()), text)),
            );
        }
    }

    pub(super) fn set_track_paused(&mut self, track: String, paused: bool, out: &mut Vec<Action>) {
        let before = self.paused_tracks.insert(track.clone(), paused);
        let ready = matches!(self.phase, Phase::Ready(_)) && !self.resume_pending();
        if ready && before != Some(paused) {
            let message = match paused {
                true => ClientMessage::PauseTrack(track),
                false => ClientMessage::ResumeTrack(track),
            };
            self.requests.notify(&message, out);
        }
    }

    pub(super) fn request(
        &mut self,
        now: Duration,
        token: u64,
        message: ClientMessage,
        out: &mut Vec<Action>,
    ) {
        let error = match &self.phase {
            Phase::Closing(_) | Phase::Closed => {
                Error::gpu(Code::InvalidState, "the session is closed")
            }
            // The session is not resumed: the server is only asked how it ended.
            Phase::QueryingSession(_) if !self.recovery.as_ref().is_some_and(|r| r.resume) => {
                Error::gpu(Code::Disconnected, "the connection is lost")
            }
            phase => {
                let ready = matches!(phase, Phase::Ready(_));
                self.requests.enqueue(token, message);
                if ready {
                    self.requests.flush(now, out);
                }
                return;
            }
        };
        let result = Err(error);
        out.push(Action::Reply { token, result });
    }
}

fn emit_runtime(out: &mut Vec<Action>, name: &'static str, data: &impl serde::Serialize) {
    // Cannot fail: these types have string keys and finite numbers only.
    let data = serde_json::to_value(data).unwrap_or_default();
    emit(out, MachineEvent::RuntimeMessage { name, data });
}
