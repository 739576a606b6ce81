// SPDX-License-Identifier: MIT

//! The driver's HTTP requests, each on a task of its own that sends the reply to
//! the driver. No decision is taken here, and no request is repeated.

use super::{
    super::{messages::DriverMessage, recording_endpoints},
    Action, Driver, Input,
};
use crate::platform::{coordinator::Coordinator, recording::PlaylistLocation};

impl Driver {
    /// Stores on which server the clips of this session's recording are.
    pub(super) fn remember_recording(&self, recording: &str) {
        let endpoint = self.coordinator.endpoint(&self.session_id);
        recording_endpoints::remember_endpoint(recording, endpoint);
    }

    /// Makes the address of a clip's playlist absolute: whoever is given it may
    /// know nothing of this server. One that makes no sense stays as it is.
    pub(super) fn resolve_playlist_url(&self, url: &mut String) {
        let endpoint = self.coordinator.endpoint(&self.session_id);
        if let Ok(location) = PlaylistLocation::of_clip(&endpoint, url) {
            *url = location.url().to_string();
        }
    }

    pub(super) fn send_http_request(&mut self, action: Action) {
        let coordinator = self.coordinator.clone();
        let id = self.session_id.clone();
        match action {
            Action::OpenSession => self.open_session(),
            Action::DescribeSession => {
                self.spawn_request(async move {
                    Input::SessionDescribed(coordinator.describe(&id).await)
                });
            }
            Action::EndSession => {
                self.spawn_request(async move { Input::SessionEnded(coordinator.end(&id).await) });
            }
            signaling => self.send_signaling_request(signaling),
        }
    }

    fn open_session(&mut self) {
        self.opening_session = true;
        let coordinator = self.coordinator.clone();
        let adopt = self.policy.adopt.clone();
        let arguments = self.arguments.clone();
        self.spawn_request(async move {
            let session = coordinator.begin(adopt.as_deref(), arguments.as_ref());
            Input::SessionOpened(session.await)
        });
    }

    fn send_signaling_request(&mut self, action: Action) {
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
                self.spawn_signaling(async move {
                    Input::IceServersFetched(signaling.ice_servers().await)
                });
            }
            Action::RegisterConnection => {
                self.spawn_signaling(async move {
                    Input::ConnectionRegistered(signaling.register().await)
                });
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
                self.spawn_signaling(async move {
                    let offer = signaling.offer(connection_id, &sdp, &mapping, servers, resume);
                    Input::OfferPosted(offer.await)
                });
            }
            Action::PostCandidates {
                connection_id,
                candidates,
                is_end,
            } => {
                self.spawn_signaling(async move {
                    let posted = signaling.candidates(connection_id, &candidates, is_end);
                    Input::CandidatesPosted(posted.await)
                });
            }
            Action::PollAnswer { connection_id } => {
                self.spawn_signaling(async move {
                    Input::AnswerPolled(signaling.answer(connection_id).await)
                });
            }
            _ => {}
        }
    }

    /// Runs a request for the present connection; it is aborted when another
    /// connection begins. An answer can be fetched once only, and a late failure
    /// must not count for the next connection.
    fn spawn_signaling(&mut self, task: impl Future<Output = Input> + Send + 'static) {
        let number = self.machine.connections();
        let messages = self.messages.clone();
        while self.signaling_tasks.try_join_next().is_some() {}
        self.signaling_tasks.spawn(async move {
            let input = task.await;
            let _ = messages.send(DriverMessage::SignalingReply(number, input));
        });
    }

    fn spawn_request(&self, task: impl Future<Output = Input> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let input = task.await;
            let _ = messages.send(DriverMessage::Input(input));
        });
    }
}
