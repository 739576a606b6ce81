// SPDX-License-Identifier: MIT

//! The state machine, driven through simulated time.
//!
//! [`Rig`] holds a machine and the clock. It brings the machine into a phase
//! by playing the part of the driver and of the server, and checks on every
//! step what must hold always.

mod begin;
mod close;
mod connect;
mod live;
mod loss;
mod recovery;
mod requests;
mod server;
mod state;
mod table;
mod waiting;
mod wire;

use serde_json::Value;

use super::{state::*, *};
use crate::platform::{
    coordinator::{Capabilities, Ownership, SessionDescriptor},
    signaling::{IceServer, SdpAnswer, TrackMapping},
    track::{Direction, Kind, Track},
    wire::{Channel, ClientMessage, Framing, UploadReferences, WireFrame, WireVersion, encode},
};
use state::labels;

const OFFER: &str = include_str!("../../../platform/sdp/testdata/offer.sdp");
const ANSWER: &str = include_str!("../../../platform/sdp/testdata/answer.sdp");
const OFFER_H264: &str = include_str!("../../../platform/sdp/testdata/offer264.sdp");
const ANSWER_H264: &str = include_str!("../../../platform/sdp/testdata/answer264.sdp");
/// The client adds it to the offer; the server repeats it if it agrees.
const CHUNKING: &str = "a=x-reactor-dc-chunking:1 max-message-size=67108864\n";
/// A session does not begin when the clock does.
const START: Duration = Duration::from_secs(7);
const ID: &str = "s-1";
const CONNECTION: u32 = 5029;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn policy() -> Policy {
    Policy {
        waiting_limit: None,
        sdp_attempts: 6,
        stall_limit: Some(ms(5000)),
        close_limit: ms(2000),
        wire: WireChoice::Auto,
        adopt: None,
        connection_id: None,
        recoverable: false,
        reconnect: false,
        restart: false,
        seed: 7,
        queues: false,
        ice_servers: true,
    }
}

/// A server that is busy and says when to come back.
fn busy(status: u16, after: Option<u64>) -> Error {
    Error::api(Code::from_status(status), format!("answered {status}"))
        .with_status(status)
        .with_retry_after(after.map(ms))
}

fn network() -> Error {
    Error::api(Code::NetworkError, "connection refused").during("session")
}

fn broken() -> Error {
    Error::gpu(Code::TransportError, "the SCTP association is gone")
}

fn track(name: &str, kind: Kind, direction: Direction) -> Track {
    Track {
        name: name.into(),
        kind,
        direction,
    }
}

/// The tracks of the test data, in the order of its m-lines.
fn tracks() -> Vec<Track> {
    vec![
        track("webcam", Kind::Video, Direction::SendOnly),
        track("main_video", Kind::Video, Direction::RecvOnly),
        track("main_audio", Kind::Audio, Direction::RecvOnly),
    ]
}

/// The video is linked, the audio is not.
fn plans() -> Vec<PlannedTrack> {
    tracks()
        .into_iter()
        .map(|track| PlannedTrack {
            paused: track.name != "main_video",
            track,
        })
        .collect()
}

fn descriptor(state: &str, version: &str) -> SessionDescriptor {
    SessionDescriptor {
        session_id: ID.into(),
        state: state.into(),
        model_name: Some("m".into()),
        server_version: Some(version.into()),
        capabilities: Some(Capabilities {
            tracks: tracks(),
            raw: Value::Null,
        }),
        selected_transport: Some(("webrtc".into(), "1.0".into())),
        raw: Value::Null,
    }
}

fn ice_servers() -> Vec<IceServer> {
    vec![IceServer {
        uris: vec!["stun:192.0.2.1:3478".into()],
        username: None,
        password: None,
    }]
}

/// An offer as the media engine makes it.
fn local_offer() -> String {
    OFFER.replace(CHUNKING, "")
}

fn answer(sdp: &str) -> Input {
    Input::AnswerPolled(Ok(Some(SdpAnswer {
        sdp: sdp.into(),
        connection_id: Some(CONNECTION),
    })))
}

fn command(name: &str) -> ClientMessage {
    ClientMessage::Command {
        name: name.into(),
        data: serde_json::Map::new(),
        uploads: UploadReferences::new(),
    }
}

fn request(token: u64, message: ClientMessage) -> Input {
    Input::Request { token, message }
}

