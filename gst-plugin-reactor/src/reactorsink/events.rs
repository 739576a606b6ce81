// SPDX-License-Identifier: MIT

//! What the session and the pads say, carried out on a thread of the
//! element's own.

use std::sync::Arc;

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::CAT, intake::Intake};
use crate::{
    live::{Verdict, lock},
    platform::{
        Code, Error,
        track::{Direction, Track},
        wire::ClientMessage,
    },
    session::{self, Offerings, port::Publication},
};

#[derive(Debug)]
pub enum Event {
    /// Of the start with this number.
    Session(u64, session::Event),
    /// Upstream of this pad says what it sends.
    Caps(String, gst::Caps),
    /// The pad that fed this track is gone.
    Released(Track),
}

impl super::imp::ReactorSink {
    pub(super) fn handle(&self, event: Event) {
        match event {
            Event::Session(generation, session::Event::Machine(event)) => {
                let verdict = self.live.show(self.obj().upcast_ref(), generation, *event);
                match verdict {
                    Some(Verdict::Ended(_)) => self.ended(),
                    Some(Verdict::Failed(error)) => self.fail(&error),
                    Some(Verdict::Interrupted) => {
                        lock(&self.delay).take();
                        self.intakes().iter().for_each(|intake| intake.suspend());
                    }
                    Some(Verdict::Resumed) | None => {}
                }
            }
            Event::Session(generation, event) => {
                if self.live.is_current(generation) {
                    self.session_event(event);
                }
            }
            Event::Caps(pad, caps) => {
                if let Some(intake) = self.by_pad(&pad) {
                    intake.set_caps(caps);
                    if intake.track().is_none() {
                        self.plan_again();
                    }
                    self.prepare(&intake);
                }
            }
            Event::Released(track) => {
                self.plan_again();
                if let Some(session) = self.live.session() {
                    // The model need not look at the last picture for ever.
                    let message = ClientMessage::UnpublishTrack(track.name);
                    session.request(message, Box::new(|_| {}));
                }
            }
        }
    }

    fn session_event(&self, event: session::Event) {
        match event {
            session::Event::Tracks(tracks) => {
                *lock(&self.tracks) = Some(tracks.clone());
                let plan = self.bind(tracks);
                if let Some(session) = self.live.session() {
                    session.plan(plan);
                }
            }
            session::Event::Claimed { track, result } => match (self.by_track(&track), result) {
                (Some(intake), Ok(codecs)) => {
                    intake.set_agreed(codecs);
                    self.prepare(&intake);
                }
                (_, Err(error)) => self.fail(&refused(&track, error)),
                (None, Ok(_)) => {}
            },
            session::Event::Withdrawn(track) => {
                if let Some(intake) = self.by_track(&track) {
                    lock(&self.delay).take();
                    intake.suspend();
                }
            }
            session::Event::Open { track, result } => match result {
                Ok(()) => {
                    if let (Some(intake), Some(session)) =
                        (self.by_track(&track), self.live.session())
                    {
                        self.open(&intake, &session);
                    }
                }
                Err(error) => self.fail(&error),
            },
            session::Event::Deserted => {}
            session::Event::KeyframeWanted(track) => {
                if let Some(intake) = self.by_track(&track) {
                    intake.request_keyframe();
                }
            }
            session::Event::Loss { track, lost } => {
                if let Some(intake) = self.by_track(&track) {
                    intake.adapt(|controller| controller.report(lost));
                }
            }
            session::Event::Share { track, bitrate } => {
                if let Some(intake) = self.by_track(&track) {
                    intake.adapt(|controller| controller.follow(bitrate));
                }
            }
            session::Event::Machine(_) | session::Event::Latency(_) => {}
        }
    }

    /// For a pad that comes, or goes, after the tracks are known.
    fn plan_again(&self) {
        let tracks = lock(&self.tracks).clone();
        match tracks.map(|tracks| self.bind(tracks)) {
            Some(Ok(plan)) => {
                if let Some(session) = self.live.session() {
                    session.plan(Ok(plan));
                }
            }
            Some(Err(error)) => self.fail(&error),
            None => {}
        }
    }

