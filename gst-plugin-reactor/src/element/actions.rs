// SPDX-License-Identifier: MIT

//! The action signals of the live elements. Called by the application's
//! threads; a request returns at once, and its reply goes to a promise, on the
//! element's event thread.

use bytes::Bytes;
use gst::{glib, prelude::*};

use super::{
    control_actions,
    membership::SessionMembership,
    reply::{ReplyTo, file_structure, run_by},
    upload_progress,
};
use crate::{
    platform::{Error, upload::UploadSource, wire::ClientMessage},
    session::{
        Reply, UploadCallback, assert_unlocked,
        command_queue::{QueuedCommand, UploadContent, UploadRequest, ready_deadline},
    },
};

impl SessionMembership {
    /// Sends a message that the platform replies to; `operation` names it in
    /// an error.
    fn request(
        &self,
        element: &gst::Element,
        operation: &'static str,
        message: ClientMessage,
        promise: Option<gst::Promise>,
    ) {
        let (session, reply) = self.prepare(ReplyTo::action(element, promise), operation);
        match session {
            Ok(session) => session.request(message, reply),
            Err(error) => reply.send(Err(error.during(operation))),
        }
    }

    /// Uploads bytes, or a file.
    fn upload(
        &self,
        element: &gst::Element,
        source: Result<UploadContent, Error>,
        promise: Option<gst::Promise>,
    ) {
        let id = self.state.session_id();
        let max_upload_size = self.state.settings().max_upload_size;
        let joined = self.require_session();
        let executor = joined.as_ref().ok().map(|j| j.reply_executor.clone());
        let reply: UploadCallback = match promise {
            None => Reply::ignored(),
            Some(promise) => run_by(executor, move |result| {
                assert_unlocked();
                promise.reply(Some(file_structure(result, id.as_deref())));
            }),
        };
        match (joined, source) {
            (Ok(joined), Ok(source)) => {
                let request = UploadRequest {
                    source,
                    max_upload_size,
                    deadline: ready_deadline(),
                    progress: upload_progress::poster(element.downgrade(), joined.reply_executor),
                    reply,
                };
                joined.session.queue_command(QueuedCommand::Upload(request));
            }
            (Err(error), _) | (_, Err(error)) => reply.send(Err(error.during("upload"))),
        }
    }
}

/// The handler of an action signal: the element and the arguments.
pub(super) type Action = fn(&SessionMembership, &gst::Element, &[glib::Value]);

/// The action signals of every live element.
pub fn signals(
    membership: fn(&gst::Element) -> Option<&SessionMembership>,
) -> Vec<glib::subclass::Signal> {
    let text = Option::<String>::static_type;
    let promise = Option::<gst::Promise>::static_type;
    let action = |name: &str, types: Vec<glib::Type>, run: Action| {
        glib::subclass::Signal::builder(name)
            .param_types(types)
            .action()
            .class_handler(move |args| {
                let element = args[0].get::<gst::Element>().ok()?;
                run(membership(&element)?, &element, &args[1..]);
                None
            })
            .build()
    };
    let mut signals = vec![
        // send-command(name, json, promise): the arguments are sent as they are.
        // The reply has `type` and `data` (JSON), or nothing if the command
        // replies nothing, or `error`.
        action(
            "send-command",
            vec![text(), text(), promise()],
            |member, element, args| {
                let name = get_string(&args[0]).unwrap_or_default();
                let reply_to = ReplyTo::action(element, get_promise(&args[2]));
                let arguments = get_string(&args[1]);
                member.send_command(element, &name, arguments.as_deref(), reply_to);
            },
        ),
        // upload-file(path, name or NULL, MIME type or NULL, promise): the
        // reply has `upload_id`, `name`, `mime_type`, `size`: the members of the
        // object that a command takes for the file.
        action(
            "upload-file",
            vec![text(), text(), text(), promise()],
            |member, element, args| {
                let source = UploadContent::File {
                    path: get_string(&args[0]).unwrap_or_default().into(),
                    name: get_string(&args[1]),
                    mime: get_string(&args[2]),
                };
                member.upload(element, Ok(source), get_promise(&args[3]));
            },
        ),
        // upload-bytes(bytes, name or NULL, MIME type or NULL, promise).
        action(
            "upload-bytes",
            vec![glib::Bytes::static_type(), text(), text(), promise()],
            |member, element, args| {
                let bytes = args[0].get::<Option<glib::Bytes>>().ok().flatten();
                let bytes = bytes.map(Bytes::from_owner).unwrap_or_default();
                let (name, mime) = (get_string(&args[1]), get_string(&args[2]));
                let max_size = member.state.settings().max_upload_size;
                let name = name.as_deref().unwrap_or_default();
                let source = UploadSource::new(bytes, name, mime.as_deref(), max_size);
                let source = source.map(UploadContent::Bytes);
                member.upload(element, source, get_promise(&args[3]));
            },
        ),
        // request-clip(seconds, promise): a clip of the last seconds.
        action(
            "request-clip",
            vec![f64::static_type(), promise()],
            |member, element, args| {
                let seconds = args[0].get().unwrap_or_default();
                let message = ClientMessage::RequestClip { seconds };
                member.request(element, "request_clip", message, get_promise(&args[1]));
            },
        ),
        // request-recording(promise): the whole recording.
        action(
            "request-recording",
            vec![promise()],
            |member, element, args| {
                let message = ClientMessage::RequestRecording;
                member.request(element, "request_recording", message, get_promise(&args[0]));
            },
        ),
        // request-schema(promise): the model's OpenAPI document in `data`.
        action(
            "request-schema",
            vec![promise()],
            |member, element, args| {
                let message = ClientMessage::RequestSchema;
                member.request(element, "request_schema", message, get_promise(&args[0]));
            },
        ),
    ];
    signals.extend(control_actions::signals(&action));
    signals
}

/// The text of an argument; an empty one counts as NULL.
pub(super) fn get_string(value: &glib::Value) -> Option<String> {
    let text = value.get::<Option<String>>().ok().flatten();
    text.filter(|text| !text.is_empty())
}

pub(super) fn get_promise(value: &glib::Value) -> Option<gst::Promise> {
    value.get::<Option<gst::Promise>>().ok().flatten()
}
