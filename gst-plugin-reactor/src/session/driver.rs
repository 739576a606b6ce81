// SPDX-License-Identifier: MIT

//! Does what the state machine says: HTTP, timers, the transport. One task
//! per session; everything else only sends it messages.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    DriverMessage, MediaPlan, ReplyCallback, SharedState, Status, TransportReport,
    codecs::Codec,
    command_queue::{CommandQueue, QueuedCommand, Readiness},
    lock,
    machine::{Action, Input, Machine, MachineEvent, Policy},
    participants::{Participants, Released},
    settings::Settings,
    transport::{self, Reporter, Transport},
};
use crate::platform::{
    Code, Error,
    coordinator::{Coordinator, Ownership},
    http::HTTP_TIMEOUT,
    schema::Schema,
    signaling::{IceServer, Signaling},
    wire::{ClientMessage, ServerMessage},
};

mod calls;

/// All sessions of the process share these; none ever blocks on them.
const WORKERS: usize = 2;

/// The process's I/O threads.
///
/// # Errors
///
/// When it has no threads left.
pub fn runtime() -> Result<&'static Runtime, Error> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("reactor-io")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    runtime
        .as_ref()
        .map_err(|error| Error::api(Code::Internal, format!("no I/O threads: {error}")))
}

/// Runs something later, on an I/O thread.
pub fn after(delay: Duration, run: impl FnOnce() + Send + 'static) {
    if let Ok(runtime) = runtime() {
        runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            run();
        });
    }
}

/// To get a session takes a token, perhaps another, and the session itself.
const BEGIN_LIMIT: Duration = HTTP_TIMEOUT.saturating_mul(4);

