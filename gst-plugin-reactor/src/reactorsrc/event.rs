// SPDX-License-Identifier: MIT

//! The events that the element's event thread handles. Sent by the session's
//! driver and by the transport's streaming threads, which never wait for it.

use crate::{element::event_thread::ElementEvent, platform::Error, session::SessionEvent};

#[derive(Debug)]
pub enum SourceEvent {
    /// From the session that the element joined at this generation.
    Session(u64, SessionEvent),
    /// A track's first unit arrived: its pad needs elements for these caps.
    FirstUnit { track: String, caps: gst::Caps },
    /// Downstream takes nothing of a stream, or a stream that is not meant.
    Refused(Error),
    /// The frames of a track come at another rate than its caps say.
    RateMeasured {
        track: String,
        measured: gst::Fraction,
    },
    /// The application asked this generation of the element to end its streams.
    End(u64),
    /// The streams of this generation ended a while ago.
    CheckEnd(u64),
    /// The pad of a track was linked after its stream had ended.
    LinkedAfterEnd(String),
    /// The pad `messages` has dropped some.
    MessagesDropped,
}

impl ElementEvent for SourceEvent {
    fn session_event(&self) -> Option<&SessionEvent> {
        match self {
            Self::Session(_, event) => Some(event),
            _ => None,
        }
    }
}