fn set_paused(track: &str, paused: bool) -> Input {
    Input::SetTrackPaused {
        track: track.into(),
        paused,
    }
}

struct Rig {
    machine: Machine,
    now: Duration,
    /// What times are counted from.
    zero: Duration,
    /// The server's version, as the description of the session says it.
    version: &'static str,
    ownership: Ownership,
    framing: Framing,
    /// A poll for the answer is under way.
    polling: bool,
}

impl Rig {
    fn new(policy: Policy) -> Self {
        Self {
            machine: Machine::new(policy),
            now: START,
            zero: START,
            version: "3.10.0",
            ownership: Ownership::Created,
            framing: Framing::plain(),
            polling: false,
        }
    }

    fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    fn ownership(mut self, ownership: Ownership) -> Self {
        self.ownership = ownership;
        self
    }

    /// Counts times from now on.
    fn mark(&mut self) {
        self.zero = self.now;
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let was_closed = self.machine.is_closed();
        if matches!(input, Input::AnswerPolled(_)) {
            self.polling = false;
        }
        let out = self.machine.handle(self.now, input);
        for (n, action) in out.iter().enumerate() {
            match action {
                Action::PollAnswer { .. } => {
                    assert!(!std::mem::replace(&mut self.polling, true), "polls overlap");
                }
                Action::Emit(MachineEvent::Closed) => {
                    assert!(n + 1 == out.len(), "something follows the end");
                    assert!(self.machine.is_closed());
                }
                Action::Reply { .. } => {}
                _ => assert!(!was_closed, "{action:?} after the end"),
            }
        }
        assert_eq!(
            self.machine.is_closed(),
            was_closed || out.contains(&Action::Emit(MachineEvent::Closed))
        );
        out
    }

    /// What comes out, by the short names of [`state::label`].
    fn told(&mut self, input: Input) -> String {
        labels(&self.give(input))
    }

    /// Lets time pass as the driver does: a tick at each deadline. Gives what
    /// came out and when, in ms since [`Rig::mark`].
    fn run(&mut self, milliseconds: u64) -> Vec<(u64, Action)> {
        let until = self.now + ms(milliseconds);
        let mut out = Vec::new();
        let mut repeated = 0;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            repeated = if at > self.now { 0 } else { repeated + 1 };
            assert!(
                repeated < 4,
                "a deadline in the past: the driver would spin"
            );
            self.now = self.now.max(at);
            let when = self.time();
            let actions = self.give(Input::Tick);
            out.extend(actions.into_iter().map(|action| (when, action)));
        }
        self.now = until;
        out
    }

    /// As [`Rig::run`], by short names: `"500 send, 5000 send describe"`.
    fn passes(&mut self, milliseconds: u64) -> String {
        let mut lines: Vec<(u64, Vec<Action>)> = Vec::new();
        for (when, action) in self.run(milliseconds) {
            match lines.last_mut() {
                Some((at, actions)) if *at == when => actions.push(action),
                _ => lines.push((when, vec![action])),
            }
        }
        let lines = lines
            .iter()
            .map(|(when, actions)| format!("{when} {}", labels(actions)));
        lines.collect::<Vec<_>>().join(", ")
    }

    fn time(&self) -> u64 {
        u64::try_from((self.now - self.zero).as_millis()).unwrap()
    }

    /// A message of the server's, framed as agreed.
    fn hear(&mut self, channel: Channel, message: WireFrame) -> Vec<Action> {
        let frames = self.framing.split(message).unwrap();
        let inputs = frames.into_iter().map(|f| Input::FrameReceived(channel, f));
        inputs.flat_map(|input| self.give(input)).collect()
    }

    fn hear_control(&mut self, message: WireFrame) -> Vec<Action> {
        self.hear(Channel::Control, message)
    }

    fn hear_data(&mut self, message: WireFrame) -> Vec<Action> {
        self.hear(Channel::Data, message)
    }

    /// The action that sends a message, framed as agreed.
    fn sent(&self, version: WireVersion, message: &ClientMessage, id: &str) -> Action {
        let (channel, frame) = encode(version, message, Some(id)).unwrap();
        Action::SendFrames(channel, self.framing.split(frame).unwrap())
    }

    fn v1(&self, message: &ClientMessage, id: &str) -> Action {
        self.sent(WireVersion::V1, message, id)
    }

    fn v0(&self, message: &ClientMessage, id: &str) -> Action {
        self.sent(WireVersion::V0, message, id)
    }

    fn resume(&self, track: &str) -> Action {
        self.v1(&ClientMessage::ResumeTrack(track.into()), "")
    }

    fn pause(&self, track: &str) -> Action {
        self.v1(&ClientMessage::PauseTrack(track.into()), "")
    }
}