pub(super) struct Driver {
    machine: Machine,
    policy: Policy,
    epoch: Instant,
    coordinator: Coordinator,
    /// The last one, also when the machine is done with it.
    session_id: String,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    signaling: Option<Signaling>,
    /// For the connection that is being made.
    calls: JoinSet<()>,
    /// A session was asked for and the server has not answered.
    beginning: bool,
    transport: Transport,
    /// Of how many: what the ones before still say is void.
    generation: u64,
    /// It is taken down, and how many before it are not yet.
    down: bool,
    closing: u32,
    config: transport::TransportConfig,
    participants: Participants,
    queued: mpsc::UnboundedSender<QueuedCommand>,
    readiness: watch::Sender<Readiness>,
    /// The model's, once it is known.
    schema: Option<Arc<Schema>>,
    command_queue: Option<(CommandQueue, mpsc::UnboundedReceiver<QueuedCommand>)>,
    replies: HashMap<u64, ReplyCallback>,
    next_token: u64,
    messages: mpsc::UnboundedSender<DriverMessage>,
    shared: Arc<SharedState>,
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
        let config = settings.transport();
        let participants = Participants::default();
        let (queued, queue) = mpsc::unbounded_channel();
        let (readiness, ready) = watch::channel(Readiness::default());
        let command_queue = CommandQueue {
            coordinator: coordinator.clone(),
            readiness: ready,
            messages: messages.downgrade(),
        };
        Ok(Self {
            machine: Machine::new(policy.clone()),
            policy,
            epoch,
            coordinator,
            session_id: String::new(),
            arguments: settings.arguments.clone(),
            signaling: None,
            calls: JoinSet::new(),
            beginning: false,
            transport: Transport::new(
                config.clone(),
                epoch,
                reporter(&messages, 0),
                participants.taps(),
                shared.track_senders.clone(),
            )?,
            generation: 0,
            down: false,
            closing: 0,
            config,
            participants,
            queued,
            readiness,
            schema: None,
            command_queue: Some((command_queue, queue)),
            replies: HashMap::new(),
            next_token: 0,
            messages,
            shared,
        })
    }

    pub(super) fn launch(
        mut self,
        receiver: mpsc::UnboundedReceiver<DriverMessage>,
        before: Option<Arc<SharedState>>,
    ) -> Result<(), Error> {
        let limit = self.policy.close_limit;
        let runtime = runtime()?;
        if let Some((command_queue, queued)) = self.command_queue.take() {
            runtime.spawn(command_queue.run(queued));
        }
        runtime.spawn(async move {
            if let Some(before) = before {
                let _ = tokio::time::timeout(limit, before.wait_closed()).await;
            }
            self.run(receiver).await;
        });
        Ok(())
    }

    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<DriverMessage>) {
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
                Some(message) => self.message(message),
                None => self.input(Input::Stop),
            }
        }
        self.transport.close();
        if !self.beginning {
            self.wait_for_transports(&mut receiver).await;
        }
        self.shared.set_closed();
        if self.beginning && !self.policy.recoverable {
            self.end_late_session(receiver).await;
        }
    }

    /// A process that ends must not have connections that are being taken down.
    async fn wait_for_transports(&mut self, receiver: &mut mpsc::UnboundedReceiver<DriverMessage>) {
        let closed = async {
            while self.closing > 0
                && let Some(message) = receiver.recv().await
            {
                if let DriverMessage::Transport(generation, report) = message
                    && generation != self.generation
                    && matches!(report, TransportReport::Input(Input::TransportClosed))
                {
                    self.closing -= 1;
                }
            }
        };
        let _ = tokio::time::timeout(self.policy.close_limit, closed).await;
    }

    /// Closed before the server said whether there is a session: if one comes
    /// after all, nobody will use it.
    async fn end_late_session(self, mut receiver: mpsc::UnboundedReceiver<DriverMessage>) {
        let begun = async {
            loop {
                match receiver.recv().await {
                    Some(DriverMessage::Input(Input::Begun(result))) => return result.ok(),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let begun = tokio::time::timeout(BEGIN_LIMIT, begun).await;
        if let Ok(Some((session, Ownership::Created))) = begun {
            // Nobody is left to hear how that goes.
            let _ = self.coordinator.end(&session.session_id).await;
        }
    }

    fn message(&mut self, message: DriverMessage) {
        match message {
            DriverMessage::Input(input) => self.input(input),
            DriverMessage::Signaled(number, input) if number == self.machine.connections() => {
                self.input(input);
            }
            DriverMessage::Signaled(..) => {}
            DriverMessage::Join(id, member, events) => self.participants.join(id, member, events),
            DriverMessage::Leave(id) => self.leave(id),
            DriverMessage::Plan(id, plan) => self.plan(id, plan),
            DriverMessage::Request(message, reply) => self.request(message, reply),
            DriverMessage::QueuedCommand(command) => {
                if let Err(mpsc::error::SendError(command)) = self.queued.send(command) {
                    command.refuse(super::closed());
                }
            }
            DriverMessage::SetLatency(milliseconds) => {
                self.config.latency = milliseconds;
                self.config.latency_now = milliseconds;
                self.transport.set_latency(milliseconds);
            }
            DriverMessage::RequestKeyframe(track) => self.transport.request_keyframe(track),
            DriverMessage::Format(track, codec) => self.open_sender(track, codec),
            DriverMessage::Claimed(track, result) => self.participants.claimed(&track, result),
            DriverMessage::Publish(track, publish) => self.publish(&track, publish),
            DriverMessage::Transport(generation, report) if generation == self.generation => {
                self.report(report);
            }
            DriverMessage::Transport(_, TransportReport::Input(Input::TransportClosed)) => {
                self.closing -= 1
            }
            DriverMessage::Transport(..) => {}
        }
    }

    fn report(&mut self, report: TransportReport) {
        match report {
            TransportReport::Input(input) => {
                self.down |= matches!(input, Input::TransportClosed);
                self.input(input);
            }
            TransportReport::KeyframeWanted(track) => self.participants.keyframe_wanted(&track),
            TransportReport::Loss(track, lost) => self.participants.loss(&track, lost),
            TransportReport::Estimate(bitrate) => self.participants.estimate(bitrate),
            TransportReport::Latency(milliseconds) => {
                self.config.latency_now = milliseconds;
                self.participants.latency(milliseconds);
            }
            TransportReport::SenderOpen(track, result) => {
                self.participants.sender_open(&track, result);
                self.limit();
            }
        }
    }

    fn request(&mut self, message: ClientMessage, reply: ReplyCallback) {
        let token = self.next_token;
        self.next_token += 1;
        self.replies.insert(token, reply);
        self.input(Input::Request { token, message });
    }

    fn input(&mut self, input: Input) {
        if let Input::Begun(result) = &input {
            self.beginning = false;
            if let Ok((session, _)) = result {
                self.session_id.clone_from(&session.session_id);
                self.signaling = None;
            }
        }
        if matches!(input, Input::Tick)
            && let Some(at) = self.transport.last_received()
        {
            self.handle(Input::LastReceived(at));
        }
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let before = self.machine.connections();
        let actions = self.machine.handle(self.epoch.elapsed(), input);
        if self.machine.connections() != before {
            self.calls.abort_all();
        }
        *lock(&self.shared.timings) = self.machine.timings();
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Emit(event) => {
                let ready = event == MachineEvent::Status(Status::Ready);
                if matches!(event, MachineEvent::Interrupted(_)) {
                    self.participants.interrupted();
                    self.shared.track_senders.clear();
                }
                self.update_command_queue(&event);
                self.participants.tell(event);
                if ready {
                    self.publish_all();
                }
            }
            Action::Announce(tracks) => {
                self.participants.announce(tracks);
                // Nobody may be left to ask.
                self.settle();
            }
            Action::Reply { token, result } => {
                if let Ok(ServerMessage::ClipReady(clip)) = &result {
                    self.recorded(&clip.session_id);
                }
                if let Some(reply) = self.replies.remove(&token) {
                    reply(result);
                }
            }
            Action::Build { ice_servers } => self.build(ice_servers),
            Action::ApplyAnswer(answer) => {
                self.participants.negotiated(&answer.tracks);
                self.transport.apply_answer(answer);
            }
            Action::VerifyIdentity(fingerprint) => self.transport.verify_fingerprint(fingerprint),
            Action::OpenMedia => self.transport.open_media(),
            Action::Send(channel, frames) => self.transport.send(channel, frames),
            Action::CloseTransport => self.transport.close(),
            http => self.ask(http),
        }
    }
}

impl Driver {
    /// Each offer is that of a peer connection of its own.
    fn build(&mut self, ice_servers: Vec<IceServer>) {
        if self.transport.is_closed() {
            self.generation += 1;
            let transport = Transport::new(
                self.config.clone(),
                self.epoch,
                reporter(&self.messages, self.generation),
                self.participants.taps(),
                self.shared.track_senders.clone(),
            );
            match transport {
                Ok(transport) => {
                    self.transport = transport;
                    self.closing += u32::from(!std::mem::take(&mut self.down));
                }
                Err(error) => return self.later(Input::OfferBuilt(Err(error))),
            }
        }
        self.transport
            .create_offer(ice_servers, self.participants.offers());
    }

    /// Not now: the machine is at work.
    fn later(&self, input: Input) {
        let _ = self.messages.send(DriverMessage::Input(input));
    }
}

/// How the transport with this number reports. Weak: one that closes late must
/// not keep the driver waiting.
fn reporter(messages: &mpsc::UnboundedSender<DriverMessage>, generation: u64) -> Reporter {
    let weak = messages.downgrade();
    Arc::new(move |report| {
        if let Some(messages) = weak.upgrade() {
            let _ = messages.send(DriverMessage::Transport(generation, report));
        }
    })
}

/// The elements that take part.
impl Driver {
    fn leave(&mut self, id: u64) {
        for released in self.participants.leave(id) {
            self.release(released);
        }
        if self.participants.is_empty() {
            self.input(Input::Stop);
        } else {
            self.settle();
            self.limit();
        }
    }

    /// Tells the transport how much may be sent.
    fn limit(&mut self) {
        if let Some(limits) = self.participants.limits() {
            self.transport.set_bitrate_limits(limits);
        }
    }

    fn release(&mut self, released: Released) {
        match released {
            Released::Output(track) => self.input(Input::Want {
                track,
                flowing: false,
            }),
            Released::Input(track) => {
                self.shared.track_senders.remove(&track);
                self.transport.close_sender(track.clone());
                self.unpublish(&track);
            }
        }
    }

    /// Commands wait for the session, and are checked against its schema.
    fn update_command_queue(&mut self, event: &MachineEvent) {
        let machine = &self.machine;
        let id = || machine.session_id().unwrap_or_default().to_owned();
        match event {
            MachineEvent::Status(Status::Ready) => {
                let schema = self.schema.clone();
                self.readiness.send_replace(Readiness::Ready(id(), schema));
            }
            MachineEvent::Interrupted(_) => {
                self.readiness.send_replace(Readiness::NotYet);
            }
            // Of the next one, if there is any.
            MachineEvent::SessionId(_) => self.schema = None,
            MachineEvent::RuntimeMessage { name, data } if *name == "modelSchema" => {
                if let Ok(schema) = Schema::parse(data) {
                    self.schema = Some(Arc::new(schema));
                    let schema = self.schema.clone();
                    self.readiness.send_replace(Readiness::Ready(id(), schema));
                }
            }
            MachineEvent::Failed(_) | MachineEvent::Ended { .. } | MachineEvent::Closed => {
                self.readiness.send_replace(Readiness::Over);
            }
            _ => {}
        }
    }

    fn open_sender(&mut self, track: String, codec: &'static Codec) {
        if let Some(payload) = self.participants.payload(&track, codec) {
            self.transport.open_sender(track, codec, payload);
        }
    }

    fn plan(&mut self, id: u64, plan: Result<MediaPlan, Error>) {
        match plan {
            Ok(plan) => {
                let wants = self.participants.planned(id, plan);
                for (track, flowing) in wants {
                    self.input(Input::Want { track, flowing });
                }
            }
            // Alone with its trouble, the session has no purpose.
            Err(error) if self.participants.is_alone(id) => {
                return self.input(Input::Planned(Err(error)));
            }
            Err(error) => self.participants.fail(id, error),
        }
        self.limit();
        self.settle();
        if self.participants.is_ready() {
            self.publish_all();
        }
    }

    /// Makes the offer once everybody who is there has said what they take.
    fn settle(&mut self) {
        if let Some(plan) = self.participants.settle() {
            self.input(Input::Planned(plan));
        }
    }

    /// What an application asks for; nobody is fed before the claim is there.
    fn publish(&mut self, track: &str, publish: bool) {
        if self.participants.publish(track, publish) {
            if publish {
                if self.participants.is_ready() {
                    self.publish_all();
                }
            } else {
                self.shared.track_senders.remove(track);
                self.transport.close_sender(track.to_owned());
                self.unpublish(track);
            }
        }
    }

    fn unpublish(&mut self, track: &str) {
        let message = ClientMessage::UnpublishTrack(track.to_owned());
        self.request(message, Box::new(|_| {}));
    }

    /// Claims the input tracks that elements feed and nobody has claimed yet.
    fn publish_all(&mut self) {
        for (track, lost) in self.participants.unclaimed() {
            if lost {
                // The server may not have noticed yet that the connection is
                // gone which holds the claim. It is under the same number, and
                // so may give it up.
                self.unpublish(&track);
            }
            let messages = self.messages.downgrade();
            let name = track.clone();
            let reply: ReplyCallback = Box::new(move |result| {
                if let Some(messages) = messages.upgrade() {
                    let claim = DriverMessage::Claimed(name, result.map(|_| ()));
                    let _ = messages.send(claim);
                }
            });
            self.request(ClientMessage::PublishTrack(track), reply);
        }
    }
}
