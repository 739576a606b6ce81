// SPDX-License-Identifier: MIT

//! [`Lifecycle`]: what a state change of a live element does to its session.
//! Called by the thread that changes the state; blocks in READY -> NULL only.

use gst::{prelude::*, subclass::prelude::*};

use super::membership::SessionMembership;
use crate::{
    platform::{Error, Failure},
    session::warm_up,
};

/// A live element: its state changes join and leave the session.
pub trait Lifecycle: ElementImpl {
    fn membership(&self) -> &SessionMembership;

    /// Joins the session: READY -> PAUSED.
    fn start(&self) -> Result<(), Error>;

    /// Leaves the session; also called when [`Lifecycle::start`] has failed.
    fn stop(&self);

    fn set_playing(&self, playing: bool) {
        self.membership().state.set_playing(playing);
    }

    /// Posts an error: the element does nothing more until it is restarted.
    fn fail(&self, error: &Error) {
        let element = self.obj();
        self.membership().state.fail(element.upcast_ref(), error);
    }

    /// Performs a state change, for `ElementImpl::change_state`.
    fn perform_transition(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        match transition {
            gst::StateChange::NullToReady => warm_up::start(),
            gst::StateChange::ReadyToPaused => {
                if let Err(mut error) = self.start() {
                    error.failure.get_or_insert(Failure::Connection);
                    self.fail(&error);
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::PlayingToPaused => self.set_playing(false),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            gst::StateChange::PausedToPlaying if result.is_ok() => self.set_playing(true),
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => self.membership().wait_closed(element),
            _ => {}
        }
        result
    }
}
