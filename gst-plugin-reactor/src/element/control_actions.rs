// SPDX-License-Identifier: MIT

//! The action signals that steer the session itself: its connection and its tracks.
//! Each takes a promise, which may be NULL, and says there what came of it: nothing,
//! or `error`. Without a promise a failure is a warning on the bus.

use gst::{glib, prelude::*};

use super::{
    actions::{Action, get_promise, get_string},
    membership::SessionMembership,
    reply::ReplyTo,
};
use crate::{
    platform::Code,
    session::{ReplyCallback, Session},
};

impl SessionMembership {
    /// Has the session do something, and replies to the promise.
    fn control(
        &self,
        element: &gst::Element,
        operation: &'static str,
        promise: Option<gst::Promise>,
        run: impl FnOnce(&Session, ReplyCallback),
    ) {
        let (session, reply) = self.prepare(ReplyTo::action(element, promise), operation);
        match session {
            Ok(session) => run(&session, reply),
            Err(mut error) => {
                error.code = Code::InvalidState;
                reply.send(Err(error.during(operation)));
            }
        }
    }

    /// As [`Self::control`], with the arguments of a signal: a track and a promise.
    fn control_track(
        &self,
        element: &gst::Element,
        operation: &'static str,
        args: &[glib::Value],
        run: impl FnOnce(&Session, &str, ReplyCallback),
    ) {
        let track = get_string(&args[0]).unwrap_or_default();
        let promise = get_promise(&args[1]);
        self.control(element, operation, promise, |session, reply| {
            run(session, &track, reply);
        });
    }
}

/// The signals; `action` makes one of its name, parameters and handler.
pub(super) fn signals(
    action: &dyn Fn(&str, Vec<glib::Type>, Action) -> glib::subclass::Signal,
) -> Vec<glib::subclass::Signal> {
    let text = Option::<String>::static_type;
    let promise = Option::<gst::Promise>::static_type;
    let track = || vec![text(), promise()];
    vec![
        // publish-track(name, promise), unpublish-track(name, promise): for the
        // model's inputs that elements of the session feed; they are published at
        // first.
        action("publish-track", track(), |member, element, args| {
            member.control_track(element, "publish_track", args, |session, track, reply| {
                session.set_published(track, true, reply);
            });
        }),
        action("unpublish-track", track(), |member, element, args| {
            member.control_track(element, "unpublish_track", args, |session, track, reply| {
                session.set_published(track, false, reply);
            });
        }),
        // pause-track(name, promise), resume-track(name, promise): for the model's
        // outputs. A track that is resumed flows if a pad needs it.
        action("pause-track", track(), |member, element, args| {
            member.control_track(element, "pause_track", args, |session, track, reply| {
                session.pause_track(track, true, reply);
            });
        }),
        action("resume-track", track(), |member, element, args| {
            member.control_track(element, "resume_track", args, |session, track, reply| {
                session.pause_track(track, false, reply);
            });
        }),
        // disconnect(recoverable, promise): ends the session, or closes the
        // connection only: the platform then keeps the session for 30 s.
        action(
            "disconnect",
            vec![bool::static_type(), promise()],
            |member, element, args| {
                let recoverable = args[0].get().unwrap_or_default();
                let promise = get_promise(&args[1]);
                member.control(element, "disconnect", promise, |session, reply| {
                    session.disconnect(recoverable, reply);
                });
            },
        ),
        // reconnect(promise): makes a new connection to the session.
        action("reconnect", vec![promise()], |member, element, args| {
            let promise = get_promise(&args[0]);
            member.control(element, "reconnect", promise, Session::reconnect);
        }),
    ]
}
