// SPDX-License-Identifier: MIT

//! The elements that take part in a session: what each takes and feeds, and
//! what is offered to the server for all of them.

use std::collections::HashMap;

use super::{
    EventSender, MachineEvent, MediaPlan, ParticipantRole, SessionEvent, Status,
    bitrate_allocator::{BitrateAllocator, BitrateLimits},
    bridge::{Publication, Subscription, TrackTap, TrackTaps},
    codecs::Codec,
    machine::PlannedTrack,
    registry,
};
use crate::platform::{
    Code, Error,
    sdp::NegotiatedTrack,
    track::{Direction, Kind, Track},
};

#[derive(Default)]
pub(super) struct Participants {
    entries: HashMap<u64, Entry>,
    /// The model's tracks, once they are known.
    tracks: Option<Vec<Track>>,
    /// What is offered, in the order of the m-lines; fixed once it is there.
    offer: Option<Vec<Offer>>,
    /// What the answer made of it, by track.
    codecs: HashMap<String, Vec<(&'static Codec, u8)>>,
    taps: TrackTaps,
    allocator: BitrateAllocator,
    /// Of the jitter buffer, if it is not the one that was set.
    latency: Option<u32>,
    /// For those who come late.
    told: Vec<MachineEvent>,
    ready: bool,
    /// The one that left last: it hears how the session ends.
    last: Option<EventSender>,
}

struct Entry {
    /// Its path.
    element: String,
    role: ParticipantRole,
    events: EventSender,
    planned: bool,
    subscriptions: Vec<Subscription>,
    publications: Vec<(Publication, Claim)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    None,
    Asked,
    Granted,
    /// By a connection that is gone.
    Lost,
    /// Given up by the application.
    Withdrawn,
}

/// One m-line.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub track: Track,
    pub codecs: Vec<&'static Codec>,
    flowing: bool,
}

/// What an element that leaves gives back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Released {
    Output(String),
    Input(String),
}

