// SPDX-License-Identifier: MIT

//! What the session and the pads say, carried out on a thread of the
//! element's own.

use std::sync::Arc;

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::CAT, sink_pad::SinkPad};
use crate::{
    element::{Outcome, lock},
    platform::{
        Code, Error,
        track::{Direction, Track},
        wire::ClientMessage,
    },
    session::{self, MediaPlan, bridge::Publication},
};

#[derive(Debug)]
pub enum SinkEvent {
    /// Of the start with this number.
    Session(u64, session::SessionEvent),
    /// Upstream of this pad says what it sends.
    Caps(String, gst::Caps),
    /// The pad that fed this track is gone.
    Released(Track),
}

impl super::imp::ReactorSink {
    pub(super) fn handle(&self, event: SinkEvent) {
        match event {
            SinkEvent::Session(generation, session::SessionEvent::Machine(event)) => {
                let verdict = self
                    .membership
                    .publish(self.obj().upcast_ref(), generation, *event);
                match verdict {
                    Some(Outcome::Ended(_)) => self.ended(),
                    Some(Outcome::Failed(error)) => self.fail(&error),
                    Some(Outcome::Interrupted) => {
                        lock(&self.delay).take();
                        self.sink_pads()
                            .iter()
                            .for_each(|sink_pad| sink_pad.suspend());
                    }
                    Some(Outcome::Resumed) | None => {}
                }
            }
            SinkEvent::Session(generation, event) => {
                if self.membership.state.is_current(generation) {
                    self.session_event(event);
                }
            }
            SinkEvent::Caps(pad, caps) => {
                if let Some(sink_pad) = self.by_pad(&pad) {
                    sink_pad.set_caps(caps);
                    if sink_pad.track().is_none() {
                        self.plan_again();
                    }
                    self.prepare(&sink_pad);
                }
            }
            SinkEvent::Released(track) => {
                self.plan_again();
                if let Some(session) = self.membership.session() {
                    // The model need not look at the last picture for ever.
                    let message = ClientMessage::UnpublishTrack(track.name);
                    session.request(message, Box::new(|_| {}));
                }
            }
        }
    }

    fn session_event(&self, event: session::SessionEvent) {
        match event {
            session::SessionEvent::Tracks(tracks) => {
                *lock(&self.tracks) = Some(tracks.clone());
                let plan = self.bind(tracks);
                if let Some(session) = self.membership.session() {
                    session.set_media_plan(plan);
                }
            }
            session::SessionEvent::Published { track, result } => {
                match (self.by_track(&track), result) {
                    (Some(sink_pad), Ok(codecs)) => {
                        sink_pad.set_agreed(codecs);
                        self.prepare(&sink_pad);
                    }
                    (_, Err(error)) => self.fail(&refused(&track, error)),
                    (None, Ok(_)) => {}
                }
            }
            session::SessionEvent::Unpublished(track) => {
                if let Some(sink_pad) = self.by_track(&track) {
                    lock(&self.delay).take();
                    sink_pad.suspend();
                }
            }
            session::SessionEvent::SenderOpened { track, result } => match result {
                Ok(()) => {
                    if let (Some(sink_pad), Some(session)) =
                        (self.by_track(&track), self.membership.session())
                    {
                        self.open(&sink_pad, &session);
                    }
                }
                Err(error) => self.fail(&error),
            },
            session::SessionEvent::MediaParticipantsLeft => {}
            session::SessionEvent::KeyframeRequested(track) => {
                if let Some(sink_pad) = self.by_track(&track) {
                    sink_pad.request_keyframe();
                }
            }
            session::SessionEvent::PacketLoss {
                track,
                fraction_lost,
            } => {
                if let Some(sink_pad) = self.by_track(&track) {
                    sink_pad.adapt(|controller| controller.report(fraction_lost));
                }
            }
            session::SessionEvent::TargetBitrate { track, bitrate } => {
                if let Some(sink_pad) = self.by_track(&track) {
                    sink_pad.adapt(|controller| controller.follow(bitrate));
                }
            }
            session::SessionEvent::Machine(_) | session::SessionEvent::JitterBufferLatency(_) => {}
        }
    }

    /// For a pad that comes, or goes, after the tracks are known.
    fn plan_again(&self) {
        let tracks = lock(&self.tracks).clone();
        match tracks.map(|tracks| self.bind(tracks)) {
            Some(Ok(plan)) => {
                if let Some(session) = self.membership.session() {
                    session.set_media_plan(Ok(plan));
                }
            }
            Some(Err(error)) => self.fail(&error),
            None => {}
        }
    }

