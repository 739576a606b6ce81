// SPDX-License-Identifier: MIT

//! NavigationCommands a model from downstream: keys and mouse of a video window, and a
//! custom event for any command.

use std::{
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use gst_video::NavigationEvent;

use super::{Live, ReplyTo, lock};
use crate::{
    platform::{
        Error,
        navigation::{Event, Navigation},
    },
    session,
};

/// A custom upstream event with a structure of this name, the string `name`
/// and the string `data` (JSON), sends a command.
pub const COMMAND_EVENT: &str = "reactor-command";

/// What `navigation` has come to.
#[derive(Debug, Default)]
pub struct NavigationCommands(Mutex<Option<Navigation>>);

fn now() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}

impl Live {
    /// Takes the property anew, with no key held.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn begin_navigation(&self, navigation: Option<&str>) -> Result<(), Error> {
        let navigation = navigation.map(Navigation::parse).transpose();
        let navigation = navigation.map_err(Error::into_invalid_settings)?;
        *lock(&self.navigation.0) = navigation.filter(|n| !n.is_empty());
        Ok(())
    }

    /// Takes an upstream event; `size` is that of the picture it is about.
    /// Returns whether it was for us.
    pub fn steer(
        &self,
        element: &gst::Element,
        event: &gst::EventRef,
        size: (u32, u32),
        flush: impl FnOnce() + Send + 'static,
    ) -> bool {
        match event.view() {
            gst::EventView::Navigation(_) => self.navigate(element, event, size, flush),
            gst::EventView::CustomUpstream(_) => self.command_event(element, event),
            _ => false,
        }
    }

    fn navigate(
        &self,
        element: &gst::Element,
        event: &gst::EventRef,
        size: (u32, u32),
        flush: impl FnOnce() + Send + 'static,
    ) -> bool {
        let event = NavigationEvent::parse(event).ok();
        let Some(event) = event.and_then(|event| normalized(event, size)) else {
            return false;
        };
        let (commands, wait) = {
            let mut steering = lock(&self.navigation.0);
            let Some(navigation) = steering.as_mut() else {
                return false;
            };
            let commands = navigation.commands(now(), &event, size);
            (commands, navigation.deadline())
        };
        self.order_all(element, commands);
        if let Some(at) = wait {
            session::after(at.saturating_sub(now()), flush);
        }
        true
    }

    /// Sends what was held back.
    pub fn flush_steering(&self, element: &gst::Element) {
        let commands = lock(&self.navigation.0).as_mut().map(|n| n.flush(now()));
        self.order_all(element, commands.unwrap_or_default());
    }

    fn command_event(&self, element: &gst::Element, event: &gst::EventRef) -> bool {
        let Some(structure) = event.structure().filter(|s| s.name() == COMMAND_EVENT) else {
            return false;
        };
        let name = structure.get::<&str>("name").unwrap_or_default();
        let data = structure.get::<&str>("data").ok();
        self.send_command(name, data, ReplyTo::Bus(element.clone()));
        true
    }
}

/// The event with coordinates as fractions of the picture.
fn normalized(event: NavigationEvent, (width, height): (u32, u32)) -> Option<Event> {
    let x = |x: f64| x / f64::from(width.max(1));
    let y = |y: f64| y / f64::from(height.max(1));
    Some(match event {
        NavigationEvent::KeyPress { key, .. } => Event::KeyPress(key),
        NavigationEvent::KeyRelease { key, .. } => Event::KeyRelease(key),
        NavigationEvent::MouseMove { x: px, y: py, .. } => Event::MouseMove { x: x(px), y: y(py) },
        NavigationEvent::MouseButtonPress {
            button,
            x: px,
            y: py,
            ..
        } => Event::MousePress {
            button,
            x: x(px),
            y: y(py),
        },
        NavigationEvent::MouseButtonRelease {
            button,
            x: px,
            y: py,
            ..
        } => Event::MouseRelease {
            button,
            x: x(px),
            y: y(py),
        },
        NavigationEvent::MouseScroll {
            x: px,
            y: py,
            delta_x,
            delta_y,
            ..
        } => Event::Scroll {
            x: x(px),
            y: y(py),
            dx: delta_x,
            dy: delta_y,
        },
        _ => return None,
    })
}
