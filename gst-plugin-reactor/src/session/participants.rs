// SPDX-License-Identifier: MIT

//! The elements that take part in a session: which tracks each receives and sends,
//! the offer made of all of them, and the events that each is sent. Owned by the
//! driver, used on its task only; it sends nothing to the server.

mod client_stats;
mod publishing;

use std::{collections::HashMap, sync::Arc};

use super::{
    bitrate_allocator::{BitrateAllocator, BitrateLimits},
    bridge::{Publication, Subscription, TrackTap, TrackTaps},
    codecs::Codec,
    events::{EventSender, MediaPlan, SessionEvent},
    log,
    machine::{MachineEvent, Status},
    track_state::TrackState,
};
use publishing::Publishing;

pub(super) use publishing::RETRY_INTERVAL;

use crate::platform::{
    Code, Error,
    schema::Schema,
    sdp::NegotiatedTrack,
    track::{Direction, Kind, Track},
};

/// An element that takes part, as others see it.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Its path, for the errors of others.
    pub element: String,
    pub role: ParticipantRole,
    /// The platform may be told what quality it sees (`report-stats`).
    pub report_stats: bool,
}

/// What an element does in a session, which has at most one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParticipantRole {
    Source,
    Sink,
    /// It fetches what was recorded, and does not keep the session alive.
    Clip,
}

#[derive(Default)]
pub(super) struct Participants {
    by_id: HashMap<u64, ParticipantState>,
    /// The model's tracks, once they are known.
    tracks: Option<Vec<Track>>,
    /// The model's schema, once it is known.
    schema: Option<Arc<Schema>>,
    /// The transceivers of the offer, in the order of its m-lines. They stay as
    /// the first offer has them.
    transceivers: Option<Vec<TransceiverInit>>,
    /// The codecs of the answer with their payload types, by track.
    negotiated: HashMap<String, Vec<(&'static Codec, u8)>>,
    /// The m-lines of the answer, by track.
    mids: HashMap<String, String>,
    /// In which codec a track is sent.
    sent_codecs: HashMap<String, &'static Codec>,
    taps: TrackTaps,
    allocator: BitrateAllocator,
    /// In milliseconds, once the transport has reported it.
    jitter_buffer_latency: Option<u32>,
    /// The events that an element receives which joins later.
    replayed_events: Vec<MachineEvent>,
    ready: bool,
    /// Of the element that left last: it still receives how the session ends.
    last_events: Option<EventSender>,
}

struct ParticipantState {
    participant: Participant,
    events: EventSender,
    /// It has answered the announcement of the tracks.
    planned: bool,
    subscriptions: Vec<Subscription>,
    publications: Vec<(Publication, Publishing)>,
}

/// What the transceiver of one m-line is made from.
#[derive(Debug, Clone)]
pub(super) struct TransceiverInit {
    pub track: Track,
    pub codecs: Vec<&'static Codec>,
}

/// A track of an element that left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReleasedTrack {
    Subscribed(String),
    Published(String),
}

impl ParticipantState {
    fn send(&self, event: MachineEvent) {
        (self.events)(SessionEvent::Machine(Box::new(event)));
    }

    fn publication(&self, track: &str) -> Option<&Publication> {
        let mut publications = self.publications.iter().map(|(publication, _)| publication);
        publications.find(|publication| publication.track.name == track)
    }

    fn publishing(&mut self, track: &str) -> Option<&mut Publishing> {
        let mut publications = self.publications.iter_mut();
        let found = publications.find(|(publication, _)| publication.track.name == track);
        found.map(|(_, publishing)| publishing)
    }
}

