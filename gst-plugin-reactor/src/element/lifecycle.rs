// SPDX-License-Identifier: MIT

//! What a state change means for the session: the same for every element that
//! takes part in one.

use gst::{prelude::*, subclass::prelude::*};

use super::Live;
use crate::{platform::Error, session::warm_up};

pub trait Lifecycle: ElementImpl {
    fn live(&self) -> &Live;

    /// Joins the session: READY -> PAUSED.
    fn start(&self) -> Result<(), Error>;

    /// Leaves it again, also when starting has failed half-way.
    fn stop(&self);

    fn set_playing(&self, playing: bool) {
        self.live().set_playing(playing);
    }

    /// Carries a state change out.
    fn change(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        match transition {
            gst::StateChange::NullToReady => warm_up::begin(),
            gst::StateChange::ReadyToPaused => {
                if let Err(error) = self.start() {
                    self.live().fail(element, &error);
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
            gst::StateChange::ReadyToNull => self.live().wait_closed(element),
            _ => {}
        }
        result
    }
}
