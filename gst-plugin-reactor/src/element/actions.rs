// SPDX-License-Identifier: MIT

//! What an application asks of the model and the platform, with a promise for
//! the reply.

use std::path::PathBuf;

use gst::{glib, prelude::*};

use super::{CAT, Live, bus, clip_structure, errors};
use crate::{
    platform::{
        Code, Error,
        commands::Command,
        upload::Source,
        wire::{ClientMessage, FileRef, ServerMessage},
    },
    session::{
        ReplyCallback, Session,
        command_queue::{QueuedCommand, UploadCallback},
    },
};

/// Who gets to know how it went.
#[derive(Debug)]
pub enum ReplyTo {
    Promise(Option<gst::Promise>),
    /// Nobody in particular: the bus.
    Bus(gst::Element),
}

impl Live {
    /// Sends a command in its turn; `@file:` arguments are uploaded first.
    pub fn send_command(&self, name: &str, json: Option<&str>, reply_to: ReplyTo) {
        let command = arguments(json.unwrap_or("{}")).and_then(|data| Command::new(name, data));
        match command {
            Ok(command) => self.order_command(command, reply_to),
            Err(error) => self.reply_to(name, reply_to)(Err(error.during("send_command"))),
        }
    }

    pub fn order_command(&self, command: Command, reply_to: ReplyTo) {
        let reply = self.reply_to(&command.name, reply_to);
        let check = self.settings().check_commands;
        match self.require_session() {
            Ok(session) => session.command(QueuedCommand::Command {
                command,
                check,
                reply,
            }),
            Err(error) => reply(Err(error.during("send_command"))),
        }
    }

    /// Sends what has a reply of the platform's.
    pub fn request(
        &self,
        what: &'static str,
        message: ClientMessage,
        promise: Option<gst::Promise>,
    ) {
        let reply = self.reply_to(what, ReplyTo::Promise(promise));
        match self.require_session() {
            Ok(session) => session.request(message, reply),
            Err(error) => reply(Err(error.during(what))),
        }
    }

    /// Uploads a file, or bytes.
    pub fn upload(
        &self,
        source: Result<Result<Source, PathBuf>, Error>,
        name: Option<String>,
        mime: Option<String>,
        promise: Option<gst::Promise>,
    ) {
        let id = self.session_id();
        let reply: UploadCallback = Box::new(move |result| {
            if let Some(promise) = promise {
                promise.reply(Some(file_structure(result, id.as_deref())));
            }
        });
        match (self.require_session(), source) {
            (Ok(session), Ok(source)) => session.command(QueuedCommand::Upload {
                source,
                name,
                mime,
                reply,
            }),
            (Err(error), _) | (_, Err(error)) => reply(Err(error.during("upload"))),
        }
    }

    /// Lets one of the model's tracks flow, or rest.
    pub fn want_track(&self, track: &str, flowing: bool) {
        if let Some(session) = self.session() {
            session.want(track, flowing);
        }
    }

    /// Claims an input track that was given up, or gives one up.
    pub fn publish_track(&self, track: &str, publish: bool) {
        if let Some(session) = self.session() {
            session.publish(track, publish);
        }
    }

    fn require_session(&self) -> Result<std::sync::Arc<Session>, Error> {
        self.session().ok_or_else(|| {
            let text = "there is no session: the element is not in PAUSED or PLAYING";
            Error::api(Code::InvalidState, text)
        })
    }

    fn reply_to(&self, what: &str, reply_to: ReplyTo) -> ReplyCallback {
        let id = self.session_id();
        match reply_to {
            ReplyTo::Promise(promise) => Box::new(move |result| {
                if let Some(promise) = promise {
                    promise.reply(Some(structure(result, id.as_deref())));
                }
            }),
            ReplyTo::Bus(element) => {
                let (weak, command) = (element.downgrade(), what.to_owned());
                Box::new(move |result| {
                    if let Some(element) = weak.upgrade() {
                        report(&element, &command, result, id.as_deref());
                    }
                })
            }
        }
    }
}

/// What came of a command that nobody in particular sent.
fn report(
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
    let mut structure = structure(result, session_id);
    structure.set("command", command);
    bus::post(element, structure);
}

fn arguments(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
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

/// A reply for a promise: what came, or `error` with what went wrong.
fn structure(result: Result<ServerMessage, Error>, session_id: Option<&str>) -> gst::Structure {
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
        Ok(ServerMessage::ClipReady(clip)) => clip_structure::structure(&clip).build(),
        Ok(_) => reply.build(),
        Err(error) => reply
            .field("error", errors::details(&error, session_id))
            .build(),
    }
}

