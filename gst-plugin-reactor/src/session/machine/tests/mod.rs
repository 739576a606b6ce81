// SPDX-License-Identifier: MIT

//! The state machine, driven through simulated time.
//!
//! [`Harness`] holds a machine and the clock. It brings the machine into a phase
//! with the inputs of the driver and of the server, and checks the invariants on
//! every step.

mod closing;
mod connect;
mod encoding;
mod expiration;
mod loss;
mod opening;
mod ready;
mod receive_bitrate;
mod recovery;
mod requests;
mod server;
mod state;
mod table;
mod trickle;
mod waiting;

use serde_json::Value;

use super::{state::*, *};
use crate::platform::{
    Failure,
    coordinator::{Capabilities, Ownership, SessionDescriptor},
    signaling::{IceCandidate, IceServer, SdpAnswer, TrackMapping},
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
/// The machine must not depend on a clock that starts at zero.
const START: Duration = Duration::from_secs(7);
const ID: &str = "s-1";
const CONNECTION: u32 = 5029;

/// Media of a track came last at this time.
fn media(track: &str, at: Duration) -> Input {
    Input::LastReceived(vec![(track.to_owned(), at)])
}

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
        max_session_duration: None,
        has_arguments: false,
        model_of_runtime: None,
        seed: 7,
        queues: false,
        ice_servers: true,
        max_receive_bitrate: None,
    }
}

/// The error of a busy server, with its `Retry-After` in ms.
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

