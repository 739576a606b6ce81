// SPDX-License-Identifier: MIT

//! What goes into the state machine and what comes out of it.

use std::time::Duration;

use crate::platform::{
    Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp::{Fingerprint, NegotiatedAnswer},
    signaling::{IceServer, SdpAnswer, TrackMapping},
    track::Track,
    wire::{Channel, ClientMessage, ServerMessage, WireFrame, WireVersion},
};

/// Where a session stands, as the platform's own clients name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Disconnected,
    /// The session is being asked for.
    Connecting,
    /// The session exists (or is queued) and is not connected yet.
    Waiting,
    /// Media, commands and messages flow.
    Ready,
}

/// Which encoding of the data-channel messages to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WireChoice {
    /// v1 first; v0 when the server turns out to know nothing else.
    #[default]
    Auto,
    Only(WireVersion),
}

/// What the user's properties say about a session.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long to wait for the server to have room; `None` waits forever.
    pub waiting_limit: Option<Duration>,
    /// Windows of the platform's answer-polling schedule before giving up.
    pub sdp_attempts: u32,
    /// Silence after which the connection counts as lost; `None` never.
    pub stall_limit: Option<Duration>,
    /// How long closing may take.
    pub close_limit: Duration,
    pub wire: WireChoice,
    /// A session somebody else created; it is never ended from here.
    pub adopt: Option<String>,
    /// A connection id to offer on instead of registering one.
    pub connection_id: Option<u32>,
    /// Leave the session alive on the server when stopping.
    pub recoverable: bool,
    /// Resume the session on a new connection when the old one is lost.
    pub reconnect: bool,
    /// Start another session when that fails.
    pub restart: bool,
    /// For the jitter of repeated attempts.
    pub seed: u64,
    /// The server gives out GPUs: a session may have to wait for one.
    pub queues: bool,
    /// Whether the server's list of ICE servers is wanted at all.
    pub ice_servers: bool,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The user wants the session.
    Start,
    /// The user is done with it.
    Stop,
    /// The user wants a new connection, or the one back that was given up.
    Reconnect,
    /// The user wants no connection for now, or no session any more.
    Disconnect {
        recoverable: bool,
    },
    /// Time has come to look at the deadlines.
    Tick,
    /// The reply to [`Action::Begin`].
    Begun(Result<(SessionDescriptor, Ownership), Error>),
    /// The reply to [`Action::FetchIceServers`].
    IceServers(Result<Vec<IceServer>, Error>),
    /// The reply to [`Action::Register`].
    Registered(Result<u32, Error>),
    /// The elements said which tracks they receive: the reply to
    /// [`Action::Announce`].
    Planned(Result<Vec<PlannedTrack>, Error>),
    /// The local description: the reply to [`Action::Build`].
    OfferBuilt(Result<String, Error>),
    /// The reply to [`Action::PostOffer`].
    OfferPosted(Result<(), Error>),
    /// The reply to [`Action::PollAnswer`]: one poll.
    AnswerPolled(Result<Option<SdpAnswer>, Error>),
    /// ICE and DTLS are up.
    PeerConnected,
    /// The reply to [`Action::VerifyIdentity`].
    Verified(Result<(), Error>),
    ChannelOpen(Channel),
    /// A data-channel message as it came.
    Frame(Channel, WireFrame),
    /// Media or control traffic was last heard at this time.
    LastReceived(Duration),
    /// The peer connection broke: ICE failed, the SCTP association died, a
    /// media element failed.
    TransportFailed(Error),
    /// An element wants a track to flow, or to rest.
    Want {
        track: String,
        flowing: bool,
    },
    /// Something for the model, with the number under which to reply.
    Request {
        token: u64,
        message: ClientMessage,
    },
    /// The reply to [`Action::Describe`].
    Described(Result<SessionDescriptor, Error>),
    /// The reply to [`Action::EndSession`].
    SessionEnded(Result<(), Error>),
    /// The reply to [`Action::CloseTransport`].
    TransportClosed,
}

/// A track to receive.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTrack {
    pub track: Track,
    /// Whether to ask the model to send it right away.
    pub flowing: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create, join or adopt the session.
    Begin,
    FetchIceServers,
    Register,
    /// Tell the elements which tracks the model has.
    Announce(Vec<Track>),
    /// Make the peer connection and its offer.
    Build {
        ice_servers: Vec<IceServer>,
    },
    PostOffer {
        connection_id: u32,
        sdp: String,
        mapping: Vec<TrackMapping>,
        /// The connection had an offer before.
        resume: bool,
    },
    PollAnswer {
        connection_id: u32,
    },
    ApplyAnswer(NegotiatedAnswer),
    /// Compare the peer's certificate with what the answer announced.
    VerifyIdentity(Fingerprint),
    /// The peer is who it should be: let its media pass.
    OpenMedia,
    Send(Channel, Vec<WireFrame>),
    /// Ask the server what became of the session.
    Describe,
    EndSession,
    CloseTransport,
    /// The answer to a [`Input::Request`].
    Reply {
        token: u64,
        result: Result<ServerMessage, Error>,
    },
    Emit(MachineEvent),
}

/// One thing to tell the elements.
#[derive(Debug, Clone, PartialEq)]
pub enum MachineEvent {
    Status(Status),
    /// The session's id, or none once it is over.
    SessionId(Option<String>),
    /// The server's description of the session.
    Described(SessionDescriptor),
    /// For people who watch: what is being done.
    Progress(Progress),
    /// A message of the model's, as JSON.
    Message {
        name: String,
        data: serde_json::Value,
    },
    /// A message of the platform's, as JSON.
    RuntimeMessage {
        name: &'static str,
        data: serde_json::Value,
    },
    /// Something failed that the session survives.
    Warning(Error),
    /// Nothing flows for now: the connection was lost (why), or given up by
    /// the user.
    Interrupted(Option<Error>),
    /// It flows again.
    Resumed {
        outage: Duration,
        /// It is another session.
        restarted: bool,
    },
    /// The session ended in order.
    Ended {
        reason: Option<String>,
    },
    /// The session is lost.
    Failed(Error),
    /// Everything is closed; nothing follows.
    Closed,
}

/// A step of the connection, for GST_MESSAGE_PROGRESS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Start(&'static str),
    Continue(String),
    Complete(&'static str),
    Error(String),
    Canceled(&'static str),
}
