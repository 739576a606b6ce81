// SPDX-License-Identifier: MIT

//! What the bus says, as the model's inputs.

use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use gst::prelude::*;

use super::{
    Sessions, requests,
    structure::{self, nick, text},
};
use crate::{
    model::{Input, session::SessionEvent},
    send,
};

/// Sends all that the model has to know, from the threads that post it.
pub fn forward(
    pipeline: &gst::Pipeline,
    sessions: &Sessions,
    inputs: &Sender<Input>,
) -> Result<()> {
    let bus = pipeline.bus().context("no bus")?;
    let (weak, sessions, inputs) = (pipeline.downgrade(), sessions.clone(), inputs.clone());
    bus.set_sync_handler(move |_, message| {
        if let Some(pipeline) = weak.upgrade() {
            handle(&pipeline, &sessions, message, &inputs);
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}

fn handle(
    pipeline: &gst::Pipeline,
    sessions: &Sessions,
    message: &gst::Message,
    inputs: &Sender<Input>,
) {
    use gst::MessageView;
    let source = || {
        message
            .src()
            .map(|src| src.name().into())
            .unwrap_or_default()
    };
    match message.view() {
        MessageView::Error(error) => {
            let text = describe(&error.error(), error.details(), error.debug());
            send(
                inputs,
                Input::Failed {
                    source: source(),
                    text,
                },
            );
        }
        MessageView::Warning(warning) => {
            let text = describe(&warning.error(), warning.details(), None);
            send(
                inputs,
                Input::Warning {
                    source: source(),
                    text,
                },
            );
        }
        MessageView::Eos(_) => send(inputs, Input::EndOfStream),
        // Not on the thread that posts it, which may hold locks.
        MessageView::Latency(_) => {
            pipeline.call_async(|pipeline| drop(pipeline.recalculate_latency()))
        }
        MessageView::ClockLost(_) => pipeline.call_async(|pipeline| {
            let _ = pipeline.set_state(gst::State::Paused);
            let _ = pipeline.set_state(gst::State::Playing);
        }),
        _ => session_message(sessions, message, inputs),
    }
}

/// A message of one of our elements, or how loud it is by a `level`.
fn session_message(sessions: &Sessions, message: &gst::Message, inputs: &Sender<Input>) {
    let Some(source) = message.src() else { return };
    if let Some(levels) = message.structure().and_then(structure::levels) {
        return send(inputs, Input::Levels(levels));
    }
    let Some((index, is_main)) = sessions.find(source) else {
        return;
    };
    let event = match message.view() {
        gst::MessageView::Progress(progress) if is_main => {
            let (_, _, text) = progress.get();
            Some(SessionEvent::Progress(text.into()))
        }
        gst::MessageView::Element(element) => element
            .structure()
            .and_then(|structure| element_event(structure, is_main)),
        _ => None,
    };
    let Some(event) = event else { return };
    if matches!(&event, SessionEvent::Status { status, .. } if status == "ready")
        && let Some(element) = source.downcast_ref::<gst::Element>()
    {
        requests::ask_schema(element, inputs, index);
    }
    send(inputs, Input::Session(index, event));
}

/// `is_main`: all elements of a session post what is said of it; one of them is enough.
fn element_event(s: &gst::StructureRef, is_main: bool) -> Option<SessionEvent> {
    let number = |field| s.get::<u64>(field).unwrap_or_default();
    let event = match s.name().as_str() {
        "reactor-reply" => SessionEvent::OtherReply {
            command: text(s, "command"),
            outcome: structure::outcome(Some(s)),
        },
        "reactor-upload-progress" => SessionEvent::Upload {
            name: text(s, "name"),
            sent: number("sent"),
            size: number("size"),
        },
        _ if !is_main => return None,
        "reactor-status" => SessionEvent::Status {
            status: nick(s, "status"),
            id: s.get::<Option<String>>("session-id").ok().flatten(),
        },
        "reactor-session-joined" => SessionEvent::Joined,
        "reactor-message" => SessionEvent::Said {
            kind: text(s, "type"),
            data: text(s, "data"),
        },
        "reactor-runtime-message" => {
            let (kind, data) = (text(s, "type"), text(s, "data"));
            match kind.as_str() {
                "modelSchema" => SessionEvent::Schema(serde_json::from_str(&data).ok()?),
                _ => SessionEvent::PlatformSaid { kind, data },
            }
        }
        "reactor-interrupted" => {
            let error = s.get::<gst::Structure>("error");
            SessionEvent::Interrupted(error.map(|e| structure::error(&e)).unwrap_or_default())
        }
        "reactor-resumed" => SessionEvent::Resumed {
            outage_ms: number("outage-ms"),
            restarted: s.get("restarted").unwrap_or_default(),
        },
        "reactor-session-ended" => SessionEvent::Ended(text(s, "reason")),
        _ => return None,
    };
    Some(event)
}

/// What a person needs of an error's details, beside its message.
const DETAILS: [&str; 4] = ["code", "http-status", "retry-after", "operation"];

fn describe(
    error: &gst::glib::Error,
    details: Option<&gst::StructureRef>,
    debug: Option<gst::glib::GString>,
) -> String {
    let mut description = error.to_string();
    if let Some(details) = details {
        for field in DETAILS
            .into_iter()
            .filter(|field| details.has_field(*field))
        {
            description += &format!("; {field}: {}", text(details, field));
        }
    } else if let Some(debug) = debug {
        description += &format!(" ({debug})");
    }
    description
}
