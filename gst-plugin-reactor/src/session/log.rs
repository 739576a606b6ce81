// SPDX-License-Identifier: MIT

//! What a session does, for people who read logs: `GST_DEBUG=reactor*:4`. Called
//! on the driver's task and in the tasks of HTTP requests; it changes nothing.

use std::{sync::LazyLock, time::Instant};

use super::{
    machine::{MachineEvent, Progress},
    replies::{Reply, ReplyCallback},
};
use crate::{
    gst_helpers::debug_category,
    platform::{
        coordinator::{Ownership, SessionDescriptor},
        http::{Exchange, observe_exchanges, sanitize},
        sdp::Codec,
        track::{Direction, Track},
        wire::{ClientMessage, ServerMessage},
    },
};

static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactor-session", "Reactor sessions"));
static HTTP: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactor-http", "HTTP requests of Reactor sessions"));

/// Logs the HTTP requests of this process from now on.
pub fn log_http_exchanges() {
    observe_exchanges(|exchange: &Exchange<'_>| {
        let Exchange {
            method,
            url,
            duration,
            ..
        } = exchange;
        let ms = duration.as_millis();
        match exchange.outcome {
            Ok(status) => gst::info!(HTTP, "{method} {url}: {status} in {ms} ms"),
            Err(error) => {
                let status = error.http_status.map(|status| status.to_string());
                let status = status.as_deref().unwrap_or("no answer");
                gst::info!(HTTP, "{method} {url}: {status} in {ms} ms: {error}");
            }
        }
    });
}

/// A session was opened on the server.
pub(super) fn opened(session: &SessionDescriptor, ownership: Ownership) {
    let id = sanitize(&session.session_id);
    let how = match ownership {
        Ownership::Created => "created",
        Ownership::Joined => "joined",
    };
    let name = |name: &Option<String>| sanitize(name.as_deref().unwrap_or("not known"));
    let (model, server) = (name(&session.model_name), name(&session.server_version));
    let state = sanitize(&session.state);
    gst::info!(
        CAT,
        "{how} session {id}: {state}, model {model}, server {server}"
    );
}

/// What later connections begin with.
pub(super) fn link_capacity(capacity: Option<u32>) {
    match capacity {
        Some(capacity) => gst::debug!(CAT, "the link carries {capacity} bit/s"),
        None => gst::debug!(CAT, "the link may carry less than before"),
    }
}

/// What is reported to the elements.
pub(super) fn event(event: &MachineEvent) {
    match event {
        MachineEvent::Status(status) => gst::info!(CAT, "status is {status:?}"),
        MachineEvent::Progress(Progress::Continue(text) | Progress::Error(text)) => {
            gst::info!(CAT, "{text}");
        }
        MachineEvent::Warning(error) => gst::info!(CAT, "{error}"),
        MachineEvent::Interrupted(Some(error)) | MachineEvent::Lost(error) => {
            gst::info!(CAT, "the connection is lost: {error}");
        }
        MachineEvent::Interrupted(None) => gst::info!(CAT, "the connection is taken down"),
        MachineEvent::Resumed { outage, restarted } => {
            let what = if *restarted {
                "another session"
            } else {
                "connected again"
            };
            gst::info!(CAT, "{what} after {} ms", outage.as_millis());
        }
        MachineEvent::Ended { reason, .. } => {
            let reason = sanitize(reason.as_deref().unwrap_or("no reason given"));
            gst::info!(CAT, "the session has ended: {reason}");
        }
        MachineEvent::Failed(error) => gst::info!(CAT, "the session has failed: {error}"),
        MachineEvent::Closed => gst::info!(CAT, "closed"),
        MachineEvent::Message { name, data } => {
            gst::debug!(
                CAT,
                "message {}: {}",
                sanitize(name),
                sanitize(&data.to_string())
            );
        }
        // A clip's address may hold a signature.
        MachineEvent::RuntimeMessage { name, .. } => gst::info!(CAT, "the platform says {name}"),
        _ => {}
    }
}

/// The model's tracks are known.
pub(super) fn tracks(tracks: &[Track]) {
    let tracks = tracks.iter().map(|track| {
        let direction = match track.direction {
            Direction::RecvOnly => "received",
            Direction::SendOnly => "sent",
        };
        format!(
            "{} ({}, {direction})",
            sanitize(&track.name),
            track.kind.as_str()
        )
    });
    let list = tracks.collect::<Vec<_>>().join(", ");
    gst::info!(CAT, "the model's tracks: {list}");
}

/// Both sides agree on the codecs of a track; the first is the sender's choice.
pub(super) fn codecs(track: &str, codecs: &[Codec]) {
    let names: Vec<_> = codecs.iter().map(|codec| codec.name.as_str()).collect();
    gst::info!(CAT, "{}: agreed on {}", sanitize(track), names.join(", "));
}

/// Logs a request, and has its reply logged.
pub(super) fn request(message: &ClientMessage, reply: ReplyCallback) -> ReplyCallback {
    let what = describe(message);
    gst::info!(CAT, "{what}");
    let (name, begun) = (subject(message), Instant::now());
    Reply::new(move |result| {
        let ms = begun.elapsed().as_millis();
        match &result {
            Ok(answer) => gst::info!(CAT, "{name}: {} after {ms} ms", describe_reply(answer)),
            Err(error) => gst::info!(CAT, "{name}: failed after {ms} ms: {error}"),
        }
        reply.send(result);
    })
}

fn subject(message: &ClientMessage) -> String {
    match message {
        ClientMessage::Command { name, .. } => format!("command {}", sanitize(name)),
        ClientMessage::RequestSchema => "request for the schema".into(),
        ClientMessage::FileUploaded(_) => "uploaded file".into(),
        ClientMessage::RequestClip { .. } => "request for a clip".into(),
        ClientMessage::RequestRecording => "request for the recording".into(),
        ClientMessage::PublishTrack(track) => format!("publish {}", sanitize(track)),
        ClientMessage::UnpublishTrack(track) => format!("unpublish {}", sanitize(track)),
        ClientMessage::PauseTrack(track) => format!("pause {}", sanitize(track)),
        ClientMessage::ResumeTrack(track) => format!("resume {}", sanitize(track)),
        ClientMessage::Ping => "ping".into(),
        ClientMessage::ClientStats(_) => "statistics".into(),
    }
}

fn describe(message: &ClientMessage) -> String {
    match message {
        ClientMessage::Command { data, uploads, .. } => {
            let data = serde_json::to_string(data).unwrap_or_default();
            let files = match uploads.len() {
                0 => String::new(),
                files => format!(" and {files} files"),
            };
            format!("{}: {}{files}", subject(message), sanitize(&data))
        }
        ClientMessage::RequestClip { seconds } => format!("{}: {seconds} s", subject(message)),
        _ => subject(message),
    }
}

fn describe_reply(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Schema(_) => "schema".into(),
        ServerMessage::ClipReady(_) => "clip".into(),
        ServerMessage::ClipFailed { reason } => format!("no clip: {}", sanitize(reason)),
        ServerMessage::Moderation(_) => "moderation".into(),
        ServerMessage::PublishGranted => "granted".into(),
        ServerMessage::SessionEnded { .. } => "end of the session".into(),
        ServerMessage::Model { name, data } => {
            format!(
                "message {}: {}",
                sanitize(name),
                sanitize(&data.to_string())
            )
        }
        ServerMessage::Ack => "done".into(),
        ServerMessage::Error { code, .. } => format!("refused, {}", sanitize(code)),
        ServerMessage::Unknown => "an answer that is not known here".into(),
    }
}
