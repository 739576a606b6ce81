// SPDX-License-Identifier: MIT

//! Pipelines under test: started, watched and always taken down; waits and probes for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use crate::criticals;

/// A pipeline that goes to NULL when the test ends, however it ends. A critical warning meanwhile
/// fails the test.
#[derive(Debug)]
pub struct TestPipeline {
    pub pipeline: gst::Pipeline,
    /// How many there were before.
    criticals: usize,
}

impl TestPipeline {
    /// Parses a gst-launch line and starts it.
    pub fn launch(line: &str) -> Self {
        let running = Self::parse(line);
        running.play();
        running
    }

    /// Parses a gst-launch line.
    pub fn parse(line: &str) -> Self {
        crate::init();
        let element = gst::parse::launch(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let pipeline = match element.downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            Err(element) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&element).unwrap();
                pipeline
            }
        };
        force_wire(&pipeline);
        Self {
            pipeline,
            criticals: criticals::watch(),
        }
    }

    pub fn play(&self) {
        self.pipeline
            .set_state(gst::State::Playing)
            .expect("PLAYING");
    }

    pub fn by_name(&self, name: &str) -> gst::Element {
        self.pipeline
            .by_name(name)
            .unwrap_or_else(|| panic!("no element {name}"))
    }

    pub fn pad(&self, element: &str, pad: &str) -> gst::Pad {
        let element = self.by_name(element);
        element
            .static_pad(pad)
            .unwrap_or_else(|| panic!("no pad {pad}"))
    }

    /// The next message that `wanted` accepts; panics after `limit`, and on an error message that
    /// it does not accept.
    pub fn wait_message<T>(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&gst::Message) -> Option<T>,
    ) -> T {
        let bus = self.pipeline.bus().unwrap();
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = bus.timed_pop(gst::ClockTime::try_from(left).unwrap());
            let Some(message) = message else {
                panic!("no such message within {limit:?}");
            };
            if let Some(result) = wanted(&message) {
                return result;
            }
            if let gst::MessageView::Error(error) = message.view() {
                panic!("{} ({:?})", error.error(), error.debug());
            }
        }
    }

    /// The next error, with its details.
    pub fn wait_error(&self, limit: Duration) -> BusError {
        self.wait_message(limit, |message| match message.view() {
            gst::MessageView::Error(error) => Some(BusError::of(error)),
            _ => None,
        })
    }

    pub fn wait_eos(&self, limit: Duration) {
        self.wait_message(limit, |message| {
            matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
        });
    }

    /// The next element message of this name.
    pub fn wait_element(&self, name: &str, limit: Duration) -> gst::Structure {
        self.wait_message(limit, |message| match message.view() {
            gst::MessageView::Element(element) => element
                .structure()
                .filter(|structure| structure.name() == name)
                .map(|structure| structure.to_owned()),
            _ => None,
        })
    }

    /// The next LATENCY message of this element.
    pub fn wait_latency_message(&self, element: &str, limit: Duration) {
        let element = self.by_name(element);
        self.wait_message(limit, |message| {
            let is_latency = matches!(message.view(), gst::MessageView::Latency(_));
            (is_latency && message.src() == Some(element.upcast_ref())).then_some(())
        });
    }

    /// An error message that is on the bus. Drops the messages before it.
    pub fn pop_error(&self) -> Option<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        bus.pop_filtered(&[gst::MessageType::Error])
    }

    /// Panics if there is an error message on the bus by now.
    pub fn assert_no_error(&self) {
        let error = self.pop_error();
        assert!(error.is_none(), "{error:?}");
    }

    /// What `stats` of an element says of one of its pads.
    pub fn pad_stats(&self, element: &str, pad: &str) -> gst::Structure {
        let stats: gst::Structure = self.by_name(element).property("stats");
        stats.get(pad).expect("a pad")
    }

    /// Prints the messages that a test which fails has not read.
    fn show_problems(&self) {
        let wanted = [
            gst::MessageType::Error,
            gst::MessageType::Warning,
            gst::MessageType::Progress,
        ];
        while let Some(message) = self.pipeline.bus().and_then(|b| b.pop_filtered(&wanted)) {
            eprintln!("{message:?}");
        }
        eprintln!("{:?}", self.pipeline.state(gst::ClockTime::ZERO));
    }

    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Null).expect("NULL");
    }
}

impl Drop for TestPipeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_problems();
        }
        let _ = self.pipeline.set_state(gst::State::Null);
        let criticals = criticals::since(self.criticals);
        if !std::thread::panicking() {
            assert!(criticals.is_empty(), "{criticals:#?}");
        }
    }
}

/// Polls until the condition holds; panics after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls until there is a value; panics after `limit`.
pub fn wait_for<T>(limit: Duration, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(result) = get() {
            return result;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not come within {limit:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The nick of an enumeration's value.
pub fn enum_nick(value: &glib::Value) -> String {
    let (_, value) = glib::EnumValue::from_value(value).expect("an enumeration");
    value.nick().to_owned()
}

/// The `status` property.
pub fn status(element: &gst::Element) -> String {
    enum_nick(&element.property_value("status"))
}

pub fn wait_for_status(element: &gst::Element, wanted: &str, limit: Duration) {
    wait_until(wanted, limit, || status(element) == wanted);
}

/// Counts the buffers that pass a pad from now on.
pub fn count_buffers(pad: &gst::Pad) -> impl Fn() -> usize + use<> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    move || count.load(Ordering::Relaxed)
}

/// With REACTOR_TEST_WIRE=v0 all elements of all tests speak v0.
pub fn is_v0() -> bool {
    std::env::var("REACTOR_TEST_WIRE").is_ok_and(|wire| wire == "v0")
}

fn force_wire(pipeline: &gst::Pipeline) {
    if !is_v0() {
        return;
    }
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        let name = element.factory().map(|factory| factory.name());
        if matches!(
            name.as_deref(),
            Some("reactorsrc" | "reactorsink" | "reactorfilter")
        ) {
            element.set_property_from_str("wire", "v0");
        }
    }
}

/// An error message from the bus.
#[derive(Debug)]
pub struct BusError {
    pub error: glib::Error,
    pub debug: Option<String>,
    pub details: Option<gst::Structure>,
}

impl BusError {
    pub fn of(error: &gst::message::Error) -> Self {
        Self {
            error: error.error(),
            debug: error.debug().map(|debug| debug.to_string()),
            details: error.details().map(|details| details.to_owned()),
        }
    }

    /// A field of the details; panics if there is none of that type.
    pub fn detail<T>(&self, field: &str) -> T
    where
        for<'a> T: glib::value::FromValue<'a> + 'static,
    {
        let details = self
            .details
            .as_ref()
            .unwrap_or_else(|| panic!("no details: {self:?}"));
        details
            .get(field)
            .unwrap_or_else(|error| panic!("{field}: {error} in {details}"))
    }

    pub fn code(&self) -> String {
        self.detail("code")
    }
}
