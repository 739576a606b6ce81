// SPDX-License-Identifier: MIT

//! Action signals of the elements whose last argument is a promise.

use std::{sync::mpsc, time::Duration};

use gst::prelude::*;

/// Emits an action with these arguments and a promise.
pub fn emit_action(
    element: &gst::Element,
    action: &str,
    mut arguments: Vec<gst::glib::Value>,
) -> PendingReply {
    let (sender, receiver) = mpsc::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.ok().flatten().map(|s| s.to_owned()));
    });
    arguments.push(promise.to_value());
    element.emit_by_name_with_values(action, &arguments);
    PendingReply(receiver)
}

/// Emits `send-command`; `arguments` is a JSON object.
pub fn send_command(element: &gst::Element, name: &str, arguments: &str) -> PendingReply {
    let arguments = vec![name.to_value(), arguments.to_value()];
    emit_action(element, "send-command", arguments)
}

/// The reply that the promise will have.
#[derive(Debug)]
pub struct PendingReply(mpsc::Receiver<Option<gst::Structure>>);

impl PendingReply {
    /// Waits for the reply; panics after `limit`.
    pub fn wait(&self, limit: Duration) -> gst::Structure {
        self.0
            .recv_timeout(limit)
            .expect("a reply")
            .expect("a structure")
    }
}
