// SPDX-License-Identifier: MIT

//! What the session says, carried out on a thread of the element's own: it
//! adds pads and posts messages, which runs the application's code.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{ReactorSrc, Status, errors, imp::CAT};
use crate::{
    platform::{Code, Error, coordinator::Descriptor, track::Direction},
    session::{self, MachineEvent, Progress, codecs::Codec, port::Subscription},
};

/// What the element's own thread has to do.
#[derive(Debug)]
pub enum Event {
    Session(session::Event),
    /// The first unit of a track: its pad needs elements behind it.
    Arrived {
        track: String,
        caps: gst::Caps,
    },
}

/// Starts the thread; it ends when all senders are gone.
///
/// # Errors
///
/// When the process has no threads left.
pub fn spawn(element: &ReactorSrc, generation: u64) -> Result<mpsc::Sender<Event>, Error> {
    let (sender, receiver) = mpsc::channel();
    let weak = element.downgrade();
    thread::Builder::new()
        .name("reactorsrc".into())
        .spawn(move || {
            for event in receiver {
                let Some(element) = weak.upgrade() else {
                    break;
                };
                element.imp().handle(generation, event);
            }
        })
        .map_err(|error| Error::api(Code::Internal, format!("no thread: {error}")))?;
    Ok(sender)
}

impl super::imp::ReactorSrc {
    fn handle(&self, generation: u64, event: Event) {
        // What a session says after its element was stopped is only heard for
        // the properties.
        let current = self.is_current(generation);
        match event {
            Event::Session(session::Event::Machine(event)) => self.machine_event(*event, current),
            Event::Session(session::Event::Tracks(tracks)) if current => {
                self.announced(generation, tracks);
            }
            Event::Arrived { track, caps } if current => {
                if let Err(error) = self.arrived(&track, &caps) {
                    self.fail(&error);
                }
            }
            _ => {}
        }
    }

    fn machine_event(&self, event: MachineEvent, current: bool) {
        // The last word of a session that was stopped counts unless there is
        // a new one.
        if !current && self.session().is_some() {
            return;
        }
        match event {
            MachineEvent::Status(status) => self.set_status(status.into()),
            MachineEvent::SessionId(id) => {
                self.public().session_id = id;
                self.obj().notify("session-id");
            }
            MachineEvent::Described(descriptor) => self.described(&descriptor),
            MachineEvent::Warning(error) if !current => gst::warning!(CAT, imp = self, "{error}"),
            _ if !current => {}
            MachineEvent::Progress(progress) => self.post_progress(progress),
            MachineEvent::Message { name, data } => {
                self.post_json("message", "reactor-message", &name, &data);
            }
            MachineEvent::RuntimeMessage { name, data } => {
                self.post_json("runtime-message", "reactor-runtime-message", name, &data);
            }
            MachineEvent::Warning(error) => {
                let id = self.public().session_id.clone();
                errors::post_warning(self.obj().upcast_ref(), &error, id.as_deref());
            }
            MachineEvent::Ended { reason } => self.ended(reason.as_deref()),
            MachineEvent::Failed(error) => {
                self.wait_for_listeners();
                self.fail(&error);
            }
            MachineEvent::Closed => {}
        }
    }

    fn announced(&self, generation: u64, tracks: Vec<crate::platform::track::Track>) {
        let outputs: Vec<_> = tracks
            .into_iter()
            .filter(|track| track.direction == Direction::RecvOnly)
            .collect();
        let plan = if outputs.is_empty() {
            Err(Error::api(
                Code::BadRequest,
                "the model has no output tracks, so there is nothing to receive",
            ))
        } else {
            self.expose(generation, outputs)
        };
        if let Some(session) = self.session() {
            session.plan(plan);
        }
    }

    /// Adds a pad for each track and finds out what downstream makes of it.
    fn expose(
        &self,
        generation: u64,
        tracks: Vec<crate::platform::track::Track>,
    ) -> Result<Vec<Subscription>, Error> {
        let element = self.obj();
        let pads = self.add_tracks(tracks)?;
        for pad in &pads {
            element.add_pad(&pad.pad).map_err(|_| {
                let name = &pad.feed.track.name;
                Error::api(
                    Code::BadRequest,
                    format!("cannot add a pad for track '{name}'"),
                )
            })?;
            if !self.is_current(generation) {
                // Stopped by the code that heard of the pad.
                let _ = element.remove_pad(&pad.pad);
                return Err(Error::api(Code::Aborted, "stopped"));
            }
        }
        element.no_more_pads();
        pads.iter().map(|pad| self.subscribe(pad)).collect()
    }

