// SPDX-License-Identifier: MIT

//! The messages on the data channels: their encoding, the queue of those that
//! cannot be sent yet, and the requests whose replies are pending.

use std::{collections::VecDeque, time::Duration};

use super::{
    state::RECOVERY_WINDOW,
    types::{Action, NEVER, WireChoice},
};
use crate::platform::{
    Code, Error,
    wire::{
        self, Channel, ClientMessage, Framing, MessageRole, PendingRequests, Reassembler,
        RequestIds, ServerMessage, WireFrame, WireVersion,
    },
};

/// How long to wait for the reply of a server that speaks v1: it takes
/// milliseconds, and longer for a large schema on a narrow link. Runtimes since 3.7
/// are not waited for: their answer tells.
const V1_PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How the version of a runtime begins that speaks JSON (v0) only: 2.x was the
/// last.
const V0_ONLY_SERVERS: &str = "2.";

/// A request fails when its reply takes longer. (The platform's clients: 10 s.)
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a request waits for a session that is not ready: as long as the
/// platform keeps one whose connection is lost.
pub const READY_LIMIT: Duration = RECOVERY_WINDOW;

/// The error code when there is no clip, perhaps not yet.
pub const CLIP_FAILED: &str = "clip_failed";

#[derive(Debug)]
pub(super) struct Requests {
    choice: WireChoice,
    pub(super) version: WireVersion,
    /// The server has sent v1, or its answer tells that it reads v1, or only one version
    /// is possible.
    pub(super) version_known: bool,
    probe_deadline: Duration,
    framing: Framing,
    control: Reassembler,
    data: Reassembler,
    ids: RequestIds,
    /// The requests that are not sent yet, the oldest first.
    queue: VecDeque<QueuedRequest>,
    /// The requests that are sent and not answered yet.
    pending: PendingRequests<PendingRequest>,
}

#[derive(Debug)]
struct QueuedRequest {
    token: u64,
    message: ClientMessage,
    private: bool,
    /// When it fails unless it is sent.
    deadline: Duration,
}

#[derive(Debug)]
struct PendingRequest {
    kind: ReplyKind,
    /// `None` for a request of the machine's own.
    token: Option<u64>,
    private: bool,
}

/// In v0 a reply carries no id: it belongs to the oldest pending request of its
/// kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyKind {
    Schema,
    Clip,
    Publish,
    Command,
}

