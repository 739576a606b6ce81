// SPDX-License-Identifier: MIT

//! Expected errors, and the checks of a pipeline that stops.

use std::time::{Duration, Instant};

use gst::prelude::*;
pub use reactor_tests::pipeline::count_buffers;
use reactor_tests::pipeline::{BusError, TestPipeline, wait_for_status, wait_until};

use crate::health;

/// The limit of a wait for something that takes no time on an idle machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// close-timeout is 2 s; the rest is for a busy machine.
const NULL_LIMIT: Duration = Duration::from_secs(5);

/// The error codes on which the platform's clients try again.
const RECOVERABLE: [&str; 6] = [
    "DISCONNECTED",
    "NETWORK_ERROR",
    "REQUEST_TIMEOUT",
    "TRANSPORT_ERROR",
    "RATE_LIMITED",
    "SERVER_ERROR",
];

/// GStreamer's domain and code.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Core(gst::CoreError),
    Resource(gst::ResourceError),
    Stream(gst::StreamError),
}

impl Kind {
    fn is_of(self, error: &gst::glib::Error) -> bool {
        match self {
            Kind::Core(code) => error.matches(code),
            Kind::Resource(code) => error.matches(code),
            Kind::Stream(code) => error.matches(code),
        }
    }
}

pub const BUSY: Kind = Kind::Resource(gst::ResourceError::Busy);
pub const NOT_AUTHORIZED: Kind = Kind::Resource(gst::ResourceError::NotAuthorized);
pub const NOT_FOUND: Kind = Kind::Resource(gst::ResourceError::NotFound);
pub const OPEN_READ: Kind = Kind::Resource(gst::ResourceError::OpenRead);
pub const READ: Kind = Kind::Resource(gst::ResourceError::Read);
pub const SETTINGS: Kind = Kind::Resource(gst::ResourceError::Settings);
pub const CODEC_NOT_FOUND: Kind = Kind::Stream(gst::StreamError::CodecNotFound);
pub const CORE_FAILED: Kind = Kind::Core(gst::CoreError::Failed);

/// In ms, where the server does not say when to try again: what the platform's documents say.
const DEFAULT_RETRY_AFTER: u64 = 3000;

/// Any number of milliseconds.
const SOME: u64 = u64::MAX;

/// An error and its details.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    code: &'static str,
    kind: Kind,
    component: &'static str,
    operation: Option<&'static str>,
    status: Option<u32>,
    retry_after: Option<u64>,
    text: &'static str,
}

impl Expected {
    /// `text` is a part of the message.
    pub const fn api(code: &'static str, kind: Kind, text: &'static str) -> Self {
        Self {
            code,
            kind,
            component: "api",
            operation: None,
            status: None,
            retry_after: None,
            text,
        }
    }

    pub const fn gpu(code: &'static str, kind: Kind, text: &'static str) -> Self {
        Self {
            component: "gpu",
            ..Self::api(code, kind, text)
        }
    }

    pub const fn during(self, operation: &'static str) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }

    pub const fn status(self, status: u32) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }

    pub const fn retry_after(self, milliseconds: u64) -> Self {
        Self {
            retry_after: Some(milliseconds),
            ..self
        }
    }

    /// Some retry-after that the element chooses.
    pub const fn retries(self) -> Self {
        self.retry_after(SOME)
    }

    pub fn check(&self, what: &str, failure: &BusError) {
        let error = &failure.error;
        let details = failure.details.as_ref().expect("details");
        let text = error.message();
        assert!(self.kind.is_of(error), "{what}: {error:?}, not {self:?}");
        assert_eq!(failure.code(), self.code, "{what}: {details}");
        assert_eq!(failure.detail::<String>("component"), self.component);
        assert_eq!(failure.detail::<String>("message"), text, "{what}");
        let recoverable = RECOVERABLE.contains(&self.code);
        assert_eq!(failure.detail::<bool>("recoverable"), recoverable);
        assert!(text.contains(self.text), "{what}: {text}");
        // As the platform's clients print it.
        let debug = failure.debug.as_deref().unwrap_or_default();
        let printed = format!("[{}:{}] {text}", self.component, self.code);
        assert_eq!(debug, printed, "{what}");
        assert!(
            failure.detail::<f64>("timestamp") > 1.7e9,
            "{what}: {details}"
        );
        let class = details.get_optional::<String>("class").unwrap();
        let classes = ["CONNECTION_FAILED", "GPU_CONNECTION_ERROR"];
        let known = class.is_some_and(|class| classes.contains(&class.as_str()));
        assert!(known || self.code == "ABORTED", "{what}: {details}");

        let operation = details.get_optional::<String>("operation").unwrap();
        assert_eq!(operation.as_deref(), self.operation, "{what}: {details}");
        let status = details.get_optional::<u32>("http-status").unwrap();
        assert_eq!(status, self.status, "{what}: {details}");
        let retry_after = details.get_optional::<u64>("retry-after").unwrap();
        let default = recoverable.then_some(DEFAULT_RETRY_AFTER);
        match self.retry_after.or(default) {
            Some(SOME) => assert!(retry_after > Some(0), "{what}: {details}"),
            expected => assert_eq!(retry_after, expected, "{what}: {details}"),
        }
    }
}

/// A `reactorsrc` named `src` with these properties, followed by a fakesink; not started yet.
pub fn source(url: &str, properties: &str) -> TestPipeline {
    health::watch();
    TestPipeline::parse(&format!(
        "reactorsrc name=src local=true api-url={url} {properties} ! \
         fakesink name=sink sync=false"
    ))
}

/// Starts a source that has to fail with this error, and stops it. As nothing needs closing then, a
/// long close-timeout must not delay the stop.
pub fn assert_fails(what: &str, url: &str, properties: &str, expected: Expected) -> BusError {
    let running = source(url, &format!("close-timeout=20000 {properties}"));
    running.play();
    let failure = running.wait_error(TIMEOUT);
    expected.check(what, &failure);
    assert_last_error(&running, &failure);
    stop_and_check(&running);
    failure
}

/// The details stay readable after the message.
fn assert_last_error(running: &TestPipeline, failure: &BusError) {
    let last: gst::Structure = running.by_name("src").property("last-error");
    assert_eq!(Some(last), failure.details);
}

/// Sets the pipeline to NULL, which must be quick; the source must be disconnected then.
pub fn stop_and_check(running: &TestPipeline) -> Duration {
    let begun = Instant::now();
    running.stop();
    let took = begun.elapsed();
    assert!(took < NULL_LIMIT, "NULL took {took:?}");
    let source = running.by_name("src");
    wait_for_status(&source, "disconnected", TIMEOUT);
    wait_until("no session id", TIMEOUT, || {
        source.property::<Option<String>>("session-id").is_none()
    });
    health::assert_clean();
    took
}
