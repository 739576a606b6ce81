// SPDX-License-Identifier: MIT

//! What an application asks of the model, with a promise for the reply.

use std::collections::BTreeMap;

use super::errors;
use crate::platform::{
    Code, Error,
    wire::{ClientMessage, ServerMessage},
};

impl super::imp::ReactorSrc {
    /// Sends a command; it waits its turn if the session is not ready yet.
    pub(super) fn send_command(
        &self,
        name: &str,
        json: Option<&str>,
        promise: Option<gst::Promise>,
    ) {
        let message = arguments(json.unwrap_or("{}")).map(|data| ClientMessage::Command {
            name: name.to_owned(),
            data,
            uploads: BTreeMap::new(),
        });
        let session = self.session().ok_or_else(|| {
            let text = "there is no session: the element is not in PAUSED or PLAYING";
            Error::api(Code::InvalidState, text)
        });
        let id = self.public().session_id.clone();
        let reply = move |result: Result<ServerMessage, Error>| {
            if let Some(promise) = promise {
                promise.reply(Some(structure(result, id.as_deref())));
            }
        };
        match (session, message) {
            (Ok(session), Ok(message)) => session.request(message, Box::new(reply)),
            (Err(error), _) | (_, Err(error)) => reply(Err(error.during("send_command"))),
        }
    }
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
        Ok(_) => reply.build(),
        Err(error) => reply
            .field("error", errors::details(&error, session_id))
            .build(),
    }
}