    fn subscribe(&self, pad: &Arc<super::pads::TrackPad>) -> Result<Subscription, Error> {
        let choice = pad.choose(None).map_err(|missing| {
            let track = &pad.feed.track.name;
            if missing.is_empty() {
                let text = format!("downstream takes nothing that the model can send on '{track}'");
                return Error::gpu(Code::TrackRejected, text);
            }
            for codec in missing {
                self.post_missing(codec);
            }
            Error::gpu(
                Code::MissingPlugin,
                format!("no installed element decodes what the model can send on '{track}'"),
            )
        })?;
        gst::debug!(CAT, obj = pad.pad, "{choice:?}");
        Ok(Subscription {
            track: pad.feed.track.clone(),
            codecs: choice.codecs,
            rtp: choice.output == super::branch::Output::Rtp,
            flowing: self.flowing(&pad.pad),
            consumer: pad.feed.clone(),
        })
    }

    fn ended(&self, reason: Option<&str>) {
        let element = self.obj();
        let id = self.public().session_id.clone();
        let message = gst::Structure::builder("reactor-session-ended")
            .field("reason", reason)
            .field("session-id", id.as_deref())
            .build();
        let _ = element.post_message(
            gst::message::Element::builder(message)
                .src(&*element)
                .build(),
        );
        element.emit_by_name::<()>("session-ended", &[&reason]);
        if !self.end_streams() {
            self.fail(&Error::gpu(
                Code::SessionTerminal,
                format!(
                    "the session ended before anything was received: {}",
                    reason.unwrap_or("the server gave no reason")
                ),
            ));
        }
    }

    /// The session is lost: the pipeline hears it as an error.
    pub(super) fn fail(&self, error: &Error) {
        let element = self.obj();
        gst::error!(CAT, imp = self, "{error}");
        let id = {
            let mut public = self.public();
            public.last_error = Some(errors::details(error, public.session_id.as_deref()));
            public.session_id.clone()
        };
        element.notify("last-error");
        let details = errors::details(error, id.as_deref());
        let _ = element.post_message(
            gst::message::Element::builder(details)
                .src(&*element)
                .build(),
        );
        errors::post_error(element.upcast_ref(), error, id.as_deref());
    }

    fn set_status(&self, status: Status) {
        let element = self.obj();
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
            .field("session-id", id.as_deref())
            .build();
        let _ = element.post_message(
            gst::message::Element::builder(structure)
                .src(&*element)
                .build(),
        );
    }

    fn described(&self, descriptor: &Descriptor) {
        let capabilities = descriptor.capabilities.as_ref();
        {
            let mut public = self.public();
            public.capabilities = capabilities.map(|c| json_structure("capabilities", &c.raw));
            public.session_info = Some(json_structure("session-info", &descriptor.raw));
        }
        self.obj().notify("capabilities");
        self.obj().notify("session-info");
    }

    fn post_progress(&self, progress: Progress) {
        use gst::ProgressType;
        let (kind, text) = match progress {
            Progress::Start(text) => (ProgressType::Start, text.to_owned()),
            Progress::Continue(text) => (ProgressType::Continue, text),
            Progress::Complete(text) => (ProgressType::Complete, text.to_owned()),
            Progress::Error(text) => (ProgressType::Error, text),
            Progress::Canceled(text) => (ProgressType::Canceled, text.to_owned()),
        };
        let element = self.obj();
        let _ = element.post_message(
            gst::message::Progress::builder(kind, "connect", &text)
                .src(&*element)
                .build(),
        );
    }

    /// A message of the model's or the platform's, as signal and on the bus.
    fn post_json(&self, signal: &str, message: &str, name: &str, data: &serde_json::Value) {
        let element = self.obj();
        let json = data.to_string();
        element.emit_by_name::<()>(signal, &[&name, &json]);
        let structure = gst::Structure::builder(message)
            .field("type", name)
            .field("data", json)
            .build();
        let _ = element.post_message(
            gst::message::Element::builder(structure)
                .src(&*element)
                .build(),
        );
    }

    /// Tells plugin installers what would decode this.
    fn post_missing(&self, codec: &Codec) {
        let element = self.obj();
        let message = if codec.can_depayload() {
            gst_pbutils::MissingPluginMessage::builder_for_decoder(&codec.caps())
                .src(&*element)
                .build()
        } else {
            gst_pbutils::MissingPluginMessage::builder_for_element(codec.depayloader)
                .src(&*element)
                .build()
        };
        let _ = element.post_message(message);
    }
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
