// SPDX-License-Identifier: MIT

//! Does what the state machine says: HTTP, timers, the transport. One task
//! per session; everything else only sends it messages.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError},
    time::Instant,
};

use tokio::{runtime::Runtime, sync::mpsc};

use super::{
    Event, EventSender, Message, Reply, Shared,
    machine::{Action, Input, Machine, Plan, Policy},
    port::Subscription,
    settings::Settings,
    transport::{InputSender, Transport},
};
use crate::platform::{
    Code, Error,
    coordinator::{LocalRuntime, Ownership},
    http::HTTP_TIMEOUT,
    signaling::Signaling,
};

/// All sessions of the process share these; none ever blocks on them.
const WORKERS: usize = 2;

fn runtime() -> Result<&'static Runtime, Error> {
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

pub(super) struct Driver {
    machine: Machine,
    policy: Policy,
    epoch: Instant,
    local: LocalRuntime,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    signaling: Option<Signaling>,
    /// A session was asked for and the server has not answered.
    beginning: bool,
    transport: Transport,
    subscriptions: Vec<Subscription>,
    replies: HashMap<u64, Reply>,
    next_token: u64,
    events: EventSender,
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

impl Driver {
    pub(super) fn new(
        settings: &Settings,
        events: EventSender,
        messages: mpsc::UnboundedSender<Message>,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let local = LocalRuntime::new(settings.local_url()?)?;
        let epoch = Instant::now();
        // Weak: a transport that closes late must not keep the driver waiting.
        let inputs = messages.downgrade();
        let inputs: InputSender = Arc::new(move |input| {
            if let Some(inputs) = inputs.upgrade() {
                let _ = inputs.send(Message::Input(input));
            }
        });
        let policy = settings.policy();
        Ok(Self {
            machine: Machine::new(policy.clone()),
            policy,
            epoch,
            local,
            arguments: settings.arguments.clone(),
            signaling: None,
            beginning: false,
            transport: Transport::new(settings.transport(), epoch, inputs)?,
            subscriptions: Vec::new(),
            replies: HashMap::new(),
            next_token: 0,
            events,
            messages,
            shared,
        })
    }

    pub(super) fn launch(
        self,
        receiver: mpsc::UnboundedReceiver<Message>,
        before: Option<Arc<Shared>>,
    ) -> Result<(), Error> {
        let limit = self.policy.close_limit;
        runtime()?.spawn(async move {
            if let Some(before) = before {
                let _ = tokio::time::timeout(limit, before.wait_closed()).await;
            }
            self.run(receiver).await;
        });
        Ok(())
    }

    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        while !self.machine.is_closed() {
            let message = match self.machine.deadline() {
                None => receiver.recv().await,
                Some(at) => {
                    let at = tokio::time::Instant::from_std(self.epoch) + at;
                    tokio::select! {
                        message = receiver.recv() => message,
                        () = tokio::time::sleep_until(at) => Some(Message::Input(Input::Tick)),
                    }
                }
            };
            match message {
                Some(message) => self.message(message),
                None => self.input(Input::Stop),
            }
        }
        self.transport.close();
        self.shared.set_closed();
        if self.beginning && !self.policy.recoverable {
            self.end_late_session(receiver).await;
        }
    }

