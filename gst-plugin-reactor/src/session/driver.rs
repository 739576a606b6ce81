// SPDX-License-Identifier: MIT

//! Carries out the state machine's actions: HTTP requests, timers, the transport.
//! One task per session on the I/O threads; elements and the transport only send
//! it messages. It takes no decision about the session and never blocks.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    command_queue::{CommandQueue, QueuedCommand, Readiness, RequestSender},
    link_capacities::{find_capacity, remember_capacity},
    log,
    machine::{Action, Input, Machine, MachineEvent, Policy, Status},
    messages::{DriverMessage, TransportReport},
    participants::Participants,
    replies::ReplyCallback,
    runtime::{Timer, runtime},
    settings::{MIN_LATENCY, Settings},
    shared_state::SharedState,
    statistics::StatisticsTotals,
    transport::{Reporter, Transport, TransportCommand, TransportConfig},
};
use crate::platform::{
    Error,
    coordinator::{Coordinator, Ownership},
    http::HTTP_TIMEOUT,
    lock,
    schema::Schema,
    signaling::{IceServer, Signaling},
    wire::{ClientMessage, ServerMessage},
};

mod http_requests;
mod published_state;
mod statistics;
mod tracks;

use published_state::PublishedState;
use statistics::ClientStatsReporter;

/// How long opening a session may take: the requests for a token, perhaps for
/// another, and for the session itself.
const OPEN_SESSION_LIMIT: Duration = HTTP_TIMEOUT.saturating_mul(4);

/// How long taking down a connection may take on this machine, after the session was
/// closed. While it is being made, webrtcbin waits for the key that the DTLS element
/// generates: 50 to 500 ms, and over 5 s where others want the processors. A process
/// that exits in the middle of it may wait for ever: gst_deinit() holds a lock that
/// webrtcbin's thread needs, while it waits for that thread's tasks.
pub(super) const TEARDOWN_LIMIT: Duration = Duration::from_secs(6);

pub(super) struct Driver {
    machine: Machine,
    policy: Policy,
    /// The server's address.
    server: String,
    epoch: Instant,
    coordinator: Coordinator,
    /// Of the last session; it stays when that has ended.
    session_id: String,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    signaling: Option<Signaling>,
    /// The signaling requests of the connection that is being made.
    signaling_tasks: JoinSet<()>,
    /// The request for a session is pending.
    opening_session: bool,
    transport: Transport,
    /// The number of the transport; reports of earlier ones are ignored.
    generation: u64,
    /// How many transports, with the present one, have not closed yet.
    open_transports: u32,
    transport_config: TransportConfig,
    participants: Participants,
    queued_commands: mpsc::UnboundedSender<QueuedCommand>,
    readiness: watch::Sender<Readiness>,
    /// The model's, once it is known.
    schema: Option<Arc<Schema>>,
    /// The callbacks of pending requests, by token.
    replies: HashMap<u64, ReplyCallback>,
    next_token: u64,
    messages: mpsc::UnboundedSender<DriverMessage>,
    shared: Arc<SharedState>,
    statistics: StatisticsTotals,
    client_stats: ClientStatsReporter,
    /// Of the elements that post their statistics.
    stats_timers: HashMap<u64, Timer>,
    published_state: PublishedState,
}

impl Driver {
    pub(super) fn new(
        settings: &Settings,
        messages: mpsc::UnboundedSender<DriverMessage>,
        shared: Arc<SharedState>,
    ) -> Result<Self, Error> {
        let coordinator = settings.coordinator()?;
        let epoch = Instant::now();
        let policy = settings.policy();
        let transport_config = transport_config(settings);
        let participants = Participants::default();
        let (queued_commands, commands) = mpsc::unbounded_channel();
        let (readiness, ready) = watch::channel(Readiness::default());
        let command_queue =
            CommandQueue::new(coordinator.clone(), ready, request_sender(&messages));
        let transport = Transport::new(
            transport_config.clone(),
            epoch,
            reporter(&messages, 0),
            participants.taps(),
            shared.track_senders.clone(),
        )?;
        runtime()?.spawn(command_queue.run(commands));
        Ok(Self {
            machine: Machine::new(policy.clone()),
            policy,
            server: settings.server().to_owned(),
            epoch,
            coordinator,
            session_id: String::new(),
            arguments: settings.parse_arguments()?,
            signaling: None,
            signaling_tasks: JoinSet::new(),
            opening_session: false,
            transport,
            generation: 0,
            open_transports: 1,
            transport_config,
            participants,
            queued_commands,
            readiness,
            schema: None,
            replies: HashMap::new(),
            next_token: 0,
            messages,
            shared,
            statistics: StatisticsTotals::default(),
            client_stats: ClientStatsReporter::new(),
            stats_timers: HashMap::new(),
            published_state: PublishedState::new(settings),
        })
    }

