// SPDX-License-Identifier: MIT

//! The request pad `messages`: what the model says as a sparse stream.
//!
//! Owns the pad and its appsrc. The driver's task pushes messages, the gap timer
//! GAP events; neither waits for downstream: of what the appsrc cannot pass on,
//! the oldest is dropped. It never touches the session.

mod content;
mod pad;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gst::{glib, prelude::*};
use serde_json::Value;

pub use content::MessageFormat;
pub use pad::MessagesPad;

use super::{clock_step::is_clock_step, debug::CAT};
use crate::{
    element::lock,
    gst_helpers::{peer_name, remove_elements},
    platform::{Code, Error},
};

/// The name of the pad and of its template.
pub const PAD_NAME: &str = "messages";

/// The messages that wait at most for downstream.
const MAX_QUEUED_MESSAGES: u64 = 1000;
/// Their size at most, in bytes.
const MAX_QUEUED_BYTES: u64 = 16 << 20;

/// The pad's template.
pub fn pad_template() -> Option<gst::PadTemplate> {
    let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Request);
    let mut caps = MessageFormat::Json.caps();
    caps.merge(MessageFormat::Text.caps());
    let template = gst::PadTemplate::builder(PAD_NAME, direction, presence, &caps);
    template.gtype(MessagesPad::static_type()).build().ok()
}

/// The model's messages as a stream.
pub struct MessageStream {
    pub pad: MessagesPad,
    element: glib::WeakRef<gst::Element>,
    appsrc: gst_app::AppSrc,
    state: Mutex<StreamState>,
    flow: Arc<Flow>,
    /// Holds the stream until the session is known: the stream's id begins with the session's.
    hold: Mutex<Option<gst::PadProbeId>>,
}

#[derive(Default)]
struct StreamState {
    /// The number of the next message, counted from 0.
    next: u64,
    /// The running time when a message or the gap timer came last.
    last: gst::ClockTime,
    /// Up to where the stream is known: the end of the last buffer or GAP event.
    end: gst::ClockTime,
    /// The end of the last GAP event: no message begins before it.
    gap_end: gst::ClockTime,
}

/// What the streaming thread counts.
#[derive(Default)]
struct Flow {
    sent: AtomicU64,
    dropped: AtomicU64,
    /// Dropped since the application was told last.
    unreported: AtomicU64,
    /// A GAP event is queued.
    has_gap: AtomicBool,
}

/// The error for a pad `messages` whose peer is a request pad for any stream.
/// gst_element_link() requests `messages` for one (GStreamer 1.22 to 1.26), so that
/// in `reactorsrc ! splitmuxsink` the file would have the messages in place of the
/// picture. It asks as one does who names the pad: only the peer tells them apart.
pub fn refuse_any_stream(pad: &impl IsA<gst::Pad>) -> Result<(), Error> {
    let template = pad.peer().and_then(|peer| peer.pad_template());
    let takes_any = |template: gst::PadTemplate| {
        template.presence() == gst::PadPresence::Request && template.caps().is_any()
    };
    if !template.is_some_and(takes_any) {
        return Ok(());
    }
    let text = format!(
        "{} takes any stream, and was linked to the pad messages: name the pad that is meant \
         (reactorsrc name=r r.video_main_video ! ...), or put a queue behind r.messages",
        peer_name(pad)
    );
    Err(Error::api(Code::InvalidSettings, text))
}

impl MessageStream {
    /// Makes the pad and its appsrc in the bin's state; the caller adds the pad.
    /// `report_dropped` is called on the pad's streaming thread when messages were
    /// dropped; `stream_start` makes the first event, once the stream begins.
    ///
    /// Fails when the appsrc does not start.
    pub fn new(
        bin: &gst::Bin,
        template: &gst::PadTemplate,
        stream_start: impl Fn() -> gst::Event + Send + Sync + 'static,
        report_dropped: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let pad = gst::PadBuilder::<MessagesPad>::from_template(template)
            .name(PAD_NAME)
            .proxy_pad_chain_function(|pad, parent, buffer| {
                // Messages that nobody takes are no error.
                match gst::ProxyPad::chain_default(pad, parent, buffer) {
                    Err(gst::FlowError::NotLinked) => Ok(gst::FlowSuccess::Ok),
                    other => other,
                }
            })
            .build();
        let appsrc = gst_app::AppSrc::builder()
            .name(format!("{PAD_NAME}_appsrc"))
            .caps(&pad.settings().format.caps())
            .is_live(true)
            .format(gst::Format::Time)
            .max_buffers(MAX_QUEUED_MESSAGES)
            .max_bytes(MAX_QUEUED_BYTES)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        appsrc.set_latency(gst::ClockTime::ZERO, gst::ClockTime::NONE);
        pad.connect_notify(Some("format"), {
            let appsrc = appsrc.downgrade();
            move |pad, _| {
                if let Some(appsrc) = appsrc.upgrade() {
                    appsrc.set_caps(Some(&pad.settings().format.caps()));
                }
            }
        });
        let stream = Arc::new(Self {
            pad,
            element: bin.upcast_ref::<gst::Element>().downgrade(),
            appsrc,
            state: Mutex::default(),
            flow: Arc::default(),
            hold: Mutex::default(),
        });
        stream.hold();
        stream.install_probe(stream_start, report_dropped);
        bin.add(&stream.appsrc)?;
        stream
            .pad
            .set_target(stream.appsrc.static_pad("src").as_ref())?;
        stream.appsrc.sync_state_with_parent()?;
        Ok(stream)
    }

