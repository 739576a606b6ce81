// SPDX-License-Identifier: MIT

//! The element's pads that take commands: requested, opened while the session takes
//! commands, released. Called by the application's threads and on the event
//! thread; pushes nothing.

use std::{sync::Arc, time::Duration};

use gst::{prelude::*, subclass::prelude::*};

use super::{
    command_pad::{CommandStream, PadReply},
    debug::CAT,
    event::SinkEvent,
    imp::ReactorSink,
};
use crate::{
    element::{Status, lifecycle::Lifecycle, lock, pad_children},
    platform::Error,
    session::run_after,
};

/// A show waits for the video that it belongs to no longer than this once the session
/// is ready.
const MEDIA_LIMIT: Duration = Duration::from_secs(1);

impl ReactorSink {
    pub(super) fn command_streams(&self) -> Vec<Arc<CommandStream>> {
        lock(&self.command_streams).clone()
    }

    pub(super) fn request_command_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
    ) -> Option<gst::Pad> {
        let element = self.obj();
        let name = name.unwrap_or(template.name_template());
        let stream = CommandStream::new(&element, template, name)
            .inspect_err(|error| gst::error!(CAT, imp = self, "no pad {name}: {error}"))
            .ok()?;
        let _ = stream
            .pad
            .set_active(element.current_state() > gst::State::Ready);
        lock(&self.command_streams).push(stream.clone());
        if pad_children::add(&*element, stream.pad.upcast_ref()).is_err() {
            self.release_command_pad(stream.pad.upcast_ref());
            return None;
        }
        if self.membership.state.published().status == Status::Ready {
            stream.open(self.running_time(), None);
        }
        Some(stream.pad.clone().upcast())
    }

    /// Returns whether it was a pad for commands.
    pub(super) fn release_command_pad(&self, pad: &gst::Pad) -> bool {
        let stream = {
            let mut streams = lock(&self.command_streams);
            let is_it = |stream: &Arc<CommandStream>| stream.pad.upcast_ref::<gst::Pad>() == pad;
            let position = streams.iter().position(is_it);
            position.map(|position| streams.remove(position))
        };
        let Some(stream) = stream else {
            return false;
        };
        let element = self.obj();
        // First, because whoever pushes may wait in there.
        stream.close(element.upcast_ref());
        let _ = stream.pad.set_active(false);
        pad_children::remove(&*element, stream.pad.upcast_ref());
        true
    }

    /// The session is ready. Commands begin with the media that waits for it, so that
    /// a show stays with its film.
    pub(super) fn session_takes_commands(&self) {
        if !self.sink_pads().iter().any(|pad| pad.is_held()) {
            return self.open_command_pads();
        }
        let generation = self.membership.state.generation();
        let weak = self.downgrade();
        run_after(MEDIA_LIMIT, move || {
            if let Some(imp) = weak.upgrade() {
                imp.send_event(SinkEvent::OpenCommandPads(generation));
            }
        });
    }

    /// Opens the pads that are not open, as much later as the media that was held.
    pub(super) fn open_command_pads(&self) {
        if self.membership.state.published().status != Status::Ready {
            return;
        }
        let delay = *lock(&self.hold_delay);
        let now = self.running_time();
        for stream in self.command_streams() {
            stream.open(now, delay);
        }
    }

    pub(super) fn suspend_command_pads(&self) {
        let now = self.running_time();
        for stream in self.command_streams() {
            stream.suspend(now);
        }
    }

    /// Drops what waits for its time, and runs this on another thread then.
    pub(super) fn end_commands(&self, then: impl FnOnce(&super::ReactorSink) + Send + 'static) {
        let streams = self.command_streams();
        for stream in &streams {
            stream.end();
        }
        self.obj().call_async(move |element| {
            for stream in &streams {
                stream.flush();
            }
            then(element);
        });
    }

    /// Ends the pads for commands, unless what ended is one of them.
    pub(crate) fn end_commands_after(&self, ended: &gst::Object) {
        let streams = self.command_streams();
        if !streams.iter().any(|stream| stream.is_sink(ended)) {
            self.end_commands(move |_| {
                for stream in streams {
                    stream.pad.send_event(gst::event::Eos::new());
                }
            });
        }
    }

    /// The present running time, also in PAUSED.
    pub(super) fn running_time(&self) -> gst::ClockTime {
        let element = self.obj();
        let now = match element.current_state() {
            gst::State::Playing => element.current_running_time(),
            _ => element.start_time(),
        };
        now.unwrap_or_default()
    }

    /// The reply to a buffer that was refused before it was sent.
    pub(super) fn refuse_command(&self, pad: &str, reply: PadReply) {
        let streams = self.command_streams();
        if let Some(stream) = streams.iter().find(|stream| stream.pad.name() == pad) {
            stream.handle_reply(reply);
        }
    }

    /// Reports a buffer that was refused: a warning and `reactor-reply`, or an error.
    pub(super) fn report_refused(&self, pad: &str, command: &str, error: Error, is_strict: bool) {
        if is_strict {
            let mut error = error;
            error.message = format!("pad {pad}: {}", error.message);
            return self.fail(&error);
        }
        let element = self.obj();
        self.membership
            .report_refused(element.upcast_ref(), pad, command, error);
    }
}
