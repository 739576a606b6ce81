// SPDX-License-Identifier: MIT

//! The platform's errors as GStreamer messages.

use gst::{glib, prelude::*};

use crate::platform::{Code, Error};

/// Everything a program needs to act on an error, for its details structure.
pub fn details(error: &Error, session_id: Option<&str>) -> gst::Structure {
    let mut details = gst::Structure::builder("reactor-error")
        .field("code", error.code.as_str())
        .field("component", error.component.as_str())
        .field("message", error.message.as_str())
        .field("recoverable", error.recoverable());
    if let Some(after) = error.retry_after {
        details = details.field("retry-after", after.as_millis() as u64);
    }
    if let Some(status) = error.http_status {
        details = details.field("http-status", u32::from(status));
    }
    if let Some(operation) = error.operation {
        details = details.field("operation", operation);
    }
    if let Some(id) = session_id {
        details = details.field("session-id", id);
    }
    details.build()
}

/// Posts an error message; the pipeline is over for the application.
pub fn post_error(element: &gst::Element, error: &Error, session_id: Option<&str>) {
    let message = message_of(element, error, session_id, Severity::Error);
    let _ = element.post_message(message);
}

/// Posts a warning message: the stream goes on.
pub fn post_warning(element: &gst::Element, error: &Error, session_id: Option<&str>) {
    let message = message_of(element, error, session_id, Severity::Warning);
    let _ = element.post_message(message);
}

#[derive(Clone, Copy)]
enum Severity {
    Error,
    Warning,
}

fn message_of(
    element: &gst::Element,
    error: &Error,
    session_id: Option<&str>,
    severity: Severity,
) -> gst::Message {
    let glib_error = glib_error(error);
    let debug = error.to_string();
    let details = details(error, session_id);
    match severity {
        Severity::Error => gst::message::Error::builder_from_error(glib_error)
            .src(element)
            .debug(&debug)
            .details(details)
            .build(),
        Severity::Warning => gst::message::Warning::builder_from_error(glib_error)
            .src(element)
            .debug(&debug)
            .details(details)
            .build(),
    }
}

/// GStreamer's domain and code for an error of the platform's.
fn glib_error(error: &Error) -> glib::Error {
    use gst::{CoreError, ResourceError, StreamError};
    let text = error.message.as_str();
    let resource = |code| glib::Error::new::<ResourceError>(code, text);
    match &error.code {
        Code::Unauthorized | Code::IdentityMismatch => resource(ResourceError::NotAuthorized),
        Code::NotFound | Code::SessionTerminal | Code::ClipGone => {
            resource(ResourceError::NotFound)
        }
        Code::Conflict | Code::RateLimited | Code::WaitedTooLong | Code::ClipNotReady => {
            resource(ResourceError::Busy)
        }
        // A server that says when to come back is full, not broken.
        Code::ServerError if error.retry_after.is_some() => resource(ResourceError::Busy),
        Code::VersionMismatch | Code::InvalidSettings => resource(ResourceError::Settings),
        Code::InvalidPlaylist => glib::Error::new(StreamError::Format, text),
        Code::TrackRejected => glib::Error::new(StreamError::CodecNotFound, text),
        Code::Disconnected
        | Code::ReconnectionFailed
        | Code::TransportError
        | Code::MessageTooLarge
        | Code::PlaylistFetchFailed
        | Code::ChunkFetchFailed => resource(ResourceError::Read),
        Code::NetworkError
        | Code::RequestTimeout
        | Code::ServerError
        | Code::BadRequest
        | Code::DecodeFailed => resource(ResourceError::OpenRead),
        Code::MissingPlugin => glib::Error::new(CoreError::MissingPlugin, text),
        Code::NoSpace => resource(ResourceError::NoSpaceLeft),
        Code::UnsupportedMedia => glib::Error::new(StreamError::Format, text),
        Code::InvalidState | Code::Aborted | Code::Internal => {
            glib::Error::new(CoreError::Failed, text)
        }
        // A server that records nothing has to be told to.
        Code::Other(code) if code == "RECORDER_DISABLED" => resource(ResourceError::Settings),
        Code::Other(_) => resource(ResourceError::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_code_has_its_domain() {
        gst::init().unwrap();
        let busy = Error::api(Code::ServerError, "full").with_retry_after(Some(Duration::ZERO));
        let of = |code| glib_error(&Error::api(code, "x"));
        assert!(glib_error(&busy).matches(gst::ResourceError::Busy));
        assert!(of(Code::ServerError).matches(gst::ResourceError::OpenRead));
        assert!(of(Code::Unauthorized).matches(gst::ResourceError::NotAuthorized));
        assert!(of(Code::NotFound).matches(gst::ResourceError::NotFound));
        assert!(of(Code::Conflict).matches(gst::ResourceError::Busy));
        assert!(of(Code::RateLimited).matches(gst::ResourceError::Busy));
        assert!(of(Code::VersionMismatch).matches(gst::ResourceError::Settings));
        assert!(of(Code::TrackRejected).matches(gst::StreamError::CodecNotFound));
        assert!(of(Code::Disconnected).matches(gst::ResourceError::Read));
        assert!(of(Code::ClipGone).matches(gst::ResourceError::NotFound));
        assert!(of(Code::ClipNotReady).matches(gst::ResourceError::Busy));
        assert!(of(Code::PlaylistFetchFailed).matches(gst::ResourceError::Read));
        assert!(of(Code::ChunkFetchFailed).matches(gst::ResourceError::Read));
        assert!(of(Code::InvalidPlaylist).matches(gst::StreamError::Format));
        assert!(of(Code::Other("anything".into())).matches(gst::ResourceError::Failed));
        assert!(of(Code::Other("RECORDER_DISABLED".into())).matches(gst::ResourceError::Settings));
        assert!(of(Code::NoSpace).matches(gst::ResourceError::NoSpaceLeft));
        assert!(of(Code::UnsupportedMedia).matches(gst::StreamError::Format));
    }

    #[test]
    fn details_carry_what_is_known() {
        gst::init().unwrap();
        let error = Error::api(Code::RateLimited, "slow down")
            .with_status(429)
            .with_retry_after(Some(Duration::from_secs(2)))
            .during("start_session");
        let s = details(&error, Some("abc"));
        assert_eq!(s.get::<&str>("code").unwrap(), "RATE_LIMITED");
        assert_eq!(s.get::<&str>("component").unwrap(), "api");
        assert!(s.get::<bool>("recoverable").unwrap());
        assert_eq!(s.get::<u64>("retry-after").unwrap(), 2000);
        assert_eq!(s.get::<u32>("http-status").unwrap(), 429);
        assert_eq!(s.get::<&str>("operation").unwrap(), "start_session");
        assert_eq!(s.get::<&str>("session-id").unwrap(), "abc");
        let bare = details(&Error::gpu(Code::Disconnected, "gone"), None);
        assert!(!bare.has_field("http-status") && !bare.has_field("session-id"));
    }
}
