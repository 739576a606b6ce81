// SPDX-License-Identifier: MIT

//! Names for where a machine stands and for what comes out of it.

use super::*;

/// A phase with what in it decides how the next input is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Asking,
    /// Put off: waiting to ask again.
    Retrying,
    /// For a GPU.
    Waiting,
    Preparing(Pieces),
    Offering,
    /// Between two polls.
    Pausing,
    /// A poll is under way.
    Polling,
    Connecting(Links),
    Ready(Mood),
    QueryingSession,
    Suspended,
    Closing(Outstanding),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pieces {
    pub registered: bool,
    pub planned: bool,
    pub ice: bool,
    pub offer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Links {
    pub verified: bool,
    pub control: bool,
    pub data: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// The server has said nothing, the tracks rest.
    Resting,
    /// It still has not; the tracks were resumed nevertheless.
    Silent,
    /// It speaks v1.
    Flowing,
    /// It was silent for half the limit.
    Probing,
    /// It is spoken to in v0.
    Fallback,
    FallbackProbing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outstanding {
    pub transport: bool,
    pub ending_session: bool,
    pub opening_session: bool,
}

pub(super) fn observe(machine: &Machine) -> State {
    match &machine.phase {
        Phase::Idle => State::Idle,
        Phase::Opening(b) if b.pending => State::Asking,
        Phase::Opening(_) => State::Retrying,
        Phase::Waiting(_) => State::Waiting,
        Phase::Preparing(p) => State::Preparing(Pieces {
            registered: machine.connection_id.is_some(),
            planned: p.planned,
            ice: p.ice_servers.is_some() || p.creating_offer,
            offer: p.offer.is_some(),
        }),
        Phase::Offering(_) => State::Offering,
        Phase::Polling(_, p) if p.next.is_some() => State::Pausing,
        Phase::Polling(..) => State::Polling,
        Phase::Connecting(c) => State::Connecting(Links {
            verified: c.verified,
            control: c.control,
            data: c.data,
        }),
        Phase::Ready(live) => State::Ready(mood(machine, live)),
        Phase::QueryingSession(_) => State::QueryingSession,
        Phase::Suspended => State::Suspended,
        Phase::Closing(c) => State::Closing(Outstanding {
            transport: c.transport,
            ending_session: c.ending_session,
            opening_session: c.opening_session,
        }),
        Phase::Closed => State::Closed,
    }
}

fn mood(machine: &Machine, live: &Ready) -> Mood {
    let requests = &machine.requests;
    match (requests.version, requests.version_known, live.probed) {
        _ if live.resume_by.is_some() => Mood::Resting,
        (WireVersion::V0, _, false) => Mood::Fallback,
        (WireVersion::V0, _, true) => Mood::FallbackProbing,
        (WireVersion::V1, false, _) => Mood::Silent,
        (WireVersion::V1, true, false) => Mood::Flowing,
        (WireVersion::V1, true, true) => Mood::Probing,
    }
}

/// Every state a machine can be in.
pub(super) fn states() -> Vec<State> {
    let bits = |n: u8| [n & 1 != 0, n & 2 != 0, n & 4 != 0, n & 8 != 0];
    let preparing = (0..16)
        .map(bits)
        .map(|[registered, planned, ice, offer]| Pieces {
            registered,
            planned,
            ice,
            offer,
        });
    // There is no offer before it is built, and none waits for nothing.
    let preparing = preparing.filter(|p| !p.offer || (p.planned && p.ice && !p.registered));
    let connecting = (0..7).map(bits).map(|[verified, control, data, _]| Links {
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
    // While the session is still asked for there is nothing else to close.
    let closing = closing.filter(|c| !c.opening_session || !(c.transport || c.ending_session));
    let mut all = vec![State::Idle, State::Asking, State::Retrying];
    all.extend(preparing.map(State::Preparing));
    all.extend([State::Offering, State::Pausing, State::Polling]);
    all.extend(connecting.map(State::Connecting));
    all.extend(
        [
            Mood::Resting,
            Mood::Silent,
            Mood::Flowing,
            Mood::Probing,
            Mood::Fallback,
            Mood::FallbackProbing,
        ]
        .map(State::Ready),
    );
    all.extend([State::QueryingSession, State::Suspended]);
    all.extend(closing.map(State::Closing));
    all.push(State::Closed);
    all
}

/// Brings a fresh machine there.
pub(super) fn reach(state: State, policy: Policy) -> Rig {
    let rig = match state {
        State::Idle => Rig::new(policy),
        State::Asking => Rig::asked(policy),
        State::Retrying => {
            let mut rig = Rig::asked(policy);
            rig.give(Input::SessionOpened(Err(busy(429, Some(3000)))));
            rig
        }
        State::Waiting => Rig::queued(Policy {
            queues: true,
            ..policy
        }),
        State::Preparing(pieces) => reach_preparing(pieces, policy),
        State::Offering => Rig::new(policy).until_offering(),
        State::Pausing | State::Polling => {
            let mut rig = Rig::new(policy).until_offering();
            rig.give(Input::OfferPosted(Ok(())));
            if state == State::Polling {
                rig.tick_at_deadline();
            }
            rig
        }
        State::Connecting(links) => reach_connecting(links, policy),
        State::Ready(mood) => reach_live(mood, policy),
        State::QueryingSession => {
            let mut rig = Rig::flowing(policy);
            rig.give(Input::TransportFailed(broken()));
            rig
        }
        State::Suspended => {
            let mut rig = Rig::flowing(policy);
            rig.give(Input::Disconnect { recoverable: true });
            rig
        }
        State::Closing(outstanding) => reach_closing(outstanding, policy),
        State::Closed => {
            let mut rig = Rig::new(policy);
            rig.give(Input::Stop);
            rig
        }
    };
    assert_eq!(observe(&rig.machine), state);
    rig
}

fn reach_preparing(pieces: Pieces, policy: Policy) -> Rig {
    let mut rig = Rig::new(policy).until_preparing();
    if pieces.planned {
        rig.give(Input::TracksPlanned(Ok(plans())));
    }
    if pieces.ice {
        rig.give(Input::IceServersFetched(Ok(ice_servers())));
    }
    if pieces.registered {
        rig.give(Input::ConnectionRegistered(Ok(CONNECTION)));
    }
    if pieces.offer {
        rig.give(Input::OfferCreated(Ok(local_offer())));
    }
    rig
}

fn reach_connecting(links: Links, policy: Policy) -> Rig {
    let mut rig = Rig::new(policy).until_connecting();
    if links.control {
        rig.give(Input::ChannelOpened(Channel::Control));
    }
    if links.data {
        rig.give(Input::ChannelOpened(Channel::Data));
    }
    if links.verified {
        rig.give(Input::PeerConnected);
        rig.give(Input::PeerVerified(Ok(())));
    }
    rig
}

fn reach_live(mood: Mood, policy: Policy) -> Rig {
    let (flowing, wait) = match mood {
        Mood::Resting => (false, 0),
        Mood::Silent => (false, 500),
        Mood::Flowing => (true, 0),
        Mood::Probing => (true, 2500),
        Mood::Fallback => (false, 2000),
        Mood::FallbackProbing => (false, 2500),
    };
    let mut rig = if flowing {
        Rig::flowing(policy)
    } else {
        Rig::live(policy)
    };
    rig.run(wait);
    rig
}

fn reach_closing(outstanding: Outstanding, policy: Policy) -> Rig {
    let mut rig = match outstanding {
        Outstanding {
            opening_session: true,
            ..
        } => Rig::asked(policy),
        Outstanding {
            transport: false, ..
        } => Rig::new(policy).until_preparing(),
        Outstanding {
            ending_session: true,
            ..
        } => Rig::flowing(policy),
        _ => Rig::new(policy)
            .ownership(Ownership::Joined)
            .until_flowing(),
    };
    rig.give(Input::Stop);
    rig
}

pub(super) fn labels(actions: &[Action]) -> String {
    let labels: Vec<_> = actions.iter().map(label).collect();
    labels.join(" ")
}

/// A short name for a kind of action.
fn label(action: &Action) -> &'static str {
    match action {
        Action::OpenSession => "begin",
        Action::FetchIceServers => "ice",
        Action::RegisterConnection => "register",
        Action::AnnounceTracks(_) => "announce",
        Action::CreateOffer { .. } => "build",
        Action::PostOffer { .. } => "offer",
        Action::PollAnswer { .. } => "poll",
        Action::ApplyAnswer(_) => "apply",
        Action::VerifyPeer(_) => "verify",
        Action::OpenMedia => "open",
        Action::SendFrames(..) => "send",
        Action::DescribeSession => "describe",
        Action::EndSession => "end",
        Action::CloseTransport => "close",
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
        MachineEvent::Described(_) => "described",
        MachineEvent::Progress(Progress::Start(_)) => "start",
        MachineEvent::Progress(Progress::Continue(_)) => "continue",
        MachineEvent::Progress(Progress::Complete(_)) => "complete",
        MachineEvent::Progress(Progress::Error(_)) => "error",
        MachineEvent::Progress(Progress::Canceled(_)) => "canceled",
        MachineEvent::Message { .. } => "message",
        MachineEvent::RuntimeMessage { .. } => "runtime",
        MachineEvent::Warning(_) => "warning",
        MachineEvent::Interrupted(_) => "interrupted",
        MachineEvent::Resumed { .. } => "resumed",
        MachineEvent::Ended { .. } => "ended",
        MachineEvent::Failed(_) => "failed",
        MachineEvent::Closed => "closed",
    }
}
