// SPDX-License-Identifier: MIT

//! The queue of one sink pad: passes, drops or holds what upstream sends.
//!
//! Owns the queue, its probes and the counters. The probes run on the streaming
//! threads of the application's pipeline; the event thread and state changes
//! open and close the gate. It never blocks a live stream.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gst::{glib, prelude::*};

use crate::{element::lock, gst_helpers::running_time};

/// Buffers that wait for an encoder that is slower than the camera; then the
/// oldest is dropped.
const MAX_QUEUED_BUFFERS: u32 = 5;

/// While it is closed, a live stream is dropped and any other stream is held.
pub struct Gate {
    pub queue: gst::Element,
    src: gst::Pad,
    pub flow: Arc<Flow>,
    /// Blocks a stream that is not live until the gate opens.
    hold_probe: Mutex<Option<gst::PadProbeId>>,
}

/// What the streaming threads read and count.
#[derive(Default)]
pub struct Flow {
    is_open: AtomicBool,
    /// Upstream is live: it cannot wait.
    is_live: AtomicBool,
    /// Nothing is held any more: the stream is about to end.
    is_ending: AtomicBool,
    /// The running time of the first buffer that is held.
    held: Mutex<Option<gst::ClockTime>>,
    received: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Flow {
    /// Counts a buffer that reached the appsink.
    pub fn count_sample(&self, is_sent: bool) {
        let counter = if is_sent { &self.sent } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// Makes a closed gate, which calls `on_caps` for each CAPS event.
    /// Fails when the queue element is not installed.
    pub fn new(
        on_caps: impl Fn(gst::Caps) + Send + Sync + 'static,
    ) -> Result<Self, glib::BoolError> {
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-buffers", MAX_QUEUED_BUFFERS)
            .property("max-size-bytes", 0u32)
            .property("max-size-time", 0u64)
            .property_from_str("leaky", "downstream")
            .build()?;
        let src = queue.static_pad("src");
        let gate = Self {
            src: src.ok_or_else(|| glib::bool_error!("the queue has no src pad"))?,
            queue,
            flow: Arc::default(),
            hold_probe: Mutex::default(),
        };
        gate.install_drop_probe(on_caps);
        gate.hold();
        Ok(gate)
    }

    /// Drops buffers while the gate is closed.
    fn install_drop_probe(&self, on_caps: impl Fn(gst::Caps) + Send + Sync + 'static) {
        let flow = self.flow.clone();
        let mask = gst::PadProbeType::BUFFER
            | gst::PadProbeType::BUFFER_LIST
            | gst::PadProbeType::EVENT_DOWNSTREAM;
        self.src.add_probe(mask, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data {
                if let gst::EventView::Caps(caps) = event.view() {
                    on_caps(caps.caps_owned());
                }
                return gst::PadProbeReturn::Ok;
            }
            flow.received.fetch_add(1, Ordering::Relaxed);
            if flow.is_open.load(Ordering::Acquire) {
                return gst::PadProbeReturn::Ok;
            }
            flow.dropped.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Handled
        });
    }

    /// Finds out with each SEGMENT whether upstream of `pad` is live. A camera
    /// must never wait; a file is sent whole, in real time.
    pub fn follow_liveness(&self, pad: &gst::GhostPad, sink: &gst_app::AppSink) {
        let Some(entry) = self.queue.static_pad("sink") else {
            return;
        };
        let (pad, queue, sink) = (pad.downgrade(), self.queue.downgrade(), sink.downgrade());
        let flow = self.flow.clone();
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && event.type_() == gst::EventType::Segment
                && let (Some(pad), Some(queue), Some(sink)) =
                    (pad.upgrade(), queue.upgrade(), sink.upgrade())
            {
                let is_live = is_live(&pad);
                flow.is_live.store(is_live, Ordering::Release);
                queue.set_property_from_str("leaky", if is_live { "downstream" } else { "no" });
                sink.set_sync(!is_live);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Has a live stream ask for no allocation while the sink does not play. The queue
    /// passes that query in its turn, which comes when the sink plays: a camera whose
    /// format changes would wait, and with it whoever stops it.
    pub fn drop_early_allocation_queries(&self, pad: &gst::GhostPad, sink: &gst_app::AppSink) {
        let Some(entry) = self.queue.static_pad("sink") else {
            return;
        };
        let (pad, sink) = (pad.downgrade(), sink.downgrade());
        entry.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
            let query = info.query().map(gst::QueryRef::type_);
            if query == Some(gst::QueryType::Allocation)
                && let (Some(pad), Some(sink)) = (pad.upgrade(), sink.upgrade())
                && sink.current_state() < gst::State::Playing
                && is_live(&pad)
            {
                return gst::PadProbeReturn::Drop;
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Whether a stream that is not live waits for the gate to open.
    pub fn is_holding(&self) -> bool {
        lock(&self.hold_probe).is_some() && !self.flow.is_live.load(Ordering::Acquire)
    }

    /// Holds a stream that is not live until the gate opens.
    pub fn hold(&self) {
        if lock(&self.hold_probe).is_some() || self.flow.is_ending.load(Ordering::Acquire) {
            return;
        }
        let flow = self.flow.clone();
        let mask =
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        let probe = self.src.add_probe(mask, move |pad, info| {
            if flow.is_live.load(Ordering::Acquire) || flow.is_open.load(Ordering::Acquire) {
                return gst::PadProbeReturn::Pass;
            }
            let pts = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts(),
                Some(gst::PadProbeData::BufferList(list)) => list.get(0).and_then(|b| b.pts()),
                _ => None,
            };
            *lock(&flow.held) = running_time(pad, pts);
            gst::PadProbeReturn::Ok
        });
        *lock(&self.hold_probe) = probe;
    }

    /// Opens the gate. The running times of a stream that was held are moved by
    /// `delay` in ns, or so that it continues at `now`; returns by how much.
    pub fn open(&self, now: gst::ClockTime, delay: Option<i64>) -> Option<i64> {
        self.flow.is_open.store(true, Ordering::Release);
        self.release(now, delay)
    }

    /// Closes the gate; [`Gate::hold`] keeps a stream that is not live from
    /// being dropped.
    pub fn close(&self) {
        self.flow.is_open.store(false, Ordering::Release);
    }

    /// Holds the stream no longer, because it is to end: what comes before the gate
    /// opens is dropped. Whoever pushes is free for the EOS.
    pub fn end(&self) {
        self.flow.is_ending.store(true, Ordering::Release);
        let probe = lock(&self.hold_probe).take();
        lock(&self.flow.held).take();
        if let Some(probe) = probe {
            self.src.remove_probe(probe);
        }
    }

    /// Restores a closed gate's first state, for a new session.
    pub fn reset(&self) {
        self.flow.is_ending.store(false, Ordering::Release);
        self.release(gst::ClockTime::ZERO, None);
        self.src.set_offset(0);
        self.hold();
    }

    fn release(&self, now: gst::ClockTime, delay: Option<i64>) -> Option<i64> {
        let probe = lock(&self.hold_probe).take();
        let held = lock(&self.flow.held).take();
        let delay = held.map(|time| {
            delay.unwrap_or(now.nseconds().cast_signed() - time.nseconds().cast_signed())
        });
        if let Some(delay) = delay {
            self.src.set_offset(delay);
        }
        if let Some(probe) = probe {
            self.src.remove_probe(probe);
        }
        delay
    }

    /// Adds the counters of buffers to the pad's statistics.
    pub fn add_stats(&self, stats: gst::structure::Builder) -> gst::structure::Builder {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats
            .field("received", count(&self.flow.received))
            .field("sent", count(&self.flow.sent))
            .field("dropped", count(&self.flow.dropped))
    }
}

/// Whether upstream of a pad is live, or does not say.
pub fn is_live(pad: &impl IsA<gst::Pad>) -> bool {
    let mut query = gst::query::Latency::new();
    !pad.peer_query(&mut query) || query.result().0
}
