// SPDX-License-Identifier: MIT

//! The events that the element's event thread handles. Sent by the session's
//! driver, by streaming threads and by the application; none waits for it.

use super::command_pad::PadReply;
use crate::{element::event_thread::ElementEvent, platform::track::Track, session::SessionEvent};

#[derive(Debug)]
pub enum SinkEvent {
    /// From the session that the element joined at this generation.
    Session(u64, SessionEvent),
    /// Upstream of the pad with this name sends these caps.
    Caps(String, gst::Caps),
    /// The application released the pad that fed this track.
    PadReleased(Track),
    /// `min-bitrate` or `max-bitrate` was set.
    BitrateLimits,
    /// A buffer of the pad with this name was refused before it was sent.
    CommandRefused(String, PadReply),
    /// The pads of this generation for commands wait for the media no longer.
    OpenCommandPads(u64),
}

impl ElementEvent for SinkEvent {
    fn session_event(&self) -> Option<&SessionEvent> {
        match self {
            Self::Session(_, event) => Some(event),
            _ => None,
        }
    }
}
