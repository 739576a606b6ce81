// SPDX-License-Identifier: MIT

//! The conversation on the data channels: which encoding, which request an
//! answer belongs to, and what still waits to be said.

use std::{collections::VecDeque, time::Duration};

use super::{Action, NEVER, REQUEST_LIMIT, WireChoice};
use crate::platform::{
    Code, Error,
    wire::{
        self, Channel, ClientMessage, Framing, MessageRole, PendingRequests, Reassembler,
        RequestIds, ServerMessage, WireFrame, WireVersion,
    },
};

/// A server that answers v1 does so within milliseconds.
const V1_PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The last runtime that spoke JSON only was a 2.x.
const V0_ONLY_SERVERS: &str = "2.";

/// The code of a clip that there is not, perhaps not yet.
pub const NO_CLIP: &str = "clip_failed";

#[derive(Debug)]
pub(super) struct Requests {
    choice: WireChoice,
    pub(super) version: WireVersion,
    /// The server answered in v1, or there is nothing to find out.
    pub(super) settled: bool,
    probe_deadline: Duration,
    framing: Framing,
    control: Reassembler,
    data: Reassembler,
    ids: RequestIds,
    /// Not sent yet, in order.
    queued: VecDeque<(u64, ClientMessage)>,
    /// Sent and not answered yet.
    awaited: PendingRequests<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    subject: Subject,
    /// `None` for a question of the machine's own.
    token: Option<u64>,
}

/// In v0 an answer carries no id: it belongs to the oldest question of its
/// subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Schema,
    Clip,
    Publish,
    Command,
}

#[derive(Debug)]
pub(super) struct Arrival {
    pub message: ServerMessage,
    /// It answers a request.
    pub solicited: bool,
}

impl Requests {
    pub(super) fn new(choice: WireChoice) -> Self {
        let framing = Framing::plain();
        Self {
            choice,
            version: match choice {
                WireChoice::Only(version) => version,
                WireChoice::Auto => WireVersion::V1,
            },
            settled: choice != WireChoice::Auto,
            probe_deadline: NEVER,
            control: Reassembler::new(framing),
            data: Reassembler::new(framing),
            framing,
            ids: RequestIds::new(),
            queued: VecDeque::new(),
            awaited: PendingRequests::new(),
        }
    }

    /// Takes the server's own word for what it is, where that says enough.
    pub(super) fn expect_server(&mut self, version: Option<&str>) {
        if self.choice == WireChoice::Auto
            && version.is_some_and(|v| v.starts_with(V0_ONLY_SERVERS))
        {
            self.version = WireVersion::V0;
            self.settled = true;
        }
    }

    /// What the answer says about large messages.
    pub(super) fn negotiated(&mut self, chunking: Option<usize>) {
        self.framing = chunking.map_or_else(Framing::plain, Framing::chunked);
        self.control = Reassembler::new(self.framing);
        self.data = Reassembler::new(self.framing);
    }

