// SPDX-License-Identifier: MIT

//! A live session: heartbeat, watchdog, messages, and how it is lost.

use std::time::Duration;

use super::{
    Action, Machine, MachineEvent, NEVER, PING_INTERVAL, Phase, Policy, emit, wire::Arrival,
};
use crate::platform::{
    Code, Error,
    wire::{Channel, ClientMessage, Moderation, ServerMessage, WireFrame},
};

#[derive(Debug)]
pub(super) struct Live {
    pub(super) since: Duration,
    /// When anything was last heard from the server.
    pub(super) last_received: Duration,
    /// A question was sent to find out whether the server still answers.
    pub(super) probed: bool,
    pub(super) next_ping: Duration,
    /// When to let the tracks flow at the latest; `None` once they do.
    pub(super) resume_by: Option<Duration>,
}

/// A server sends each new connection one black picture of a size of its own.
/// It is lost on a track that still rests, so the tracks rest until the
/// server's first word, which comes after it.
const RESUME_LIMIT: Duration = Duration::from_millis(500);

impl Live {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            last_received: now,
            probed: false,
            next_ping: now + PING_INTERVAL,
            resume_by: Some(now + RESUME_LIMIT),
        }
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Duration {
        let watchdog = policy.stall_limit.map_or(NEVER, |limit| {
            let wait = if self.probed { limit } else { limit / 2 };
            self.last_received + wait
        });
        let resume = self.resume_by.unwrap_or(NEVER);
        watchdog.min(self.next_ping).min(resume)
    }
}

impl Machine {
    pub(super) fn enter_live(&mut self, now: Duration, out: &mut Vec<Action>) {
        let limit = self.policy.stall_limit.unwrap_or(NEVER);
        self.requests.open(now, limit);
        self.greet(now, out);
        self.requests.flush(now, out);
    }

    /// What a fresh connection needs to hear, in whichever encoding. The ping
    /// comes first: the server takes the first frame to tell the encodings
    /// apart.
    fn greet(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.requests.notify(&ClientMessage::Ping, out);
        self.requests.ask_schema(now, out);
    }

    fn resume_tracks(&mut self, out: &mut Vec<Action>) {
        if let Phase::Live(live) = &mut self.phase {
            live.resume_by = None;
        }
        for plan in &self.plan {
            let name = &plan.track.name;
            if self.wanted.get(name).copied().unwrap_or(plan.flowing) {
                self.requests
                    .notify(&ClientMessage::ResumeTrack(name.clone()), out);
            }
        }
    }

    fn resting(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.resume_by.is_some())
    }

    pub(super) fn tick_live(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.requests.give_up_on_v1(now) {
            let text = "the server does not answer wire v1, speaking v0 to it";
            let warning = Error::gpu(Code::VersionMismatch, text);
            emit(out, MachineEvent::Warning(warning));
            self.greet(now, out);
            self.resume_tracks(out);
            self.requests.flush(now, out);
        }
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        if live.resume_by.is_some_and(|at| now >= at) {
            return self.resume_tracks(out);
        }
        if now >= live.next_ping {
            live.next_ping = now + PING_INTERVAL;
            self.requests.notify(&ClientMessage::Ping, out);
        }
        let Some(limit) = self.policy.stall_limit else {
            return;
        };
        let silence = now.saturating_sub(live.last_received);
        if silence >= limit {
            let error = Error::gpu(
                Code::Disconnected,
                format!(
                    "nothing was received for {} ms (stall-timeout)",
                    limit.as_millis()
                ),
            );
            self.lost(now, Some(error), out);
        } else if silence >= limit / 2 && !live.probed {
            live.probed = true;
            // The one request without side effects that is answered.
            self.requests.ask_schema(now, out);
        }
    }

    pub(super) fn last_received(&mut self, at: Duration) {
        if let Phase::Live(live) = &mut self.phase
            && at > live.last_received
        {
            live.last_received = at;
            live.probed = false;
        }
    }

    pub(super) fn frame(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: WireFrame,
        out: &mut Vec<Action>,
    ) {
        // Before the peer's identity is known nothing it says counts.
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        self.last_received(now);
        if self.resting() {
            self.resume_tracks(out);
        }
        match self.requests.arrived(now, channel, frame, out) {
            Ok(Some(arrival)) => self.arrived(now, arrival, out),
            Ok(None) => {}
            Err(error) => emit(out, MachineEvent::Warning(error)),
        }
    }

    fn arrived(&mut self, now: Duration, arrival: Arrival, out: &mut Vec<Action>) {
        let Arrival { message, solicited } = arrival;
        match message {
            ServerMessage::SessionEnded { reason } => {
                emit_runtime(
                    out,
                    "sessionEnded",
                    &serde_json::json!({ "reason": reason }),
                );
                self.end(now, Some(reason), out);
            }
            ServerMessage::Moderation(moderation) => self.moderated(now, moderation, out),
            ServerMessage::Model { name, data } => emit(out, MachineEvent::Message { name, data }),
            ServerMessage::Schema(schema) => {
                // The watchdog asks again; the schema stays what it was.
                if !std::mem::replace(&mut self.schema_told, true) {
                    emit_runtime(out, "modelSchema", &schema);
                }
            }
            ServerMessage::ClipReady(clip) => emit_runtime(out, "clipReady", &clip),
            ServerMessage::ClipFailed { reason } => {
                emit_runtime(out, "clipFailed", &serde_json::json!({ "reason": reason }));
            }
            // An error nobody asked for: tell the user, go on.
            ServerMessage::Error { code, message } if !solicited => {
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

    fn moderated(&mut self, now: Duration, moderation: Moderation, out: &mut Vec<Action>) {
        emit_runtime(out, "moderation", &moderation);
        let text = if moderation.message.is_empty() {
            "the platform's moderation stepped in".to_owned()
        } else {
            moderation.message.clone()
        };
        // A moderated end comes without a notice of the end itself.
        if moderation.action == "terminate" {
            self.end(now, Some(text), out);
        } else {
            emit(
                out,
                MachineEvent::Warning(Error::gpu(Code::Other("moderation".into()), text)),
            );
        }
    }

    pub(super) fn want(&mut self, track: String, flowing: bool, out: &mut Vec<Action>) {
        let before = self.wanted.insert(track.clone(), flowing);
        let live = matches!(self.phase, Phase::Live(_)) && !self.resting();
        if live && before != Some(flowing) {
            let message = if flowing {
                ClientMessage::ResumeTrack(track)
            } else {
                ClientMessage::PauseTrack(track)
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
        match &self.phase {
            Phase::Closing(_) | Phase::Closed => {
                let error = Error::gpu(Code::InvalidState, "the session is closed");
                out.push(Action::Reply {
                    token,
                    result: Err(error),
                });
            }
            Phase::Live(_) => {
                self.requests.queue(token, message);
                self.requests.flush(now, out);
            }
            // The session's end is only looked into.
            Phase::Checking(_) if !self.recovery.as_ref().is_some_and(|r| r.resume) => {
                let error = Error::gpu(Code::Disconnected, "the connection is lost");
                out.push(Action::Reply {
                    token,
                    result: Err(error),
                });
            }
            _ => self.requests.queue(token, message),
        }
    }
}

fn emit_runtime(out: &mut Vec<Action>, name: &'static str, data: &impl serde::Serialize) {
    // These types have string keys and finite numbers only.
    let data = serde_json::to_value(data).unwrap_or_default();
    emit(out, MachineEvent::RuntimeMessage { name, data });
}