impl Participants {
    pub(super) fn taps(&self) -> TrackTaps {
        self.taps.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn is_alone(&self, id: u64) -> bool {
        self.by_id.len() == 1 && self.by_id.contains_key(&id)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn join(&mut self, id: u64, participant: Participant, events: EventSender) {
        for event in &self.replayed_events {
            events(SessionEvent::Machine(Box::new(event.clone())));
        }
        if let Some(latency) = self.jitter_buffer_latency {
            events(SessionEvent::JitterBufferLatency(latency));
        }
        if let Some(tracks) = &self.tracks {
            events(SessionEvent::Tracks(tracks.clone()));
        }
        if let Some(schema) = &self.schema {
            events(SessionEvent::Schema(schema.clone()));
        }
        let state = ParticipantState {
            events,
            // A clip receives and sends no track.
            planned: participant.role == ParticipantRole::Clip,
            participant,
            subscriptions: Vec::new(),
            publications: Vec::new(),
        };
        self.by_id.insert(id, state);
    }

    /// Removes an element; returns its tracks that are to be paused or
    /// unpublished.
    pub(super) fn leave(&mut self, id: u64) -> Vec<ReleasedTrack> {
        let Some(left) = self.by_id.remove(&id) else {
            return Vec::new();
        };
        if !self.by_id.is_empty() {
            // For the element that leaves the session is over.
            left.send(MachineEvent::Status(Status::Disconnected));
            left.send(MachineEvent::SessionId(None));
            left.send(MachineEvent::SessionExpiration(None));
            left.send(MachineEvent::Tracks(Vec::new()));
        }
        let mut others = self.by_id.values();
        if others.all(|other| other.participant.role == ParticipantRole::Clip) {
            self.send_to_all(|| SessionEvent::MediaParticipantsLeft);
        }
        let subscribed = left.subscriptions.into_iter().map(|subscription| {
            self.taps.remove(&subscription.track.name);
            ReleasedTrack::Subscribed(subscription.track.name)
        });
        let published = left
            .publications
            .into_iter()
            .filter(|(_, publishing)| publishing.is_claimed())
            .map(|(publication, _)| ReleasedTrack::Published(publication.track.name));
        let released = subscribed.chain(published).collect();
        if self.by_id.is_empty() {
            self.last_events = Some(left.events);
        }
        released
    }

    /// Sends an event to all elements.
    pub(super) fn broadcast(&mut self, event: &MachineEvent) {
        match event {
            MachineEvent::Status(status) => {
                self.ready = *status == Status::Ready;
                self.replay(event);
            }
            MachineEvent::SessionId(_)
            | MachineEvent::Described(_)
            | MachineEvent::SessionExpiration(_)
            | MachineEvent::Tracks(_)
            // For one that joins in the moment of the end.
            | MachineEvent::Ended { .. }
            | MachineEvent::Failed(_) => self.replay(event),
            _ => {}
        }
        let senders = self.by_id.values().map(|state| &state.events);
        for events in senders.chain(&self.last_events) {
            events(SessionEvent::Machine(Box::new(event.clone())));
        }
    }

    /// Keeps the last event of its kind for elements that join later.
    fn replay(&mut self, event: &MachineEvent) {
        let kind = std::mem::discriminant(event);
        self.replayed_events
            .retain(|event| std::mem::discriminant(event) != kind);
        self.replayed_events.push(event.clone());
    }

    /// Tells one element that the session failed for it.
    pub(super) fn fail(&self, id: u64, error: Error) {
        if let Some(state) = self.by_id.get(&id) {
            state.send(MachineEvent::Failed(error));
        }
    }

    pub(super) fn announce_tracks(&mut self, tracks: Vec<Track>) {
        self.send_to_all(|| SessionEvent::Tracks(tracks.clone()));
        self.tracks = Some(tracks);
    }

    pub(super) fn announce_schema(&mut self, schema: Arc<Schema>) {
        self.send_to_all(|| SessionEvent::Schema(schema.clone()));
        self.schema = Some(schema);
    }

    /// The session has ended.
    pub(super) fn forget_schema(&mut self) {
        self.schema = None;
    }

    /// Stores which tracks an element receives and sends.
    pub(super) fn set_plan(&mut self, id: u64, plan: MediaPlan) {
        if let Err(error) = self.check_plan(id, &plan) {
            return self.fail(id, error);
        }
        let Some(state) = self.by_id.get_mut(&id) else {
            return;
        };
        state.planned = true;
        for subscription in &plan.subscriptions {
            let tap = TrackTap {
                consumer: subscription.consumer.clone(),
                rtp: subscription.rtp,
            };
            self.taps.set(&subscription.track.name, tap);
        }
        // A published track stays published when an element plans again, for a
        // pad that was requested later.
        let with_state = |publication: Publication| {
            let before = state.publishing(&publication.track.name);
            let publishing = before.map(std::mem::take).unwrap_or_default();
            (publication, publishing)
        };
        state.publications = plan.publications.into_iter().map(with_state).collect();
        state.subscriptions = plan.subscriptions;
    }

    /// Whether the tracks of a plan are free, and its codecs still possible.
    fn check_plan(&self, id: u64, plan: &MediaPlan) -> Result<(), Error> {
        for publication in &plan.publications {
            let name = &publication.track.name;
            let mut others = self.by_id.iter().filter(|(other, _)| **other != id);
            if let Some((_, other)) = others.find(|(_, other)| other.publication(name).is_some()) {
                let element = &other.participant.element;
                return Err(Error::api(
                    Code::Conflict,
                    format!("track '{name}' is already fed by {element}"),
                ));
            }
            self.check_codecs(name, &publication.codecs, usize::MAX)?;
        }
        for subscription in &plan.subscriptions {
            // The server sends the first codec of its answer.
            self.check_codecs(&subscription.track.name, &subscription.codecs, 1)?;
        }
        Ok(())
    }

    /// After the answer a track has one of its first `usable` negotiated codecs.
    fn check_codecs(
        &self,
        track: &str,
        wanted: &[&'static Codec],
        usable: usize,
    ) -> Result<(), Error> {
        let Some(negotiated) = self.negotiated.get(track) else {
            return Ok(());
        };
        let usable = || negotiated.iter().take(usable).map(|(codec, _)| *codec);
        if usable().any(|codec| wanted.contains(&codec)) {
            return Ok(());
        }
        let names: Vec<_> = usable().map(|codec| codec.encoding_name).collect();
        Err(Error::gpu(
            Code::TrackRejected,
            format!(
                "the session has already agreed on {} for track '{track}', which is not what \
                 this element was asked for; start it before the session is connected",
                names.join(", ")
            ),
        ))
    }

    /// Makes the offer once all elements that take part have planned. It has all
    /// of the model's tracks: an element that joins later finds its own there.
    pub(super) fn plan_offer(&mut self) -> Option<Result<Vec<Track>, Error>> {
        let tracks = self.tracks.as_ref()?;
        if self.transceivers.is_some() || self.by_id.values().any(|state| !state.planned) {
            return None;
        }
        // The inputs first: webrtcbin would use a receiving transceiver as the
        // sending one that is asked for.
        let inputs = tracks.iter().filter(|t| t.direction == Direction::SendOnly);
        let outputs = tracks.iter().filter(|t| t.direction == Direction::RecvOnly);
        let transceivers: Vec<_> = inputs
            .chain(outputs)
            .filter_map(|track| self.transceiver(track))
            .collect();
        let planned: Vec<_> = transceivers.iter().map(|t| t.track.clone()).collect();
        self.transceivers = Some(transceivers);
        Some(if planned.is_empty() {
            let text = "there is no track of the model's that can be sent or received here";
            Err(Error::api(Code::BadRequest, text))
        } else {
            Ok(planned)
        })
    }

    fn transceiver(&self, track: &Track) -> Option<TransceiverInit> {
        let mut states = self.by_id.values();
        let codecs = match track.direction {
            Direction::RecvOnly => {
                let mut subscriptions = states.flat_map(|state| &state.subscriptions);
                match subscriptions.find(|s| s.track.name == track.name) {
                    Some(subscription) => subscription.codecs.clone(),
                    None => codecs_of_kind(track.kind, Codec::can_decode),
                }
            }
            Direction::SendOnly => {
                let publication = states.find_map(|state| state.publication(&track.name));
                match publication {
                    Some(publication) => publication.codecs.clone(),
                    None => codecs_of_kind(track.kind, Codec::can_encode),
                }
            }
        };
        (!codecs.is_empty()).then(|| TransceiverInit {
            track: track.clone(),
            codecs,
        })
    }

    /// The transceivers of a new connection. After the first one they have the
    /// negotiated codecs only, since decoders and encoders are made for these.
    pub(super) fn transceivers(&self) -> Vec<TransceiverInit> {
        let negotiated = |transceiver: &TransceiverInit| {
            let codecs = self.negotiated.get(&transceiver.track.name)?.iter();
            let mut codecs: Vec<_> = codecs.map(|(codec, _)| *codec).collect();
            match transceiver.track.direction {
                Direction::RecvOnly => codecs.truncate(1),
                // In the order of the offer, not in that of the answer.
                Direction::SendOnly => {
                    codecs.sort_by_key(|codec| transceiver.codecs.iter().position(|c| c == codec));
                }
            }
            (!codecs.is_empty()).then_some(codecs)
        };
        let transceivers = self.transceivers.iter().flatten();
        transceivers
            .map(|transceiver| TransceiverInit {
                codecs: negotiated(transceiver).unwrap_or_else(|| transceiver.codecs.clone()),
                ..transceiver.clone()
            })
            .collect()
    }

    /// Stores the codecs of the answer; its m-lines are in the order of the
    /// offer.
    pub(super) fn set_negotiated(&mut self, tracks: &[NegotiatedTrack]) {
        self.allocator.clear_measurement();
        let transceivers = self.transceivers.as_deref().unwrap_or_default();
        for track in tracks {
            let Some(transceiver) = transceivers.get(track.mline_index) else {
                continue;
            };
            let codecs = track.codecs.iter();
            let known = codecs.filter_map(|c| Some((Codec::by_encoding_name(&c.name)?, c.payload)));
            let name = &transceiver.track.name;
            log::codecs(name, &track.codecs);
            self.negotiated.insert(name.clone(), known.collect());
            self.mids.insert(name.clone(), track.mid.clone());
        }
    }

    /// Stores in which codec a track will be sent.
    pub(super) fn set_sent_codec(&mut self, track: &str, codec: &'static Codec) {
        self.sent_codecs.insert(track.to_owned(), codec);
    }

    /// The state of the model's tracks; `is_paused` says which the server does
    /// not send.
    pub(super) fn track_states(&self, is_paused: impl Fn(&str) -> bool) -> Vec<TrackState> {
        let state = |track: &Track| {
            let name = &track.name;
            let sent = track.direction == Direction::SendOnly;
            let codec = match sent {
                true => self.sent_codecs.get(name).copied(),
                false => self.negotiated.get(name).and_then(|codecs| {
                    let (codec, _) = codecs.first()?;
                    Some(*codec)
                }),
            };
            let publications = self.by_id.values().flat_map(|state| &state.publications);
            let mut granted = publications.filter(|(_, publishing)| publishing.is_granted());
            let published = granted.any(|(publication, _)| publication.track.name == *name);
            TrackState {
                track: track.clone(),
                mid: self.mids.get(name).filter(|_| self.ready).cloned(),
                codec: codec
                    .filter(|_| self.ready && (published || !sent))
                    .map(|codec| codec.encoding_name),
                published,
                paused: !sent && is_paused(name),
            }
        };
        self.tracks.iter().flatten().map(state).collect()
    }

    /// The negotiated payload type of a track in this codec.
    pub(super) fn payload_type(&self, track: &str, codec: &Codec) -> Option<u8> {
        let mut codecs = self.negotiated.get(track)?.iter();
        let found = codecs.find(|(negotiated, _)| *negotiated == codec);
        found.map(|(_, payload_type)| *payload_type)
    }

    pub(super) fn sender_opened(&mut self, track: &str, result: &Result<(), Error>) {
        let mut states = self.by_id.values();
        let publication = states.find_map(|state| state.publication(track));
        if let (Some(publication), Ok(())) = (publication, result) {
            self.allocator.add_track(track, publication.bitrate);
        }
        self.send_to_publisher(track, || SessionEvent::SenderOpened {
            track: track.to_owned(),
            result: result.clone(),
        });
    }

    pub(super) fn request_keyframe(&self, track: &str) {
        self.send_to_publisher(track, || SessionEvent::KeyframeRequested(track.to_owned()));
    }

    /// Does nothing while the transport measures the bandwidth, which says more.
    pub(super) fn report_packet_loss(&self, track: &str, fraction_lost: f64) {
        if self.allocator.is_measured() {
            return;
        }
        self.send_to_publisher(track, || SessionEvent::PacketLoss {
            track: track.to_owned(),
            fraction_lost,
        });
    }

    /// In milliseconds.
    pub(super) fn set_jitter_buffer_latency(&mut self, latency: u32) {
        self.jitter_buffer_latency = Some(latency);
        self.send_to_all(|| SessionEvent::JitterBufferLatency(latency));
    }

    /// In bits per second, for all tracks.
    pub(super) fn set_bandwidth_estimate(&mut self, bitrate: u32) {
        self.allocator.set_measurement(bitrate);
        self.send_target_bitrates();
    }

    fn send_target_bitrates(&self) {
        for (track, bitrate) in self.allocator.allocations() {
            self.send_to_publisher(track, || SessionEvent::TargetBitrate {
                track: track.to_owned(),
                bitrate,
            });
        }
    }

    /// The limits within which the transport is to estimate the bandwidth, if
    /// tracks have been added or removed.
    pub(super) fn take_bitrate_limits(&mut self) -> Option<BitrateLimits> {
        let states = &self.by_id;
        self.allocator.retain_tracks(|track| {
            let mut states = states.values();
            states.any(|state| state.publication(track).is_some())
        });
        for (publication, _) in states.values().flat_map(|state| &state.publications) {
            let name = &publication.track.name;
            self.allocator.set_limits(name, publication.bitrate);
        }
        let limits = self.allocator.take_changed_limits()?;
        if self.allocator.is_measured() {
            self.send_target_bitrates();
        }
        Some(limits)
    }

    /// Sends an event to one element.
    pub(super) fn send(&self, id: u64, event: SessionEvent) {
        if let Some(state) = self.by_id.get(&id) {
            (state.events)(event);
        }
    }

    fn send_to_all(&self, event: impl Fn() -> SessionEvent) {
        for state in self.by_id.values() {
            (state.events)(event());
        }
    }

    fn send_to_publisher(&self, track: &str, event: impl Fn() -> SessionEvent) {
        for state in self.by_id.values() {
            if state.publication(track).is_some() {
                (state.events)(event());
            }
        }
    }
}

fn codecs_of_kind(kind: Kind, usable: fn(&Codec) -> bool) -> Vec<&'static Codec> {
    Codec::of_kind(kind).filter(|codec| usable(codec)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn element_that_joins_in_the_moment_of_the_end_hears_of_it() {
        let ended = MachineEvent::Ended {
            reason: Some("bye".to_owned()),
            requested: false,
        };
        let failed = MachineEvent::Failed(Error::gpu(Code::Disconnected, "lost"));
        for end in [ended, failed] {
            let mut participants = Participants::default();
            participants.broadcast(&end);
            let participant = Participant {
                element: "late".to_owned(),
                role: ParticipantRole::Sink,
                report_stats: false,
            };
            let (sender, heard) = mpsc::channel();
            let events: EventSender = Box::new(move |event| {
                // Nobody receives any more when the test is over.
                let _ = sender.send(event);
            });
            participants.join(1, participant, events);
            let is_end = |event| match event {
                SessionEvent::Machine(event) => *event == end,
                _ => false,
            };
            assert!(heard.try_iter().any(is_end), "{end:?}");
        }
    }
}