    /// `limit`: when the watchdog would call a silent server lost.
    pub(super) fn open(&mut self, now: Duration, limit: Duration) {
        if !self.settled {
            self.probe_deadline = now + V1_PROBE_LIMIT.min(limit / 2);
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.awaited.next_deadline().unwrap_or(NEVER)
    }

    /// When a live session gives up on v1.
    pub(super) fn probe_deadline(&self) -> Duration {
        self.probe_deadline
    }

    /// Whether it is time to take the server for one that knows v0 only.
    pub(super) fn give_up_on_v1(&mut self, now: Duration) -> bool {
        if now < self.probe_deadline {
            return false;
        }
        self.probe_deadline = NEVER;
        self.version = WireVersion::V0;
        // What was asked in v1 was never understood. Only our own probe was:
        // the users' requests wait until the encoding is settled.
        self.awaited.drain();
        true
    }

    pub(super) fn notify(&mut self, message: &ClientMessage, out: &mut Vec<Action>) {
        // Ids and names are the only content: encoding cannot fail on them.
        if let Ok((channel, frames)) = self.encode(message, None) {
            out.push(Action::Send(channel, frames));
        }
    }

    pub(super) fn ask_schema(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.send(now, None, &ClientMessage::RequestSchema, out);
    }

    pub(super) fn queue(&mut self, token: u64, message: ClientMessage) {
        self.queued.push_back((token, message));
    }

    /// Sends what waits, once it is known how to say it.
    pub(super) fn flush(&mut self, now: Duration, out: &mut Vec<Action>) {
        while self.settled || self.version == WireVersion::V0 {
            let Some((token, message)) = self.queued.pop_front() else {
                return;
            };
            self.send(now, Some(token), &message, out);
        }
    }

    fn send(
        &mut self,
        now: Duration,
        token: Option<u64>,
        message: &ClientMessage,
        out: &mut Vec<Action>,
    ) {
        let id = self.ids.mint(message.channel(WireVersion::V1));
        let encoded = self.encode(message, Some(&id));
        let result = match encoded {
            Ok((channel, frames)) => {
                out.push(Action::Send(channel, frames));
                if let Some(subject) = Subject::of(message)
                    && message.expects_reply(self.version)
                {
                    let deadline = now + REQUEST_LIMIT;
                    self.awaited
                        .insert(id, deadline, Awaited { subject, token });
                    return;
                }
                // Nothing will come back: to have sent it is all there is.
                Ok(ServerMessage::Ack)
            }
            Err(error) => Err(error),
        };
        if let Some(token) = token {
            out.push(Action::Reply { token, result });
        }
    }

    fn encode(
        &self,
        message: &ClientMessage,
        id: Option<&str>,
    ) -> Result<(Channel, Vec<WireFrame>), Error> {
        let (channel, frame) = wire::encode(self.version, message, id)?;
        Ok((channel, self.framing.split(frame)?))
    }

    /// Puts a frame together, finds out whose answer it is.
    pub(super) fn arrived(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: WireFrame,
        out: &mut Vec<Action>,
    ) -> Result<Option<Arrival>, Error> {
        let reassembler = match channel {
            Channel::Control => &mut self.control,
            Channel::Data => &mut self.data,
        };
        let Some(whole) = reassembler.push(frame)? else {
            return Ok(None);
        };
        let inbound = wire::decode(channel, &whole)?;
        if inbound.version == WireVersion::V1 && self.choice == WireChoice::Auto {
            // Only a server that reads v1 writes it.
            self.version = WireVersion::V1;
            self.settled = true;
            self.probe_deadline = NEVER;
            self.flush(now, out);
        }
        let awaited = self.answered(
            inbound.role,
            inbound.request_id.as_deref(),
            &inbound.message,
        );
        let solicited = awaited.is_some();
        if let Some(token) = awaited.and_then(|a| a.token) {
            let result = match inbound.message.clone() {
                ServerMessage::Error { code, message } => {
                    Err(Error::gpu(Code::Other(code.into()), message))
                }
                ServerMessage::ClipFailed { reason } => Err(no_clip(reason)),
                message => Ok(message),
            };
            out.push(Action::Reply { token, result });
        }
        Ok(Some(Arrival {
            message: inbound.message,
            solicited,
        }))
    }

    fn answered(
        &mut self,
        role: MessageRole,
        id: Option<&str>,
        message: &ServerMessage,
    ) -> Option<Awaited> {
        match id {
            Some(id) => self.awaited.take(id),
            None if role == MessageRole::Notification && self.version == WireVersion::V1 => None,
            None => {
                let subject = Subject::answered_by(message)?;
                let oldest = self.awaited.take_oldest(|a| a.subject == subject);
                oldest.map(|(_, awaited)| awaited)
            }
        }
    }

    pub(super) fn expire(&mut self, now: Duration, out: &mut Vec<Action>) {
        let late = self.awaited.expire(now);
        for token in late.into_iter().filter_map(|(_, a)| a.token) {
            let limit = REQUEST_LIMIT.as_secs();
            let error = Error::gpu(
                Code::RequestTimeout,
                format!("the model did not reply within {limit} s; it may still act on it"),
            );
            out.push(Action::Reply {
                token,
                result: Err(error),
            });
        }
    }

    /// What was sent on a connection that is gone is not answered any more;
    /// what was not sent yet goes out on the next one.
    pub(super) fn interrupt(&mut self, why: &Error, out: &mut Vec<Action>) {
        let awaited = self.awaited.drain().into_iter();
        for token in awaited.filter_map(|(_, a)| a.token) {
            let result = Err(why.clone());
            out.push(Action::Reply { token, result });
        }
        self.probe_deadline = NEVER;
    }

    /// Nothing will be answered any more.
    pub(super) fn abort(&mut self, why: &Error, out: &mut Vec<Action>) {
        let awaited = self.awaited.drain();
        let queued = std::mem::take(&mut self.queued);
        let tokens = awaited.into_iter().filter_map(|(_, a)| a.token);
        for token in tokens.chain(queued.into_iter().map(|(token, _)| token)) {
            out.push(Action::Reply {
                token,
                result: Err(why.clone()),
            });
        }
        self.probe_deadline = NEVER;
    }
}

impl Subject {
    fn of(message: &ClientMessage) -> Option<Self> {
        match message {
            ClientMessage::RequestSchema => Some(Self::Schema),
            ClientMessage::RequestClip { .. } | ClientMessage::RequestRecording => Some(Self::Clip),
            ClientMessage::PublishTrack(_) => Some(Self::Publish),
            ClientMessage::Command { .. } => Some(Self::Command),
            _ => None,
        }
    }

    fn answered_by(message: &ServerMessage) -> Option<Self> {
        match message {
            ServerMessage::Schema(_) => Some(Self::Schema),
            ServerMessage::ClipReady(_) | ServerMessage::ClipFailed { .. } => Some(Self::Clip),
            ServerMessage::PublishGranted => Some(Self::Publish),
            _ => None,
        }
    }
}

/// Why there is no clip, in the codes of the platform's clients.
fn no_clip(reason: String) -> Error {
    let code = if reason.starts_with("recorder disabled") {
        "RECORDER_DISABLED"
    } else if reason.contains("must be positive") {
        "INVALID_DURATION"
    } else {
        NO_CLIP
    };
    Error::gpu(Code::Other(code.into()), reason)
}