impl Participants {
    pub(super) fn taps(&self) -> TrackTaps {
        self.taps.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_alone(&self, id: u64) -> bool {
        self.entries.len() == 1 && self.entries.contains_key(&id)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn join(&mut self, id: u64, entry: registry::Participant, events: EventSender) {
        for event in &self.told {
            events(SessionEvent::Machine(Box::new(event.clone())));
        }
        if let Some(latency) = self.latency {
            events(SessionEvent::Latency(latency));
        }
        if let Some(tracks) = &self.tracks {
            events(SessionEvent::Tracks(tracks.clone()));
        }
        let entry = Entry {
            element: entry.element,
            role: entry.role,
            events,
            // Who only wants what was recorded takes and feeds no track.
            planned: entry.role == ParticipantRole::Clip,
            subscriptions: Vec::new(),
            publications: Vec::new(),
        };
        self.entries.insert(id, entry);
    }

    pub(super) fn leave(&mut self, id: u64) -> Vec<Released> {
        let Some(entry) = self.entries.remove(&id) else {
            return Vec::new();
        };
        if self.entries.is_empty() {
            self.last = Some(entry.events);
        } else {
            // For the one that leaves it is over.
            let over = [
                MachineEvent::Status(Status::Disconnected),
                MachineEvent::SessionId(None),
            ];
            for event in over {
                (entry.events)(SessionEvent::Machine(Box::new(event)));
            }
        }
        if self
            .entries
            .values()
            .all(|m| m.role == ParticipantRole::Clip)
        {
            for left in self.entries.values() {
                (left.events)(SessionEvent::Deserted);
            }
        }
        let outputs = entry.subscriptions.into_iter().map(|s| {
            self.taps.remove(&s.track.name);
            Released::Output(s.track.name)
        });
        let claimed = entry
            .publications
            .into_iter()
            .filter(|(_, c)| !matches!(c, Claim::None | Claim::Withdrawn));
        let inputs = claimed.map(|(p, _)| Released::Input(p.track.name));
        outputs.chain(inputs).collect()
    }

    pub(super) fn tell(&mut self, event: MachineEvent) {
        match &event {
            MachineEvent::Status(status) => {
                self.ready = *status == Status::Ready;
                self.told.retain(|e| !matches!(e, MachineEvent::Status(_)));
                self.told.push(event.clone());
            }
            MachineEvent::SessionId(_) | MachineEvent::Described(_) => {
                self.told.push(event.clone());
            }
            _ => {}
        }
        let entries = self.entries.values().map(|entry| &entry.events);
        for events in entries.chain(&self.last) {
            events(SessionEvent::Machine(Box::new(event.clone())));
        }
    }

    /// Tells one element that it cannot go on.
    pub(super) fn fail(&self, id: u64, error: Error) {
        if let Some(entry) = self.entries.get(&id) {
            (entry.events)(SessionEvent::Machine(Box::new(MachineEvent::Failed(error))));
        }
    }

    pub(super) fn announce(&mut self, tracks: Vec<Track>) {
        for entry in self.entries.values() {
            (entry.events)(SessionEvent::Tracks(tracks.clone()));
        }
        self.tracks = Some(tracks);
    }

    /// Takes note of what an element takes and feeds; returns which tracks
    /// should flow for it.
    pub(super) fn planned(&mut self, id: u64, plan: MediaPlan) -> Vec<(String, bool)> {
        if let Err(error) = self.check(id, &plan) {
            self.fail(id, error);
            return Vec::new();
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        entry.planned = true;
        for subscription in &plan.subscriptions {
            let tap = TrackTap {
                consumer: subscription.consumer.clone(),
                rtp: subscription.rtp,
            };
            self.taps.set(&subscription.track.name, tap);
        }
        // What was claimed stays so when an element plans anew, for a pad that
        // came late.
        let before = std::mem::take(&mut entry.publications);
        let claim = |publication: &Publication| {
            let mut before = before.iter();
            let same = before.find(|(p, _)| p.track.name == publication.track.name);
            same.map_or(Claim::None, |(_, claim)| *claim)
        };
        let publications = plan.publications.into_iter();
        entry.publications = publications.map(|p| (p.clone(), claim(&p))).collect();
        entry.subscriptions = plan.subscriptions;
        let flowing = entry.subscriptions.iter();
        flowing.map(|s| (s.track.name.clone(), s.flowing)).collect()
    }

    /// Whether what an element wants can still be had.
    fn check(&self, id: u64, plan: &MediaPlan) -> Result<(), Error> {
        for publication in &plan.publications {
            let name = &publication.track.name;
            let mut others = self.entries.iter().filter(|(other, _)| **other != id);
            let feeds = |m: &Entry| m.publications.iter().any(|(p, _)| p.track.name == *name);
            if let Some((_, other)) = others.find(|(_, m)| feeds(m)) {
                return Err(Error::api(
                    Code::Conflict,
                    format!("track '{name}' is already fed by {}", other.element),
                ));
            }
            self.check_codecs(name, &publication.codecs, false)?;
        }
        for subscription in &plan.subscriptions {
            self.check_codecs(&subscription.track.name, &subscription.codecs, true)?;
        }
        Ok(())
    }

    /// After the answer the codecs of a track are what they are.
    fn check_codecs(
        &self,
        track: &str,
        wanted: &[&'static Codec],
        first_only: bool,
    ) -> Result<(), Error> {
        let Some(agreed) = self.codecs.get(track) else {
            return Ok(());
        };
        let usable = if first_only {
            &agreed[..agreed.len().min(1)]
        } else {
            &agreed[..]
        };
        if usable.iter().any(|(codec, _)| wanted.contains(codec)) {
            return Ok(());
        }
        let names: Vec<_> = usable.iter().map(|(c, _)| c.encoding_name).collect();
        Err(Error::gpu(
            Code::TrackRejected,
            format!(
                "the session has already agreed on {} for track '{track}', which is not what \
                 this element was asked for; start it before the session is connected",
                names.join(", ")
            ),
        ))
    }

    /// The offer, once all who are there have said what they want. Every track
    /// of the model's is in it: who comes later finds it there.
    pub(super) fn settle(&mut self) -> Option<Result<Vec<PlannedTrack>, Error>> {
        let tracks = self.tracks.as_ref()?;
        if self.offer.is_some() || self.entries.values().any(|m| !m.planned) {
            return None;
        }
        // The inputs first: webrtcbin would take a receiving transceiver for
        // the sending one that is asked for.
        let inputs = tracks.iter().filter(|t| t.direction == Direction::SendOnly);
        let outputs = tracks.iter().filter(|t| t.direction == Direction::RecvOnly);
        let offer: Vec<_> = inputs
            .chain(outputs)
            .filter_map(|t| self.offer_of(t))
            .collect();
        let plans = offer.iter().map(|offer| PlannedTrack {
            track: offer.track.clone(),
            flowing: offer.flowing,
        });
        let plans: Vec<_> = plans.collect();
        self.offer = Some(offer);
        Some(if plans.is_empty() {
            let text = "there is no track of the model's that can be sent or received here";
            Err(Error::api(Code::BadRequest, text))
        } else {
            Ok(plans)
        })
    }

    fn offer_of(&self, track: &Track) -> Option<Offer> {
        let entries = || self.entries.values();
        let (codecs, flowing) = match track.direction {
            Direction::RecvOnly => {
                let mut taken = entries().flat_map(|m| &m.subscriptions);
                match taken.find(|s| s.track.name == track.name) {
                    Some(s) => (s.codecs.clone(), s.flowing),
                    None => (default_receive(track.kind), false),
                }
            }
            Direction::SendOnly => {
                let mut fed = entries().flat_map(|m| &m.publications);
                match fed.find(|(p, _)| p.track.name == track.name) {
                    Some((p, _)) => (p.codecs.clone(), false),
                    None => (default_send(track.kind), false),
                }
            }
        };
        (!codecs.is_empty()).then(|| Offer {
            track: track.clone(),
            codecs,
            flowing,
        })
    }

    fn offer(&self) -> &[Offer] {
        self.offer.as_deref().unwrap_or_default()
    }

    /// What is offered on a new connection: after the first one, what was
    /// agreed on there, since decoders and encoders are made for that.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let agreed = |offer: &Offer| {
            let codecs = self.codecs.get(&offer.track.name)?.iter();
            let mut codecs: Vec<_> = codecs.map(|(codec, _)| *codec).collect();
            match offer.track.direction {
                Direction::RecvOnly => codecs.truncate(1),
                // In the order that was offered, not in the server's.
                Direction::SendOnly => {
                    codecs.sort_by_key(|codec| offer.codecs.iter().position(|c| c == codec));
                }
            }
            (!codecs.is_empty()).then_some(codecs)
        };
        let offers = self.offer().iter();
        offers
            .map(|offer| Offer {
                codecs: agreed(offer).unwrap_or_else(|| offer.codecs.clone()),
                ..offer.clone()
            })
            .collect()
    }

    /// Takes note of the answer; its m-lines are in the order of the offer.
    pub(super) fn negotiated(&mut self, tracks: &[NegotiatedTrack]) {
        self.allocator.forget_measure();
        for track in tracks {
            let Some(offer) = self.offer().get(track.mline_index) else {
                continue;
            };
            let codecs = track.codecs.iter();
            let known = codecs.filter_map(|c| Some((Codec::find(&c.name)?, c.payload)));
            let (name, known) = (offer.track.name.clone(), known.collect());
            self.codecs.insert(name, known);
        }
    }

    /// The payload type agreed on for a track in this codec.
    pub(super) fn payload(&self, track: &str, codec: &Codec) -> Option<u8> {
        let agreed = self.codecs.get(track)?;
        agreed
            .iter()
            .find(|(c, _)| *c == codec)
            .map(|(_, payload)| *payload)
    }

    /// The connection is gone, and what it had claimed.
    pub(super) fn interrupted(&mut self) {
        let publications = self.entries.values_mut().flat_map(|m| &mut m.publications);
        for (_, claim) in publications {
            if matches!(claim, Claim::Asked | Claim::Granted) {
                *claim = Claim::Lost;
            }
        }
    }

    /// Has a track claimed again, or given up. Returns whether there is
    /// anything to do: somebody feeds it, and it is not so already.
    pub(super) fn publish(&mut self, track: &str, publish: bool) -> bool {
        for entry in self.entries.values_mut() {
            let mut fed = entry.publications.iter_mut();
            let Some((_, claim)) = fed.find(|(p, _)| p.track.name == track) else {
                continue;
            };
            let withdrawn = *claim == Claim::Withdrawn;
            if publish == withdrawn {
                *claim = match publish {
                    true => Claim::None,
                    false => Claim::Withdrawn,
                };
                if !publish {
                    (entry.events)(SessionEvent::Withdrawn(track.to_owned()));
                }
                return true;
            }
        }
        false
    }

    /// The tracks that elements feed and that are not claimed yet, and whether
    /// they were on a connection before; they are from now on.
    pub(super) fn unclaimed(&mut self) -> Vec<(String, bool)> {
        let publications = self.entries.values_mut().flat_map(|m| &mut m.publications);
        let mut tracks = Vec::new();
        for (publication, claim) in publications {
            if matches!(claim, Claim::None | Claim::Lost) {
                let lost = *claim == Claim::Lost;
                *claim = Claim::Asked;
                tracks.push((publication.track.name.clone(), lost));
            }
        }
        tracks
    }

    pub(super) fn claimed(&mut self, track: &str, result: Result<(), Error>) {
        let agreed = self.codecs.get(track).cloned().unwrap_or_default();
        let codecs: Vec<_> = agreed.into_iter().map(|(codec, _)| codec).collect();
        for entry in self.entries.values_mut() {
            let mut fed = entry.publications.iter_mut();
            let asked =
                |(p, c): &&mut (Publication, Claim)| p.track.name == track && *c == Claim::Asked;
            let Some((_, claim)) = fed.find(asked) else {
                continue;
            };
            *claim = if result.is_ok() {
                Claim::Granted
            } else {
                // Until the application wants it again.
                Claim::Withdrawn
            };
            (entry.events)(SessionEvent::Claimed {
                track: track.to_owned(),
                result: result.clone().map(|()| codecs.clone()),
            });
        }
    }

    pub(super) fn sender_open(&mut self, track: &str, result: Result<(), Error>) {
        let mut publications = self.entries.values().flat_map(|m| &m.publications);
        let fed = publications.find(|(p, _)| p.track.name == track);
        if let (Some((publication, _)), Ok(())) = (fed, &result) {
            self.allocator.open(track, publication.bitrate);
        }
        self.to_feeder(track, || SessionEvent::Open {
            track: track.to_owned(),
            result: result.clone(),
        });
    }

    pub(super) fn keyframe_wanted(&self, track: &str) {
        self.to_feeder(track, || SessionEvent::KeyframeWanted(track.to_owned()));
    }

    /// Means nothing where better is known.
    pub(super) fn loss(&self, track: &str, lost: f64) {
        if self.allocator.is_measured() {
            return;
        }
        self.to_feeder(track, || SessionEvent::Loss {
            track: track.to_owned(),
            lost,
        });
    }

    pub(super) fn latency(&mut self, milliseconds: u32) {
        self.latency = Some(milliseconds);
        for entry in self.entries.values() {
            (entry.events)(SessionEvent::Latency(milliseconds));
        }
    }

    pub(super) fn estimate(&mut self, bitrate: u32) {
        self.allocator.measure(bitrate);
        self.share();
    }

    fn share(&self) {
        for (track, bitrate) in self.allocator.shares() {
            self.to_feeder(track, || SessionEvent::Share {
                track: track.to_owned(),
                bitrate,
            });
        }
    }

    /// Between which limits the transport is to estimate, if tracks have come
    /// or gone.
    pub(super) fn limits(&mut self) -> Option<BitrateLimits> {
        let entries = &self.entries;
        self.allocator.retain(|track| {
            let mut publications = entries.values().flat_map(|m| &m.publications);
            publications.any(|(p, _)| p.track.name == track)
        });
        let limits = self.allocator.take_change()?;
        if self.allocator.is_measured() {
            self.share();
        }
        Some(limits)
    }

    fn to_feeder(&self, track: &str, event: impl Fn() -> SessionEvent) {
        for entry in self.entries.values() {
            if entry
                .publications
                .iter()
                .any(|(p, _)| p.track.name == track)
            {
                (entry.events)(event());
            }
        }
    }
}

fn default_receive(kind: Kind) -> Vec<&'static Codec> {
    Codec::of_kind(kind)
        .filter(|codec| codec.can_decode())
        .collect()
}

fn default_send(kind: Kind) -> Vec<&'static Codec> {
    Codec::of_kind(kind)
        .filter(|codec| codec.can_encode())
        .collect()
}
