// SPDX-License-Identifier: MIT

//! What the session says, carried out on a thread of the element's own: it
//! adds pads and posts messages, which runs the application's code.

use std::sync::Arc;

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::CAT, pads::TrackPad};
use crate::{
    element::{Outcome, post_missing_plugin},
    platform::{
        Code, Error,
        track::{Direction, Track},
    },
    session::{self, MediaPlan, bridge::Subscription},
};

/// What the element's own thread has to do.
#[derive(Debug)]
pub enum SourceEvent {
    /// Of the start with this number.
    Session(u64, session::SessionEvent),
    /// The first unit of a track: its pad needs elements behind it.
    Arrived { track: String, caps: gst::Caps },
}

impl super::imp::ReactorSrc {
    pub(super) fn handle(&self, event: SourceEvent) {
        match event {
            SourceEvent::Session(generation, session::SessionEvent::Machine(event)) => {
                let verdict = self
                    .membership
                    .publish(self.obj().upcast_ref(), generation, *event);
                match verdict {
                    Some(Outcome::Ended(reason)) => self.ended(reason.as_deref()),
                    Some(Outcome::Failed(error)) => self.fail(&error),
                    Some(Outcome::Interrupted) => {
                        self.tracks()
                            .iter()
                            .for_each(|track| track.feed.interrupt());
                    }
                    Some(Outcome::Resumed) | None => {}
                }
            }
            SourceEvent::Session(generation, session::SessionEvent::Tracks(tracks)) => {
                if self.membership.state.is_current(generation) {
                    self.announced(generation, tracks);
                }
            }
            SourceEvent::Session(generation, session::SessionEvent::Latency(milliseconds)) => {
                if self.membership.state.is_current(generation) {
                    self.membership.set_grown_latency(milliseconds);
                    self.tell_latency();
                }
            }
            // A source feeds nothing.
            SourceEvent::Session(..) => {}
            SourceEvent::Arrived { track, caps } => {
                if let Err(error) = self.arrived(&track, &caps) {
                    self.fail(&error);
                }
            }
        }
    }

    fn announced(&self, generation: u64, tracks: Vec<Track>) {
        let outputs: Vec<_> = tracks
            .into_iter()
            .filter(|track| track.direction == Direction::RecvOnly)
            .collect();
        let plan = if outputs.is_empty() {
            Err(Error::api(
                Code::BadRequest,
                "the model has no output tracks, so there is nothing to receive",
            ))
        } else {
            self.expose(generation, outputs)
        };
        if let Some(session) = self.membership.session() {
            session.plan(plan);
        }
    }

    /// Adds a pad for each track and finds out what downstream makes of it.
    fn expose(&self, generation: u64, tracks: Vec<Track>) -> Result<MediaPlan, Error> {
        let element = self.obj();
        let pads = self.add_tracks(tracks)?;
        for pad in &pads {
            element.add_pad(&pad.pad).map_err(|_| {
                let name = &pad.feed.track.name;
                Error::api(
                    Code::BadRequest,
                    format!("cannot add a pad for track '{name}'"),
                )
            })?;
            if !self.membership.state.is_current(generation) {
                // Stopped by the code that heard of the pad.
                if pad.pad.parent().as_ref() == Some(element.upcast_ref()) {
                    let _ = element.remove_pad(&pad.pad);
                }
                return Err(Error::api(Code::Aborted, "stopped"));
            }
        }
        element.no_more_pads();
        let subscriptions = pads.iter().map(|pad| self.subscribe(pad));
        Ok(MediaPlan {
            subscriptions: subscriptions.collect::<Result<_, _>>()?,
            publications: Vec::new(),
        })
    }

    fn subscribe(&self, pad: &Arc<TrackPad>) -> Result<Subscription, Error> {
        let choice = pad.choose(None).map_err(|missing| {
            let track = &pad.feed.track.name;
            if missing.is_empty() {
                let text = format!("downstream takes nothing that the model can send on '{track}'");
                return Error::gpu(Code::TrackRejected, text);
            }
            for codec in missing {
                post_missing_plugin(self.obj().upcast_ref(), codec);
            }
            Error::gpu(
                Code::MissingPlugin,
                format!("no installed element decodes what the model can send on '{track}'"),
            )
        })?;
        gst::debug!(
            CAT,
            obj = pad.pad,
            "{:?} of {:?}",
            choice.output,
            choice.names()
        );
        Ok(Subscription {
            track: pad.feed.track.clone(),
            codecs: choice.codecs,
            rtp: choice.output == super::decode_chain::Output::Rtp,
            flowing: self.flowing(&pad.pad),
            consumer: pad.feed.clone(),
        })
    }

    fn ended(&self, reason: Option<&str>) {
        if !self.end_streams() {
            self.fail(&Error::gpu(
                Code::SessionTerminal,
                format!(
                    "the session ended before anything was received: {}",
                    reason.unwrap_or("the server gave no reason")
                ),
            ));
        }
    }

    pub(super) fn fail(&self, error: &Error) {
        self.membership.state.fail(self.obj().upcast_ref(), error);
    }
}
