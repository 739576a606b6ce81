// SPDX-License-Identifier: MIT

//! What goes over HTTP, each on a task of its own.

use super::{
    super::{DriverMessage, recordings},
    Action, Driver, Input,
};
use crate::platform::coordinator::Coordinator;

impl Driver {
    /// Where the clips of a recording of this session's are.
    pub(super) fn recorded(&self, recording: &str) {
        let endpoint = self.coordinator.endpoint(&self.session_id);
        recordings::remember(recording, endpoint);
    }

    pub(super) fn ask(&mut self, action: Action) {
        let coordinator = self.coordinator.clone();
        let id = self.session_id.clone();
        match action {
            Action::Begin => self.begin(),
            Action::Describe => {
                self.spawn(async move { Input::Described(coordinator.describe(&id).await) });
            }
            Action::EndSession => {
                self.spawn(async move { Input::SessionEnded(coordinator.end(&id).await) });
            }
            signaling => self.signal(signaling),
        }
    }

    fn begin(&mut self) {
        self.beginning = true;
        let coordinator = self.coordinator.clone();
        let adopt = self.policy.adopt.clone();
        let arguments = self.arguments.clone();
        self.spawn(async move {
            let begin = coordinator.begin(adopt.as_deref(), arguments.as_ref());
            Input::Begun(begin.await)
        });
    }

    fn signal(&mut self, action: Action) {
        let signaling = match &self.signaling {
            Some(signaling) => signaling.clone(),
            None => {
                let Some(id) = self.machine.session_id() else {
                    return;
                };
                self.signaling
                    .insert(self.coordinator.signaling(id))
                    .clone()
            }
        };
        match action {
            Action::FetchIceServers => {
                self.call(async move { Input::IceServers(signaling.ice_servers().await) });
            }
            Action::Register => {
                self.call(async move { Input::Registered(signaling.register().await) });
            }
            Action::PostOffer {
                connection_id,
                sdp,
                mapping,
                resume,
            } => {
                // An empty list keeps a local server from looking for a STUN
                // server that a local client has no use for.
                let servers = matches!(self.coordinator, Coordinator::Local(_)).then_some(&[][..]);
                self.call(async move {
                    let offer = signaling.offer(connection_id, &sdp, &mapping, servers, resume);
                    Input::OfferPosted(offer.await)
                });
            }
            Action::PollAnswer { connection_id } => {
                self.call(
                    async move { Input::AnswerPolled(signaling.answer(connection_id).await) },
                );
            }
            _ => {}
        }
    }

    /// For the connection of now: when another is begun, this is given up. An
    /// answer can be fetched once only, and a late failure is none of the next.
    fn call(&mut self, task: impl Future<Output = Input> + Send + 'static) {
        let number = self.machine.connections();
        let messages = self.messages.clone();
        while self.calls.try_join_next().is_some() {}
        self.calls.spawn(async move {
            let input = task.await;
            let _ = messages.send(DriverMessage::Signaled(number, input));
        });
    }

    fn spawn(&self, task: impl Future<Output = Input> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let input = task.await;
            let _ = messages.send(DriverMessage::Input(input));
        });
    }
}
