// SPDX-License-Identifier: MIT

//! The action signals that steer the session itself: its connection and its tracks.
//! Each takes a promise, which may be NULL, and says there what came of it: nothing,
//! or `error`. Without a promise a failure is a warning on the bus.

use gst::{glib, prelude::*};

use super::{
    actions::{Action, get_promise, get_string},
    membership::{Joined, SessionMembership},
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
        let joined = self.require_session();
        let executor = joined.as_ref().ok().map(|j| j.reply_executor.clone());
        let id = self.state.session_id();
        let reply = ReplyTo::action(element, promise).callback(operation, id, executor);
        match joined {
            Ok(Joined { session, .. }) => run(&session, reply),
            Err(mut error) => {
                error.code = Code::InvalidState;
                reply.send(Err(error.during(operation)));
            }
        }
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
            set_published(member, element, args, true);
        }),
        action("unpublish-track", track(), |member, element, args| {
            set_published(member, element, args, false);
        }),
        // pause-track(name, promise), resume-track(name, promise): for the model's
        // outputs. A track that is resumed flows if a pad needs it.
        action("pause-track", track(), |member, element, args| {
            pause_track(member, element, args, true);
        }),
        action("resume-track", track(), |member, element, args| {
            pause_track(member, element, args, false);
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

fn set_published(
    member: &SessionMembership,
    element: &gst::Element,
    args: &[glib::Value],
    publish: bool,
) {
    let track = get_string(&args[0]).unwrap_or_default();
    let operation = if publish {
        "publish_track"
    } else {
        "unpublish_track"
    };
    member.control(
        element,
        operation,
        get_promise(&args[1]),
        |session, reply| {
            session.set_published(&track, publish, reply);
        },
    );
}

fn pause_track(
    member: &SessionMembership,
    element: &gst::Element,
    args: &[glib::Value],
    paused: bool,
) {
    let track = get_string(&args[0]).unwrap_or_default();
    let operation = if paused {
        "pause_track"
    } else {
        "resume_track"
    };
    member.control(
        element,
        operation,
        get_promise(&args[1]),
        |session, reply| {
            session.pause_track(&track, paused, reply);
        },
    );
}