fn descriptor(state: &str, version: &str) -> SessionDescriptor {
    SessionDescriptor {
        session_id: ID.into(),
        state: state.into(),
        model_name: Some("m".into()),
        server_version: Some(version.into()),
        capabilities: Some(Capabilities {
            tracks: tracks(),
            emission_fps: None,
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

/// An offer as webrtcbin makes it.
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
    Input::Request {
        token,
        message,
        private: false,
    }
}

fn set_paused(track: &str, paused: bool) -> Input {
    Input::SetTrackPaused {
        track: track.into(),
        paused,
    }
}

struct Harness {
    machine: Machine,
    now: Duration,
    /// [`Harness::time`] counts from here.
    zero: Duration,
    /// The server's version in the description of the session.
    version: &'static str,
    ownership: Ownership,
    framing: Framing,
    /// A poll for the answer is pending.
    polling: bool,
    /// No media comes, although the tracks are resumed.
    silent: bool,
    /// The server's answer.
    answer: String,
}

/// The offer is posted; times count from there.
fn polling() -> Harness {
    let mut harness = Harness::new(policy()).until_offering();
    harness.handle(Input::OfferPosted(Ok(())));
    harness.mark();
    harness
}

impl Harness {
    /// The video is linked, the audio is not.
    fn new(policy: Policy) -> Self {
        let mut machine = Machine::new(policy);
        machine.handle(START, set_paused("main_video", false));
        Self {
            machine,
            now: START,
            zero: START,
            version: "3.10.0",
            ownership: Ownership::Created,
            framing: Framing::plain(),
            polling: false,
            silent: false,
            answer: ANSWER.to_owned(),
        }
    }

    /// The server is a runtime before 3.7: its answer does not tell whether it reads v1.
    fn without_chunking(mut self) -> Self {
        self.answer = ANSWER.replace(CHUNKING, "");
        self
    }

    fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    fn ownership(mut self, ownership: Ownership) -> Self {
        self.ownership = ownership;
        self
    }

    /// Makes times count from now on.
    fn mark(&mut self) {
        self.zero = self.now;
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        let was_closed = self.machine.is_closed();
        if matches!(input, Input::AnswerPolled(_)) {
            self.polling = false;
        }
        let out = self.machine.handle(self.now, input);
        if let Phase::Ready(ready) = &mut self.machine.phase
            && !self.silent
        {
            ready.resumed_tracks = Default::default();
        }
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

    /// The resulting actions, by the short names of [`state::label`].
    fn handle_labels(&mut self, input: Input) -> String {
        labels(&self.handle(input))
    }

    /// Lets time pass as the driver does: with a tick at each deadline. Returns the
    /// actions and their times, in ms since [`Harness::mark`].
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
            let actions = self.handle(Input::Tick);
            out.extend(actions.into_iter().map(|action| (when, action)));
        }
        self.now = until;
        out
    }

    /// As [`Harness::run`], by short names: `"500 send, 5000 send describe"`.
    fn run_labels(&mut self, milliseconds: u64) -> String {
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

    /// Receives a message from the server, framed as negotiated.
    fn receive(&mut self, channel: Channel, message: WireFrame) -> Vec<Action> {
        let frames = self.framing.split(message).unwrap();
        let inputs = frames.into_iter().map(|f| Input::FrameReceived(channel, f));
        inputs.flat_map(|input| self.handle(input)).collect()
    }

    fn receive_control(&mut self, message: WireFrame) -> Vec<Action> {
        self.receive(Channel::Control, message)
    }

    fn receive_data(&mut self, message: WireFrame) -> Vec<Action> {
        self.receive(Channel::Data, message)
    }

    /// The action that sends a message, framed as negotiated.
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

/// The steps of a session; each returns its actions.
impl Harness {
    fn opening(policy: Policy) -> Self {
        let mut harness = Self::new(policy);
        harness.handle(Input::Start);
        harness
    }

    fn open_session(&mut self) -> Vec<Action> {
        let descriptor = descriptor("waiting", self.version);
        self.handle(Input::SessionOpened(Ok((descriptor, self.ownership))))
    }

    /// Gives all parts of the offer, which is then posted.
    fn prepare(&mut self) -> Vec<Action> {
        if self.machine.policy.connection_id.is_none() {
            self.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
        }
        if self.machine.policy.ice_servers {
            self.handle(Input::IceServersFetched(Ok(ice_servers())));
        }
        self.handle(Input::TracksPlanned(Ok(tracks())));
        self.handle(Input::OfferCreated(Ok(local_offer())))
    }

    /// The offer is accepted, and the first poll returns `sdp`.
    fn poll_answer(&mut self, sdp: &str) -> Vec<Action> {
        self.handle(Input::OfferPosted(Ok(())));
        assert_eq!(labels(&self.tick_at_deadline()), "poll");
        if sdp.contains(CHUNKING) {
            self.framing = Framing::chunked(67_108_864);
        }
        self.handle(answer(sdp))
    }

    fn tick_at_deadline(&mut self) -> Vec<Action> {
        self.now = self.machine.deadline().unwrap().max(self.now);
        self.handle(Input::Tick)
    }

    /// From the answer to a session that is ready; times count from there.
    fn connect(&mut self) -> Vec<Action> {
        self.handle(Input::PeerConnected);
        self.handle(Input::PeerVerified(Ok(())));
        self.handle(Input::ChannelOpened(Channel::Control));
        let out = self.handle(Input::ChannelOpened(Channel::Data));
        self.mark();
        out
    }

    fn until_preparing(mut self) -> Self {
        self.handle(Input::Start);
        self.open_session();
        self
    }

    fn until_offering(self) -> Self {
        let mut harness = self.until_preparing();
        harness.prepare();
        harness
    }

    fn until_connecting(self) -> Self {
        let mut harness = self.until_offering();
        let answer = harness.answer.clone();
        harness.poll_answer(&answer);
        harness
    }

    fn until_ready(self) -> Self {
        let mut harness = self.until_connecting();
        harness.connect();
        harness
    }

    /// Ready, and the server has answered in v1 at 100 ms: tracks are resumed.
    fn until_resumed(self) -> Self {
        let mut harness = self.until_ready();
        harness.run(100);
        harness.receive_control(server::schema("ctrl_1"));
        harness
    }

    fn ready(policy: Policy) -> Self {
        Self::new(policy).until_ready()
    }

    fn resumed(policy: Policy) -> Self {
        Self::new(policy).until_resumed()
    }
}

/// The error with which the session failed or was lost, without its class.
#[track_caller]
fn failure(out: &[Action]) -> Error {
    let failure = None;
    Error {
        failure,
        ..classed_failure(out)
    }
}

/// As [`failure`], with the class for the platform's first clients.
#[track_caller]
fn classed_failure(out: &[Action]) -> Error {
    let failed = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Failed(error) | MachineEvent::Lost(error)) => {
            Some(error.clone())
        }
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

/// The actions of [`Harness::run`] without their times.
fn actions(timed: Vec<(u64, Action)>) -> Vec<Action> {
    timed.into_iter().map(|(_, action)| action).collect()
}