/// The way of a session, step by step; each gives what comes out.
impl Rig {
    fn asked(policy: Policy) -> Self {
        let mut rig = Self::new(policy);
        rig.give(Input::Start);
        rig
    }

    fn begun(&mut self) -> Vec<Action> {
        let descriptor = descriptor("waiting", self.version);
        self.give(Input::SessionOpened(Ok((descriptor, self.ownership))))
    }

    /// All that the offer needs, which is then handed in.
    fn prepare(&mut self) -> Vec<Action> {
        if self.machine.policy.connection_id.is_none() {
            self.give(Input::ConnectionRegistered(Ok(CONNECTION)));
        }
        if self.machine.policy.ice_servers {
            self.give(Input::IceServersFetched(Ok(ice_servers())));
        }
        self.give(Input::TracksPlanned(Ok(plans())));
        self.give(Input::OfferCreated(Ok(local_offer())))
    }

    /// The offer is taken and the first poll brings `sdp`.
    fn answered(&mut self, sdp: &str) -> Vec<Action> {
        self.give(Input::OfferPosted(Ok(())));
        assert_eq!(labels(&self.tick_at_deadline()), "poll");
        if sdp.contains(CHUNKING) {
            self.framing = Framing::chunked(67_108_864);
        }
        self.give(answer(sdp))
    }

    fn tick_at_deadline(&mut self) -> Vec<Action> {
        self.now = self.machine.deadline().unwrap().max(self.now);
        self.give(Input::Tick)
    }

    /// From the answer to a live session; times count from there.
    fn connect(&mut self) -> Vec<Action> {
        self.give(Input::PeerConnected);
        self.give(Input::PeerVerified(Ok(())));
        self.give(Input::ChannelOpened(Channel::Control));
        let out = self.give(Input::ChannelOpened(Channel::Data));
        self.mark();
        out
    }

    fn until_preparing(mut self) -> Self {
        self.give(Input::Start);
        self.begun();
        self
    }

    fn until_offering(self) -> Self {
        let mut rig = self.until_preparing();
        rig.prepare();
        rig
    }

    fn until_connecting(self) -> Self {
        let mut rig = self.until_offering();
        rig.answered(ANSWER);
        rig
    }

    fn until_live(self) -> Self {
        let mut rig = self.until_connecting();
        rig.connect();
        rig
    }

    /// Ready, and the server has answered in v1 at 100 ms: media flows.
    fn until_flowing(self) -> Self {
        let mut rig = self.until_live();
        rig.run(100);
        rig.hear_control(server::schema("ctrl_1"));
        rig
    }

    fn live(policy: Policy) -> Self {
        Self::new(policy).until_live()
    }

    fn flowing(policy: Policy) -> Self {
        Self::new(policy).until_flowing()
    }
}

/// The error a session failed with.
#[track_caller]
fn failure(out: &[Action]) -> Error {
    let failed = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Failed(error)) => Some(error.clone()),
        _ => None,
    });
    failed.unwrap_or_else(|| panic!("nothing failed: {out:?}"))
}

#[track_caller]
fn warning(out: &[Action]) -> Error {
    let warned = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Warning(error)) => Some(error.clone()),
        _ => None,
    });
    warned.unwrap_or_else(|| panic!("no warning: {out:?}"))
}

/// The replies to requests, in their order.
fn replies(out: &[Action]) -> Vec<(u64, Result<crate::platform::wire::ServerMessage, Error>)> {
    let reply = |action: &Action| match action {
        Action::Reply { token, result } => Some((*token, result.clone())),
        _ => None,
    };
    out.iter().filter_map(reply).collect()
}

/// The replies that are errors: their tokens and codes.
fn refusals(out: &[Action]) -> Vec<(u64, Code)> {
    let refusal = |(token, result): (u64, Result<_, Error>)| Some((token, result.err()?.code));
    replies(out).into_iter().filter_map(refusal).collect()
}

/// What came out of [`Rig::run`], whenever it did.
fn actions(timed: Vec<(u64, Action)>) -> Vec<Action> {
    timed.into_iter().map(|(_, action)| action).collect()
}
