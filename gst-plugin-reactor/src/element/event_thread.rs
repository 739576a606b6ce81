// SPDX-License-Identifier: MIT

//! The event thread of an element, for everything that runs the application's
//! code: adding pads, posting messages, emitting signals. It may block; the
//! driver's task and streaming threads only send it events.

use std::{sync::mpsc, thread};

use gst::{glib, prelude::*};

use crate::platform::{Code, Error};

/// Spawns the thread, which calls `handle` for each event. It ends when all
/// senders or the element are dropped.
///
/// # Errors
///
/// When the process cannot start another thread.
pub fn spawn<T, E>(
    name: &str,
    element: &T,
    handle: impl Fn(&T, E) + Send + 'static,
) -> Result<mpsc::Sender<E>, Error>
where
    T: IsA<gst::Element>,
    glib::WeakRef<T>: Send,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    let weak = element.downgrade();
    thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            for event in receiver {
                let Some(element) = weak.upgrade() else {
                    break;
                };
                handle(&element, event);
            }
        })
        .map_err(|error| Error::api(Code::Internal, format!("no thread: {error}")))?;
    Ok(sender)
}
