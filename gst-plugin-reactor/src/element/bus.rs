// SPDX-License-Identifier: MIT

//! What the session says, on the bus and as signals and properties.

use std::time::Duration;

use gst::{glib, prelude::*};

use super::{CAT, Live, Status, errors};
use crate::{
    platform::{Error, coordinator::Descriptor},
    session::{MachineEvent, Progress, codecs::Codec},
};

/// What is left for the element to act on.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing flows for now.
    Interrupted,
    /// It flows again.
    Resumed,
    Ended(Option<String>),
    Failed(Error),
}

impl Live {
    /// Shows what the session says. What comes of an earlier `generation` is
    /// heard for the properties only, and not if there is a new session.
    pub fn show(
        &self,
        element: &gst::Element,
        generation: u64,
        event: MachineEvent,
    ) -> Option<Outcome> {
        let current = self.is_current(generation);
        if !current && self.session().is_some() {
            return None;
        }
        match event {
            MachineEvent::Status(status) => self.set_status(element, status.into()),
            MachineEvent::SessionId(id) => {
                let before = std::mem::replace(&mut self.public().session_id, id.clone());
                if before != id {
                    element.notify("session-id");
                }
            }
            MachineEvent::Described(descriptor) => self.described(element, &descriptor),
            MachineEvent::Warning(error) if !current => {
                gst::warning!(CAT, obj = element, "{error}");
            }
            _ if !current => {}
            MachineEvent::Progress(progress) => post_progress(element, progress),
            MachineEvent::Message { name, data } => {
                post_json(element, "message", "reactor-message", &name, &data);
            }
            MachineEvent::RuntimeMessage { name, data } => {
                post_json(
                    element,
                    "runtime-message",
                    "reactor-runtime-message",
                    name,
                    &data,
                );
            }
            MachineEvent::Warning(error) => {
                errors::post_warning(element, &error, self.session_id().as_deref());
            }
            MachineEvent::Interrupted(error) => {
                self.interrupted(element, error);
                return Some(Outcome::Interrupted);
            }
            MachineEvent::Resumed { outage, restarted } => {
                self.resumed(element, outage, restarted);
                return Some(Outcome::Resumed);
            }
            MachineEvent::Ended { reason } => {
                self.post_ended(element, reason.as_deref());
                return Some(Outcome::Ended(reason));
            }
            MachineEvent::Failed(error) => {
                self.wait_for_listeners();
                return Some(Outcome::Failed(error));
            }
            MachineEvent::Closed => {}
        }
        None
    }

    /// The session is lost to this element: the pipeline hears it as an error.
    pub fn fail(&self, element: &gst::Element, error: &Error) {
        gst::error!(CAT, obj = element, "{error}");
        let id = self.session_id();
        let details = errors::details(error, id.as_deref());
        self.public().last_error = Some(details.clone());
        element.notify("last-error");
        post(element, details);
        errors::post_error(element, error, id.as_deref());
    }

    fn interrupted(&self, element: &gst::Element, error: Option<Error>) {
        let id = self.session_id();
        let mut structure =
            gst::Structure::builder("reactor-interrupted").field("session-id", id.clone());
        if let Some(error) = error {
            structure = structure.field("error", errors::details(&error, id.as_deref()));
            errors::post_warning(element, &error, id.as_deref());
        }
        post(element, structure.build());
    }

    fn resumed(&self, element: &gst::Element, outage: Duration, restarted: bool) {
        let structure = gst::Structure::builder("reactor-resumed")
            .field("session-id", self.session_id())
            .field("outage-ms", outage.as_millis() as u64)
            .field("restarted", restarted)
            .build();
        post(element, structure);
        if restarted {
            self.order_startup(element);
        }
    }

    fn post_ended(&self, element: &gst::Element, reason: Option<&str>) {
        let structure = gst::Structure::builder("reactor-session-ended")
            .field("reason", reason)
            .field("session-id", self.session_id())
            .build();
        post(element, structure);
        element.emit_by_name::<()>("session-ended", &[&reason]);
    }

    /// Whatever may still be heard: for this element it is over.
    pub(super) fn show_over(&self, element: &gst::Element) {
        self.set_status(element, Status::Disconnected);
        let id = self.public().session_id.take();
        if id.is_some() {
            element.notify("session-id");
        }
    }

    fn set_status(&self, element: &gst::Element, status: Status) {
        let id = {
            let mut public = self.public();
            if public.status == status {
                return;
            }
            public.status = status;
            public.session_id.clone()
        };
        element.notify("status");
        let structure = gst::Structure::builder("reactor-status")
            .field("status", status)
            .field("session-id", id)
            .build();
        post(element, structure);
    }

    fn described(&self, element: &gst::Element, descriptor: &Descriptor) {
        let capabilities = descriptor.capabilities.as_ref();
        {
            let mut public = self.public();
            public.capabilities = capabilities.map(|c| json_structure("capabilities", &c.raw));
            public.session_info = Some(json_structure("session-info", &descriptor.raw));
        }
        element.notify("capabilities");
        element.notify("session-info");
    }
}

pub fn post(element: &gst::Element, structure: gst::Structure) {
    let message = gst::message::Element::builder(structure)
        .src(element)
        .build();
    let _ = element.post_message(message);
}

fn post_progress(element: &gst::Element, progress: Progress) {
    use gst::ProgressType;
    let (kind, text) = match progress {
        Progress::Start(text) => (ProgressType::Start, text.to_owned()),
        Progress::Continue(text) => (ProgressType::Continue, text),
        Progress::Complete(text) => (ProgressType::Complete, text.to_owned()),
        Progress::Error(text) => (ProgressType::Error, text),
        Progress::Canceled(text) => (ProgressType::Canceled, text.to_owned()),
    };
    let message = gst::message::Progress::builder(kind, "connect", &text).src(element);
    let _ = element.post_message(message.build());
}

/// A message of the model's or the platform's, as signal and on the bus.
fn post_json(
    element: &gst::Element,
    signal: &str,
    message: &str,
    name: &str,
    data: &serde_json::Value,
) {
    let json = data.to_string();
    element.emit_by_name::<()>(signal, &[&name, &json]);
    let structure = gst::Structure::builder(message)
        .field("type", name)
        .field("data", json)
        .build();
    post(element, structure);
}

/// Tells plugin installers what would decode this.
pub fn post_missing(element: &gst::Element, codec: &Codec) {
    use gst_pbutils::MissingPluginMessage;
    let caps = codec.caps();
    let message = if codec.can_depayload() {
        MissingPluginMessage::builder_for_decoder(&caps)
    } else {
        MissingPluginMessage::builder_for_element(codec.depayloader)
    };
    let _ = element.post_message(message.src(element).build());
}

/// JSON in a structure: whole as `json`, and its plain members as fields.
fn json_structure(name: &str, value: &serde_json::Value) -> gst::Structure {
    let mut structure = gst::Structure::builder(name).field("json", value.to_string());
    for (key, member) in value.as_object().into_iter().flatten() {
        let field: Option<glib::SendValue> = match member {
            serde_json::Value::String(text) => Some(text.to_send_value()),
            serde_json::Value::Bool(flag) => Some(flag.to_send_value()),
            serde_json::Value::Number(number) => number.as_f64().map(|n| n.to_send_value()),
            _ => None,
        };
        if let Some(field) = field.filter(|_| key != "json") {
            structure = structure.field(key.as_str(), field);
        }
    }
    structure.build()
}
