// SPDX-License-Identifier: MIT

//! Every state with every input: the resulting actions and the next state.

use super::{
    state::{
        ConnectState, OfferParts, Outstanding, ReadyState, State, harness_in, state_of, states,
    },
    trickle::candidate,
    *,
};

/// Declares an enum along with the list of its values.
macro_rules! listed {
    ($name:ident, $list:ident: $($value:ident)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $name { $($value),* }
        const $list: &[$name] = &[$($name::$value),*];
    };
}

// The variants of `Input`; `variant` fails to compile if one is missing.
listed! { Variant, VARIANTS:
    Start Stop Reconnect Disconnect Tick SessionOpened IceServersFetched ConnectionRegistered
    TracksPlanned OfferCreated OfferPosted CandidateFound CandidatesGathered CandidatesPosted AnswerPolled PeerConnected PeerVerified ChannelOpened
    FrameReceived LastReceived TransportFailed ConnectionClosed SetTrackPaused PauseTrack Request SessionDescribed
    SessionEnded TransportClosed SetMaxReceiveBitrate LinkObserved
    LastArrival
}

listed! { Sample, SAMPLES:
    Start Stop Reconnect Suspend Disconnect TickEarly TickDue
    OpenedOk OpenedBusy OpenedErr IceServersOk IceServersErr RegisteredOk RegisteredErr PlannedOk PlannedErr
    OfferCreatedOk OfferCreatedErr PostedOk PostedErr CandidateFound CandidatesGathered CandidatesPostedOk CandidatesPostedErr PolledNone PolledAnswer PolledBad PolledErr
    PeerConnected VerifiedOk VerifiedErr OpenControl OpenData
    FrameModel FrameEnded FrameGarbage LastReceived TransportFailed ConnectionClosed ResumeTrack PauseTrack Request
    DescribedRunning DescribedOver DescribedGone DescribedErr EndedOk EndedErr TransportClosed Bound
    Queue LastArrival
}

fn variant(input: &Input) -> Variant {
    match input {
        Input::Start => Variant::Start,
        Input::Stop => Variant::Stop,
        Input::Reconnect { .. } => Variant::Reconnect,
        Input::Disconnect { .. } => Variant::Disconnect,
        Input::Tick => Variant::Tick,
        Input::SessionOpened(_) => Variant::SessionOpened,
        Input::IceServersFetched(_) => Variant::IceServersFetched,
        Input::ConnectionRegistered(_) => Variant::ConnectionRegistered,
        Input::TracksPlanned(_) => Variant::TracksPlanned,
        Input::OfferCreated(_) => Variant::OfferCreated,
        Input::OfferPosted(_) => Variant::OfferPosted,
        Input::CandidateFound { .. } => Variant::CandidateFound,
        Input::CandidatesGathered => Variant::CandidatesGathered,
        Input::CandidatesPosted(_) => Variant::CandidatesPosted,
        Input::AnswerPolled(_) => Variant::AnswerPolled,
        Input::PeerConnected => Variant::PeerConnected,
        Input::PeerVerified(_) => Variant::PeerVerified,
        Input::ChannelOpened(_) => Variant::ChannelOpened,
        Input::FrameReceived(..) => Variant::FrameReceived,
        Input::LastReceived(_) => Variant::LastReceived,
        Input::TransportFailed(_) => Variant::TransportFailed,
        Input::ConnectionClosed(_) => Variant::ConnectionClosed,
        Input::SetTrackPaused { .. } => Variant::SetTrackPaused,
        Input::PauseTrack { .. } => Variant::PauseTrack,
        Input::Request { .. } => Variant::Request,
        Input::SessionDescribed(_) => Variant::SessionDescribed,
        Input::SessionEnded(_) => Variant::SessionEnded,
        Input::TransportClosed => Variant::TransportClosed,
        Input::SetMaxReceiveBitrate(_) => Variant::SetMaxReceiveBitrate,
        Input::LinkObserved(_) => Variant::LinkObserved,
        Input::LastArrival(_) => Variant::LastArrival,
    }
}

