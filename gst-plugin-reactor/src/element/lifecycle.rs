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

    /// Posts an error of a session that may still be starting; see
    /// `ElementState::wait_for_playing`.
    fn fail_when_playing(&self, error: &Error) {
        if self.membership().state.wait_for_playing() {
            self.fail(error);
        }
    }

    fn start_or_fail(&self) -> Result<(), gst::StateChangeError> {
        self.start().map_err(|mut error| {
            error.failure.get_or_insert(Failure::Connection);
            self.fail(&error);
            gst::StateChangeError
        })
    }

    /// Performs a state change, for `ElementImpl::change_state`.
    fn perform_transition(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        let state = &self.membership().state;
        match transition {
            gst::StateChange::NullToReady if !is_descending(element) => warm_up::start(),
            gst::StateChange::ReadyToPaused if is_descending(element) => {
                state.set_start_skipped(true);
                return Ok(gst::StateChangeSuccess::Success);
            }
            gst::StateChange::ReadyToPaused => self.start_or_fail()?,
            gst::StateChange::PausedToPlaying if state.set_start_skipped(false) => {
                self.perform_transition(gst::StateChange::ReadyToPaused)?;
            }
            gst::StateChange::PlayingToPaused => self.set_playing(false),
            gst::StateChange::PausedToReady => drop(state.set_start_skipped(false)),
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

/// Whether a bin around the element is on its way down. It brings elements that
/// are in a lower state up to its next one first, such as one that could not
/// start, or was stopped alone: PAUSED without a session does for that.
pub fn is_descending(element: &gst::Element) -> bool {
    let mut parent = element.parent();
    while let Some(bin) = parent.and_downcast::<gst::Element>() {
        let (current, pending) = (bin.current_state(), bin.pending_state());
        if pending != gst::State::VoidPending && pending < current {
            return true;
        }
        parent = bin.parent();
    }
    false
}
