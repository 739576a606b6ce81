// SPDX-License-Identifier: MIT

//! Handles the events of the session and of the pads: gives pads their tracks,
//! makes encoders, opens and suspends pads.
//!
//! Runs on the element's event thread, because posting messages and emitting
//! `encoder-setup` run the application's code. It never pushes data.

use gst::{prelude::*, subclass::prelude::*};

use super::{debug::CAT, event::SinkEvent, imp::ReactorSink, sink_pad::SinkPad};
use crate::{
    element::{Outcome, assert_unlocked, errors, lifecycle::Lifecycle, lock, post_message},
    platform::{
        Code, Error,
        track::{Direction, Track},
        wire::ClientMessage,
    },
    session::{MachineEvent, MediaPlan, Reply, SessionEvent, Status, bridge::Publication},
};

impl ReactorSink {
    pub(super) fn handle_event(&self, event: SinkEvent) {
        match event {
            SinkEvent::Session(generation, SessionEvent::Machine(event)) => {
                let is_ready = matches!(*event, MachineEvent::Status(Status::Ready));
                let outcome = self
                    .membership
                    .publish(self.obj().upcast_ref(), generation, *event);
                match outcome {
                    Some(Outcome::Ended { .. }) => self.end_session(),
                    Some(Outcome::Failed(error)) => self.fail(&error),
                    Some(Outcome::Interrupted) => self.suspend_pads(),
                    Some(Outcome::Lost(error)) => {
                        self.suspend_pads();
                        self.fail(&error);
                    }
                    Some(Outcome::Resumed) | None => {}
                }
                if is_ready && self.membership.state.is_current(generation) {
                    self.session_takes_commands();
                }
            }
            SinkEvent::Session(generation, event) => {
                if self.membership.state.is_current(generation) {
                    self.handle_session_event(event);
                }
            }
            SinkEvent::Caps(name, caps) => {
                if let Some(sink_pad) = self.find_pad(|sink_pad| sink_pad.pad.name() == name) {
                    sink_pad.set_caps(caps);
                    if sink_pad.track().is_none() {
                        self.update_plan();
                    }
                    self.prepare(&sink_pad);
                }
            }
            SinkEvent::BitrateLimits => self.update_bitrate_limits(),
            SinkEvent::CommandRefused(pad, reply) => self.refuse_command(&pad, reply),
            SinkEvent::OpenCommandPads(generation) => {
                if self.membership.state.is_current(generation) {
                    self.open_command_pads();
                }
            }
            SinkEvent::PadReleased(track) => self.unpublish_released(track.name),
        }
    }

    fn suspend_pads(&self) {
        lock(&self.hold_delay).take();
        for sink_pad in self.sink_pads() {
            sink_pad.suspend();
        }
        self.suspend_command_pads();
    }

    fn handle_session_event(&self, event: SessionEvent) {
        match event {
            SessionEvent::Tracks(tracks) => {
                *lock(&self.tracks) = Some(tracks.clone());
                let plan = self.assign_tracks(tracks);
                if let Some(session) = self.membership.session() {
                    session.set_media_plan(plan);
                }
            }
            SessionEvent::Published { track, result } => match result {
                Ok(codecs) => self.with_track(&track, |sink_pad| {
                    sink_pad.set_agreed(codecs);
                    self.prepare(sink_pad);
                }),
                Err(error) => self.warn_refused(&track, error),
            },
            SessionEvent::Schema(schema) => {
                let commands = &self.membership.commands;
                commands.update(self.obj().upcast_ref(), &schema);
            }
            SessionEvent::Unpublished(track) => {
                self.with_track(&track, |sink_pad| {
                    lock(&self.hold_delay).take();
                    sink_pad.suspend();
                });
            }
            SessionEvent::SenderOpened { track, result } => match result {
                Ok(()) => {
                    self.with_track(&track, |sink_pad| self.open(sink_pad));
                    self.open_command_pads();
                }
                Err(error) => self.fail(&error),
            },
            SessionEvent::KeyframeRequested(track) => {
                self.with_track(&track, |sink_pad| sink_pad.request_keyframe());
            }
            SessionEvent::PacketLoss {
                track,
                fraction_lost,
            } => self.with_track(&track, |sink_pad| {
                sink_pad.adapt(|controller| controller.apply_loss(fraction_lost));
            }),
            SessionEvent::TargetBitrate { track, bitrate } => self.with_track(&track, |sink_pad| {
                sink_pad.adapt(|controller| controller.apply_estimate(bitrate));
            }),
            SessionEvent::StatisticsDue => self.post_stats(),
            SessionEvent::MediaParticipantsLeft
            | SessionEvent::Machine(_)
            | SessionEvent::JitterBufferLatency(_) => {}
        }
    }