fn input(sample: Sample, harness: &Harness) -> Input {
    let live = |state| Ok(descriptor(state, "3.10.0"));
    let gone = Error::api(Code::NotFound, "no such session").with_status(404);
    let frame = |channel, frame| {
        let mut frames = harness.framing.split(frame).unwrap();
        Input::FrameReceived(channel, frames.remove(0))
    };
    match sample {
        Sample::Start => Input::Start,
        Sample::Stop => Input::Stop,
        Sample::Reconnect => Input::Reconnect { token: 8 },
        Sample::Suspend => Input::Disconnect {
            token: 9,
            recoverable: true,
        },
        Sample::Disconnect => Input::Disconnect {
            token: 9,
            recoverable: false,
        },
        Sample::TickEarly | Sample::TickDue => Input::Tick,
        Sample::OpenedOk => Input::SessionOpened(live("waiting").map(|d| (d, Ownership::Created))),
        Sample::OpenedBusy => Input::SessionOpened(Err(busy(429, Some(3000)))),
        Sample::OpenedErr => Input::SessionOpened(Err(network())),
        Sample::IceServersOk => Input::IceServersFetched(Ok(ice_servers())),
        Sample::IceServersErr => Input::IceServersFetched(Err(network())),
        Sample::RegisteredOk => Input::ConnectionRegistered(Ok(CONNECTION)),
        Sample::RegisteredErr => Input::ConnectionRegistered(Err(network())),
        Sample::PlannedOk => Input::TracksPlanned(Ok(tracks())),
        Sample::PlannedErr => Input::TracksPlanned(Err(broken())),
        Sample::OfferCreatedOk => Input::OfferCreated(Ok(local_offer())),
        Sample::OfferCreatedErr => Input::OfferCreated(Err(broken())),
        Sample::PostedOk => Input::OfferPosted(Ok(())),
        Sample::PostedErr => Input::OfferPosted(Err(network())),
        Sample::CandidateFound => candidate(1),
        Sample::CandidatesGathered => Input::CandidatesGathered,
        Sample::CandidatesPostedOk => Input::CandidatesPosted(Ok(())),
        Sample::CandidatesPostedErr => Input::CandidatesPosted(Err(network())),
        Sample::PolledNone => Input::AnswerPolled(Ok(None)),
        Sample::PolledAnswer => answer(ANSWER),
        Sample::PolledBad => answer(ANSWER_H264),
        Sample::PolledErr => Input::AnswerPolled(Err(network())),
        Sample::PeerConnected => Input::PeerConnected,
        Sample::VerifiedOk => Input::PeerVerified(Ok(())),
        Sample::VerifiedErr => Input::PeerVerified(Err(broken())),
        Sample::OpenControl => Input::ChannelOpened(Channel::Control),
        Sample::OpenData => Input::ChannelOpened(Channel::Data),
        Sample::FrameModel => frame(Channel::Data, server::model("", "pong", 1.0)),
        Sample::FrameEnded => frame(Channel::Control, server::session_ended("bye")),
        Sample::FrameGarbage => frame(Channel::Control, server::garbage()),
        Sample::LastReceived => media("main_video", harness.now),
        Sample::TransportFailed => Input::TransportFailed(broken()),
        Sample::ConnectionClosed => Input::ConnectionClosed(broken()),
        Sample::ResumeTrack => set_paused("main_audio", false),
        Sample::PauseTrack => Input::PauseTrack {
            token: 7,
            track: "main_video".into(),
            paused: true,
        },
        Sample::Request => request(1, command("go")),
        Sample::DescribedRunning => Input::SessionDescribed(live("streaming")),
        Sample::DescribedOver => Input::SessionDescribed(live("closing")),
        Sample::DescribedGone => Input::SessionDescribed(Err(gone)),
        Sample::DescribedErr => Input::SessionDescribed(Err(network())),
        Sample::EndedOk => Input::SessionEnded(Ok(())),
        Sample::EndedErr => Input::SessionEnded(Err(network())),
        Sample::TransportClosed => Input::TransportClosed,
        Sample::Bound => Input::SetMaxReceiveBitrate(Some(600_000)),
        Sample::LastArrival => Input::LastArrival(harness.now),
        Sample::Queue => Input::LinkObserved(LinkState {
            received: 400_000,
            queued: true,
            capacity: None,
            measured: None,
        }),
    }
}

/// The next state and the resulting actions; `None` for what cannot
/// happen.
type Outcome = Option<(State, String)>;
type Rule = fn(State) -> Outcome;

const COLUMNS: usize = 11;

fn column(state: State) -> usize {
    match state {
        State::Idle => 0,
        State::Asking | State::Retrying => 1,
        State::Preparing(_) => 2,
        State::Offering => 3,
        State::Pausing | State::Polling => 4,
        State::Connecting(_) => 5,
        State::Ready(_) => 6,
        State::QueryingSession => 7,
        State::Waiting => unreachable!("only where sessions queue, see waiting.rs"),
        State::Suspended => 8,
        State::Closing(_) => 9,
        State::Closed => 10,
    }
}

