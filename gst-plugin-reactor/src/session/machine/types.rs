// SPDX-License-Identifier: MIT

//! The inputs of the state machine and its actions, with the types that they carry.

use std::time::Duration;

use crate::{
    platform::{
        Error,
        coordinator::{Ownership, SessionDescriptor},
        sdp::{Fingerprint, NegotiatedAnswer},
        signaling::{IceCandidate, IceServer, SdpAnswer, TrackMapping},
        track::Track,
        wire::{Channel, ClientMessage, ServerMessage, WireFrame, WireVersion},
    },
    session::track_state::TrackState,
};

/// The status of a session, in the words of the platform's own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Disconnected,
    /// The session is being opened.
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

/// The user's properties, as far as they decide what the machine does.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long to wait for a GPU; `None` for no limit.
    pub waiting_limit: Option<Duration>,
    /// After this number of polls on the platform's schedule the answer counts as
    /// missing.
    pub sdp_attempts: u32,
    /// The connection counts as lost when nothing was received for this time;
    /// `None` for never.
    pub stall_limit: Option<Duration>,
    /// How long closing may take.
    pub close_limit: Duration,
    pub wire: WireChoice,
    /// The id of a session that another client created; it is never ended from
    /// here.
    pub adopt: Option<String>,
    /// The number of a connection to make the offer on instead of registering one.
    pub connection_id: Option<u32>,
    /// Leave the session alive on the server when stopping.
    pub recoverable: bool,
    /// Resume the session on a new connection when the old one is lost.
    pub reconnect: bool,
    /// Open another session when that fails.
    pub restart: bool,
    /// End the session after this time.
    pub max_session_duration: Option<Duration>,
    /// There are arguments for the session that is created.
    pub has_arguments: bool,
    /// The model that a local runtime is expected to serve.
    pub model_of_runtime: Option<String>,
    /// For the jitter of the backoff.
    pub seed: u64,
    /// The server gives out GPUs: a session may have to wait for one.
    pub queues: bool,
    /// Fetch the server's list of ICE servers.
    pub ice_servers: bool,
    /// The bound on received video of all tracks together, in bits per second.
    pub max_receive_bitrate: Option<u32>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The user starts the session.
    Start,
    /// The user stops it.
    Stop,
    /// The user wants a new connection, also after [`Input::Disconnect`]. The
    /// reply comes once there is one.
    Reconnect {
        token: u64,
    },
    /// The user takes the connection down and keeps the session, if
    /// `recoverable`, or ends the session. The reply comes once that is done.
    Disconnect {
        token: u64,
        recoverable: bool,
    },
    /// [`Machine::deadline`](super::Machine::deadline) has passed.
    Tick,
    /// The reply to [`Action::OpenSession`].
    SessionOpened(Result<(SessionDescriptor, Ownership), Error>),
    /// The reply to [`Action::FetchIceServers`].
    IceServersFetched(Result<Vec<IceServer>, Error>),
    /// The reply to [`Action::RegisterConnection`].
    ConnectionRegistered(Result<u32, Error>),
    /// The tracks of the offer: the reply to [`Action::AnnounceTracks`].
    TracksPlanned(Result<Vec<Track>, Error>),
    /// The local description, with the ICE candidates so far: the reply to
    /// [`Action::CreateOffer`].
    OfferCreated(Result<String, Error>),
    /// The reply to [`Action::PostOffer`].
    OfferPosted(Result<(), Error>),
    /// An ICE candidate of ours, as in `candidate:1 1 UDP ...`, for the m-line with
    /// this index.
    CandidateFound {
        mline: u32,
        candidate: String,
    },
    /// All ICE candidates are found.
    CandidatesGathered,
    /// The reply to [`Action::PostCandidates`].
    CandidatesPosted(Result<(), Error>),
    /// The reply to [`Action::PollAnswer`]; `None` if there is no answer yet.
    AnswerPolled(Result<Option<SdpAnswer>, Error>),
    /// ICE and DTLS are connected.
    PeerConnected,
    /// The reply to [`Action::VerifyPeer`].
    PeerVerified(Result<(), Error>),
    ChannelOpened(Channel),
    /// A message of a data channel, not decoded.
    FrameReceived(Channel, WireFrame),
    /// When media of each track was last received, of those that have any.
    LastReceived(Vec<(String, Duration)>),
    /// Anything arrived last from the server's peer at this time.
    LastArrival(Duration),
    /// The peer connection broke: ICE failed, a media element failed.
    TransportFailed(Error),
    /// The server took the peer connection down.
    ConnectionClosed(Error),
    /// An element needs a track, or does not.
    SetTrackPaused {
        track: String,
        paused: bool,
    },
    /// The user pauses a track, however much it is needed, or resumes it.
    PauseTrack {
        token: u64,
        track: String,
        paused: bool,
    },
    /// The user bounds received video of all tracks together, in bits per
    /// second, or lifts the bound.
    SetMaxReceiveBitrate(Option<u32>),
    /// The state of the link that media is received through.
    LinkObserved(LinkState),
    /// A message to the server, with the token for its reply.
    Request {
        token: u64,
        message: ClientMessage,
        /// The reply is for the caller alone: what is said of a clip is not
        /// emitted.
        private: bool,
    },
    /// The reply to [`Action::DescribeSession`].
    SessionDescribed(Result<SessionDescriptor, Error>),
    /// The reply to [`Action::EndSession`].
    SessionEnded(Result<(), Error>),
    /// The reply to [`Action::CloseTransport`].
    TransportClosed,
}