fn file_structure(result: Result<FileRef, Error>, session_id: Option<&str>) -> gst::Structure {
    let reply = gst::Structure::builder("reactor-reply");
    match result {
        Ok(file) => reply
            .field("upload-id", file.upload_id)
            .field("name", file.name)
            .field("mime-type", file.mime_type)
            .field("size", file.size)
            .build(),
        Err(error) => reply
            .field("error", errors::details(&error, session_id))
            .build(),
    }
}

/// The action signals of every live element.
pub fn signals(live: fn(&gst::Element) -> Option<&Live>) -> Vec<glib::subclass::Signal> {
    let text = Option::<String>::static_type;
    let promise = Option::<gst::Promise>::static_type;
    let action = |name: &str, types: Vec<glib::Type>, run: fn(&Live, &[glib::Value])| {
        glib::subclass::Signal::builder(name)
            .param_types(types)
            .action()
            .class_handler(move |args| {
                let element = args[0].get::<gst::Element>().ok()?;
                run(live(&element)?, &args[1..]);
                None
            })
            .build()
    };
    vec![
        // send-command(name, json, promise): the reply has `type` and `data`
        // (JSON), or nothing if the command replies nothing, or `error`.
        action(
            "send-command",
            vec![text(), text(), promise()],
            |live, args| {
                let name = string(&args[0]).unwrap_or_default();
                let reply_to = ReplyTo::Promise(get_promise(&args[2]));
                live.send_command(&name, string(&args[1]).as_deref(), reply_to);
            },
        ),
        // upload-file(path, name or NULL, MIME type or NULL, promise): the
        // reply has `upload-id`, `name`, `mime-type`, `size`.
        action(
            "upload-file",
            vec![text(), text(), text(), promise()],
            |live, args| {
                let path = PathBuf::from(string(&args[0]).unwrap_or_default());
                let (name, mime) = (string(&args[1]), string(&args[2]));
                live.upload(Ok(Err(path)), name, mime, get_promise(&args[3]));
            },
        ),
        // upload-bytes(bytes, name or NULL, MIME type or NULL, promise).
        action(
            "upload-bytes",
            vec![glib::Bytes::static_type(), text(), text(), promise()],
            |live, args| {
                let bytes = args[0].get::<Option<glib::Bytes>>().ok().flatten();
                let bytes = bytes.map(|bytes| bytes.to_vec()).unwrap_or_default();
                let (name, mime) = (string(&args[1]), string(&args[2]));
                let source = Source::new(bytes, name.as_deref().unwrap_or(""), mime.as_deref());
                live.upload(source.map(Ok), None, None, get_promise(&args[3]));
            },
        ),
        // request-clip(seconds, promise): a clip of what was recorded last.
        action(
            "request-clip",
            vec![f64::static_type(), promise()],
            |live, args| {
                let seconds = args[0].get().unwrap_or_default();
                let message = ClientMessage::RequestClip { seconds };
                live.request("request_clip", message, get_promise(&args[1]));
            },
        ),
        // request-recording(promise): the whole recording.
        action("request-recording", vec![promise()], |live, args| {
            let message = ClientMessage::RequestRecording;
            live.request("request_recording", message, get_promise(&args[0]));
        }),
        // request-schema(promise): the model's OpenAPI document in `data`.
        action("request-schema", vec![promise()], |live, args| {
            let message = ClientMessage::RequestSchema;
            live.request("request_schema", message, get_promise(&args[0]));
        }),
        // publish-track(name), unpublish-track(name): of the model's inputs
        // that elements of the session feed, which are published anyway.
        action("publish-track", vec![text()], |live, args| {
            live.publish_track(&string(&args[0]).unwrap_or_default(), true);
        }),
        action("unpublish-track", vec![text()], |live, args| {
            live.publish_track(&string(&args[0]).unwrap_or_default(), false);
        }),
        // disconnect(recoverable): ends the session, or the connection only:
        // the platform keeps the session for 30 s then.
        action("disconnect", vec![bool::static_type()], |live, args| {
            if let Some(session) = live.session() {
                session.disconnect(args[0].get().unwrap_or_default());
            }
        }),
        // reconnect(): a new connection to the session.
        action("reconnect", vec![], |live, _| {
            if let Some(session) = live.session() {
                session.reconnect();
            }
        }),
        // pause-track(name), resume-track(name): of the model's outputs.
        action("pause-track", vec![text()], |live, args| {
            live.want_track(&string(&args[0]).unwrap_or_default(), false);
        }),
        action("resume-track", vec![text()], |live, args| {
            live.want_track(&string(&args[0]).unwrap_or_default(), true);
        }),
    ]
}

fn string(value: &glib::Value) -> Option<String> {
    value.get::<Option<String>>().ok().flatten()
}

fn get_promise(value: &glib::Value) -> Option<gst::Promise> {
    value.get::<Option<gst::Promise>>().ok().flatten()
}
