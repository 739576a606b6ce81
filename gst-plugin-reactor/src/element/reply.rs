// SPDX-License-Identifier: MIT

//! [`ReplyTo`]: where the reply to a request goes, and the structure that it
//! becomes. Replies arrive on the driver's task and are given to the element's
//! event thread, since what answers a promise runs the application's code.

use gst::prelude::*;

use super::{bus, clip_structure, debug::CAT, errors, event_thread::ReplyExecutor};
use crate::{
    platform::{
        Code, Error,
        wire::{FileRef, ServerMessage},
    },
    session::{Reply, ReplyCallback, assert_unlocked},
};

/// Where the reply to a request goes.
#[allow(missing_debug_implementations, reason = "a handler has none")]
pub enum ReplyTo {
    Promise(gst::Promise),
    /// To the bus, as `reactor-reply`; an error is a warning as well.
    Bus(gst::Element),
    /// To the bus if it is an error. The application asked for no reply, and a
    /// success is nothing to post for each of its commands.
    ErrorToBus(gst::Element),
    /// To what sent the request; called on the event thread.
    Handler(ReplyHandler),
}

/// Handles a reply.
pub type ReplyHandler = Box<dyn FnOnce(Result<ServerMessage, Error>) + Send>;

impl ReplyTo {
    /// The reply to an action of the application's.
    pub fn action(element: &gst::Element, promise: Option<gst::Promise>) -> Self {
        match promise {
            Some(promise) => Self::Promise(promise),
            None => Self::ErrorToBus(element.clone()),
        }
    }

    /// The callback that delivers the reply to the command of this name, by
    /// `executor`.
    pub fn callback(
        self,
        command: &str,
        session_id: Option<String>,
        executor: Option<ReplyExecutor>,
    ) -> ReplyCallback {
        match self {
            Self::Promise(promise) => run_by(executor, move |result| {
                assert_unlocked();
                promise.reply(Some(reply_structure(result, session_id.as_deref())));
            }),
            Self::Handler(handle) => run_by(executor, handle),
            Self::Bus(element) => {
                let (weak, command) = (element.downgrade(), command.to_owned());
                run_by(executor, move |result| {
                    if let Some(element) = weak.upgrade() {
                        post_reply(&element, &command, result, session_id.as_deref());
                    }
                })
            }
            Self::ErrorToBus(element) => {
                let (weak, command) = (element.downgrade(), command.to_owned());
                run_by(executor, move |result| {
                    if let (Some(element), Err(error)) = (weak.upgrade(), result) {
                        post_reply(&element, &command, Err(error), session_id.as_deref());
                    }
                })
            }
        }
    }
}

/// A reply that an executor delivers. Without one, while the element has no event
/// thread, the caller does.
pub fn run_by<T: Send + 'static>(
    executor: Option<ReplyExecutor>,
    deliver: impl FnOnce(Result<T, Error>) + Send + 'static,
) -> Reply<T> {
    Reply::new(move |result| match executor {
        Some(run) => run(Box::new(move || deliver(result))),
        None => deliver(result),
    })
}

/// Posts that a buffer of a pad was refused: a warning, and `reactor-reply`.
pub fn post_refused(
    element: &gst::Element,
    pad: &str,
    command: &str,
    error: Error,
    session_id: Option<&str>,
) {
    gst::warning!(CAT, obj = element, "pad {pad}: {error}");
    let mut warning = error.clone();
    warning.message = format!("pad {pad}: {}", error.message);
    errors::post_warning(element, &warning, session_id);
    let mut structure = reply_structure(Err(error), session_id);
    structure.set("command", command);
    structure.set("pad", pad);
    bus::post(element, structure);
}

/// Posts the reply to a command that came with no promise.
fn post_reply(
    element: &gst::Element,
    command: &str,
    result: Result<ServerMessage, Error>,
    session_id: Option<&str>,
) {
    if let Err(error) = &result {
        gst::warning!(CAT, obj = element, "{command}: {error}");
        let mut error = error.clone();
        error.message = format!("command {command}: {}", error.message);
        errors::post_warning(element, &error, session_id);
    }
    let mut structure = reply_structure(result, session_id);
    structure.set("command", command);
    bus::post(element, structure);
}

/// Parses the JSON object with a command's arguments.
///
/// # Errors
///
/// When the text is not a JSON object.
pub fn parse_arguments(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::api(
            Code::BadRequest,
            "a command's arguments are a JSON object, such as {\"prompt\":\"a forest\"}",
        )),
        Err(error) => Err(Error::api(
            Code::BadRequest,
            format!("the command's arguments are not JSON: {error}"),
        )),
    }
}

/// The reply of a promise: the fields of the result, or `error` with details.
fn reply_structure(
    result: Result<ServerMessage, Error>,
    session_id: Option<&str>,
) -> gst::Structure {
    let reply = gst::Structure::builder("reactor-reply");
    match result {
        Ok(ServerMessage::Model { name, data }) => reply
            .field("type", name)
            .field("data", data.to_string())
            .build(),
        Ok(ServerMessage::Schema(schema)) => reply
            .field("type", "modelSchema")
            .field("data", schema.to_string())
            .build(),
        Ok(ServerMessage::ClipReady(clip)) => clip_structure::to_structure(&clip).build(),
        Ok(_) => reply.build(),
        Err(error) => reply
            .field("error", errors::details(&error, session_id))
            .build(),
    }
}

/// The reply of an upload: the fields of the file reference, or `error`.
pub fn file_structure(result: Result<FileRef, Error>, session_id: Option<&str>) -> gst::Structure {
    let reply = gst::Structure::builder("reactor-reply");
    match result {
        Ok(file) => reply
            .field("upload_id", file.upload_id)
            .field("name", file.name)
            .field("mime_type", file.mime_type)
            .field("size", file.size)
            .build(),
        Err(error) => reply
            .field("error", errors::details(&error, session_id))
            .build(),
    }
}
