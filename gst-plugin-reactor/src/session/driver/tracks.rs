// SPDX-License-Identifier: MIT

//! The elements that take part, their tracks, and whether commands can be sent.

use std::sync::Arc;

use super::{Driver, DriverMessage, Input};
use crate::{
    platform::{
        Error,
        schema::Schema,
        wire::{ClientMessage, ServerMessage},
    },
    session::{
        codecs::Codec,
        command_queue::Readiness,
        events::MediaPlan,
        machine::{MachineEvent, Status},
        participants::{RETRY_INTERVAL, ReleasedTrack},
        replies::{Reply, ReplyCallback},
        transport::TransportCommand,
    },
};

impl Driver {
    pub(super) fn leave(&mut self, id: u64) {
        self.stats_timers.remove(&id);
        let is_ready = self.participants.is_ready();
        for released in self.participants.leave(id) {
            match released {
                ReleasedTrack::Subscribed(track) => {
                    let paused = true;
                    self.handle_input(Input::SetTrackPaused { track, paused });
                }
                ReleasedTrack::Published(track) => self.unpublish(track, Reply::ignored()),
            }
        }
        if self.participants.is_empty() {
            if is_ready && !self.machine.ends_session() {
                // The session goes on without us, and others may want the tracks.
                self.transport.send(TransportCommand::CloseChannels);
            }
            self.handle_input(Input::Stop);
        } else {
            self.plan_offer();
            self.update_bitrate_limits();
        }
    }

    /// Passes changed bitrate limits on to the transport.
    pub(super) fn update_bitrate_limits(&mut self) {
        if let Some(limits) = self.participants.take_bitrate_limits() {
            self.transport
                .send(TransportCommand::SetBitrateLimits(limits));
        }
    }

    /// Tells the command queue whether commands can be sent, and the schema to
    /// check them against.
    pub(super) fn update_readiness(&mut self, event: &MachineEvent) {
        let readiness = match event {
            MachineEvent::Status(Status::Ready) => self.readiness(),
            MachineEvent::Status(Status::Disconnected) if self.machine.is_suspended() => {
                Readiness::Suspended
            }
            MachineEvent::Status(Status::Disconnected) => Readiness::Over,
            MachineEvent::Status(_) | MachineEvent::Interrupted(_) => Readiness::NotYet,
            MachineEvent::Lost(_) => Readiness::Suspended,
            // The next session, if there is one, has a schema of its own.
            MachineEvent::SessionId(_) => {
                self.schema = None;
                self.participants.forget_schema();
                return;
            }
            MachineEvent::RuntimeMessage { name, data } if *name == "modelSchema" => {
                let Ok(schema) = Schema::parse(data) else {
                    return;
                };
                let schema = Arc::new(schema);
                self.participants.announce_schema(schema.clone());
                self.schema = Some(schema);
                self.readiness()
            }
            MachineEvent::Failed(_) | MachineEvent::Ended { .. } | MachineEvent::Closed => {
                Readiness::Over
            }
            _ => return,
        };
        self.readiness.send_replace(readiness);
    }

    pub(super) fn readiness(&self) -> Readiness {
        let id = self.machine.session_id().unwrap_or_default().to_owned();
        Readiness::Ready(id, self.schema.clone())
    }

    pub(super) fn open_sender(&mut self, track: String, codec: &'static Codec) {
        if let Some(payload_type) = self.participants.payload_type(&track, codec) {
            self.participants.set_sent_codec(&track, codec);
            self.transport
                .send(TransportCommand::OpenSender(track, codec, payload_type));
        }
    }

    pub(super) fn set_plan(&mut self, id: u64, plan: Result<MediaPlan, Error>) {
        match plan {
            Ok(plan) => self.participants.set_plan(id, plan),
            // Without any other element the session has no purpose.
            Err(error) if self.participants.is_alone(id) => {
                return self.handle_input(Input::TracksPlanned(Err(error)));
            }
            Err(error) => self.participants.fail(id, error),
        }
        self.update_bitrate_limits();
        self.plan_offer();
        self.publish_tracks_if_ready();
    }

    /// Gives the plan of the offer to the machine once all elements have planned.
    pub(super) fn plan_offer(&mut self) {
        if let Some(plan) = self.participants.plan_offer() {
            self.handle_input(Input::TracksPlanned(plan));
        }
    }

    /// Unpublishes a track for the application.
    pub(super) fn withdraw(&mut self, track: String, reply: ReplyCallback) {
        match self.participants.withdraw(&track) {
            Ok(true) if self.participants.is_ready() => self.unpublish(track, reply),
            Ok(published) => {
                if published {
                    self.unpublish(track, Reply::ignored());
                }
                reply.send(Ok(ServerMessage::Ack));
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    /// Closes a track's sender and unpublishes the track on the server.
    pub(super) fn unpublish(&mut self, track: String, reply: ReplyCallback) {
        self.shared.track_senders.remove(&track);
        self.transport
            .send(TransportCommand::CloseSender(track.clone()));
        self.request(ClientMessage::UnpublishTrack(track), reply);
    }

    /// Stores the server's reply; a track that another connection has is requested
    /// again.
    pub(super) fn publish_replied(&mut self, track: String, result: &Result<(), Error>) {
        let now = self.epoch.elapsed();
        if self.participants.publish_replied(now, &track, result) {
            let messages = self.messages.downgrade();
            tokio::spawn(async move {
                tokio::time::sleep(RETRY_INTERVAL).await;
                if let Some(messages) = messages.upgrade() {
                    let _ = messages.send(DriverMessage::RetryPublish(track));
                }
            });
        }
    }

    pub(super) fn publish_tracks_if_ready(&mut self) {
        if self.participants.is_ready() {
            self.publish_tracks();
        }
    }

    /// Publishes the input tracks that elements send and that are not published
    /// yet.
    pub(super) fn publish_tracks(&mut self) {
        let now = self.epoch.elapsed();
        for (track, lost) in self.participants.take_unpublished(now) {
            if lost {
                // The server may not have noticed yet that the connection is lost
                // on which the track is published. The new one has the same
                // number, and so may unpublish it.
                let unpublish = ClientMessage::UnpublishTrack(track.clone());
                self.request(unpublish, Reply::ignored());
            }
            let messages = self.messages.downgrade();
            let name = track.clone();
            let reply = Reply::new(move |result: Result<ServerMessage, Error>| {
                if let Some(messages) = messages.upgrade() {
                    let reply = DriverMessage::PublishReply(name, result.map(|_| ()));
                    let _ = messages.send(reply);
                }
            });
            self.request(ClientMessage::PublishTrack(track), reply);
        }
    }
}