    /// Calls `f` with the pad that feeds the track, if there is one.
    fn with_track(&self, track: &str, f: impl FnOnce(&SinkPad)) {
        let feeds = |sink_pad: &SinkPad| sink_pad.track().is_some_and(|t| t.name == track);
        if let Some(sink_pad) = self.find_pad(feeds) {
            f(&sink_pad);
        }
    }

    /// Plans again for a pad that was requested or released after the session
    /// announced the tracks.
    fn update_plan(&self) {
        if let (Some(plan), Some(session)) = (self.make_plan(), self.membership.session()) {
            session.set_media_plan(Ok(plan));
        }
    }

    /// The plan for the pads that there are now, once the tracks are known. Where there
    /// is none for them, the element fails.
    fn make_plan(&self) -> Option<MediaPlan> {
        let tracks = lock(&self.tracks).clone()?;
        let plan = self.assign_tracks(tracks);
        plan.inspect_err(|error| self.fail(error)).ok()
    }

    /// Unpublishes the track of a pad that was released: else the model would keep the
    /// last picture as its input. By now another pad may feed it. Then the track leaves
    /// the plan and comes back, so that it is published anew: of one that stays in the
    /// plan, the new pad would not hear that it is published.
    fn unpublish_released(&self, track: String) {
        let plan = self.make_plan();
        let Some(session) = self.membership.session() else {
            return;
        };
        let mut is_fed = false;
        if let Some(mut plan) = plan {
            let before = plan.publications.len();
            plan.publications.retain(|of| of.track.name != track);
            is_fed = plan.publications.len() != before;
            session.set_media_plan(Ok(plan));
        }
        session.request(ClientMessage::UnpublishTrack(track), Reply::ignored());
        if is_fed {
            self.update_plan();
        }
    }

    /// Applies changed limits to the encoders, and tells the session.
    fn update_bitrate_limits(&self) {
        let settings = lock(&self.settings).clone();
        for sink_pad in self.sink_pads() {
            let limits = settings.bitrate_limits(sink_pad.kind);
            sink_pad.adapt(|controller| controller.set_limits(limits));
        }
        self.update_plan();
    }

    /// Gives each pad its track: the one it has, the one it is named after,
    /// or the first free one of its kind.
    /// Fails when there is none, and as [`SinkPad::codecs`].
    fn assign_tracks(&self, tracks: Vec<Track>) -> Result<MediaPlan, Error> {
        let mut free: Vec<_> = tracks
            .into_iter()
            .filter(|track| track.direction == Direction::SendOnly)
            .collect();
        let settings = lock(&self.settings).clone();
        let mut publications = Vec::new();
        // First, so that the other pads cannot take these tracks.
        let (named, unnamed): (Vec<_>, Vec<_>) = self
            .sink_pads()
            .into_iter()
            .partition(|sink_pad| find_track(sink_pad, &free).is_some());
        for sink_pad in named.iter().chain(&unnamed) {
            let position = find_track(sink_pad, &free).or_else(|| {
                let of_kind = |t: &Track| t.kind == sink_pad.kind;
                has_generated_name(sink_pad)
                    .then(|| free.iter().position(of_kind))
                    .flatten()
            });
            let Some(position) = position else {
                return Err(no_track_for(sink_pad, &free));
            };
            let track = free.remove(position);
            publications.push(Publication {
                codecs: sink_pad.codecs(&settings)?,
                track: track.clone(),
                bitrate: settings.bitrate_limits(sink_pad.kind),
                counters: sink_pad.counters.clone(),
            });
            gst::debug!(CAT, obj = sink_pad.pad, "feeds {}", track.name);
            sink_pad.bind(track);
        }
        Ok(MediaPlan {
            subscriptions: Vec::new(),
            publications,
        })
    }