    /// Spawns the driver's task, which begins once the `previous` sessions on the
    /// server are closed.
    pub(super) fn start(
        self,
        receiver: mpsc::UnboundedReceiver<DriverMessage>,
        previous: Vec<Arc<SharedState>>,
    ) -> Result<(), Error> {
        let limit = self.policy.close_limit;
        runtime()?.spawn(async move {
            let closed = async {
                for session in &previous {
                    session.closed().await;
                }
            };
            let _ = tokio::time::timeout(limit, closed).await;
            self.run(receiver).await;
        });
        Ok(())
    }

    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<DriverMessage>) {
        let known = find_capacity(&self.server, Instant::now());
        self.machine.set_link_capacity(known);
        while !self.machine.is_closed() {
            let message = match self.machine.deadline() {
                None => receiver.recv().await,
                Some(at) => {
                    let at = tokio::time::Instant::from_std(self.epoch) + at;
                    tokio::select! {
                        message = receiver.recv() => message,
                        () = tokio::time::sleep_until(at) => Some(DriverMessage::Input(Input::Tick)),
                    }
                }
            };
            match message {
                Some(message) => {
                    let changes_state = published_state::may_change(&message);
                    self.handle_message(message);
                    if changes_state {
                        self.publish_state();
                    }
                }
                None => self.handle_input(Input::Stop),
            }
        }
        self.transport.close();
        if !self.opening_session {
            self.wait_for_transports(&mut receiver).await;
            // Nothing else that is there now is of use to anybody.
            while let Ok(message) = receiver.try_recv() {
                self.handle_late_message(message);
            }
        }
        self.shared.set_closed();
        if self.opening_session && !self.machine.is_recoverable() {
            self.end_late_session(receiver).await;
        }
    }

    /// Waits until all transports have closed, the last one too, for which the machine
    /// waits no longer than for the server: a process must not exit while one is being
    /// taken down.
    async fn wait_for_transports(&mut self, receiver: &mut mpsc::UnboundedReceiver<DriverMessage>) {
        let closed = async {
            while self.open_transports > 0
                && let Some(message) = receiver.recv().await
            {
                self.handle_late_message(message);
            }
        };
        let _ = tokio::time::timeout(TEARDOWN_LIMIT, closed).await;
    }

    /// Handles what comes when the machine is closed.
    fn handle_late_message(&mut self, message: DriverMessage) {
        match message {
            DriverMessage::Transport(_, TransportReport::Input(Input::TransportClosed)) => {
                self.open_transports -= 1;
            }
            // It joined in the moment of the end, and hears of that.
            DriverMessage::Join(id, participant, events) => {
                self.participants.join(id, participant, events);
            }
            _ => {}
        }
    }

    /// Ends a session that the server opens after the driver was stopped.
    async fn end_late_session(self, mut receiver: mpsc::UnboundedReceiver<DriverMessage>) {
        let opened = async {
            loop {
                match receiver.recv().await {
                    Some(DriverMessage::Input(Input::SessionOpened(result))) => return result.ok(),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let opened = tokio::time::timeout(OPEN_SESSION_LIMIT, opened).await;
        if let Ok(Some((session, Ownership::Created))) = opened {
            // No element takes part any more that could receive the result.
            let _ = self.coordinator.end(&session.session_id).await;
        }
    }

    fn handle_message(&mut self, message: DriverMessage) {
        match message {
            DriverMessage::Input(input) => self.handle_input(input),
            DriverMessage::SignalingReply(number, input)
                if number == self.machine.connections() =>
            {
                self.handle_input(input);
            }
            DriverMessage::SignalingReply(..) => {}
            DriverMessage::Join(id, participant, events) => {
                self.participants.join(id, participant, events);
            }
            DriverMessage::LimitDuration(limit) => self.machine.lower_session_limit(limit),
            DriverMessage::Leave(id) => self.leave(id),
            DriverMessage::Plan(id, plan) => self.set_plan(id, plan),
            DriverMessage::Request(message, reply, private) => {
                self.send_request(message, reply, private);
            }
            DriverMessage::QueuedCommand(command) => {
                // A command that is dropped is answered.
                let _ = self.queued_commands.send(command);
            }
            // The next request has it; it may tell another end of the session.
            DriverMessage::JwtReplaced => {}
            DriverMessage::SetLatency(milliseconds) => {
                self.transport_config.latency = milliseconds;
                self.transport_config.latency_now = milliseconds;
                self.transport
                    .send(TransportCommand::SetLatency(milliseconds));
            }
            DriverMessage::RequestKeyframe(track) => {
                self.transport
                    .send(TransportCommand::RequestKeyframe(track));
            }
            DriverMessage::SetCodec(track, codec) => self.open_sender(track, codec),
            DriverMessage::SetStatsInterval(id, interval) => self.set_stats_interval(id, interval),
            DriverMessage::StatisticsDue(id) => self.statistics_due(id),
            DriverMessage::PublishReply(track, result) => self.publish_replied(track, &result),
            DriverMessage::RetryPublish(track) => {
                self.participants.retry_publish(&track);
                self.publish_tracks_if_ready();
            }
            DriverMessage::SetPublished(track, true, reply) => {
                if self.participants.publish(&track, reply) {
                    self.publish_tracks_if_ready();
                }
            }
            DriverMessage::SetPublished(track, false, reply) => self.withdraw(track, reply),
            DriverMessage::PauseTrack(track, paused, reply) => {
                let token = self.await_reply(reply);
                self.handle_input(Input::PauseTrack {
                    token,
                    track,
                    paused,
                });
            }
            DriverMessage::Reconnect(reply) => {
                let token = self.await_reply(reply);
                self.handle_input(Input::Reconnect { token });
            }
            DriverMessage::Disconnect(recoverable, reply) => {
                let token = self.await_reply(reply);
                self.handle_input(Input::Disconnect { token, recoverable });
            }
            DriverMessage::Transport(generation, report) if generation == self.generation => {
                self.handle_report(report);
            }
            DriverMessage::Transport(_, TransportReport::Input(Input::TransportClosed)) => {
                self.open_transports -= 1;
            }
            DriverMessage::Transport(..) => {}
        }
    }

    fn handle_report(&mut self, report: TransportReport) {
        match report {
            TransportReport::Input(input) => {
                self.open_transports -= u32::from(matches!(input, Input::TransportClosed));
                self.handle_input(input);
            }
            TransportReport::KeyframeRequested(track) => self.participants.request_keyframe(&track),
            TransportReport::PacketLoss(track, fraction_lost) => {
                self.participants.report_packet_loss(&track, fraction_lost);
            }
            TransportReport::BandwidthEstimate(bitrate) => {
                self.statistics.set_available_outgoing_bitrate(bitrate);
                self.participants.set_bandwidth_estimate(bitrate);
            }
            TransportReport::JitterBufferLatency(milliseconds) => {
                self.transport_config.latency_now = milliseconds;
                self.participants.set_jitter_buffer_latency(milliseconds);
            }
            TransportReport::Statistics(reading) => self.update_statistics(*reading),
            TransportReport::SenderOpened(track, result) => {
                self.participants.sender_opened(&track, &result);
                self.update_bitrate_limits();
            }
        }
    }

    fn request(&mut self, message: ClientMessage, reply: ReplyCallback) {
        self.send_request(message, reply, false);
    }

    fn send_request(&mut self, message: ClientMessage, reply: ReplyCallback, private: bool) {
        let token = self.await_reply(log::request(&message, reply));
        self.handle_input(Input::Request {
            token,
            message,
            private,
        });
    }

    /// Keeps the callback until the machine replies to the token.
    fn await_reply(&mut self, reply: ReplyCallback) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.replies.insert(token, reply);
        token
    }

    fn handle_input(&mut self, input: Input) {
        if let Input::SessionOpened(result) = &input {
            self.opening_session = false;
            if let Ok((session, ownership)) = result {
                log::opened(session, *ownership);
                self.session_id.clone_from(&session.session_id);
                self.signaling = None;
            }
        }
        if matches!(input, Input::Tick) {
            let tracks = self.transport.last_received();
            self.step_machine(Input::LastReceived(tracks));
        }
        if matches!(input, Input::Tick)
            && let Some(at) = self.transport.last_arrival()
        {
            self.step_machine(Input::LastArrival(at));
        }
        self.step_machine(input);
    }

    fn step_machine(&mut self, input: Input) {
        let before = self.machine.connections();
        let actions = self.machine.handle(self.epoch.elapsed(), input);
        if self.machine.is_ending() {
            // Before an element hears of the end: it may start again at once.
            self.shared.set_ending();
        }
        if self.machine.connections() != before {
            self.signaling_tasks.abort_all();
        }
        *lock(&self.shared.timings) = self.machine.timings();
        for action in actions {
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Emit(mut event) => {
                if let MachineEvent::RuntimeMessage { name, data } = &mut event
                    && *name == "clipReady"
                    && let Some(serde_json::Value::String(url)) = data.get_mut("playlist_url")
                {
                    self.resolve_playlist_url(url);
                }
                log::event(&event);
                let ready = event == MachineEvent::Status(Status::Ready);
                if matches!(event, MachineEvent::Interrupted(_) | MachineEvent::Lost(_)) {
                    self.participants.interrupt();
                    self.end_statistics();
                    self.shared.track_senders.clear();
                }
                self.update_readiness(&event);
                self.participants.broadcast(&event);
                if ready {
                    self.begin_client_stats();
                    self.publish_tracks();
                }
            }
            Action::AnnounceTracks(tracks) => {
                log::tracks(&tracks);
                self.participants.announce_tracks(tracks);
                // With no element that has to plan, the offer is complete.
                self.plan_offer();
            }
            Action::Reply { token, mut result } => {
                if let Ok(ServerMessage::ClipReady(clip)) = &mut result {
                    self.remember_recording(&clip.session_id);
                    self.resolve_playlist_url(&mut clip.playlist_url);
                }
                if let Some(reply) = self.replies.remove(&token) {
                    reply.send(result);
                }
            }
            Action::CreateOffer { ice_servers } => self.create_offer(ice_servers),
            Action::ApplyAnswer(answer) => {
                self.participants.set_negotiated(&answer.tracks);
                *lock(&self.shared.has_receive_feedback) = answer.has_receive_feedback();
                self.transport.send(TransportCommand::ApplyAnswer(answer));
            }
            Action::VerifyPeer(fingerprint) => {
                self.transport
                    .send(TransportCommand::VerifyFingerprint(fingerprint));
            }
            Action::OpenMedia => self.transport.send(TransportCommand::OpenMedia),
            Action::SendFrames(channel, frames) => {
                self.transport.send(TransportCommand::Send(channel, frames));
            }
            Action::SetMaxReceiveBitrate(bitrate) => {
                let command = TransportCommand::SetMaxReceiveBitrate(bitrate);
                self.transport.send(command);
            }
            Action::RememberLinkCapacity(capacity) => {
                log::link_capacity(capacity);
                remember_capacity(&self.server, capacity, Instant::now());
            }
            Action::CloseTransport => self.transport.close(),
            request => self.send_http_request(request),
        }
    }
}

impl Driver {
    /// Has the transport make an offer; each offer is that of a new peer
    /// connection.
    fn create_offer(&mut self, ice_servers: Vec<IceServer>) {
        if self.transport.is_closed() {
            self.generation += 1;
            let transport = Transport::new(
                self.transport_config.clone(),
                self.epoch,
                reporter(&self.messages, self.generation),
                self.participants.taps(),
                self.shared.track_senders.clone(),
            );
            match transport {
                Ok(transport) => {
                    self.transport = transport;
                    self.open_transports += 1;
                }
                Err(error) => return self.defer(Input::OfferCreated(Err(error))),
            }
        }
        self.transport.send(TransportCommand::CreateOffer {
            ice_servers,
            transceivers: self.participants.transceivers(),
        });
    }

    /// Gives an input to the machine once it has handled the present one.
    fn defer(&self, input: Input) {
        let _ = self.messages.send(DriverMessage::Input(input));
    }
}

fn transport_config(settings: &Settings) -> TransportConfig {
    let latency = settings.latency.max(MIN_LATENCY);
    TransportConfig {
        latency,
        max_latency: settings.max_latency,
        latency_now: latency,
        relay_only: settings.relay_only(),
    }
}

/// Sends the command queue's requests to the driver, as long as that runs.
fn request_sender(messages: &mpsc::UnboundedSender<DriverMessage>) -> RequestSender {
    let weak = messages.downgrade();
    Arc::new(move |message, reply| {
        if let Some(messages) = weak.upgrade() {
            let _ = messages.send(DriverMessage::Request(message, reply, false));
        }
    })
}

/// Sends the reports of the transport with this number to the driver. It holds a
/// weak sender: a transport that closes late must not keep the driver's channel
/// open.
fn reporter(messages: &mpsc::UnboundedSender<DriverMessage>, generation: u64) -> Reporter {
    let weak = messages.downgrade();
    Arc::new(move |report| {
        if let Some(messages) = weak.upgrade() {
            let _ = messages.send(DriverMessage::Transport(generation, report));
        }
    })
}
