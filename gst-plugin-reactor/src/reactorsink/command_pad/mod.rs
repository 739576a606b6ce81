// SPDX-License-Identifier: MIT

//! A request pad that takes commands: `command_NAME` for one, `commands` for any.
//!
//! Owns the pad and the elements behind it: a bounded queue, which never holds up
//! a live stream, and an appsink, which waits for the running time of each buffer.
//! The queue's streaming thread hands commands to the session and never waits for
//! it; a stream that is not live waits in the queue instead (a pad block, which
//! flushes and state changes end). Replies come on the event thread.

mod content;
mod framing;
mod outlet;
mod pad;
mod state;
mod whole_file;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gst::{glib, prelude::*, subclass::prelude::*};

use content::{ContentKind, Target};
use outlet::{Next, Waiting};
pub use pad::{CommandPad, pad_templates};
use state::{Blocked, StreamState};

use super::{debug::CAT, event::SinkEvent, gate};
use crate::{
    element::lock,
    gst_helpers::remove_elements,
    platform::{Error, command_content::CommandContent},
    session::run_after,
};

/// The buffers that wait at most for their time; more hold up a stream that is not
/// live, and of a live one the oldest is dropped.
const MAX_QUEUED_BUFFERS: u32 = 200;
/// Their size at most, in bytes.
const MAX_QUEUED_BYTES: u32 = 16 << 20;
/// The longest time between two commands that `max-rate` can ask for.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

impl Waiting for CommandContent {
    fn name(&self) -> &str {
        CommandContent::name(self)
    }

    fn has_file(&self) -> bool {
        CommandContent::has_file(self)
    }
}

/// A reply that a command of a pad has.
#[derive(Debug)]
pub struct PadReply {
    pub command: String,
    /// The start of the stream that it belongs to.
    generation: u64,
    /// `None` if it is no command, and was not sent.
    had_file: Option<bool>,
    pub error: Option<Error>,
}

/// The commands of one pad.
pub struct CommandStream {
    pub pad: CommandPad,
    target: Target,
    element: glib::WeakRef<super::ReactorSink>,
    queue: gst::Element,
    /// The queue's.
    src: gst::Pad,
    sink: gst_app::AppSink,
    state: Mutex<StreamState>,
    /// Holds the queue's thread while it has to wait with a buffer.
    block: Mutex<Option<gst::PadProbeId>>,
    /// Holds it with EOS.
    eos_block: Mutex<Option<gst::PadProbeId>>,
}

impl CommandStream {
    /// Makes the pad and its elements, in the element's state; the caller adds the
    /// pad.
    ///
    /// Fails when the name is none, when an element is not installed, or does not
    /// start.
    pub fn new(
        element: &super::ReactorSink,
        template: &gst::PadTemplate,
        name: &str,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let target = match name.strip_prefix(pad::COMMAND_PREFIX) {
            Some(command) if !command.is_empty() => Target::Command(command.to_owned()),
            None if name == pad::COMMANDS => Target::Any,
            _ => return Err(glib::bool_error!("a pad is named after its command")),
        };
        let queue = gst::ElementFactory::make("queue")
            .property("max-size-buffers", MAX_QUEUED_BUFFERS)
            .property("max-size-bytes", MAX_QUEUED_BYTES)
            .property("max-size-time", 0u64)
            .build()?;
        let src = queue.static_pad("src");
        let sink = gst_app::AppSink::builder()
            .caps(template.caps())
            .sync(true)
            .async_(false)
            .qos(false)
            .enable_last_sample(false)
            .processing_deadline(gst::ClockTime::ZERO)
            .build();
        let stream = Arc::new(Self {
            pad: gst::PadBuilder::<CommandPad>::from_template(template)
                .name(name)
                .build(),
            target,
            element: element.downgrade(),
            src: src.ok_or_else(|| glib::bool_error!("the queue has no src pad"))?,
            queue,
            sink,
            state: Mutex::default(),
            block: Mutex::default(),
            eos_block: Mutex::default(),
        });
        let elements = [&stream.queue, stream.sink.upcast_ref()];
        element.add_many(elements)?;
        stream.queue.link(&stream.sink)?;
        stream
            .pad
            .set_target(stream.queue.static_pad("sink").as_ref())?;
        stream.follow_liveness();
        stream.watch_events();
        stream.install_block();
        stream.install_eos_block();
        stream.install_callbacks();
        for element in elements.into_iter().rev() {
            element.sync_state_with_parent()?;
        }
        Ok(stream)
    }

