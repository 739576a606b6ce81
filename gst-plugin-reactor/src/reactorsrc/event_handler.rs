// SPDX-License-Identifier: MIT

//! Handles the events of the session and of the streams.
//!
//! Runs on the element's event thread, because adding pads and posting messages
//! runs the application's code. It never pushes data.

use std::sync::Arc;

use gst::{prelude::*, subclass::prelude::*};

use super::{
    debug::CAT,
    decode_chain::OutputFormat,
    event::SourceEvent,
    imp::ReactorSrc,
    stream_info::{ModelInfo, collection},
    track_pad::TrackPad,
};
use crate::{
    element::{Outcome, errors, lifecycle::Lifecycle, lock, post_message, post_missing_plugin},
    platform::{
        Code, Error,
        track::{Direction, Track},
    },
    session::{MachineEvent, MediaPlan, SessionEvent, Status, bridge::Subscription},
};

impl ReactorSrc {
    pub(super) fn handle_event(&self, event: SourceEvent) {
        match event {
            SourceEvent::Session(generation, SessionEvent::Machine(event)) => {
                let is_ready = matches!(*event, MachineEvent::Status(Status::Ready));
                if let MachineEvent::Described(descriptor) = &*event {
                    *lock(&self.model) = ModelInfo::of(descriptor);
                }
                let outcome = self
                    .membership
                    .publish(self.obj().upcast_ref(), generation, *event);
                match outcome {
                    Some(Outcome::Ended { reason, requested }) => {
                        self.end_session(reason.as_deref(), requested);
                    }
                    Some(Outcome::Failed(error)) => self.fail(&error),
                    Some(Outcome::Interrupted) => self.interrupt_streams(),
                    Some(Outcome::Lost(error)) => {
                        self.interrupt_streams();
                        self.fail(&error);
                    }
                    Some(Outcome::Resumed) | None => {}
                }
                if is_ready && self.membership.state.is_current(generation) {
                    self.warn_if_unlinked(generation);
                }
            }
            SourceEvent::Session(generation, event)
                if self.membership.state.is_current(generation) =>
            {
                match event {
                    SessionEvent::Tracks(tracks) => self.plan_tracks(generation, tracks),
                    SessionEvent::JitterBufferLatency(milliseconds) => {
                        self.membership.set_grown_latency(milliseconds);
                        self.update_latency();
                    }
                    SessionEvent::StatisticsDue => self.post_stats(),
                    SessionEvent::Schema(schema) => {
                        let commands = &self.membership.commands;
                        commands.update(self.obj().upcast_ref(), &schema);
                    }
                    // The others are about tracks to the model.
                    _ => {}
                }
            }
            SourceEvent::Session(..) => {}
            SourceEvent::FirstUnit { track, caps } => {
                if let Err(error) = self.open_track(&track, &caps) {
                    self.fail(&error);
                }
            }
            SourceEvent::Refused(error) => self.fail(&error),
            SourceEvent::RateMeasured { track, measured } => self.rate_measured(&track, measured),
            SourceEvent::End(generation) => self.end(generation),
            SourceEvent::CheckEnd(generation) => self.check_end(generation),
            SourceEvent::LinkedAfterEnd(track) => self.end_late_track(&track),
            SourceEvent::MessagesDropped => self.warn_of_dropped_messages(),
        }
    }

    /// Adds a pad for each of the model's output tracks, and answers the session
    /// which of them to receive.
    fn plan_tracks(&self, generation: u64, tracks: Vec<Track>) {
        if let Some(messages) = self.messages() {
            messages.begin();
        }
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
            self.expose_pads(generation, outputs)
        };
        if let Some(session) = self.membership.session() {
            session.set_media_plan(plan);
        }
        // The plan does not say which of them are needed.
        for track in self.tracks() {
            self.update_need(&track.stream.track.name, &track.pad);
        }
        self.end_new_tracks(generation);
    }

    /// Adds a pad for each track; the application links them meanwhile.
    fn expose_pads(&self, generation: u64, tracks: Vec<Track>) -> Result<MediaPlan, Error> {
        let element = self.obj();
        let pads = self.make_pads(tracks)?;
        let is_stopped = || !self.membership.state.is_current(generation);
        // The links that gst_parse_launch makes on `pad-added` point at elements that the end of the
        // pipeline frees (GStreamer 1.22).
        if is_stopped() {
            return Err(Error::api(Code::Aborted, "stopped"));
        }
        for pad in &pads {
            element.add_pad(&pad.pad).map_err(|_| {
                let name = &pad.stream.track.name;
                Error::api(
                    Code::BadRequest,
                    format!("cannot add a pad for track '{name}'"),
                )
            })?;
            if is_stopped() {
                // The application stopped the element in `pad-added`.
                if pad.pad.parent().as_ref() == Some(element.upcast_ref()) {
                    let _ = element.remove_pad(&pad.pad);
                }
                return Err(Error::api(Code::Aborted, "stopped"));
            }
        }
        if !self.is_player_source() {
            self.post_stream_collection(&pads);
        }
        element.no_more_pads();
        let subscriptions = pads.iter().map(|pad| self.subscribe(pad));
        Ok(MediaPlan {
            subscriptions: subscriptions.collect::<Result<_, _>>()?,
            publications: Vec::new(),
        })
    }

    fn post_stream_collection(&self, pads: &[Arc<TrackPad>]) {
        let element = self.obj();
        let streams = pads.iter().map(|pad| (&pad.stream.track, pad.stream_id()));
        let collection = collection(&element.name(), streams);
        let message = gst::message::StreamCollection::builder(&collection).src(&*element);
        post_message(element.upcast_ref(), message.build());
    }

    fn subscribe(&self, pad: &Arc<TrackPad>) -> Result<Subscription, Error> {
        let choice = pad.choose_format(None).map_err(|missing| {
            let track = &pad.stream.track.name;
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
        let names: Vec<_> = choice.codecs.iter().map(|c| c.encoding_name).collect();
        gst::debug!(CAT, obj = pad.pad, "{:?} of {names:?}", choice.format);
        Ok(Subscription {
            track: pad.stream.track.clone(),
            codecs: choice.codecs,
            rtp: choice.format == OutputFormat::Rtp,
            consumer: pad.stream.clone(),
            counters: pad.stream.counters.clone(),
        })
    }

    /// Warns that downstream of the pad `messages` is too slow.
    fn warn_of_dropped_messages(&self) {
        let count = self.messages().map_or(0, |stream| stream.take_dropped());
        if count > 0 {
            let by = "downstream of pad messages takes";
            errors::warn_of_dropped_messages(self.obj().upcast_ref(), by, count);
        }
    }

    /// Warns where downstream relies on another frame rate than comes.
    fn rate_measured(&self, name: &str, measured: gst::Fraction) {
        let tracks = self.tracks();
        let track = tracks.iter().find(|t| t.stream.track.name == name);
        if let Some(error) = track.and_then(|track| track.adopt_frame_rate(measured)) {
            let id = self.membership.state.session_id();
            errors::post_warning(self.obj().upcast_ref(), &error, id.as_deref());
        }
    }

    fn interrupt_streams(&self) {
        for track in self.tracks() {
            track.stream.interrupt();
        }
    }
}