#[derive(Debug)]
pub(super) struct Received {
    pub message: ServerMessage,
    /// It is the reply to a request.
    pub is_reply: bool,
    /// That request was private, see [`Input::Request`](super::Input::Request).
    pub private: bool,
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
            version_known: choice != WireChoice::Auto,
            probe_deadline: NEVER,
            control: Reassembler::new(framing),
            data: Reassembler::new(framing),
            framing,
            ids: RequestIds::new(),
            queue: VecDeque::new(),
            pending: PendingRequests::new(),
        }
    }

    /// Decides for v0 if the server's version is one that speaks nothing else.
    pub(super) fn set_server_version(&mut self, version: Option<&str>) {
        if self.choice == WireChoice::Auto
            && version.is_some_and(|v| v.starts_with(V0_ONLY_SERVERS))
        {
            self.version = WireVersion::V0;
            self.version_known = true;
        }
    }

    /// Sets the chunk size of large messages from the answer. Only runtimes since 3.7
    /// have one, and those since 3.0 read v1. (The version in the session's description
    /// does not decide for v1: what it means in the cloud is not documented.)
    pub(super) fn set_chunking(&mut self, chunking: Option<usize>) {
        if self.choice == WireChoice::Auto && chunking.is_some() {
            self.version = WireVersion::V1;
            self.version_known = true;
        }
        self.framing = chunking.map_or_else(Framing::plain, Framing::chunked);
        self.control = Reassembler::new(self.framing);
        self.data = Reassembler::new(self.framing);
    }

    /// Starts to wait for a sign of v1, unless an earlier connection has fallen back to
    /// v0. The watchdog calls the connection lost after `stall_limit`.
    pub(super) fn start_probe(&mut self, now: Duration, stall_limit: Duration) {
        if !self.version_known && self.version == WireVersion::V1 {
            self.probe_deadline = now + V1_PROBE_TIMEOUT.min(stall_limit / 2);
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        let queued = self.queue.front().map_or(NEVER, |request| request.deadline);
        self.pending.next_deadline().unwrap_or(NEVER).min(queued)
    }

    /// When a session that is ready falls back to v0.
    pub(super) fn probe_deadline(&self) -> Duration {
        self.probe_deadline
    }

    /// Falls back to v0 if v1 was not answered in time; returns whether it did.
    pub(super) fn fall_back_to_v0(&mut self, now: Duration, out: &mut Vec<Action>) -> bool {
        if now < self.probe_deadline {
            return false;
        }
        self.version = WireVersion::V0;
        // Requests in v1 were never understood. Only our own probe was sent: the
        // users' requests wait in the queue until the version is known.
        let why = Error::gpu(Code::Disconnected, "the server does not answer wire v1");
        self.fail_sent(&why, out);
        true
    }

    pub(super) fn notify(&mut self, message: &ClientMessage, out: &mut Vec<Action>) {
        // Ids and names are the only content: encoding cannot fail on them.
        if let Ok((channel, frames)) = self.encode(message, None) {
            out.push(Action::SendFrames(channel, frames));
        }
    }

    pub(super) fn request_schema(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.send(now, None, &ClientMessage::RequestSchema, false, out);
    }

    pub(super) fn enqueue(
        &mut self,
        now: Duration,
        token: u64,
        message: ClientMessage,
        private: bool,
    ) {
        self.queue.push_back(QueuedRequest {
            token,
            message,
            private,
            deadline: now + READY_LIMIT,
        });
    }

    /// Sends the queued requests, once the version is known.
    pub(super) fn flush(&mut self, now: Duration, out: &mut Vec<Action>) {
        while self.version_known || self.version == WireVersion::V0 {
            let Some(request) = self.queue.pop_front() else {
                return;
            };
            let QueuedRequest {
                token,
                message,
                private,
                ..
            } = request;
            self.send(now, Some(token), &message, private, out);
        }
    }

    fn send(
        &mut self,
        now: Duration,
        token: Option<u64>,
        message: &ClientMessage,
        private: bool,
        out: &mut Vec<Action>,
    ) {
        let id = self.ids.mint(message.channel(WireVersion::V1));
        let encoded = self.encode(message, Some(&id));
        let result = match encoded {
            Ok((channel, frames)) => {
                out.push(Action::SendFrames(channel, frames));
                if let Some(kind) = ReplyKind::of_request(message)
                    && message.expects_reply(self.version)
                {
                    let deadline = now + REQUEST_LIMIT;
                    let request = PendingRequest {
                        kind,
                        token,
                        private,
                    };
                    self.pending.insert(id, deadline, request);
                    return;
                }
                // There will be no reply: it succeeds once it is sent.
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

    /// Decodes a frame once its message is complete, and replies to the request
    /// that it answers.
    pub(super) fn receive(
        &mut self,
        now: Duration,
        channel: Channel,
        frame: WireFrame,
        out: &mut Vec<Action>,
    ) -> Result<Option<Received>, Error> {
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
            self.version_known = true;
            self.probe_deadline = NEVER;
            self.flush(now, out);
        }
        let request = self.take_pending(
            inbound.role,
            inbound.request_id.as_deref(),
            &inbound.message,
        );
        let is_reply = request.is_some();
        let private = request.as_ref().is_some_and(|request| request.private);
        if let Some(token) = request.and_then(|request| request.token) {
            let result = match inbound.message.clone() {
                ServerMessage::Error { code, message } => {
                    Err(Error::gpu(Code::Other(code.into()), message))
                }
                ServerMessage::ClipFailed { reason } => Err(clip_error(reason)),
                message => Ok(message),
            };
            out.push(Action::Reply { token, result });
        }
        Ok(Some(Received {
            message: inbound.message,
            is_reply,
            private,
        }))
    }

    /// Finds the request that a message answers, and removes it.
    fn take_pending(
        &mut self,
        role: MessageRole,
        id: Option<&str>,
        message: &ServerMessage,
    ) -> Option<PendingRequest> {
        match id {
            Some(id) => self.pending.take(id),
            None if role == MessageRole::Notification && self.version == WireVersion::V1 => None,
            None => {
                let kind = ReplyKind::of_reply(message)?;
                let oldest = self.pending.take_oldest(|request| request.kind == kind);
                oldest.map(|(_, request)| request)
            }
        }
    }

    /// Fails the requests whose reply is late, or which could not be sent in time.
    pub(super) fn expire(&mut self, now: Duration, out: &mut Vec<Action>) {
        let unsent = self
            .queue
            .partition_point(|request| request.deadline <= now);
        for request in self.queue.drain(..unsent) {
            out.push(Action::Reply {
                token: request.token,
                result: Err(not_ready_error()),
            });
        }
        let late = self.pending.expire(now);
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

    /// Fails the requests that were sent on a connection that is lost, or in an encoding
    /// that the server does not read. The queued ones are sent later.
    pub(super) fn fail_sent(&mut self, why: &Error, out: &mut Vec<Action>) {
        for token in self
            .pending
            .drain()
            .into_iter()
            .filter_map(|(_, r)| r.token)
        {
            let result = Err(why.clone());
            out.push(Action::Reply { token, result });
        }
        self.probe_deadline = NEVER;
    }

    /// Fails all requests, sent or not.
    pub(super) fn fail_all(&mut self, why: &Error, out: &mut Vec<Action>) {
        self.fail_sent(why, out);
        for request in std::mem::take(&mut self.queue) {
            out.push(Action::Reply {
                token: request.token,
                result: Err(why.clone()),
            });
        }
    }
}

impl ReplyKind {
    fn of_request(message: &ClientMessage) -> Option<Self> {
        match message {
            ClientMessage::RequestSchema => Some(Self::Schema),
            ClientMessage::RequestClip { .. } | ClientMessage::RequestRecording => Some(Self::Clip),
            ClientMessage::PublishTrack(_) => Some(Self::Publish),
            ClientMessage::Command { .. } => Some(Self::Command),
            _ => None,
        }
    }

    fn of_reply(message: &ServerMessage) -> Option<Self> {
        match message {
            ServerMessage::Schema(_) => Some(Self::Schema),
            ServerMessage::ClipReady(_) | ServerMessage::ClipFailed { .. } => Some(Self::Clip),
            ServerMessage::PublishGranted => Some(Self::Publish),
            _ => None,
        }
    }
}

/// The error for a request that waited for [`READY_LIMIT`].
pub fn not_ready_error() -> Error {
    let limit = READY_LIMIT.as_secs();
    let text = format!("the session was not ready within {limit} s; nothing was sent");
    Error::gpu(Code::Disconnected, text)
}

/// The error for a request to a session that is closed.
pub fn closed_error() -> Error {
    Error::gpu(Code::Disconnected, "the session is over")
}

/// The error for a request while the session is kept without a connection.
pub fn disconnected_error() -> Error {
    let text = "the session has no connection; reconnect first";
    Error::gpu(Code::Disconnected, text)
}

/// The error for a clip that failed, in the codes of the platform's clients.
fn clip_error(reason: String) -> Error {
    let code = if reason.starts_with("recorder disabled") {
        "RECORDER_DISABLED"
    } else if reason.contains("must be positive") {
        "INVALID_DURATION"
    } else {
        CLIP_FAILED
    };
    Error::gpu(Code::Other(code.into()), reason)
}
