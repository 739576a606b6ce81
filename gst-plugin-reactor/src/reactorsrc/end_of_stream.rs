// SPDX-License-Identifier: MIT

//! The end of all streams: asked for by the application or by the server. An EOS
//! that reaches no sink is an error, so that nobody waits for it.
//!
//! Runs on the element's event thread, behind the pads that are being added, but
//! for [`ReactorSrc::request_end`]. It never pushes anything: appsrcs do.

use std::{sync::atomic::Ordering, time::Duration};

use gst::{prelude::*, subclass::prelude::*};

use super::{event::SourceEvent, imp::ReactorSrc, track_pad::TrackPad};
use crate::{
    element::{errors, lifecycle::Lifecycle},
    platform::{Code, Error},
    session::run_after,
};

/// An application may link further pads after the end, within this time.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

impl ReactorSrc {
    /// Ends all streams, on behalf of the application. Streams that have begun
    /// end at once, the others on the event thread: neither needs this thread,
    /// which a sink that waits for preroll would keep. Returns whether the
    /// element runs.
    pub(crate) fn request_end(&self) -> bool {
        let generation = self.membership.state.generation();
        let Some(events) = self.events() else {
            return false;
        };
        for track in self.tracks() {
            track.stream.end_if_begun();
        }
        self.end_messages();
        events.send(SourceEvent::End(generation));
        true
    }

    /// Calls [`Self::request_end`] later, unless the element is stopped until then.
    pub(crate) fn request_end_after(&self, delay: Duration) {
        let generation = self.membership.state.generation();
        let weak = self.downgrade();
        run_after(delay, move || {
            if let Some(imp) = weak.upgrade()
                && imp.membership.state.is_current(generation)
            {
                imp.request_end();
            }
        });
    }

    /// The application asked this generation of the element to end.
    pub(super) fn end(&self, generation: u64) {
        if !self.membership.state.is_current(generation) {
            return;
        }
        match self.end_streams() {
            Err(error) => self.fail(&error),
            Ok(true) => {
                self.ended_generation.store(generation, Ordering::Release);
                self.check_later();
            }
            // No pad can pass an EOS on: without this error the application
            // would wait for one forever.
            Ok(false) => self.fail(&Error::api(
                Code::Aborted,
                "ended before the session had any stream; nothing was received",
            )),
        }
    }

    /// Ends the tracks that have become known, if this generation was asked to end before: its
    /// messages have.
    pub(super) fn end_new_tracks(&self, generation: u64) {
        if self.ended_generation.load(Ordering::Acquire) == generation {
            self.end(generation);
        }
    }

    /// The session has ended. Fails if no EOS reaches the application, unless it
    /// asked for the end: it would wait for an EOS forever.
    pub(super) fn end_session(&self, reason: Option<&str>, requested: bool) {
        match self.end_streams() {
            _ if requested => {}
            Err(error) => self.fail(&error),
            Ok(true) => self.check_later(),
            Ok(false) => self.fail(&Error::gpu(
                Code::SessionTerminal,
                format!(
                    "the session ended before anything was received: {}",
                    reason.unwrap_or("the server gave no reason")
                ),
            )),
        }
    }

    /// Ends all streams after the queued units. Returns whether there are any.
    /// Fails when none of their pads is linked, and the pipeline waits for an EOS.
    fn end_streams(&self) -> Result<bool, Error> {
        let generation = self.membership.state.generation();
        let tracks = self.tracks();
        for track in &tracks {
            self.end_track(track, TrackPad::end);
        }
        let has_messages = self.end_messages();
        if !tracks.is_empty() && !self.is_linked() {
            self.require_fed(generation)?;
        }
        Ok(has_messages || !tracks.is_empty())
    }

    /// Ends the stream of messages. Returns whether an EOS reaches downstream.
    fn end_messages(&self) -> bool {
        let stream = self.messages().filter(|stream| stream.pad.is_linked());
        stream.is_some_and(|stream| {
            stream.end();
            true
        })
    }

    /// Looks after [`LINK_PATIENCE`] whether the EOS of all streams reaches each sink.
    fn check_later(&self) {
        let generation = self.membership.state.generation();
        if let Some(events) = self.events() {
            run_after(LINK_PATIENCE, move || {
                events.send(SourceEvent::CheckEnd(generation));
            });
        }
    }

    /// The streams of this generation ended a while ago.
    pub(super) fn check_end(&self, generation: u64) {
        if let Err(error) = self.require_fed(generation) {
            self.fail(&error);
        }
    }