    /// Makes a pad's encoder once its track, caps and codecs are known, and
    /// tells the session the codec.
    fn prepare(&self, sink_pad: &SinkPad) {
        let element = self.obj();
        let Some(track) = sink_pad.track() else {
            return;
        };
        let settings = lock(&self.settings).clone();
        let setup = |encoder: &gst::Element| {
            assert_unlocked();
            element.emit_by_name::<()>("encoder-setup", &[&track.name, encoder]);
        };
        match sink_pad.prepare(element.upcast_ref(), &settings, setup) {
            Ok(Some(codec)) => {
                if let Some(session) = self.membership.session() {
                    session.set_codec(&track.name, codec);
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Opens a pad. Streams that were held on several pads are all moved by the
    /// same delay, so that they stay in sync.
    fn open(&self, sink_pad: &SinkPad) {
        let Some(session) = self.membership.session() else {
            return;
        };
        let before = *lock(&self.hold_delay);
        let delay = sink_pad.open(&session, self.running_time(), before);
        *lock(&self.hold_delay) = before.or(delay);
    }

    /// An error of one track: the others go on, and the application may publish it
    /// again.
    fn warn_refused(&self, track: &str, mut error: Error) {
        error.message = format!(
            "the model does not take track '{track}' from us: {}",
            error.message
        );
        let element = self.obj();
        let element = element.upcast_ref::<gst::Element>();
        gst::warning!(CAT, imp = self, "{error}");
        let mut details = self.membership.state.publish_error(element, &error);
        details.set("track", track);
        errors::post_warning_with(element, &error, details);
    }

    /// The server ended the session: unbinds all pads and posts EOS.
    fn end_session(&self) {
        lock(&self.tracks).take();
        for sink_pad in self.sink_pads() {
            sink_pad.unbind();
        }
        self.suspend_command_pads();
        let element = self.obj();
        let eos = gst::message::Eos::builder().src(&*element).build();
        post_message(element.upcast_ref(), eos);
    }
}

/// The error for a pad without a track; it names the tracks that are free.
fn no_track_for(sink_pad: &SinkPad, free: &[Track]) -> Error {
    let kind = sink_pad.kind.as_str();
    let of_kind = free.iter().filter(|t| t.kind == sink_pad.kind);
    let names: Vec<_> = of_kind.map(|t| t.name.as_str()).collect();
    let choice = match names.is_empty() {
        true => format!("the model has no {kind} input that is free"),
        false => format!("it may be {kind}_{}", names.join(&format!(", {kind}_"))),
    };
    let name = sink_pad.pad.name();
    Error::api(
        Code::NotFound,
        format!("the model has no input track for pad '{name}': {choice}"),
    )
}

/// Whether the pad was requested without a name, as `video_0` is.
fn has_generated_name(sink_pad: &SinkPad) -> bool {
    let name = sink_pad.pad.name();
    let rest = name.split_once('_').map_or("", |(_, rest)| rest);
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
}

/// The position of the track that the pad has, or is named after.
fn find_track(sink_pad: &SinkPad, tracks: &[Track]) -> Option<usize> {
    let bound = sink_pad.track();
    let pad = sink_pad.pad.name();
    let wanted = match &bound {
        Some(track) => track.name.as_str(),
        None => pad.split_once('_')?.1,
    };
    let matches = |t: &Track| t.kind == sink_pad.kind && t.name == wanted;
    tracks.iter().position(matches)
}
