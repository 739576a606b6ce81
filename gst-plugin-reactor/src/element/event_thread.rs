// SPDX-License-Identifier: MIT

//! A thread of an element's own, for what runs the application's code: adding
//! pads, posting messages, emitting signals.

use std::{sync::mpsc, thread};

use gst::{glib, prelude::*};

use crate::platform::{Code, Error};

/// Starts the thread; it ends when all senders are gone.
///
/// # Errors
///
/// When the process has no threads left.
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
