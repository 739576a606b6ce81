// SPDX-License-Identifier: MIT

//! The platform's errors as GStreamer messages: domain and code for each
//! [`ErrorClass`], and the details structure. Called on an element's event
//! thread and in state changes; it never decides whether an error is fatal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gst::glib;

use super::bus;
use crate::platform::{Code, Error, ErrorClass};

/// When to try again after a recoverable error, where the server does not say. (The
/// platform's documents.)
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(3);

/// Everything a program needs to act on an error, for its details structure.
pub fn details(error: &Error, session_id: Option<&str>) -> gst::Structure {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut details = gst::Structure::builder("reactor-error")
        .field("code", error.code.as_str())
        .field("component", error.component.as_str())
        .field("message", error.message.as_str())
        .field("recoverable", error.recoverable())
        .field("timestamp", now.unwrap_or_default().as_secs_f64())
        .field_if_some("class", error.failure.map(|failure| failure.as_str()));
    let default = error.recoverable().then_some(DEFAULT_RETRY_AFTER);
    if let Some(after) = error.retry_after.or(default) {
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

/// Posts an error message with these details, after which an application stops the
/// pipeline.
pub fn post_error_with(element: &gst::Element, error: &Error, details: gst::Structure) {
    let message = build_message(element, error, details, Severity::Error);
    bus::post_message(element, message);
}

/// Posts a warning message: the stream goes on.
pub fn post_warning(element: &gst::Element, error: &Error, session_id: Option<&str>) {
    post_warning_with(element, error, details(error, session_id));
}

/// Posts a warning message with these details.
pub fn post_warning_with(element: &gst::Element, error: &Error, details: gst::Structure) {
    let message = build_message(element, error, details, Severity::Warning);
    bus::post_message(element, message);
}

/// Warns that this number of the oldest messages was dropped, because `by` is slower
/// than they come.
pub fn warn_of_dropped_messages(element: &gst::Element, by: &str, count: u64) {
    let text = format!(
        "{count} of the oldest messages were dropped: {by} them more slowly than they come"
    );
    let error = Error::api(Code::Other("MESSAGES_DROPPED".into()), text);
    let mut details = details(&error, None);
    details.set("count", count);
    post_warning_with(element, &error, details);
}

#[derive(Clone, Copy)]
enum Severity {
    Error,
    Warning,
}

fn build_message(
    element: &gst::Element,
    error: &Error,
    details: gst::Structure,
    severity: Severity,
) -> gst::Message {
    let glib_error = glib_error(error);
    let debug = error.to_string();
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

/// An error of the platform in GStreamer's domain and code for its class.
pub fn glib_error(error: &Error) -> glib::Error {
    use gst::{CoreError, ResourceError, StreamError};
    let resource = |code| glib::Error::new::<ResourceError>(code, &error.message);
    let stream = |code| glib::Error::new::<StreamError>(code, &error.message);
    let core = |code| glib::Error::new::<CoreError>(code, &error.message);
    match error.class() {
        ErrorClass::NotAuthorized => resource(ResourceError::NotAuthorized),
        ErrorClass::NotFound => resource(ResourceError::NotFound),
        ErrorClass::Busy => resource(ResourceError::Busy),
        ErrorClass::Settings => resource(ResourceError::Settings),
        ErrorClass::OpenRead => resource(ResourceError::OpenRead),
        ErrorClass::Read => resource(ResourceError::Read),
        ErrorClass::NoSpaceLeft => resource(ResourceError::NoSpaceLeft),
        ErrorClass::Unclassified => resource(ResourceError::Failed),
        ErrorClass::Format => stream(StreamError::Format),
        ErrorClass::CodecNotFound => stream(StreamError::CodecNotFound),
        ErrorClass::MissingPlugin => core(CoreError::MissingPlugin),
        ErrorClass::Failed => core(CoreError::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn error_code_becomes_domain_and_code() {
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
    fn debug_text_begins_with_component_and_code() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("fakesink").build().unwrap();
        let error = Error::gpu(Code::Disconnected, "gone");
        for severity in [Severity::Error, Severity::Warning] {
            let message = build_message(&element, &error, details(&error, None), severity);
            let (text, debug) = match message.view() {
                gst::MessageView::Error(error) => (error.error(), error.debug()),
                gst::MessageView::Warning(warning) => (warning.error(), warning.debug()),
                other => panic!("{other:?}"),
            };
            assert_eq!(text.message(), "gone");
            assert_eq!(debug.unwrap(), "[gpu:DISCONNECTED] gone");
        }
    }

    #[test]
    fn error_details_carry_known_fields() {
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
        let timestamp = s.get::<f64>("timestamp").unwrap();
        assert!(timestamp > 1_700_000_000.0, "{timestamp} is not Unix time");
        let mut bare = Error::gpu(Code::Disconnected, "gone");
        bare.failure = Some(crate::platform::Failure::GpuConnection);
        let bare = details(&bare, None);
        assert!(!bare.has_field("http-status") && !bare.has_field("session-id"));
        assert_eq!(bare.get::<&str>("class").unwrap(), "GPU_CONNECTION_ERROR");
        // What can be tried again says when.
        assert_eq!(bare.get::<u64>("retry-after").unwrap(), 3000);
        let fatal = details(&Error::api(Code::Unauthorized, "no"), None);
        assert!(!fatal.has_field("retry-after") && !fatal.has_field("class"));
    }
}
