// SPDX-License-Identifier: MIT

//! Short names for the states of a machine and for its actions.

use super::*;

/// A phase, with what decides in it how the next input is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Asking,
    /// Refused: waiting for the next request.
    Retrying,
    /// For a GPU.
    Waiting,
    Preparing(OfferParts),
    Offering,
    /// Between two polls.
    Pausing,
    /// A poll is pending.
    Polling,
    Connecting(ConnectState),
    Ready(ReadyState),
    QueryingSession,
    Suspended,
    Closing(Outstanding),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfferParts {
    pub registered: bool,
    pub planned: bool,
    pub ice: bool,
    pub offer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ConnectState {
    pub verified: bool,
    pub control: bool,
    pub data: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadyState {
    /// The server has sent nothing; the tracks are paused.
    Paused,
    /// It still has not; the tracks were resumed after the limit.
    Silent,
    /// The server speaks v1.
    Resumed,
    /// The server was silent for half the stall limit.
    Probing,
    /// The machine has fallen back to v0.
    Fallback,
    FallbackProbing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outstanding {
    pub transport: bool,
    pub ending_session: bool,
    pub opening_session: bool,
}

pub(super) fn state_of(machine: &Machine) -> State {
    match &machine.phase {
        Phase::Idle => State::Idle,
        Phase::Opening(b) if b.pending => State::Asking,
        Phase::Opening(_) => State::Retrying,
        Phase::Waiting(_) => State::Waiting,
        Phase::Preparing(p) => State::Preparing(OfferParts {
            registered: machine.connection_id.is_some(),
            planned: p.planned,
            ice: p.ice_servers.is_some() || p.creating_offer,
            offer: p.offer.is_some(),
        }),
        Phase::Offering(_) => State::Offering,
        Phase::Polling(_, p) if p.next.is_some() => State::Pausing,
        Phase::Polling(..) => State::Polling,
        Phase::Connecting(c) => State::Connecting(ConnectState {
            verified: c.verified,
            control: c.control,
            data: c.data,
        }),
        Phase::Ready(ready) => State::Ready(ready_state(machine, ready)),
        Phase::QueryingSession { .. } => State::QueryingSession,
        Phase::Suspended(_) => State::Suspended,
        Phase::Closing(c) => State::Closing(Outstanding {
            transport: c.transport,
            ending_session: c.ending_session,
            opening_session: c.opening_session,
        }),
        Phase::Closed => State::Closed,
    }
}

fn ready_state(machine: &Machine, ready: &Ready) -> ReadyState {
    let requests = &machine.requests;
    match (requests.version, requests.version_known, ready.probed) {
        _ if ready.resume_by.is_some() => ReadyState::Paused,
        (WireVersion::V0, _, false) => ReadyState::Fallback,
        (WireVersion::V0, _, true) => ReadyState::FallbackProbing,
        (WireVersion::V1, false, _) => ReadyState::Silent,
        (WireVersion::V1, true, false) => ReadyState::Resumed,
        (WireVersion::V1, true, true) => ReadyState::Probing,
    }
}

/// Every state a machine can be in.
pub(super) fn states() -> Vec<State> {
    let bits = |n: u8| [n & 1 != 0, n & 2 != 0, n & 4 != 0, n & 8 != 0];
    let preparing = (0..16)
        .map(bits)
        .map(|[registered, planned, ice, offer]| OfferParts {
            registered,
            planned,
            ice,
            offer,
        });
    // There is no offer before it is created, and a complete one is posted.
    let preparing = preparing.filter(|p| !p.offer || (p.planned && p.ice && !p.registered));
    let connecting = (0..7)
        .map(bits)
        .map(|[verified, control, data, _]| ConnectState {
            verified,
            control,
            data,
        });
    let closing =
        (1..8).map(bits).map(
            |[transport, ending_session, opening_session, _]| Outstanding {
                transport,
                ending_session,
                opening_session,
            },
        );
    // While a session is being opened there is nothing else to close.
    let closing = closing.filter(|c| !c.opening_session || !(c.transport || c.ending_session));
    let mut all = vec![State::Idle, State::Asking, State::Retrying];
    all.extend(preparing.map(State::Preparing));
    all.extend([State::Offering, State::Pausing, State::Polling]);
    all.extend(connecting.map(State::Connecting));
    all.extend(
        [
            ReadyState::Paused,
            ReadyState::Silent,
            ReadyState::Resumed,
            ReadyState::Probing,
            ReadyState::Fallback,
            ReadyState::FallbackProbing,
        ]
        .map(State::Ready),
    );
    all.extend([State::QueryingSession, State::Suspended]);
    all.extend(closing.map(State::Closing));
    all.push(State::Closed);
    all
}

/// A new machine, brought into a state.
pub(super) fn harness_in(state: State, policy: Policy) -> Harness {
    let harness = match state {
        State::Idle => Harness::new(policy),
        State::Asking => Harness::opening(policy),
        State::Retrying => {
            let mut harness = Harness::opening(policy);
            harness.handle(Input::SessionOpened(Err(busy(429, Some(3000)))));
            harness
        }
        State::Waiting => Harness::queued(Policy {
            queues: true,
            ..policy
        }),
        State::Preparing(pieces) => harness_in_preparing(pieces, policy),
        State::Offering => Harness::new(policy).until_offering(),
        State::Pausing | State::Polling => {
            let mut harness = Harness::new(policy).until_offering();
            harness.handle(Input::OfferPosted(Ok(())));
            if state == State::Polling {
                harness.tick_at_deadline();
            }
            harness
        }
        State::Connecting(links) => harness_in_connecting(links, policy),
        State::Ready(state) => harness_in_ready(state, policy),
        State::QueryingSession => {
            let mut harness = Harness::resumed(policy);
            harness.handle(Input::TransportFailed(broken()));
            harness
        }
        State::Suspended => {
            let mut harness = Harness::resumed(policy);
            harness.handle(Input::Disconnect {
                token: 9,
                recoverable: true,
            });
            harness
        }
        State::Closing(outstanding) => harness_in_closing(outstanding, policy),
        State::Closed => {
            let mut harness = Harness::new(policy);
            harness.handle(Input::Stop);
            harness
        }
    };
    assert_eq!(state_of(&harness.machine), state);
    harness
}

fn harness_in_preparing(pieces: OfferParts, policy: Policy) -> Harness {
    let mut harness = Harness::new(policy).until_preparing();
    if pieces.planned {
        harness.handle(Input::TracksPlanned(Ok(tracks())));
    }
    if pieces.ice {
        harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    }
    if pieces.registered {
        harness.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
    }
    if pieces.offer {
        harness.handle(Input::OfferCreated(Ok(local_offer())));
    }
    harness
}

fn harness_in_connecting(links: ConnectState, policy: Policy) -> Harness {
    let mut harness = Harness::new(policy).until_connecting();
    if links.control {
        harness.handle(Input::ChannelOpened(Channel::Control));
    }
    if links.data {
        harness.handle(Input::ChannelOpened(Channel::Data));
    }
    if links.verified {
        harness.handle(Input::PeerConnected);
        harness.handle(Input::PeerVerified(Ok(())));
    }
    harness
}

fn harness_in_ready(state: ReadyState, policy: Policy) -> Harness {
    let (resumed, wait) = match state {
        ReadyState::Paused => (false, 0),
        ReadyState::Silent => (false, 500),
        ReadyState::Resumed => (true, 0),
        ReadyState::Probing => (true, 2500),
        ReadyState::Fallback => (false, 2000),
        ReadyState::FallbackProbing => (false, 2500),
    };
    let mut harness = if resumed {
        Harness::resumed(policy)
    } else {
        // The encoding is not known yet.
        Harness::new(policy).without_chunking().until_ready()
    };
    harness.run(wait);
    harness
}

fn harness_in_closing(outstanding: Outstanding, policy: Policy) -> Harness {
    let mut harness = match outstanding {
        Outstanding {
            opening_session: true,
            ..
        } => Harness::opening(policy),
        Outstanding {
            transport: false, ..
        } => Harness::new(policy).until_preparing(),
        Outstanding {
            ending_session: true,
            ..
        } => Harness::resumed(policy),
        _ => Harness::new(policy)
            .ownership(Ownership::Joined)
            .until_resumed(),
    };
    harness.handle(Input::Stop);
    harness
}

/// Without what is noted for other sessions.
pub(super) fn labels(actions: &[Action]) -> String {
    let noted = |action: &&Action| !matches!(action, Action::RememberLinkCapacity(_));
    let labels: Vec<_> = actions.iter().filter(noted).map(label).collect();
    labels.join(" ")
}

/// The short name of an action.
fn label(action: &Action) -> &'static str {
    match action {
        Action::OpenSession => "begin",
        Action::FetchIceServers => "ice",
        Action::RegisterConnection => "register",
        Action::AnnounceTracks(_) => "announce",
        Action::CreateOffer { .. } => "build",
        Action::PostOffer { .. } => "offer",
        Action::PostCandidates { is_end: false, .. } => "candidates",
        Action::PostCandidates { is_end: true, .. } => "candidates-end",
        Action::PollAnswer { .. } => "poll",
        Action::ApplyAnswer(_) => "apply",
        Action::VerifyPeer(_) => "verify",
        Action::OpenMedia => "open",
        Action::SendFrames(..) => "send",
        Action::DescribeSession => "describe",
        Action::EndSession => "end",
        Action::CloseTransport => "close",
        Action::SetMaxReceiveBitrate(_) => "bound",
        Action::RememberLinkCapacity(_) => "capacity",
        Action::Reply { .. } => "reply",
        Action::Emit(event) => event_label(event),
    }
}

fn event_label(event: &MachineEvent) -> &'static str {
    match event {
        MachineEvent::Status(Status::Disconnected) => "disconnected",
        MachineEvent::Status(Status::Connecting) => "connecting",
        MachineEvent::Status(Status::Waiting) => "waiting",
        MachineEvent::Status(Status::Ready) => "ready",
        MachineEvent::SessionId(Some(_)) => "id",
        MachineEvent::SessionId(None) => "no-id",
        MachineEvent::Joined => "joined",
        MachineEvent::Described(_) => "described",
        MachineEvent::SessionExpiration(_) => "expiration",
        MachineEvent::Tracks(_) => "tracks",
        MachineEvent::Progress(Progress::Start(_)) => "start",
        MachineEvent::Progress(Progress::Continue(_)) => "continue",
        MachineEvent::Progress(Progress::Complete(_)) => "complete",
        MachineEvent::Progress(Progress::Error(_)) => "error",
        MachineEvent::Progress(Progress::Canceled(_)) => "canceled",
        MachineEvent::Message { .. } => "message",
        MachineEvent::RuntimeMessage { .. } => "runtime",
        MachineEvent::Warning(_) => "warning",
        MachineEvent::Interrupted(_) => "interrupted",
        MachineEvent::Lost(_) => "lost",
        MachineEvent::Resumed { .. } => "resumed",
        MachineEvent::Ended { .. } => "ended",
        MachineEvent::Failed(_) => "failed",
        MachineEvent::Closed => "closed",
    }
}
