// SPDX-License-Identifier: MIT

//! The `tick` messages that the playground sends every second.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;

use crate::{model_messages, pipeline::wait_until};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Tick {
    /// The counter of the newest frame.
    pub frame: u32,
    pub clients: u32,
}

/// Collects the ticks that an element receives.
#[derive(Debug, Clone, Default)]
pub struct TickMessages(Arc<Mutex<Vec<Tick>>>);

impl TickMessages {
    pub fn watch(element: &gst::Element) -> Self {
        Self(model_messages::collect(element, "tick"))
    }

    pub fn all(&self) -> Vec<Tick> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for the next tick from now; panics after `limit`.
    pub fn next(&self, limit: Duration) -> Tick {
        let seen = self.all().len();
        wait_until("a tick", limit, || self.all().len() > seen);
        self.all()[seen]
    }
}