    /// Replaces the appsrc's STREAM_START, and counts what comes out of its queue.
    fn install_probe(
        &self,
        stream_start: impl Fn() -> gst::Event + Send + Sync + 'static,
        report_dropped: impl Fn() + Send + Sync + 'static,
    ) {
        let Some(src) = self.appsrc.static_pad("src") else {
            return;
        };
        let flow = self.flow.clone();
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        src.add_probe(mask, move |_, info| {
            match &mut info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => flow.pass(buffer, &report_dropped),
                Some(gst::PadProbeData::Event(event)) => match event.type_() {
                    gst::EventType::StreamStart => *event = stream_start(),
                    gst::EventType::Gap => flow.has_gap.store(false, Ordering::Release),
                    _ => {}
                },
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Holds the stream back before its first event.
    fn hold(&self) {
        let Some(src) = self.appsrc.static_pad("src") else {
            return;
        };
        let mask = gst::PadProbeType::BLOCK
            | gst::PadProbeType::BUFFER
            | gst::PadProbeType::EVENT_DOWNSTREAM;
        let mut hold = lock(&self.hold);
        if hold.is_none() {
            *hold = src.add_probe(mask, |_, _| gst::PadProbeReturn::Ok);
        }
    }

    /// The stream begins: the session is known, or there will be none.
    pub fn begin(&self) {
        let hold = lock(&self.hold).take();
        if let Some((hold, src)) = hold.zip(self.appsrc.static_pad("src")) {
            src.remove_probe(hold);
        }
    }

    /// Fails when `path` is no JSON pointer, or the peer takes any stream. Begins anew at a start.
    pub fn start(&self) -> Result<(), Error> {
        self.hold();
        *lock(&self.state) = StreamState::default();
        self.flow.reset();
        refuse_any_stream(&self.pad)?;
        let path = self.pad.settings().path;
        content::check_pointer(path.as_deref().unwrap_or_default())
    }

    /// Queues a message that has arrived now. It is lost while the element is not
    /// in PLAYING, as all that is live.
    pub fn push(&self, name: &str, data: &Value) {
        let Some(now) = self.running_time().filter(|_| self.pad.is_linked()) else {
            return;
        };
        let settings = self.pad.settings();
        let pointer = settings.path.as_deref().unwrap_or_default();
        let Some(content) = settings.format.content(pointer, name, data) else {
            return;
        };
        let duration = match settings.format {
            MessageFormat::Json => None,
            MessageFormat::Text => Some(gst::ClockTime::from_mseconds(settings.duration.into())),
        };
        let mut buffer = gst::Buffer::from_slice(content.into_bytes());
        let mut state = lock(&self.state);
        state.come_to(now);
        let start = now.max(state.gap_end);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(duration);
            // The number of the message: what the queue drops is missing.
            buffer.set_offset(state.next);
        }
        state.next += 1;
        state.end = start + duration.unwrap_or_default();
        // Fails only while the element stops, and after EOS.
        let pushed = self.appsrc.push_buffer(buffer);
        gst::trace!(CAT, obj = self.pad, "{name} at {start}: {pushed:?}");
    }

    /// Sends a GAP event up to now, unless messages or one of these wait. Returns
    /// whether the pad has a stream to keep going.
    pub fn send_gap(&self, now: gst::ClockTime) -> bool {
        if !self.pad.is_linked() {
            return false;
        }
        let mut state = lock(&self.state);
        state.come_to(now);
        let is_idle = self.appsrc.current_level_buffers() == 0;
        if now > state.end && is_idle && !self.flow.has_gap.swap(true, Ordering::AcqRel) {
            let gap = gst::event::Gap::builder(state.end).duration(now - state.end);
            state.end = now;
            state.gap_end = now;
            self.appsrc.send_event(gap.build());
        }
        true
    }

    /// The running time, in PLAYING.
    fn running_time(&self) -> Option<gst::ClockTime> {
        let element = self.element.upgrade()?;
        let is_playing = element.current_state() == gst::State::Playing;
        element.current_running_time().filter(|_| is_playing)
    }

    /// Ends the stream after the queued messages.
    pub fn end(&self) {
        // Fails only while the element stops.
        let _ = self.appsrc.end_of_stream();
        self.begin();
    }

    /// The number of messages that were dropped and not reported yet.
    pub fn take_dropped(&self) -> u64 {
        self.flow.unreported.swap(0, Ordering::AcqRel)
    }

    /// Removes the appsrc.
    pub fn close(&self, bin: &gst::Bin) {
        let _ = self.pad.set_target(None::<&gst::Pad>);
        remove_elements(bin, &[self.appsrc.clone().upcast()]);
    }

    /// The pad's part of the element's `stats` property.
    pub fn stats(&self) -> gst::Structure {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        gst::Structure::builder("messages")
            .field("received", lock(&self.state).next)
            .field("sent", count(&self.flow.sent))
            .field("dropped", count(&self.flow.dropped))
            .build()
    }
}

impl StreamState {
    /// Forgets the times of another clock, if running time has begun anew: the stream
    /// would stand still until it is there again.
    fn come_to(&mut self, now: gst::ClockTime) {
        if is_clock_step(self.last, now) {
            (self.end, self.gap_end) = (now, now);
        }
        self.last = now;
    }
}

impl Flow {
    /// A message leaves the queue. Calls `report_dropped` when the application is to
    /// be told that some before it were dropped.
    fn pass(&self, buffer: &mut gst::Buffer, report_dropped: &impl Fn()) {
        let passed = self.sent.load(Ordering::Relaxed) + self.dropped.load(Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
        // A GAP event before it may have been dropped with those messages.
        self.has_gap.store(false, Ordering::Release);
        let lost = buffer.offset().saturating_sub(passed);
        if lost == 0 {
            return;
        }
        buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        if self.unreported.fetch_add(lost, Ordering::AcqRel) == 0 {
            report_dropped();
        }
    }

    fn reset(&self) {
        for counter in [&self.sent, &self.dropped, &self.unreported] {
            counter.store(0, Ordering::Relaxed);
        }
        self.has_gap.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn stream_goes_on_when_running_time_begins_anew() {
        let seconds = gst::ClockTime::from_seconds;
        let mut state = StreamState::default();
        state.come_to(seconds(100));
        // A text that is shown for longer than a clock steps.
        (state.end, state.gap_end) = (seconds(130), seconds(99));
        state.come_to(seconds(99));
        assert_eq!((state.end, state.gap_end), (seconds(130), seconds(99)));
        state.come_to(seconds(2));
        assert_eq!((state.end, state.gap_end), (seconds(2), seconds(2)));
        state.come_to(seconds(3));
        assert_eq!((state.end, state.gap_end), (seconds(2), seconds(2)));
    }

    #[test]
    fn slow_downstream_loses_oldest_messages_and_is_told() {
        gst::init().unwrap();
        let (pipeline, bin) = (gst::Pipeline::new(), gst::Bin::new());
        let sink = gst::ElementFactory::make("fakesink").property("sync", false);
        let sink = sink.property("async", false).build().unwrap();
        pipeline.add_many([bin.upcast_ref(), &sink]).unwrap();
        let template = pad_template().unwrap();
        let start = || gst::event::StreamStart::new("test");
        let (reporter, reported) = mpsc::channel();
        let report = move || reporter.send(()).unwrap();
        let stream = MessageStream::new(&bin, &template, start, report).unwrap();
        bin.add_pad(&stream.pad).unwrap();
        stream.pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        let (sender, received) = mpsc::channel();
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        stream.pad.add_probe(mask, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let is_discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
                    sender.send((buffer.offset(), is_discont)).unwrap();
                }
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Gap => {
                    sender.send((u64::MAX, false)).unwrap();
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        stream.start().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let (state, ..) = pipeline.state(gst::ClockTime::from_seconds(10));
        state.unwrap();
        // Nothing begins before the session is known.
        std::thread::sleep(Duration::from_millis(50));
        assert!(sink.static_pad("sink").unwrap().stream_id().is_none());
        stream.begin();
        let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        let block = stream.pad.add_probe(mask, |_, _| gst::PadProbeReturn::Ok);
        stream.push("m", &0.into());
        let begun = Instant::now();
        while stream.flow.sent.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < LIMIT);
            std::thread::sleep(Duration::from_millis(5));
        }
        for n in 1..=MAX_QUEUED_MESSAGES + 3 {
            stream.push("m", &n.into());
        }
        // Nothing is queued beyond the messages meanwhile.
        let now = stream.running_time().unwrap() + gst::ClockTime::SECOND;
        assert!(stream.send_gap(now));
        stream.pad.remove_probe(block.unwrap());
        assert_eq!(received.recv_timeout(LIMIT).unwrap(), (0, true));
        assert_eq!(received.recv_timeout(LIMIT).unwrap(), (4, true));
        for n in 5..=MAX_QUEUED_MESSAGES + 3 {
            assert_eq!(received.recv_timeout(LIMIT).unwrap(), (n, false));
        }
        reported.recv_timeout(LIMIT).unwrap();
        assert_eq!(stream.take_dropped(), 3);
        assert!(stream.send_gap(now + gst::ClockTime::SECOND));
        assert_eq!(received.recv_timeout(LIMIT).unwrap().0, u64::MAX);
        // Running time begins anew.
        for time in [10, 60] {
            assert!(stream.send_gap(gst::ClockTime::from_mseconds(time)));
        }
        assert_eq!(received.recv_timeout(LIMIT).unwrap().0, u64::MAX);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
