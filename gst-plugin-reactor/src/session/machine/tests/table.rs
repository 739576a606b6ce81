// SPDX-License-Identifier: MIT

//! Every state with every input: what comes out, and which state comes next.

use super::{
    state::{Links, Mood, Outstanding, Pieces, State, observe, reach, states},
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

// The variants of `Input`: `variant` ties them together.
listed! { Variant, VARIANTS:
    Start Stop Reconnect Disconnect Tick SessionOpened IceServersFetched ConnectionRegistered
    TracksPlanned OfferCreated OfferPosted AnswerPolled PeerConnected PeerVerified ChannelOpened
    FrameReceived LastReceived TransportFailed SetTrackPaused Request SessionDescribed
    SessionEnded TransportClosed
}

listed! { Sample, SAMPLES:
    Start Stop Reconnect Suspend Disconnect TickEarly TickDue
    BegunOk BegunBusy BegunErr IceOk IceErr RegisteredOk RegisteredErr PlannedOk PlannedErr
    OfferOk OfferErr PostedOk PostedErr PolledNone PolledAnswer PolledBad PolledErr
    PeerConnected VerifiedOk VerifiedErr OpenControl OpenData
    FrameModel FrameEnded FrameGarbage LastReceived TransportFailed ResumeTrack Request
    DescribedLive DescribedOver DescribedGone DescribedErr EndedOk EndedErr TransportClosed
}

fn variant(input: &Input) -> Variant {
    match input {
        Input::Start => Variant::Start,
        Input::Stop => Variant::Stop,
        Input::Reconnect => Variant::Reconnect,
        Input::Disconnect { .. } => Variant::Disconnect,
        Input::Tick => Variant::Tick,
        Input::SessionOpened(_) => Variant::SessionOpened,
        Input::IceServersFetched(_) => Variant::IceServersFetched,
        Input::ConnectionRegistered(_) => Variant::ConnectionRegistered,
        Input::TracksPlanned(_) => Variant::TracksPlanned,
        Input::OfferCreated(_) => Variant::OfferCreated,
        Input::OfferPosted(_) => Variant::OfferPosted,
        Input::AnswerPolled(_) => Variant::AnswerPolled,
        Input::PeerConnected => Variant::PeerConnected,
        Input::PeerVerified(_) => Variant::PeerVerified,
        Input::ChannelOpened(_) => Variant::ChannelOpened,
        Input::FrameReceived(..) => Variant::FrameReceived,
        Input::LastReceived(_) => Variant::LastReceived,
        Input::TransportFailed(_) => Variant::TransportFailed,
        Input::SetTrackPaused { .. } => Variant::SetTrackPaused,
        Input::Request { .. } => Variant::Request,
        Input::SessionDescribed(_) => Variant::SessionDescribed,
        Input::SessionEnded(_) => Variant::SessionEnded,
        Input::TransportClosed => Variant::TransportClosed,
    }
}

fn input(sample: Sample, rig: &Rig) -> Input {
    let live = |state| Ok(descriptor(state, "3.10.0"));
    let gone = Error::api(Code::NotFound, "no such session").with_status(404);
    let frame = |channel, frame| {
        let mut frames = rig.framing.split(frame).unwrap();
        Input::FrameReceived(channel, frames.remove(0))
    };
    match sample {
        Sample::Start => Input::Start,
        Sample::Stop => Input::Stop,
        Sample::Reconnect => Input::Reconnect,
        Sample::Suspend => Input::Disconnect { recoverable: true },
        Sample::Disconnect => Input::Disconnect { recoverable: false },
        Sample::TickEarly | Sample::TickDue => Input::Tick,
        Sample::BegunOk => Input::SessionOpened(live("waiting").map(|d| (d, Ownership::Created))),
        Sample::BegunBusy => Input::SessionOpened(Err(busy(429, Some(3000)))),
        Sample::BegunErr => Input::SessionOpened(Err(network())),
        Sample::IceOk => Input::IceServersFetched(Ok(ice_servers())),
        Sample::IceErr => Input::IceServersFetched(Err(network())),
        Sample::RegisteredOk => Input::ConnectionRegistered(Ok(CONNECTION)),
        Sample::RegisteredErr => Input::ConnectionRegistered(Err(network())),
        Sample::PlannedOk => Input::TracksPlanned(Ok(plans())),
        Sample::PlannedErr => Input::TracksPlanned(Err(broken())),
        Sample::OfferOk => Input::OfferCreated(Ok(local_offer())),
        Sample::OfferErr => Input::OfferCreated(Err(broken())),
        Sample::PostedOk => Input::OfferPosted(Ok(())),
        Sample::PostedErr => Input::OfferPosted(Err(network())),
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
        Sample::LastReceived => Input::LastReceived(rig.now),
        Sample::TransportFailed => Input::TransportFailed(broken()),
        Sample::ResumeTrack => set_paused("main_audio", false),
        Sample::Request => request(1, command("go")),
        Sample::DescribedLive => Input::SessionDescribed(live("streaming")),
        Sample::DescribedOver => Input::SessionDescribed(live("closing")),
        Sample::DescribedGone => Input::SessionDescribed(Err(gone)),
        Sample::DescribedErr => Input::SessionDescribed(Err(network())),
        Sample::EndedOk => Input::SessionEnded(Ok(())),
        Sample::EndedErr => Input::SessionEnded(Err(network())),
        Sample::TransportClosed => Input::TransportClosed,
    }
}

/// The next state and what comes out on the way; `None` for what cannot
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
    //                 Idle   Open.  Prepar. Offer. Poll.  Connec. Ready   Check. Suspended Closing Closed
    (Start,           [begin, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (Stop,            [over, cancel, cancel, cancel, cancel, cancel, close, close, close, ____, ____]),
    (Reconnect,       [____,  ____, ____, ____, ____, ____, again, ask, back, ____, ____]),
    (Suspend,         [____, no_lease, suspend, suspend, suspend, suspend, suspend, suspend, ____, ____, ____]),
    (Disconnect,      [____, end_it, end_it, end_it, end_it, end_it, end_it, end_it, end_it, ____, ____]),
    (TickEarly,       [____, ____, ____, ____, ____, ____, ____, ____, ____, ____, ____]),
    (TickDue,         [____, due, fail, fail, due, fail, due, fail, ____, over, ____]),
    (BegunOk,         [____, began, ____, ____, ____, ____, ____, ____, ____, undo, ____]),
    (BegunBusy,       [____, put_off, ____, ____, ____, ____, ____, ____, ____, no_begin, ____]),
    (BegunErr,        [____, refused, ____, ____, ____, ____, ____, ____, ____, no_begin, ____]),
    (IceOk,           [____, ____, ice, ____, ____, ____, ____, ____, ____, ____, ____]),
    (IceErr,          [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (RegisteredOk,    [____, ____, number, ____, ____, ____, ____, ____, ____, ____, ____]),
    (RegisteredErr,   [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PlannedOk,       [____, ____, plan, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PlannedErr,      [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (OfferOk,         [____, ____, offer, ____, ____, ____, ____, ____, ____, ____, ____]),
    (OfferErr,        [____, ____, fail, ____, ____, ____, ____, ____, ____, ____, ____]),
    (PostedOk,        [____, ____, ____, posted, ____, ____, ____, ____, ____, ____, ____]),
    (PostedErr,       [____, ____, ____, fail, ____, ____, ____, ____, ____, ____, ____]),
    (PolledNone,      [____, ____, ____, ____, pause, ____, ____, ____, ____, ____, ____]),
    (PolledAnswer,    [____, ____, ____, ____, apply, ____, ____, ____, ____, ____, ____]),
    (PolledBad,       [____, ____, ____, ____, fail, ____, ____, ____, ____, ____, ____]),
    (PolledErr,       [____, ____, ____, ____, fail, ____, ____, ____, ____, ____, ____]),
    (PeerConnected,   [____, ____, ____, ____, ____, peer, ____, ____, ____, ____, ____]),
    (VerifiedOk,      [____, ____, ____, ____, ____, known, ____, ____, ____, ____, ____]),
    (VerifiedErr,     [____, ____, ____, ____, ____, fail, ____, ____, ____, ____, ____]),
    (OpenControl,     [____, ____, ____, ____, ____, control, ____, ____, ____, ____, ____]),
    (OpenData,        [____, ____, ____, ____, ____, data, ____, ____, ____, ____, ____]),
    (FrameModel,      [____, ____, ____, ____, ____, ____, model, ____, ____, ____, ____]),
    (FrameEnded,      [____, ____, ____, ____, ____, ____, ended, ____, ____, ____, ____]),
    (FrameGarbage,    [____, ____, ____, ____, ____, ____, noise, ____, ____, ____, ____]),
    (LastReceived,    [____, ____, ____, ____, ____, ____, last_received, ____, ____, ____, ____]),
    (TransportFailed, [____, ____, fail, fail, fail, fail, lost, ____, ____, ____, ____]),
    (ResumeTrack,     [____, ____, ____, ____, ____, ____, resume, ____, ____, ____, ____]),
    (Request,         [____, ____, ____, ____, ____, ____, asks, reply, ____, reply, reply]),
    (DescribedLive,   [____, ____, ____, ____, ____, ____, ____, fail, ____, ____, ____]),
    (DescribedOver,   [____, ____, ____, ____, ____, ____, ____, end, ____, ____, ____]),
    (DescribedGone,   [____, ____, ____, ____, ____, ____, ____, end, ____, ____, ____]),
    (DescribedErr,    [____, ____, ____, ____, ____, ____, ____, fail, ____, ____, ____]),
    (EndedOk,         [____, ____, ____, ____, ____, ____, ____, ____, ____, no_end, ____]),
    (EndedErr,        [____, ____, ____, ____, ____, ____, ____, ____, ____, not_ended, ____]),
    (TransportClosed, [____, ____, ____, ____, ____, ____, ____, ____, ____, no_peer, ____]),
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

fn over(_: State) -> Outcome {
    go(State::Closed, "no-id closed")
}

/// After `first`, closes all there is in this state.
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
    settle(left, &out.join(" "))
}

fn settle(left: Outstanding, out: &str) -> Outcome {
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

/// A request that was answered is not waited for.
fn refused(_: State) -> Outcome {
    fail(State::Retrying)
}

fn end(state: State) -> Outcome {
    closing(state, "ended", false)
}

fn end_it(state: State) -> Outcome {
    closing(state, "ended", true)
}

fn no_lease(state: State) -> Outcome {
    go(state, "warning")
}

/// The old connection is kept until the session is known to be there.
fn again(_: State) -> Outcome {
    go(State::QueryingSession, "describe")
}

fn ask(state: State) -> Outcome {
    go(state, "describe")
}

fn back(_: State) -> Outcome {
    go(State::QueryingSession, "describe connecting start")
}

fn suspend(state: State) -> Outcome {
    let close = match state {
        State::Preparing(p) if !p.planned => return no_lease(state),
        State::Preparing(p) => p.ice,
        _ => true,
    };
    let close = if close { "close " } else { "" };
    go(
        State::Suspended,
        &format!("{close}interrupted disconnected"),
    )
}

fn due(state: State) -> Outcome {
    match state {
        State::Retrying => go(State::Asking, "begin"),
        State::Pausing => go(State::Polling, "poll"),
        State::Ready(Mood::Resting) => go(State::Ready(Mood::Silent), "send"),
        // A ping, the schema and the track once more.
        State::Ready(Mood::Silent) => go(State::Ready(Mood::Fallback), "warning send send send"),
        State::Ready(Mood::Flowing) => go(State::Ready(Mood::Probing), "send"),
        // The next ping comes before the end of the patience.
        State::Ready(Mood::Probing) => go(state, "send"),
        State::Ready(Mood::Fallback) => go(State::Ready(Mood::FallbackProbing), "send"),
        // Here it comes with it.
        State::Ready(Mood::FallbackProbing) => go(State::QueryingSession, "send describe"),
        _ => fail(state),
    }
}

fn began(_: State) -> Outcome {
    go(
        State::Preparing(Pieces::default()),
        "id waiting described continue announce register ice",
    )
}

fn undo(state: State) -> Outcome {
    let State::Closing(left) = state else {
        unreachable!()
    };
    let left = Outstanding {
        opening_session: false,
        ending_session: true,
        ..left
    };
    // Only a request that is under way is answered.
    (state
        == State::Closing(Outstanding {
            opening_session: true,
            ..Outstanding::default()
        }))
    .then(|| settle(left, "end"))?
}

fn no_begin(state: State) -> Outcome {
    outstanding(state, |left| left.opening_session = false)
}

fn no_end(state: State) -> Outcome {
    outstanding(state, |left| left.ending_session = false)
}

/// The session may still be there: the user should know.
fn not_ended(state: State) -> Outcome {
    let (next, out) = no_end(state)?;
    go(next, format!("warning {out}").trim())
}

fn no_peer(state: State) -> Outcome {
    outstanding(state, |left| left.transport = false)
}

fn outstanding(state: State, done: fn(&mut Outstanding)) -> Outcome {
    let State::Closing(mut left) = state else {
        unreachable!()
    };
    done(&mut left);
    settle(left, "")
}

fn put_off(state: State) -> Outcome {
    let again = state == State::Retrying;
    let out = if again {
        "continue"
    } else {
        "waiting continue"
    };
    go(State::Retrying, out)
}

/// One more piece of what the offer needs.
fn piece(state: State, add: fn(&mut Pieces)) -> Outcome {
    let State::Preparing(before) = state else {
        unreachable!()
    };
    let mut after = before;
    add(&mut after);
    let built = |p: &Pieces| p.planned && p.ice;
    if after.registered && after.offer {
        return go(State::Offering, "offer");
    }
    let build = built(&after) && !built(&before);
    go(State::Preparing(after), if build { "build" } else { "" })
}

fn ice(state: State) -> Outcome {
    piece(state, |p| p.ice = true)
}

fn number(state: State) -> Outcome {
    piece(state, |p| p.registered = true)
}

fn plan(state: State) -> Outcome {
    piece(state, |p| p.planned = true)
}

fn offer(state: State) -> Outcome {
    // Nothing is built before the tracks and the ICE servers are known.
    matches!(state, State::Preparing(p) if p.planned && p.ice)
        .then(|| piece(state, |p| p.offer = true))?
}

fn posted(_: State) -> Outcome {
    go(State::Pausing, "")
}

fn pause(_: State) -> Outcome {
    go(State::Pausing, "")
}

fn apply(_: State) -> Outcome {
    go(State::Connecting(Links::default()), "apply")
}

fn peer(state: State) -> Outcome {
    let verified = matches!(state, State::Connecting(links) if links.verified);
    go(state, if verified { "" } else { "verify" })
}

fn link(state: State, out: &str, add: fn(&mut Links)) -> Outcome {
    let State::Connecting(mut links) = state else {
        unreachable!()
    };
    add(&mut links);
    if links.verified && links.control && links.data {
        let out = format!("{out} send send ready complete");
        return go(State::Ready(Mood::Resting), out.trim());
    }
    go(State::Connecting(links), out)
}

fn known(state: State) -> Outcome {
    link(state, "open", |links| links.verified = true)
}

fn control(state: State) -> Outcome {
    link(state, "", |links| links.control = true)
}

fn data(state: State) -> Outcome {
    link(state, "", |links| links.data = true)
}

/// The tracks are resumed before anything else is made of a first frame.
fn resumed(state: State, out: &str) -> String {
    let first = state == State::Ready(Mood::Resting);
    format!("{}{out}", if first { "send " } else { "" })
}

fn model(state: State) -> Outcome {
    go(State::Ready(Mood::Flowing), &resumed(state, "message"))
}

fn ended(state: State) -> Outcome {
    closing(state, &resumed(state, "runtime ended"), false)
}

fn noise(state: State) -> Outcome {
    let (after, _) = last_received(state)?;
    let after = match after {
        State::Ready(Mood::Resting) => State::Ready(Mood::Silent),
        other => other,
    };
    go(after, &resumed(state, "warning"))
}

fn last_received(state: State) -> Outcome {
    let after = match state {
        State::Ready(Mood::Probing) => State::Ready(Mood::Flowing),
        State::Ready(Mood::FallbackProbing) => State::Ready(Mood::Fallback),
        other => other,
    };
    go(after, "")
}

fn lost(_: State) -> Outcome {
    go(State::QueryingSession, "describe")
}

fn resume(state: State) -> Outcome {
    let resting = state == State::Ready(Mood::Resting);
    go(state, if resting { "" } else { "send" })
}

fn asks(state: State) -> Outcome {
    let out = match state {
        // How to say it is not known yet.
        State::Ready(Mood::Resting | Mood::Silent) => "",
        // WireVersion 0 answers no command.
        State::Ready(Mood::Fallback | Mood::FallbackProbing) => "send reply",
        _ => "send",
    };
    go(state, out)
}

fn reply(state: State) -> Outcome {
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
fn every_state_takes_every_input() {
    let mut taken = 0;
    for state in states() {
        for (sample, rules) in TABLE {
            let Some((next, out)) = rules[column(state)](state) else {
                continue;
            };
            let mut rig = reach(state, limited());
            match sample {
                Sample::TickDue => rig.now = rig.machine.deadline().unwrap_or(rig.now),
                _ => rig.now += ms(1),
            }
            let input = input(sample, &rig);
            assert_eq!(rig.told(input), out, "{sample:?} in {state:?}");
            assert_eq!(observe(&rig.machine), next, "{sample:?} in {state:?}");
            let over = matches!(next, State::Idle | State::Suspended | State::Closed);
            assert_eq!(
                rig.machine.deadline().is_none(),
                over,
                "{sample:?} in {state:?}"
            );
            taken += 1;
        }
    }
    // An offer that nobody built cannot come, nor a session nobody asked for.
    assert_eq!(taken, states().len() * SAMPLES.len() - 6 - 3);
}

#[test]
fn the_table_is_complete() {
    let rig = Rig::new(policy());
    let mut missing = VARIANTS.to_vec();
    for ((row, _), sample) in TABLE.iter().zip(SAMPLES) {
        assert_eq!(row, sample, "rows are in the order of the samples");
        let found = variant(&input(*sample, &rig));
        missing.retain(|variant| *variant != found);
    }
    assert!(missing.is_empty(), "{missing:?}");
    let mut empty: Vec<usize> = (0..COLUMNS).collect();
    for state in states() {
        empty.retain(|n| *n != column(state));
    }
    assert!(empty.is_empty(), "{empty:?}");
}