    /// Gives each pad its track: the one it has, the one it is named after,
    /// or the first of its kind that is free.
    fn bind(&self, tracks: Vec<Track>) -> Result<MediaPlan, Error> {
        let mut free: Vec<_> = tracks
            .into_iter()
            .filter(|track| track.direction == Direction::SendOnly)
            .collect();
        let mut publications = Vec::new();
        // Nobody may take theirs.
        let (named, unnamed): (Vec<_>, Vec<_>) = self
            .sink_pads()
            .into_iter()
            .partition(|i| own_position(i, &free).is_some());
        for sink_pad in named.iter().chain(&unnamed) {
            let position = own_position(sink_pad, &free).or_else(|| {
                let of_kind = |t: &Track| t.kind == sink_pad.kind;
                is_unnamed(sink_pad)
                    .then(|| free.iter().position(of_kind))
                    .flatten()
            });
            let Some(position) = position else {
                return Err(self.no_track(sink_pad, &free));
            };
            let track = free.remove(position);
            let wanted = self.wanted_encoder(sink_pad.kind);
            publications.push(Publication {
                codecs: sink_pad.codecs(wanted.as_deref())?,
                track: track.clone(),
                bitrate: self.bitrate(sink_pad.kind),
            });
            gst::debug!(CAT, obj = sink_pad.pad, "feeds {}", track.name);
            sink_pad.bind(track);
        }
        Ok(MediaPlan {
            subscriptions: Vec::new(),
            publications,
        })
    }

    fn no_track(&self, sink_pad: &SinkPad, free: &[Track]) -> Error {
        let kind = sink_pad.kind.as_str();
        let of_kind = free.iter().filter(|t| t.kind == sink_pad.kind);
        let names: Vec<_> = of_kind.map(|t| t.name.as_str()).collect();
        let left = match names.is_empty() {
            true => format!("the model has no {kind} input that is free"),
            false => format!("it may be {kind}_{}", names.join(&format!(", {kind}_"))),
        };
        let name = sink_pad.pad.name();
        Error::api(
            Code::NotFound,
            format!("the model has no input track for pad '{name}': {left}"),
        )
    }

    /// Makes the way for a pad once everything about it is known.
    fn prepare(&self, sink_pad: &Arc<SinkPad>) {
        let element = self.obj();
        let Some(track) = sink_pad.track() else {
            return;
        };
        let wanted = self.wanted_encoder(sink_pad.kind);
        let setup = |encoder: &gst::Element| {
            element.emit_by_name::<()>("encoder-setup", &[&track.name, encoder]);
        };
        let bitrate = self.bitrate(sink_pad.kind);
        match sink_pad.prepare(element.upcast_ref(), wanted.as_deref(), bitrate, setup) {
            Ok(Some(codec)) => {
                if let Some(session) = self.membership.session() {
                    session.set_codec(&track.name, codec);
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// What waited for the session on several pads stays together: they are
    /// all moved by the same.
    fn open(&self, sink_pad: &SinkPad, session: &Arc<session::Session>) {
        let element = self.obj();
        let now = match element.current_state() {
            gst::State::Playing => element.current_running_time(),
            _ => element.start_time(),
        };
        let before = *lock(&self.delay);
        let delay = sink_pad.open(session, now.unwrap_or_default(), before);
        *lock(&self.delay) = before.or(delay);
    }

    /// The model's side ended the session: there is nobody to feed any more.
    fn ended(&self) {
        lock(&self.tracks).take();
        for sink_pad in self.sink_pads() {
            sink_pad.unbind();
        }
        let element = self.obj();
        let eos = gst::message::Eos::builder().src(&*element).build();
        let _ = element.post_message(eos);
    }

    pub(super) fn fail(&self, error: &Error) {
        self.membership.state.fail(self.obj().upcast_ref(), error);
    }
}

/// `video_0`: the name of a pad that was asked for without one.
fn is_unnamed(sink_pad: &SinkPad) -> bool {
    let name = sink_pad.pad.name();
    let rest = name.split_once('_').map_or("", |(_, rest)| rest);
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
}

/// Of the track that the pad has, or is named after.
fn own_position(sink_pad: &SinkPad, tracks: &[Track]) -> Option<usize> {
    let bound = sink_pad.track();
    let pad = sink_pad.pad.name();
    let wanted = match &bound {
        Some(track) => track.name.as_str(),
        None => pad.split_once('_')?.1,
    };
    let matches = |t: &Track| t.kind == sink_pad.kind && t.name == wanted;
    tracks.iter().position(matches)
}

fn refused(track: &str, mut error: Error) -> Error {
    error.message = format!(
        "the model does not take track '{track}' from us: {}",
        error.message
    );
    error
}
