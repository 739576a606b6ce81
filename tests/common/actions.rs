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

/// Emits `reconnect`.
pub fn reconnect(element: &gst::Element) -> PendingReply {
    emit_action(element, "reconnect", Vec::new())
}

/// Emits `disconnect`.
pub fn disconnect(element: &gst::Element, recoverable: bool) -> PendingReply {
    emit_action(element, "disconnect", vec![recoverable.to_value()])
}

/// Emits `publish-track`, `unpublish-track`, `pause-track` or `resume-track`.
pub fn with_track(element: &gst::Element, action: &str, track: &str) -> PendingReply {
    emit_action(element, action, vec![track.to_value()])
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

    /// The code of the error in the reply, if it is one; panics after `limit`.
    pub fn error_code(&self, limit: Duration) -> Option<String> {
        let reply = self.wait(limit);
        let error = reply.get::<gst::Structure>("error").ok()?;
        Some(error.get::<String>("code").expect("a code"))
    }

    /// Waits for a reply without an error; panics after `limit`.
    pub fn wait_ok(&self, limit: Duration) -> gst::Structure {
        let reply = self.wait(limit);
        assert!(!reply.has_field("error"), "{reply}");
        reply
    }
}