    fn follow_liveness(self: &Arc<Self>) {
        let Some(entry) = self.queue.static_pad("sink") else {
            return;
        };
        let weak = Arc::downgrade(self);
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && let gst::EventView::Segment(segment) = event.view()
                && let Some(stream) = weak.upgrade()
            {
                let is_live = gate::is_live(&stream.pad);
                let mut state = lock(&stream.state);
                state.is_live = is_live;
                state.is_timed = segment.segment().format() == gst::Format::Time;
                stream.src.set_offset(state.offset());
                drop(state);
                let leaky = if is_live { "downstream" } else { "no" };
                stream.queue.set_property_from_str("leaky", leaky);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// What was begun before a flush is not continued, and a segment of bytes says where
    /// in a file they go. Beside the appsink, which takes all before it.
    fn watch_events(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let mask = gst::PadProbeType::EVENT_FLUSH | gst::PadProbeType::EVENT_DOWNSTREAM;
        self.src.add_probe(mask, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && let Some(stream) = weak.upgrade()
            {
                match event.view() {
                    gst::EventView::FlushStop(_) => {
                        lock(&stream.state).flush();
                        stream.install_eos_block();
                    }
                    gst::EventView::StreamStart(_) => stream.install_eos_block(),
                    gst::EventView::Segment(segment) => {
                        let bytes = segment.segment().downcast_ref::<gst::format::Bytes>();
                        let start = bytes.and_then(|segment| segment.start());
                        let mut state = lock(&stream.state);
                        state.file.seek(start.map_or(0, |start| *start));
                    }
                    _ => {}
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Replaces the probe that holds the queue's thread, which so asks again
    /// whether it has to wait. What passes before the new one is there does not ask.
    fn install_block(self: &Arc<Self>) {
        let mut block = lock(&self.block);
        if let Some(before) = block.take() {
            self.src.remove_probe(before);
        }
        let weak = Arc::downgrade(self);
        let mask =
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        *block = self.src.add_probe(mask, move |_, _| {
            let stream = weak.upgrade();
            match stream.is_some_and(|stream| stream.has_to_wait(Blocked::Buffer)) {
                true => gst::PadProbeReturn::Ok,
                false => gst::PadProbeReturn::Pass,
            }
        });
    }

    /// Holds EOS until all is answered; at another pad than buffers, since no EOS may pass
    /// without asking.
    fn install_eos_block(self: &Arc<Self>) {
        let Some(pad) = self.sink.static_pad("sink") else {
            return;
        };
        let mut block = lock(&self.eos_block);
        if block.is_some() {
            return;
        }
        let weak = Arc::downgrade(self);
        let mask = gst::PadProbeType::BLOCK | gst::PadProbeType::EVENT_DOWNSTREAM;
        *block = pad.add_probe(mask, move |_, info| {
            let is_eos = matches!(&info.data, Some(gst::PadProbeData::Event(event))
                if event.type_() == gst::EventType::Eos);
            let stream = weak.upgrade().filter(|_| is_eos);
            match stream.is_some_and(|stream| stream.has_to_wait(Blocked::Eos)) {
                true => gst::PadProbeReturn::Ok,
                false => gst::PadProbeReturn::Pass,
            }
        });
    }

    fn remove_eos_block(&self) {
        let block = lock(&self.eos_block).take();
        if let Some((block, pad)) = block.zip(self.sink.static_pad("sink")) {
            pad.remove_probe(block);
        }
    }

    fn has_to_wait(self: &Arc<Self>, next: Blocked) -> bool {
        if next == Blocked::Eos {
            self.finish();
        }
        let keeps_newest = self.keeps_newest();
        let mut state = lock(&self.state);
        let waits = state.waits(next, keeps_newest);
        state.blocked = waits.then_some(next);
        waits
    }

    /// Takes what is left at the end. Nobody waits for a session on behalf of a live
    /// stream.
    fn finish(self: &Arc<Self>) {
        let kind = lock(&self.state).kind;
        if let Some(framing) = kind.and_then(ContentKind::framing) {
            let frames = lock(&self.state).framer.finish(framing);
            self.take_frames(frames);
        }
        let file = lock(&self.state).file.finish();
        if let (Some(ContentKind::File(index)), Some(file)) = (kind, file) {
            self.take_file(index, file.into());
        }
        let mut state = lock(&self.state);
        if state.is_live && !state.outlet.is_open() {
            state.outlet.drop_pending();
        }
    }

    fn install_callbacks(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            match weak.upgrade() {
                Some(stream) => stream.consume(&sample),
                None => Ok(gst::FlowSuccess::Ok),
            }
        });
        self.sink.set_callbacks(callbacks.build());
    }

    /// A buffer's time has come.
    fn consume(self: &Arc<Self>, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(buffer) = sample.buffer().filter(|buffer| buffer.size() > 0) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let kind = ContentKind::of(sample.caps_owned().as_ref());
        {
            let mut state = lock(&self.state);
            if state.has_failed {
                return Err(gst::FlowError::Error);
            }
            if state.ends {
                return Ok(gst::FlowSuccess::Ok);
            }
            state.received += 1;
            state.kind = kind.as_ref().ok().copied();
        }
        let Ok(map) = buffer.map_readable() else {
            return Err(gst::FlowError::Error);
        };
        let format = sample.segment().map(|segment| segment.format());
        let is_timed = buffer.pts().is_some() && format == Some(gst::Format::Time);
        match kind {
            Err(error) => self.refuse(error),
            Ok(ContentKind::File(_)) if format == Some(gst::Format::Bytes) => {
                let limit = self.max_upload_size();
                let taken = lock(&self.state).file.push(&map, limit);
                if let Err(error) = taken {
                    self.refuse(error);
                }
            }
            Ok(ContentKind::File(index)) => self.take_file(index, Bytes::copy_from_slice(&map)),
            Ok(_) if is_timed => self.take_frames(vec![framing::text(&map)]),
            Ok(kind) => {
                if let Some(framing) = kind.framing() {
                    let frames = lock(&self.state).framer.push(framing, &map);
                    self.take_frames(frames);
                }
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn take_frames(self: &Arc<Self>, frames: Vec<Result<String, Error>>) {
        let kind = lock(&self.state).kind.unwrap_or(ContentKind::Text);
        let param = self.pad.settings().param;
        for frame in frames {
            let commands = match frame {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => self.target.commands(kind, param.as_deref(), text),
                Err(error) => Err(error),
            };
            self.offer(commands);
        }
    }

    fn take_file(self: &Arc<Self>, index: usize, bytes: Bytes) {
        let param = self.pad.settings().param;
        let limit = self.max_upload_size();
        let command = self.target.file(index, param.as_deref(), bytes, limit);
        self.offer(command.map(|command| vec![command]));
    }

    fn max_upload_size(&self) -> u64 {
        let element = self.element.upgrade();
        element.map_or(1, |element| {
            element.imp().membership.state.settings().max_upload_size
        })
    }

    fn keeps_newest(&self) -> bool {
        let is_live = lock(&self.state).is_live;
        is_live || self.interval().is_some()
    }

    /// The least time between two commands.
    fn interval(&self) -> Option<Duration> {
        let rate = self.pad.settings().max_rate;
        let interval = || Duration::try_from_secs_f64(1.0 / rate).unwrap_or(MAX_INTERVAL);
        (rate > 0.0).then(|| interval().min(MAX_INTERVAL))
    }

    /// Takes the commands of one text or JSON value, or of a file.
    fn offer(self: &Arc<Self>, commands: Result<Vec<CommandContent>, Error>) {
        match commands {
            Ok(commands) => {
                let keeps_newest = self.keeps_newest();
                lock(&self.state).outlet.offer(commands, keeps_newest);
                self.pump();
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Reports what is no command. It waits for nothing, and costs no command its
    /// place.
    fn refuse(&self, error: Error) {
        let generation = {
            let mut state = lock(&self.state);
            if !state.begin_report() {
                return;
            }
            state.generation
        };
        if let Some(element) = self.element.upgrade() {
            let reply = PadReply {
                command: self.target.name().to_owned(),
                generation,
                had_file: None,
                error: Some(error),
            };
            let event = SinkEvent::CommandRefused(self.pad.name().into(), reply);
            element.imp().send_event(event);
        }
    }

    /// Sends the commands that are due, in order, on one thread at a time.
    fn pump(self: &Arc<Self>) {
        if std::mem::replace(&mut lock(&self.state).is_pumping, true) {
            return;
        }
        while let Some((command, generation)) = self.next_command() {
            self.send(command, generation);
        }
    }

    fn next_command(self: &Arc<Self>) -> Option<(CommandContent, u64)> {
        let interval = self.interval();
        let mut state = lock(&self.state);
        let now = Instant::now();
        let next = state.outlet.next(now, interval);
        if let Next::At(at) = next
            && !std::mem::replace(&mut state.has_timer, true)
        {
            let weak = Arc::downgrade(self);
            run_after(at - now, move || {
                if let Some(stream) = weak.upgrade() {
                    lock(&stream.state).has_timer = false;
                    stream.update();
                }
            });
        }
        match next {
            Next::Send(command) => {
                state.sent += 1;
                Some((command, state.generation))
            }
            Next::At(_) | Next::Wait => {
                state.is_pumping = false;
                None
            }
        }
    }

    fn send(self: &Arc<Self>, command: CommandContent, generation: u64) {
        let Some(element) = self.element.upgrade() else {
            return;
        };
        gst::debug!(CAT, obj = self.pad, "sending {}", command.name());
        let (weak, name) = (Arc::downgrade(self), command.name().to_owned());
        let had_file = Some(command.has_file());
        let receive = move |result: Result<_, Error>| {
            if let Some(stream) = weak.upgrade() {
                stream.handle_reply(PadReply {
                    command: name,
                    generation,
                    had_file,
                    error: result.err(),
                });
            }
        };
        let membership = &element.imp().membership;
        membership.send_content(element.upcast_ref(), command, Box::new(receive));
    }

    /// Handles the reply to a command, or the report of what is none, on the event thread.
    pub fn handle_reply(self: &Arc<Self>, reply: PadReply) {
        let is_strict = self.pad.settings().strict;
        {
            let mut state = lock(&self.state);
            if state.generation != reply.generation {
                return;
            }
            state.answered(reply.had_file);
            if reply.error.is_some() {
                state.refused += 1;
                state.has_failed |= is_strict;
            }
        }
        if let (Some(error), Some(element)) = (reply.error, self.element.upgrade()) {
            let imp = element.imp();
            imp.report_refused(&self.pad.name(), &reply.command, error, is_strict);
        }
        self.update();
    }

    /// Sends the commands that are due after a change of the state, and unblocks the
    /// queue's thread if another buffer may follow.
    fn update(self: &Arc<Self>) {
        self.pump();
        let keeps_newest = self.keeps_newest();
        let goes_on = {
            let mut state = lock(&self.state);
            let blocked = state.blocked;
            let goes_on = blocked.filter(|blocked| !state.waits(*blocked, keeps_newest));
            if goes_on.is_some() {
                state.blocked = None;
            }
            goes_on
        };
        match goes_on {
            Some(Blocked::Buffer) => self.install_block(),
            Some(Blocked::Eos) => self.remove_eos_block(),
            None => {}
        }
    }

    /// Opens the pad: the session takes commands. The running time of a stream that
    /// is not live is moved by `delay` in ns, or by the time for which the pad was
    /// closed until `now`.
    pub fn open(self: &Arc<Self>, now: gst::ClockTime, delay: Option<i64>) {
        {
            let mut state = lock(&self.state);
            if state.outlet.is_open() {
                return;
            }
            let closed = now.saturating_sub(state.closed_since).nseconds();
            let closed = i64::try_from(closed).unwrap_or_default();
            state.delay = delay.unwrap_or(state.delay + closed);
            let offset = state.offset();
            gst::debug!(CAT, obj = self.pad, "begins {offset} ns later");
            self.src.set_offset(offset);
            state.outlet.set_open(true);
        }
        self.update();
    }

    /// Closes the pad at `now`, until it is opened again.
    pub fn suspend(&self, now: gst::ClockTime) {
        let mut state = lock(&self.state);
        if state.outlet.is_open() {
            state.outlet.set_open(false);
            state.closed_since = now;
        }
    }

    /// The application ends the stream: nothing waits any longer.
    pub fn end(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            state.ends = true;
            state.outlet.drop_pending();
        }
        self.update();
    }

    /// Whether this is the element that the commands arrive at.
    pub fn is_sink(&self, object: &gst::Object) -> bool {
        self.sink.upcast_ref::<gst::Object>() == object
    }

    /// Drops what waits for its time. Upstream's thread is free then.
    pub fn flush(&self) {
        self.pad.send_event(gst::event::FlushStart::new());
        self.pad.send_event(gst::event::FlushStop::new(false));
    }

    /// Restores the first state, for a new session.
    pub fn reset(self: &Arc<Self>) {
        lock(&self.state).reset();
        self.install_eos_block();
        self.src.set_offset(0);
    }

    /// Removes the pad's elements, the sink first: it may be waiting for a buffer's
    /// time.
    pub fn close(&self, bin: &gst::Bin) {
        lock(&self.state).ends = true;
        for element in [self.sink.upcast_ref(), &self.queue] {
            remove_elements(bin, std::slice::from_ref(element));
        }
    }

    /// The pad's part of the element's `stats` property.
    pub fn stats(&self) -> gst::Structure {
        let state = lock(&self.state);
        gst::Structure::builder("commands")
            .field("received", state.received)
            .field("sent", state.sent)
            .field("refused", state.refused)
            .field("dropped", state.outlet.dropped())
            .build()
    }
}