/// An array per row: neither a phase nor a sample can be left out.
#[rustfmt::skip]
const TABLE: [(Sample, [Rule; COLUMNS]); SAMPLES.len()] = {
    use Sample::*;
    [
    //                 Idle   Open.  Prepar. Offer. Poll.  Connec. Ready  Query  Susp.  Closing Closed
    (Start,           [begin, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (Stop,            [idle_stopped, cancel, cancel, cancel, cancel, cancel, close, close, close, ____, ____]),
    (Reconnect,       [replied, replied, replied, replied, replied, replied, reconnected, queried_again, resumed_by_user, replied, replied]),
    (Suspend,         [replied, replied, suspend, suspend, suspend, suspend, suspend, suspend, replied, replied, replied]),
    (Disconnect,      [replied, end_it, end_it, end_it, end_it, end_it, end_it, end_it, end_it, ____, replied]),
    (TickEarly,       [____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (TickDue,         [____, deadline, fail, fail, deadline, fail, deadline, kept, asked, idle_stopped, ____]),
    (OpenedOk,         [____, opened, ____, ____, ____, ____, ____, ____, ____, opened_late, ____]),
    (OpenedBusy,       [____, server_busy, ____, ____, ____, ____, ____, ____, ____, not_opened, ____]),
    (OpenedErr,        [____, refused, ____, ____, ____, ____, ____, ____, ____, not_opened, ____]),
    (IceServersOk,           [____, ____, ice_servers_fetched, ____, ____, ____, ____, ____, ____, ____, ____]),
    (IceServersErr,          [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (RegisteredOk,    [____, ____, registered, ____, ____, ____, ____, ____, ____, ____, ____]),
    (RegisteredErr,   [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PlannedOk,       [____, ____, planned, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PlannedErr,      [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (OfferCreatedOk,         [____, ____, offer_created, ____, ____, ____, ____, ____, ____, ____, ____]),
    (OfferCreatedErr,        [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PostedOk,        [____, ____, ____, posted, ____, ____, ____, ____, ____, ____, ____]),
    (PostedErr,       [____, ____, ____, fail, ____, ____, ____, ____, ____, ____, ____]),
    (CandidateFound,  [____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (CandidatesGathered, [____, ____, ____, ____, gathered, gathered, gathered, ____, ____, ____, ____]),
    (CandidatesPostedOk, [____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (CandidatesPostedErr, [____, ____, ____, ____, candidates_refused, candidates_refused, ____, ____, ____, ____, ____]),
    (PolledNone,      [____, ____, ____, ____, no_answer, ____, ____, ____, ____, ____, ____]),
    (PolledAnswer,    [____, ____, ____, ____, answered, ____, ____, ____, ____, ____, ____]),
    (PolledBad,       [____, ____, ____, ____, fail, ____, ____, ____, ____, ____, ____]),
    (PolledErr,       [____, ____, ____, ____, fail, ____, ____, ____, ____, ____, ____]),
    (PeerConnected,   [____, ____, ____, ____, ____, peer_connected, ____, ____, ____, ____, ____]),
    (VerifiedOk,      [____, ____, ____, ____, ____, verified, ____, ____, ____, ____, ____]),
    (VerifiedErr,     [____, ____, ____, ____, ____, fail, ____, ____, ____, ____, ____]),
    (OpenControl,     [____, ____, ____, ____, ____, control_open, ____, ____, ____, ____, ____]),
    (OpenData,        [____, ____, ____, ____, ____, data_open, ____, ____, ____, ____, ____]),
    (FrameModel,      [____, ____, ____, ____, ____, ____, model_message, ____, ____, ____, ____]),
    (FrameEnded,      [____, ____, ____, ____, ____, ____, ended, ____, ____, ____, ____]),
    (FrameGarbage,    [____, ____, ____, ____, ____, ____, garbage, ____, ____, ____, ____]),
    (LastReceived,    [____, ____, ____, ____, ____, ____, last_received, ____, ____, ____, ____]),
    (TransportFailed, [____, ____, fail, fail, fail, fail, lost, ____, ____, ____, ____]),
    (ConnectionClosed, [____, ____, fail, fail, fail, fail, lost, ____, ____, ____, ____]),
    (ResumeTrack,     [____, ____, ____, ____, ____, ____, track_resumed, ____, ____, ____, ____]),
    (PauseTrack,      [replied, replied, replied, replied, replied, replied, track_paused, replied, replied, replied, replied]),
    (Request,         [____, ____, ____, ____, ____, ____, requested, replied, replied, replied, replied]),
    (DescribedRunning,   [____, ____, ____, ____, ____, ____, ____, kept, ____, ____, ____]),
    (DescribedOver,   [____, ____, ____, ____, ____, ____, ____, end, end, ____, ____]),
    (DescribedGone,   [____, ____, ____, ____, ____, ____, ____, end, end, ____, ____]),
    (DescribedErr,    [____, ____, ____, ____, ____, ____, ____, kept, ____, ____, ____]),
    (EndedOk,         [____, ____, ____, ____, ____, ____, ____, ____, ____, session_closed, ____]),
    (EndedErr,        [____, ____, ____, ____, ____, ____, ____, ____, ____, end_failed, ____]),
    (TransportClosed, [____, ____, ____, ____, ____, ____, ____, ____, ____, transport_closed, ____]),
    (Bound,           [____, ____, ____, ____, ____, ____, bounded, ____, ____, ____, ____]),
    (Queue,           [____, ____, ____, ____, ____, ____, bounded_anew, ____, ____, ____, ____]),
    (LastArrival,     [____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    ]
};

fn go(next: State, out: &str) -> Outcome {
    Some((next, out.to_owned()))
}

fn ____(state: State) -> Outcome {
    go(state, "")
}

fn begin(_: State) -> Outcome {
    go(State::Asking, "connecting start begin")
}

fn idle_stopped(_: State) -> Outcome {
    go(State::Closed, "no-id closed")
}

/// After `first`, closes the session and the transport of this state.
fn closing(state: State, first: &str, ours: bool) -> Outcome {
    let (session, transport) = match state {
        State::Idle | State::Asking | State::Retrying | State::Waiting => (false, false),
        State::Preparing(p) => (true, p.planned && p.ice),
        State::Offering
        | State::Pausing
        | State::Polling
        | State::Connecting(_)
        | State::Ready(_)
        | State::QueryingSession => (true, true),
        State::Suspended => (true, false),
        State::Closing(_) | State::Closed => unreachable!("is closed already"),
    };
    let left = Outstanding {
        transport,
        ending_session: session && ours,
        opening_session: state == State::Asking,
    };
    let mut out: Vec<&str> = first.split_whitespace().collect();
    out.extend(left.ending_session.then_some("end"));
    out.extend(left.transport.then_some("close"));
    out.push("disconnected");
    close_or_wait(left, &out.join(" "))
}

fn close_or_wait(left: Outstanding, out: &str) -> Outcome {
    if left == Outstanding::default() {
        return go(State::Closed, format!("{out} no-id closed").trim());
    }
    go(State::Closing(left), out)
}

fn cancel(state: State) -> Outcome {
    closing(state, "canceled", true)
}

fn close(state: State) -> Outcome {
    closing(state, "", true)
}

fn fail(state: State) -> Outcome {
    closing(state, "error failed", true)
}

/// A request that was answered is not pending any more.
fn refused(_: State) -> Outcome {
    fail(State::Retrying)
}

fn end(state: State) -> Outcome {
    closing(state, "ended", false)
}

/// The reply comes once everything is closed.
fn end_it(state: State) -> Outcome {
    let (next, out) = closing(state, "ended", true)?;
    go(next, &out.replace("no-id", "reply no-id"))
}

fn kept(_: State) -> Outcome {
    go(State::Suspended, "close error lost disconnected")
}

fn asked(state: State) -> Outcome {
    go(state, "describe")
}

fn track_paused(state: State) -> Outcome {
    let resting = state == State::Ready(ReadyState::Paused);
    go(state, if resting { "reply" } else { "send reply" })
}

/// The old connection is kept until the session is known to be there.
fn reconnected(_: State) -> Outcome {
    go(State::QueryingSession, "describe")
}

fn queried_again(state: State) -> Outcome {
    go(state, "describe")
}

fn resumed_by_user(_: State) -> Outcome {
    go(State::QueryingSession, "describe connecting start")
}

fn bounded(state: State) -> Outcome {
    go(state, "bound")
}

/// The video is paused first.
fn bounded_anew(state: State) -> Outcome {
    // Tracks that flow are paused.
    let resting = state == State::Ready(ReadyState::Paused);
    go(state, if resting { "" } else { "send" })
}

fn suspend(state: State) -> Outcome {
    let close = match state {
        State::Preparing(p) if !p.planned => return replied(state),
        State::Preparing(p) => p.ice,
        _ => true,
    };
    let close = if close { "close " } else { "" };
    go(
        State::Suspended,
        &format!("{close}interrupted disconnected reply"),
    )
}

fn deadline(state: State) -> Outcome {
    match state {
        State::Retrying => go(State::Asking, "begin"),
        State::Pausing => go(State::Polling, "poll"),
        State::Ready(ReadyState::Paused) => go(State::Ready(ReadyState::Silent), "send"),
        // A ping, the schema and the track once more.
        State::Ready(ReadyState::Silent) => {
            go(State::Ready(ReadyState::Fallback), "warning send send send")
        }
        State::Ready(ReadyState::Resumed) => go(State::Ready(ReadyState::Probing), "send"),
        // The next ping comes before the stall limit.
        State::Ready(ReadyState::Probing) => go(state, "send"),
        State::Ready(ReadyState::Fallback) => go(State::Ready(ReadyState::FallbackProbing), "send"),
        // Here it comes at the stall limit.
        State::Ready(ReadyState::FallbackProbing) => go(State::QueryingSession, "send describe"),
        _ => fail(state),
    }
}

fn opened(_: State) -> Outcome {
    go(
        State::Preparing(OfferParts::default()),
        "id waiting described continue announce register ice",
    )
}

fn opened_late(state: State) -> Outcome {
    let State::Closing(left) = state else {
        unreachable!()
    };
    let left = Outstanding {
        opening_session: false,
        ending_session: true,
        ..left
    };
    // Only a pending request is answered.
    (state
        == State::Closing(Outstanding {
            opening_session: true,
            ..Outstanding::default()
        }))
    .then(|| close_or_wait(left, "end"))?
}

fn not_opened(state: State) -> Outcome {
    outstanding(state, |left| left.opening_session = false)
}

fn session_closed(state: State) -> Outcome {
    outstanding(state, |left| left.ending_session = false)
}

/// The session may still be there: the user should know.
fn end_failed(state: State) -> Outcome {
    let (next, out) = session_closed(state)?;
    go(next, format!("warning {out}").trim())
}

fn transport_closed(state: State) -> Outcome {
    outstanding(state, |left| left.transport = false)
}

fn outstanding(state: State, done: fn(&mut Outstanding)) -> Outcome {
    let State::Closing(mut left) = state else {
        unreachable!()
    };
    done(&mut left);
    close_or_wait(left, "")
}

fn server_busy(state: State) -> Outcome {
    let again = state == State::Retrying;
    let out = if again {
        "continue"
    } else {
        "waiting continue"
    };
    go(State::Retrying, out)
}

/// One more part of the offer.
fn piece(state: State, add: fn(&mut OfferParts)) -> Outcome {
    let State::Preparing(before) = state else {
        unreachable!()
    };
    let mut after = before;
    add(&mut after);
    let built = |p: &OfferParts| p.planned && p.ice;
    if after.registered && after.offer {
        return go(State::Offering, "offer");
    }
    let build = built(&after) && !built(&before);
    go(State::Preparing(after), if build { "build" } else { "" })
}

fn ice_servers_fetched(state: State) -> Outcome {
    piece(state, |p| p.ice = true)
}

fn registered(state: State) -> Outcome {
    piece(state, |p| p.registered = true)
}

fn planned(state: State) -> Outcome {
    piece(state, |p| p.planned = true)
}

fn offer_created(state: State) -> Outcome {
    // No offer is created before the tracks and the ICE servers are known.
    matches!(state, State::Preparing(p) if p.planned && p.ice)
        .then(|| piece(state, |p| p.offer = true))?
}

fn gathered(state: State) -> Outcome {
    go(state, "candidates-end")
}

fn candidates_refused(state: State) -> Outcome {
    go(state, "warning")
}

fn posted(_: State) -> Outcome {
    go(State::Pausing, "")
}

fn no_answer(_: State) -> Outcome {
    go(State::Pausing, "")
}

fn answered(_: State) -> Outcome {
    go(State::Connecting(ConnectState::default()), "apply")
}

fn peer_connected(state: State) -> Outcome {
    let verified = matches!(state, State::Connecting(links) if links.verified);
    go(state, if verified { "" } else { "verify" })
}

fn link(state: State, out: &str, add: fn(&mut ConnectState)) -> Outcome {
    let State::Connecting(mut links) = state else {
        unreachable!()
    };
    add(&mut links);
    if links.verified && links.control && links.data {
        let out = format!("{out} send send ready complete");
        return go(State::Ready(ReadyState::Paused), out.trim());
    }
    go(State::Connecting(links), out)
}

fn verified(state: State) -> Outcome {
    link(state, "open", |links| links.verified = true)
}

fn control_open(state: State) -> Outcome {
    link(state, "", |links| links.control = true)
}

fn data_open(state: State) -> Outcome {
    link(state, "", |links| links.data = true)
}

/// The tracks are resumed before a first frame is handled.
fn resumed(state: State, out: &str) -> String {
    let first = state == State::Ready(ReadyState::Paused);
    format!("{}{out}", if first { "send " } else { "" })
}

fn model_message(state: State) -> Outcome {
    go(
        State::Ready(ReadyState::Resumed),
        &resumed(state, "message"),
    )
}

fn ended(state: State) -> Outcome {
    closing(state, &resumed(state, "runtime ended"), false)
}

fn garbage(state: State) -> Outcome {
    let (after, _) = last_received(state)?;
    let after = match after {
        State::Ready(ReadyState::Paused) => State::Ready(ReadyState::Silent),
        other => other,
    };
    go(after, &resumed(state, "warning"))
}

fn last_received(state: State) -> Outcome {
    let after = match state {
        State::Ready(ReadyState::Probing) => State::Ready(ReadyState::Resumed),
        State::Ready(ReadyState::FallbackProbing) => State::Ready(ReadyState::Fallback),
        other => other,
    };
    go(after, "")
}

fn lost(_: State) -> Outcome {
    go(State::QueryingSession, "describe")
}

fn track_resumed(state: State) -> Outcome {
    let resting = state == State::Ready(ReadyState::Paused);
    go(state, if resting { "" } else { "send" })
}

fn requested(state: State) -> Outcome {
    let out = match state {
        // The encoding is not known yet.
        State::Ready(ReadyState::Paused | ReadyState::Silent) => "",
        // v0 has no reply to a command.
        State::Ready(ReadyState::Fallback | ReadyState::FallbackProbing) => "send reply",
        _ => "send",
    };
    go(state, out)
}

fn replied(state: State) -> Outcome {
    go(state, "reply")
}

/// With a limit on each wait, so that each has a deadline.
fn limited() -> Policy {
    Policy {
        waiting_limit: Some(ms(60_000)),
        ..policy()
    }
}

#[test]
fn every_input_in_every_state_gives_the_listed_result() {
    let mut taken = 0;
    for state in states() {
        for (sample, rules) in TABLE {
            let Some((next, out)) = rules[column(state)](state) else {
                continue;
            };
            let mut harness = harness_in(state, limited());
            match sample {
                Sample::TickDue => harness.now = harness.machine.deadline().unwrap_or(harness.now),
                _ => harness.now += ms(1),
            }
            let input = input(sample, &harness);
            assert_eq!(harness.handle_labels(input), out, "{sample:?} in {state:?}");
            assert_eq!(state_of(&harness.machine), next, "{sample:?} in {state:?}");
            let over = matches!(next, State::Idle | State::Closed);
            // A request waits for a limited time.
            let over = over && !(state == State::Idle && matches!(sample, Sample::Request));
            assert_eq!(
                harness.machine.deadline().is_none(),
                over,
                "{sample:?} in {state:?}"
            );
            taken += 1;
        }
    }
    // Offers and sessions that were not requested cannot come.
    assert_eq!(taken, states().len() * SAMPLES.len() - 6 - 3);
}

#[test]
fn table_lists_every_input_and_state() {
    let harness = Harness::new(policy());
    let mut missing = VARIANTS.to_vec();
    for ((row, _), sample) in TABLE.iter().zip(SAMPLES) {
        assert_eq!(row, sample, "rows are in the order of the samples");
        let found = variant(&input(*sample, &harness));
        missing.retain(|variant| *variant != found);
    }
    assert!(missing.is_empty(), "{missing:?}");
    let mut empty: Vec<usize> = (0..COLUMNS).collect();
    for state in states() {
        empty.retain(|n| *n != column(state));
    }
    assert!(empty.is_empty(), "{empty:?}");
}
