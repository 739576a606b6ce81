// SPDX-License-Identifier: MIT

//! The events that the element's event thread handles. Sent by the session's
//! driver, by streaming threads and by the application; none waits for it.

use crate::{platform::track::Track, session::SessionEvent};

#[derive(Debug)]
pub enum SinkEvent {
    /// From the session that the element joined at this generation.
    Session(u64, SessionEvent),
    /// Upstream of the pad with this name sends these caps.
    Caps(String, gst::Caps),
    /// The application released the pad that fed this track.
    PadReleased(Track),
}
