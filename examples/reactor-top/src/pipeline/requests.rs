// SPDX-License-Identifier: MIT

//! What the elements are asked. Each request is answered once, on a thread of the element's.

use std::sync::mpsc::Sender;

use gst::prelude::*;
use serde_json::{Map, Value};

use super::structure;
use crate::{
    model::{
        Input,
        session::{Outcome, SessionEvent},
    },
    send,
};

/// In front of the path of a file.
const FILE: &str = "@file:";

/// A command on its way to the model.
pub struct Command {
    pub inputs: Sender<Input>,
    pub session: usize,
    pub id: u64,
    pub name: String,
    pub arguments: Map<String, Value>,
}

impl Command {
    /// Sends it after its files are uploaded, one after the other.
    pub fn send(mut self, element: &gst::Element) {
        let file = self.arguments.iter().find_map(|(parameter, value)| {
            let path = value.as_str()?.strip_prefix(FILE)?;
            Some((parameter.clone(), path.to_owned()))
        });
        let Some((parameter, path)) = file else {
            let (name, json) = (self.name.clone(), Value::from(self.arguments.clone()));
            let promise = promise(move |outcome| self.answer(outcome.map(|(text, _)| text)));
            element.emit_by_name::<()>("send-command", &[&name, &json.to_string(), &promise]);
            return;
        };
        let weak = element.downgrade();
        let promise = promise(move |outcome| match (outcome, weak.upgrade()) {
            (Ok((_, reference)), Some(element)) => {
                self.arguments.insert(parameter, reference.into());
                self.send(&element);
            }
            (Err(error), _) => self.answer(Err(error)),
            (Ok(_), None) => {}
        });
        let none = None::<&str>;
        element.emit_by_name::<()>("upload-file", &[&path, &none, &none, &promise]);
    }

    fn answer(&self, outcome: Outcome) {
        let (id, session) = (self.id, self.session);
        let event = SessionEvent::Reply { id, outcome };
        send(&self.inputs, Input::Session(session, event));
    }
}

/// Emits an action without arguments but its promise, `disconnect` but for keeping the session.
pub fn ask(element: &gst::Element, inputs: &Sender<Input>, session: usize, action: &'static str) {
    let inputs = inputs.clone();
    let promise = promise(move |outcome| {
        let event = SessionEvent::OtherReply {
            command: action.to_owned(),
            outcome: outcome.map(|(text, _)| text),
        };
        send(&inputs, Input::Session(session, event));
    });
    match action {
        "disconnect" => element.emit_by_name::<()>(action, &[&true, &promise]),
        _ => element.emit_by_name::<()>(action, &[&promise]),
    }
}

/// Asks for the model's schema. Without one, nothing is completed.
pub fn ask_schema(element: &gst::Element, inputs: &Sender<Input>, session: usize) {
    let inputs = inputs.clone();
    let promise = promise(move |outcome| {
        let data = outcome.ok().and_then(|(_, fields)| {
            let data = fields.get("data")?.as_str()?;
            serde_json::from_str(data).ok()
        });
        if let Some(document) = data {
            send(
                &inputs,
                Input::Session(session, SessionEvent::Schema(document)),
            );
        }
    });
    element.emit_by_name::<()>("request-schema", &[&promise]);
}

/// What was answered as text, and all its fields.
type Answer = Result<(Option<String>, Map<String, Value>), String>;

fn promise(handle: impl FnOnce(Answer) + Send + 'static) -> gst::Promise {
    gst::Promise::with_change_func(move |reply| {
        let answer = match reply {
            Ok(reply) => structure::outcome(reply)
                .map(|text| (text, reply.map(structure::to_json).unwrap_or_default())),
            Err(error) => Err(format!("not answered: {error:?}")),
        };
        handle(answer);
    })
}
