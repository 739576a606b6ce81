// SPDX-License-Identifier: MIT

//! [`NavigationCommands`]: translates the keys and the mouse of a video window
//! into commands, by the property `navigation`. Called by streaming threads
//! with upstream events; never sends a command itself.

use std::{
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use gst_video::NavigationEvent;

use crate::{
    platform::{
        Error,
        commands::ModelCommand,
        navigation::{InputEvent, Navigation},
    },
    session::lock,
};

/// The parsed property `navigation`; `None` if it maps nothing.
#[derive(Debug, Default)]
pub struct NavigationCommands(Mutex<Option<Navigation>>);

fn now() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}

impl NavigationCommands {
    /// Parses the property anew; no key is pressed then.
    ///
    /// # Errors
    ///
    /// When the mapping is invalid.
    pub fn set(&self, navigation: Option<&str>) -> Result<(), Error> {
        let navigation = navigation.map(Navigation::parse).transpose();
        let navigation = navigation.map_err(Error::into_invalid_settings)?;
        *lock(&self.0) = navigation.filter(|n| !n.is_empty());
        Ok(())
    }

    /// The commands for a navigation event on a picture of `size` pixels, and
    /// the delay after which [`NavigationCommands::flush`] is due. `None` if
    /// nothing is mapped, or for an event of another kind.
    pub fn commands_for(
        &self,
        event: &gst::EventRef,
        size: (u32, u32),
    ) -> Option<(Vec<ModelCommand>, Option<Duration>)> {
        let event = normalize(NavigationEvent::parse(event).ok()?, size)?;
        let mut navigation = lock(&self.0);
        let navigation = navigation.as_mut()?;
        let commands = navigation.commands(now(), &event, size);
        let deadline = navigation.deadline();
        Some((commands, deadline.map(|at| at.saturating_sub(now()))))
    }

    /// The commands that the rate limit held back.
    pub fn flush(&self) -> Vec<ModelCommand> {
        let commands = lock(&self.0).as_mut().map(|n| n.flush(now()));
        commands.unwrap_or_default()
    }
}

/// Converts an event: its coordinates become fractions of the picture.
fn normalize(event: NavigationEvent, (width, height): (u32, u32)) -> Option<InputEvent> {
    use NavigationEvent as Nav;
    let scale = |x: f64, y: f64| (x / f64::from(width.max(1)), y / f64::from(height.max(1)));
    Some(match event {
        Nav::KeyPress { key, .. } => InputEvent::KeyPress(key),
        Nav::KeyRelease { key, .. } => InputEvent::KeyRelease(key),
        Nav::MouseMove { x, y, .. } => {
            let (x, y) = scale(x, y);
            InputEvent::MouseMove { x, y }
        }
        Nav::MouseButtonPress { button, x, y, .. } => {
            let (x, y) = scale(x, y);
            InputEvent::MousePress { button, x, y }
        }
        Nav::MouseButtonRelease { button, x, y, .. } => {
            let (x, y) = scale(x, y);
            InputEvent::MouseRelease { button, x, y }
        }
        Nav::MouseScroll {
            x,
            y,
            delta_x: dx,
            delta_y: dy,
            ..
        } => {
            let (x, y) = scale(x, y);
            InputEvent::Scroll { x, y, dx, dy }
        }
        _ => return None,
    })
}