    /// Gives each pad its track: the one it has, the one it is named after,
    /// or the first of its kind that is free.
    fn bind(&self, tracks: Vec<Track>) -> Result<Offerings, Error> {
        let mut free: Vec<_> = tracks
            .into_iter()
            .filter(|track| track.direction == Direction::SendOnly)
            .collect();
        let mut publications = Vec::new();
        // Nobody may take theirs.
        let (named, unnamed): (Vec<_>, Vec<_>) = self
            .intakes()
            .into_iter()
            .partition(|i| own_position(i, &free).is_some());
        for intake in named.iter().chain(&unnamed) {
            let position = own_position(intake, &free).or_else(|| {
                let of_kind = |t: &Track| t.kind == intake.kind;
                is_unnamed(intake)
                    .then(|| free.iter().position(of_kind))
                    .flatten()
            });
            let Some(position) = position else {
                return Err(self.no_track(intake, &free));
            };
            let track = free.remove(position);
            let wanted = self.wanted_encoder(intake.kind);
            publications.push(Publication {
                codecs: intake.codecs(wanted.as_deref())?,
                track: track.clone(),
                bitrate: self.bitrate(intake.kind),
            });
            gst::debug!(CAT, obj = intake.pad, "feeds {}", track.name);
            intake.bind(track);
        }
        Ok(Offerings {
            subscriptions: Vec::new(),
            publications,
        })
    }

    fn no_track(&self, intake: &Intake, free: &[Track]) -> Error {
        let kind = intake.kind.as_str();
        let of_kind = free.iter().filter(|t| t.kind == intake.kind);
        let names: Vec<_> = of_kind.map(|t| t.name.as_str()).collect();
        let left = match names.is_empty() {
            true => format!("the model has no {kind} input that is free"),
            false => format!("it may be {kind}_{}", names.join(&format!(", {kind}_"))),
        };
        let name = intake.pad.name();
        Error::api(
            Code::NotFound,
            format!("the model has no input track for pad '{name}': {left}"),
        )
    }

    /// Makes the way for a pad once everything about it is known.
    fn prepare(&self, intake: &Arc<Intake>) {
        let element = self.obj();
        let Some(track) = intake.track() else {
            return;
        };
        let wanted = self.wanted_encoder(intake.kind);
        let setup = |encoder: &gst::Element| {
            element.emit_by_name::<()>("encoder-setup", &[&track.name, encoder]);
        };
        let bitrate = self.bitrate(intake.kind);
        match intake.prepare(element.upcast_ref(), wanted.as_deref(), bitrate, setup) {
            Ok(Some(codec)) => {
                if let Some(session) = self.live.session() {
                    session.format(&track.name, codec);
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// What waited for the session on several pads stays together: they are
    /// all moved by the same.
    fn open(&self, intake: &Intake, session: &Arc<session::Session>) {
        let element = self.obj();
        let now = match element.current_state() {
            gst::State::Playing => element.current_running_time(),
            _ => element.start_time(),
        };
        let before = *lock(&self.delay);
        let delay = intake.open(session, now.unwrap_or_default(), before);
        *lock(&self.delay) = before.or(delay);
    }

    /// The model's side ended the session: there is nobody to feed any more.
    fn ended(&self) {
        lock(&self.tracks).take();
        for intake in self.intakes() {
            intake.unbind();
        }
        let element = self.obj();
        let eos = gst::message::Eos::builder().src(&*element).build();
        let _ = element.post_message(eos);
    }

    pub(super) fn fail(&self, error: &Error) {
        self.live.fail(self.obj().upcast_ref(), error);
    }
}

/// `video_0`: the name of a pad that was asked for without one.
fn is_unnamed(intake: &Intake) -> bool {
    let name = intake.pad.name();
    let rest = name.split_once('_').map_or("", |(_, rest)| rest);
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
}

/// Of the track that the pad has, or is named after.
fn own_position(intake: &Intake, tracks: &[Track]) -> Option<usize> {
    let bound = intake.track();
    let pad = intake.pad.name();
    let wanted = match &bound {
        Some(track) => track.name.as_str(),
        None => pad.split_once('_')?.1,
    };
    let matches = |t: &Track| t.kind == intake.kind && t.name == wanted;
    tracks.iter().position(matches)
}

fn refused(track: &str, mut error: Error) -> Error {
    error.message = format!(
        "the model does not take track '{track}' from us: {}",
        error.message
    );
    error
}
