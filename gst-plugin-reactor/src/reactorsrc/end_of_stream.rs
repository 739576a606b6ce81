// SPDX-License-Identifier: MIT

//! The end of all streams: asked for by the application or by the server. An EOS
//! that reaches no sink is an error, so that nobody waits for it.
//!
//! Runs on the element's event thread, behind the pads that are being added, but
//! for [`ReactorSrc::request_end`]. It never pushes anything: appsrcs do.

use std::time::Duration;

use gst::{prelude::*, subclass::prelude::*};

use super::{event::SourceEvent, imp::ReactorSrc, track_pad::TrackPad};
use crate::{
    element::{errors, lifecycle::Lifecycle},
    platform::{Code, Error},
    session::run_after,
};

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
            Ok(true) => {}
            // No pad can pass an EOS on: without this error the application
            // would wait for one forever.
            Ok(false) => self.fail(&Error::api(
                Code::Aborted,
                "ended before the session had any stream; nothing was received",
            )),
        }
    }

    /// The session has ended. Fails if no EOS reaches the application, unless it
    /// asked for the end: it would wait for an EOS forever.
    pub(super) fn end_session(&self, reason: Option<&str>, requested: bool) {
        match self.end_streams() {
            _ if requested => {}
            Err(error) => self.fail(&error),
            Ok(true) => {}
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
    /// Fails when none of them can pass an EOS on, and the pipeline waits for one.
    fn end_streams(&self) -> Result<bool, Error> {
        let tracks = self.tracks();
        for track in &tracks {
            self.end_track(track, TrackPad::end);
        }
        let has_messages = self.end_messages();
        let unlinked = self.unlinked_pads();
        if let Some(pads) = unlinked.filter(|_| self.pipeline_has_unfed_element()) {
            let text = format!("ended, but no pad is linked that could pass an EOS on: {pads}");
            return Err(Error::api(Code::Aborted, text));
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

    /// Warns, once the session is ready, if the application has linked nothing:
    /// a pad's name may be wrong.
    pub(super) fn warn_if_unlinked(&self) {
        if let Some(pads) = self.unlinked_pads() {
            let text = format!("no pad is linked, so nothing is received: {pads}");
            let error = Error::api(Code::Other("NOTHING_LINKED".into()), text);
            let id = self.membership.state.session_id();
            errors::post_warning(self.obj().upcast_ref(), &error, id.as_deref());
        }
    }

    /// What the pads are called, if there are any and none is linked.
    fn unlinked_pads(&self) -> Option<String> {
        let tracks = self.tracks();
        let has_messages = self.messages().is_some_and(|stream| stream.pad.is_linked());
        let is_linked = has_messages || tracks.iter().any(|track| track.pad.is_linked());
        let names: Vec<_> = tracks.iter().map(|track| track.pad.name()).collect();
        let list = format!("the model's tracks are {}", names.join(", "));
        (!is_linked && !names.is_empty()).then_some(list)
    }

    /// Whether an element of the pipeline takes a stream and nothing is linked to
    /// it: the pipeline waits for its EOS.
    fn pipeline_has_unfed_element(&self) -> bool {
        let element = self.obj();
        let mut top = element.clone().upcast::<gst::Object>();
        while let Some(parent) = top.parent() {
            top = parent;
        }
        let Some(bin) = top.downcast_ref::<gst::Bin>() else {
            return false;
        };
        let elements = bin.iterate_recurse().into_iter().flatten();
        let mut others = elements.filter(|other| !other.has_as_ancestor(&*element));
        others.any(|other| is_unfed(&other))
    }
}

fn is_unfed(element: &gst::Element) -> bool {
    let templates = element.pad_template_list();
    let takes_input = templates
        .iter()
        .any(|template| template.direction() == gst::PadDirection::Sink);
    let is_source = element.element_flags().contains(gst::ElementFlags::SOURCE);
    takes_input && !is_source && !element.sink_pads().iter().any(PadExt::is_linked)
}
