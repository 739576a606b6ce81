// SPDX-License-Identifier: MIT

//! The enum of the property `status`.

use gst::glib;

use crate::session;

/// State of the session, as an element publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorStatus")]
pub enum Status {
    #[default]
    #[enum_value(name = "Disconnected: there is no session", nick = "disconnected")]
    Disconnected,
    #[enum_value(name = "Connecting: asking for a session", nick = "connecting")]
    Connecting,
    #[enum_value(
        name = "Waiting: for a GPU, or for the connection to it",
        nick = "waiting"
    )]
    Waiting,
    #[enum_value(name = "Ready: connected to the model", nick = "ready")]
    Ready,
}

impl From<session::Status> for Status {
    fn from(status: session::Status) -> Self {
        match status {
            session::Status::Disconnected => Self::Disconnected,
            session::Status::Connecting => Self::Connecting,
            session::Status::Waiting => Self::Waiting,
            session::Status::Ready => Self::Ready,
        }
    }
}