/// What the packets that arrive tell of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// What arrives, with the headers of UDP and IP, in bits per second.
    pub received: u32,
    /// Every packet waited in a queue in front of the link, and the link carries
    /// no more than what arrives.
    pub queued: bool,
    /// What the link carries, in bits per second, if frames of several packets
    /// showed that lately: a hint, since the first packets of a frame may be
    /// quicker than others.
    pub capacity: Option<u32>,
    /// What the link carries, as a message of many packets shows that arrives
    /// now.
    pub measured: Option<u32>,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create, join or adopt the session.
    OpenSession,
    FetchIceServers,
    RegisterConnection,
    /// Tell the elements which tracks the model has.
    AnnounceTracks(Vec<Track>),
    /// Make a peer connection and its offer.
    CreateOffer {
        ice_servers: Vec<IceServer>,
    },
    PostOffer {
        connection_id: u32,
        sdp: String,
        mapping: Vec<TrackMapping>,
        /// The connection had an offer before.
        resume: bool,
    },
    PostCandidates {
        connection_id: u32,
        candidates: Vec<IceCandidate>,
        /// There are no more.
        is_end: bool,
    },
    PollAnswer {
        connection_id: u32,
    },
    ApplyAnswer(NegotiatedAnswer),
    /// Compare the peer's DTLS certificate with the fingerprint of the answer.
    VerifyPeer(Fingerprint),
    /// The peer is verified: let its media pass.
    OpenMedia,
    SendFrames(Channel, Vec<WireFrame>),
    /// Bound what the server sends, by messages on the connection; `None` lifts
    /// the bound.
    SetMaxReceiveBitrate(Option<u32>),
    /// The link carries this, in bits per second; `None` if it is not as wide as it was.
    RememberLinkCapacity(Option<u32>),
    /// Ask the server for the session's state.
    DescribeSession,
    EndSession,
    CloseTransport,
    /// The reply to an input with this token.
    Reply {
        token: u64,
        result: Result<ServerMessage, Error>,
    },
    Emit(MachineEvent),
}

/// What is reported to the elements.
#[derive(Debug, Clone, PartialEq)]
pub enum MachineEvent {
    Status(Status),
    /// The session's id, or none once it is over.
    SessionId(Option<String>),
    /// The session was created by another client.
    Joined,
    /// The server's description of the session.
    Described(SessionDescriptor),
    /// When the session will end, in seconds since 1970, as far as that is known.
    /// From the driver, which knows the calendar.
    SessionExpiration(Option<f64>),
    /// The state of the model's tracks; none while there is no session. From the
    /// driver.
    Tracks(Vec<TrackState>),
    /// For people who watch, see GST_MESSAGE_PROGRESS.
    Progress(Progress),
    /// A message from the model, as JSON.
    Message {
        name: String,
        data: serde_json::Value,
    },
    /// A message from the platform, as JSON.
    RuntimeMessage {
        name: &'static str,
        data: serde_json::Value,
    },
    /// A failure that does not end the session.
    Warning(Error),
    /// No media or message passes for now: the connection was lost, for this
    /// reason, or taken down by the user (`None`).
    Interrupted(Option<Error>),
    /// The connection was lost and no other is made by itself. The session is
    /// kept for the user's [`Input::Reconnect`], as long as the server keeps it.
    Lost(Error),
    /// Media and messages pass again.
    Resumed {
        outage: Duration,
        /// It is another session.
        restarted: bool,
    },
    /// The session was ended by the server or the user, not by a failure.
    Ended {
        reason: Option<String>,
        /// The user asked for it.
        requested: bool,
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

/// A deadline that never comes.
pub(super) const NEVER: Duration = Duration::MAX;