    /// Fails if the pipeline waits for an EOS that no pad can pass on.
    fn require_fed(&self, generation: u64) -> Result<(), Error> {
        let Some(unfed) = self.unfed_element() else {
            return Ok(());
        };
        let (unfed, pads) = (unfed.name(), self.pad_names());
        // A stop meanwhile takes the pads away that fed the others.
        if !self.membership.state.is_current(generation) {
            return Ok(());
        }
        let text = format!("ended, but nothing is linked to {unfed}, so no EOS reaches it: {pads}");
        Err(Error::api(Code::Aborted, text))
    }

    /// The pad of a track was linked after its end.
    pub(super) fn end_late_track(&self, name: &str) {
        let tracks = self.tracks();
        if let Some(track) = tracks.iter().find(|t| t.stream.track.name == name) {
            self.end_track(track, TrackPad::end_for_new_peer);
        }
    }

    fn end_track(
        &self,
        track: &TrackPad,
        end: impl FnOnce(&TrackPad, &gst::Bin) -> Result<(), Error>,
    ) {
        let element = self.obj();
        if let Err(error) = end(track, element.upcast_ref()) {
            self.fail(&error);
        }
        if self.events().is_none() {
            // The element was stopped meanwhile.
            track.close(element.upcast_ref());
        }
    }

    /// Warns, once the session is ready, if the application has linked nothing, or an
    /// element of the pipeline still waits for a stream: a pad's name may be wrong.
    pub(super) fn warn_if_unlinked(&self, generation: u64) {
        let text = match self.unfed_element() {
            _ if !self.is_linked() => "no pad is linked, so nothing is received".to_owned(),
            Some(unfed) => format!("nothing is linked to {}", unfed.name()),
            None => return,
        };
        let text = format!("{text}: {}", self.pad_names());
        // A stop meanwhile takes the pads away.
        if !self.membership.state.is_current(generation) {
            return;
        }
        let error = Error::api(Code::Other("NOTHING_LINKED".into()), text);
        let id = self.membership.state.session_id();
        errors::post_warning(self.obj().upcast_ref(), &error, id.as_deref());
    }

    fn is_linked(&self) -> bool {
        let has_messages = self.messages().is_some_and(|stream| stream.pad.is_linked());
        has_messages || self.tracks().iter().any(|track| track.pad.is_linked())
    }

    /// What the tracks' pads are called.
    fn pad_names(&self) -> String {
        let tracks = self.tracks();
        let names: Vec<_> = tracks.iter().map(|track| track.pad.name()).collect();
        format!("the model's tracks are {}", names.join(", "))
    }

    /// An element of the pipeline that takes a stream, has none, and keeps a sink from
    /// EOS: the pipeline waits for it.
    fn unfed_element(&self) -> Option<gst::Element> {
        let element = self.obj();
        let mut top = element.clone().upcast::<gst::Object>();
        while let Some(parent) = top.parent() {
            top = parent;
        }
        let elements = top.downcast_ref::<gst::Bin>()?.iterate_recurse();
        let mut elements = elements.into_iter().flatten();
        elements.find(|other| is_the_users(other) && is_unfed(other) && leads_to_sink(other))
    }
}

/// Whether the element is no part of another one.
fn is_the_users(element: &gst::Element) -> bool {
    let mut parent = element.parent();
    while let Some(bin) = parent {
        if ![gst::Bin::static_type(), gst::Pipeline::static_type()].contains(&bin.type_()) {
            return false;
        }
        parent = bin.parent();
    }
    true
}

fn is_unfed(element: &gst::Element) -> bool {
    let templates = element.pad_template_list();
    let takes_input = templates
        .iter()
        .any(|template| template.direction() == gst::PadDirection::Sink);
    takes_input && !element.sink_pads().iter().any(PadExt::is_linked)
}

/// Whether the element, or one that it feeds, is a sink: pipelines wait for their EOS.
fn leads_to_sink(element: &gst::Element) -> bool {
    let mut reached = vec![element.clone()];
    let mut next = 0;
    while let Some(element) = reached.get(next).cloned() {
        if element.element_flags().contains(gst::ElementFlags::SINK) {
            return true;
        }
        let fed = element.src_pads().into_iter().filter_map(fed_element);
        for element in fed.collect::<Vec<_>>() {
            if !reached.contains(&element) {
                reached.push(element);
            }
        }
        next += 1;
    }
    false
}

/// The element that a source pad feeds, also one outside of its bin.
fn fed_element(pad: gst::Pad) -> Option<gst::Element> {
    let mut peer = pad.peer()?;
    while let Some(ghost_pad) = peer.parent().and_downcast::<gst::Pad>() {
        peer = ghost_pad.peer()?;
    }
    peer.parent_element()
}