    /// Closed before the server said whether there is a session: if one comes
    /// after all, nobody will use it.
    async fn end_late_session(self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        let begun = async {
            loop {
                match receiver.recv().await {
                    Some(Message::Input(Input::Begun(result))) => return result.ok(),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let begun = tokio::time::timeout(HTTP_TIMEOUT, begun).await;
        if let Ok(Some((_, Ownership::Created))) = begun {
            // Nobody is left to hear how that goes.
            let _ = self.local.stop().await;
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.input(input),
            Message::Plan(plan) => {
                let plan = plan.map(|subscriptions| {
                    self.subscriptions = subscriptions;
                    self.subscriptions.iter().map(plan_of).collect()
                });
                self.input(Input::Planned(plan));
            }
            Message::Request(message, reply) => {
                let token = self.next_token;
                self.next_token += 1;
                self.replies.insert(token, reply);
                self.input(Input::Request { token, message });
            }
            Message::SetLatency(milliseconds) => self.transport.set_latency(milliseconds),
            Message::RequestKeyframe(track) => self.transport.request_keyframe(track),
        }
    }

    fn input(&mut self, input: Input) {
        if matches!(input, Input::Begun(_)) {
            self.beginning = false;
        }
        if matches!(input, Input::Tick)
            && let Some(at) = self.transport.heard()
        {
            self.handle(Input::Heard(at));
        }
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let actions = self.machine.handle(self.epoch.elapsed(), input);
        *self
            .shared
            .timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.machine.timings();
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Emit(event) => (self.events)(Event::Machine(Box::new(event))),
            Action::Announce(tracks) => (self.events)(Event::Tracks(tracks)),
            Action::Reply { token, result } => {
                if let Some(reply) = self.replies.remove(&token) {
                    reply(result);
                }
            }
            Action::Build { ice_servers } => {
                let subscriptions = std::mem::take(&mut self.subscriptions);
                self.transport.build(ice_servers, subscriptions);
            }
            Action::ApplyAnswer(answer) => self.transport.apply(answer),
            Action::VerifyIdentity(fingerprint) => self.transport.verify(fingerprint),
            Action::OpenMedia => self.transport.open_media(),
            Action::Send(channel, frames) => self.transport.send(channel, frames),
            Action::CloseTransport => self.transport.close(),
            http => self.ask(http),
        }
    }

    /// What goes over HTTP, each on a task of its own.
    fn ask(&mut self, action: Action) {
        let local = self.local.clone();
        match action {
            Action::Begin => self.begin(),
            Action::Describe => {
                self.spawn(async move { Input::Described(local.describe().await) });
            }
            Action::EndSession => {
                self.spawn(async move { Input::SessionEnded(local.stop().await) });
            }
            signaling => self.signal(signaling),
        }
    }

    fn begin(&mut self) {
        self.beginning = true;
        let local = self.local.clone();
        let adopt = self.policy.adopt.clone();
        let arguments = self.arguments.clone();
        self.spawn(async move {
            Input::Begun(match adopt {
                Some(id) => local.adopt(&id).await.map(|d| (d, Ownership::Joined)),
                None => local.start(arguments.as_ref()).await,
            })
        });
    }

    fn signal(&mut self, action: Action) {
        let signaling = match &self.signaling {
            Some(signaling) => signaling.clone(),
            None => {
                let Some(id) = self.machine.session_id() else {
                    return;
                };
                self.signaling.insert(self.local.signaling(id)).clone()
            }
        };
        match action {
            Action::FetchIceServers => {
                self.spawn(async move { Input::IceServers(signaling.ice_servers().await) });
            }
            Action::Register => {
                self.spawn(async move { Input::Registered(signaling.register().await) });
            }
            Action::PostOffer {
                connection_id,
                sdp,
                mapping,
            } => self.spawn(async move {
                // An empty list keeps the server from looking for a STUN
                // server that a local client has no use for.
                let servers = Some(&[][..]);
                let offer = signaling.offer(connection_id, &sdp, &mapping, servers, false);
                Input::OfferPosted(offer.await)
            }),
            Action::PollAnswer { connection_id } => {
                self.spawn(
                    async move { Input::AnswerPolled(signaling.answer(connection_id).await) },
                );
            }
            _ => {}
        }
    }

    fn spawn(&self, task: impl Future<Output = Input> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let input = task.await;
            let _ = messages.send(Message::Input(input));
        });
    }
}

fn plan_of(subscription: &Subscription) -> Plan {
    Plan {
        track: subscription.track.clone(),
        flowing: subscription.flowing,
    }
}
