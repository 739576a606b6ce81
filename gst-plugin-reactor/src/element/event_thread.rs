// SPDX-License-Identifier: MIT

//! The event thread of an element, for everything that runs the application's
//! code: adding pads, posting messages, emitting signals, answering promises. It
//! may block; the driver's task and streaming threads only send it events. It is
//! one of the process's blocking threads, which handles the queue until that is
//! empty: a handler that blocks holds up the events of its own element alone.
//!
//! The queue in front of it is bounded: of what a slow handler leaves there, the
//! oldest messages are dropped and outdated measurements replaced.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{errors, lock};
use crate::{
    platform::Error,
    session::{Retention, SessionEvent, run_after, run_blocking, runtime},
};

/// The messages that wait at most for a slow handler.
const MAX_MESSAGES: usize = 1000;
/// Their size at most, in bytes of JSON; one message may be larger.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A reply does not wait longer than this for a handler that blocks: a thread of
/// its own delivers it.
const REPLY_PATIENCE: Duration = Duration::from_secs(1);
/// The threads that replies get at most while handlers block.
const MAX_REPLY_THREADS: usize = 16;

/// An event that an element's event thread handles.
pub trait ElementEvent: Send + 'static {
    /// The event of the session that it carries, if it does.
    fn session_event(&self) -> Option<&SessionEvent>;

    fn retention(&self) -> Retention {
        let event = self.session_event();
        event.map_or(Retention::Kept, SessionEvent::retention)
    }
}

type Call = Box<dyn FnOnce() + Send>;

enum Item<E> {
    Event(E, Retention),
    /// A reply to the application, with the time at which it came.
    Reply(Call, Instant),
}

struct State<E> {
    items: VecDeque<Item<E>>,
    /// A thread handles the items.
    is_handled: bool,
    /// The queued events that are [`Retention::Droppable`], and their size.
    messages: usize,
    message_bytes: usize,
    /// The messages that were dropped since the last warning.
    dropped: u64,
    reply_threads: usize,
    /// [`Shared::watch`] will be called.
    watched: bool,
}

struct Shared<E> {
    state: Mutex<State<E>>,
    /// Handles an item, and the number of messages that were dropped before it.
    handle: Box<dyn Fn(Item<E>, u64) + Send + Sync>,
}

/// Sends events to an element's event thread.
pub struct EventQueue<E: ElementEvent>(Arc<Shared<E>>);

impl<E: ElementEvent> Clone for EventQueue<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Runs a reply to the application on the event thread.
pub type ReplyExecutor = Arc<dyn Fn(Call) + Send + Sync>;

impl<E: ElementEvent> EventQueue<E> {
    /// Queues an event; never waits.
    pub fn send(&self, event: E) {
        lock(&self.0.state).push(event);
        self.0.wake();
    }

    /// What queues replies.
    pub fn reply_executor(&self) -> ReplyExecutor {
        let queue = self.clone();
        Arc::new(move |call| queue.0.push_reply(call))
    }
}

impl<E: ElementEvent> State<E> {
    fn new() -> Self {
        Self {
            items: VecDeque::new(),
            is_handled: false,
            messages: 0,
            message_bytes: 0,
            dropped: 0,
            reply_threads: 0,
            watched: false,
        }
    }

    fn push(&mut self, event: E) {
        let retention = event.retention();
        match &retention {
            Retention::Kept => {}
            Retention::Latest(..) => {
                let same = |item: &Item<E>| matches!(item, Item::Event(_, of) if *of == retention);
                if let Some(outdated) = self.items.iter().position(same) {
                    self.items.remove(outdated);
                }
            }
            Retention::Droppable(bytes) => {
                self.messages += 1;
                self.message_bytes += bytes;
            }
        }
        self.items.push_back(Item::Event(event, retention));
        while self.messages > MAX_MESSAGES
            || (self.message_bytes > MAX_MESSAGE_BYTES && self.messages > 1)
        {
            self.drop_oldest_message();
        }
    }

    fn drop_oldest_message(&mut self) {
        let droppable = |item: &Item<E>| matches!(item, Item::Event(_, Retention::Droppable(_)));
        let oldest = self.items.iter().position(droppable);
        if let Some(item) = oldest.and_then(|oldest| self.items.remove(oldest)) {
            self.taken(&item);
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Item<E>> {
        let item = self.items.pop_front()?;
        self.taken(&item);
        Some(item)
    }

    fn pop_reply(&mut self) -> Option<Call> {
        let is_reply = |item: &Item<E>| matches!(item, Item::Reply(..));
        let oldest = self.items.iter().position(is_reply)?;
        match self.items.remove(oldest)? {
            Item::Reply(call, _) => Some(call),
            Item::Event(..) => None,
        }
    }

    /// An item has left the queue.
    fn taken(&mut self, item: &Item<E>) {
        if let Item::Event(_, Retention::Droppable(bytes)) = item {
            self.messages -= 1;
            self.message_bytes -= bytes;
        }
    }

    /// Since when the oldest reply waits.
    fn oldest_reply(&self) -> Option<Instant> {
        self.items.iter().find_map(|item| match item {
            Item::Reply(_, since) => Some(*since),
            Item::Event(..) => None,
        })
    }
}

impl<E: ElementEvent> Shared<E> {
    fn push_reply(self: &Arc<Self>, call: Call) {
        let watch = {
            let mut state = lock(&self.state);
            state.items.push_back(Item::Reply(call, Instant::now()));
            !std::mem::replace(&mut state.watched, true)
        };
        self.wake();
        if watch {
            self.watch_later();
        }
    }

    fn watch_later(self: &Arc<Self>) {
        let shared = self.clone();
        run_after(REPLY_PATIENCE, move || shared.watch());
    }

    /// Gives replies that wait for a handler which blocks a thread of their own.
    fn watch(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let Some(since) = state.oldest_reply() else {
            state.watched = false;
            return;
        };
        if since.elapsed() >= REPLY_PATIENCE && state.reply_threads < MAX_REPLY_THREADS {
            let shared = self.clone();
            state.reply_threads += 1;
            run_blocking(move || shared.deliver_replies());
        }
        drop(state);
        self.watch_later();
    }

    fn deliver_replies(&self) {
        loop {
            let mut state = lock(&self.state);
            let Some(call) = state.pop_reply() else {
                state.reply_threads -= 1;
                return;
            };
            drop(state);
            call();
        }
    }

    /// Has a thread handle the items, unless one does.
    fn wake(self: &Arc<Self>) {
        if !std::mem::replace(&mut lock(&self.state).is_handled, true) {
            let shared = self.clone();
            run_blocking(move || shared.handle_items());
        }
    }

    fn handle_items(&self) {
        while let Some((item, dropped)) = self.next() {
            (self.handle)(item, dropped);
        }
    }

    /// The next item, and the number of messages that were dropped before it. If
    /// there is none, the next `wake` starts another thread.
    fn next(&self) -> Option<(Item<E>, u64)> {
        let mut state = lock(&self.state);
        let item = state.pop();
        state.is_handled = item.is_some();
        Some((item?, std::mem::take(&mut state.dropped)))
    }
}

/// Makes the queue of an element, which the caller keeps in its bins meanwhile.
/// `handle` is called for each event while the element and these bins exist.
///
/// # Errors
///
/// When the process cannot start another thread.
pub fn start<T, E>(
    element: &T,
    handle: impl Fn(&T, E) + Send + Sync + 'static,
) -> Result<EventQueue<E>, Error>
where
    T: IsA<gst::Element>,
    glib::WeakRef<T>: Send + Sync,
    E: ElementEvent,
{
    // Later on there is nobody who could be told that there are no threads.
    runtime()?;
    let weak = element.downgrade();
    let bins = WeakBins::around(element.upcast_ref());
    let handle = move |item: Item<E>, dropped: u64| {
        // A message goes through the bins around the element, which may be finalized
        // meanwhile: their bus holds no reference.
        let held = weak.upgrade().and_then(|element| {
            let bins = bins.hold(element.upcast_ref())?;
            Some((element, bins))
        });
        let (element, _bins) = held.unzip();
        if let Some(element) = element.as_ref().filter(|_| dropped > 0) {
            let by = "the application handles them";
            errors::warn_of_dropped_messages(element.upcast_ref(), by, dropped);
        }
        match (item, element) {
            // A promise is answered even if the element is gone.
            (Item::Reply(call, _), _) => call(),
            (Item::Event(event, _), Some(element)) => handle(&element, event),
            (Item::Event(..), None) => {}
        }
    };
    Ok(EventQueue(Arc::new(Shared {
        state: Mutex::new(State::new()),
        handle: Box::new(handle),
    })))
}

/// The bins around an element, the innermost first.
struct WeakBins(Vec<glib::WeakRef<gst::Object>>);

impl WeakBins {
    fn around(element: &gst::Element) -> Self {
        Self(bins_around(element).map(|bin| bin.downgrade()).collect())
    }

    /// References to the bins, or to those where the element is now. `None` if one is
    /// being finalized: who then asks an element for its parent gets a reference to it,
    /// and GLib 2.74, which goes on finalizing, uses it after its end.
    fn hold(&self, element: &gst::Element) -> Option<Vec<gst::Object>> {
        let bins: Vec<_> = self
            .0
            .iter()
            .map(glib::WeakRef::upgrade)
            .collect::<Option<_>>()?;
        let children = std::iter::once(element.upcast_ref()).chain(&bins);
        let unmoved = children
            .zip(&bins)
            .all(|(child, bin)| child.has_as_parent(bin));
        if unmoved && !bins.is_empty() {
            return Some(bins);
        }
        Some(bins_around(element).collect())
    }
}

fn bins_around(element: &gst::Element) -> impl Iterator<Item = gst::Object> {
    std::iter::successors(element.parent(), GstObjectExt::parent)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;
    use crate::{platform::Code, session::MachineEvent};

    const LIMIT: Duration = Duration::from_secs(30);

    struct TestEvent(SessionEvent);

    impl ElementEvent for TestEvent {
        fn session_event(&self) -> Option<&SessionEvent> {
            Some(&self.0)
        }
    }

    fn machine(event: MachineEvent) -> TestEvent {
        TestEvent(SessionEvent::Machine(Box::new(event)))
    }

    fn message(n: usize, text: &str) -> TestEvent {
        let (name, data) = (n.to_string(), json!({ "text": text }));
        machine(MachineEvent::Message { name, data })
    }

    /// What is queued, in a word each.
    fn queued(state: &mut State<TestEvent>) -> Vec<String> {
        let items = std::iter::from_fn(|| state.pop());
        let names = items.map(|item| match item {
            Item::Event(TestEvent(SessionEvent::Machine(event)), _) => match *event {
                MachineEvent::Message { name, .. } => name,
                MachineEvent::Failed(_) => "failed".into(),
                other => format!("{other:?}"),
            },
            Item::Event(TestEvent(other), _) => format!("{other:?}"),
            Item::Reply(..) => "reply".into(),
        });
        names.collect()
    }

    #[test]
    fn oldest_messages_are_dropped_and_nothing_else() {
        let mut state = State::new();
        state.push(machine(MachineEvent::Failed(Error::gpu(
            Code::Disconnected,
            "x",
        ))));
        let reply = Item::Reply(Box::new(|| ()), Instant::now());
        state.items.push_back(reply);
        for n in 0..MAX_MESSAGES + 3 {
            state.push(message(n, ""));
        }
        state.push(machine(MachineEvent::Ended {
            reason: None,
            requested: false,
        }));
        assert_eq!(state.dropped, 3);
        let queued = queued(&mut state);
        assert_eq!(queued[..3], ["failed", "reply", "3"]);
        assert_eq!(queued.len(), 2 + MAX_MESSAGES + 1);
        assert_eq!((state.messages, state.message_bytes), (0, 0));
    }

    #[test]
    fn pipeline_that_is_finalized_is_left_alone() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("identity").build().unwrap();
        let removed_first = gst::ElementFactory::make("identity").build().unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&element, &removed_first]).unwrap();

        let (sender, handled) = mpsc::channel();
        let handle = move |_: &gst::Element, _: TestEvent| sender.send(()).unwrap();
        let events = start(&element, handle).unwrap();
        events.send(message(0, ""));
        handled.recv_timeout(LIMIT).unwrap();

        let (sender, removed) = mpsc::channel();
        pipeline.connect_element_removed(move |_, removed| {
            if *removed == removed_first {
                events.send(message(1, ""));
                let (replied, reply) = mpsc::channel();
                events.reply_executor()(Box::new(move || replied.send(()).unwrap()));
                let _ = sender.send(reply.recv_timeout(LIMIT));
            }
        });
        drop(pipeline);
        assert_eq!(removed.recv(), Ok(Ok(())));
        assert!(handled.try_recv().is_err());
    }

    #[test]
    fn large_messages_are_bounded_by_size() {
        let mut state = State::new();
        let text = "x".repeat(MAX_MESSAGE_BYTES / 3);
        for n in 0..10 {
            state.push(message(n, &text));
        }
        assert_eq!(queued(&mut state), ["8", "9"]);
        state.push(message(10, &"x".repeat(2 * MAX_MESSAGE_BYTES)));
        assert_eq!(queued(&mut state), ["10"]);
    }

    #[test]
    fn later_measurement_replaces_earlier_one() {
        let mut state = State::new();
        let bitrate = |track: &str, bitrate| {
            let track = track.to_owned();
            TestEvent(SessionEvent::TargetBitrate { track, bitrate })
        };
        state.push(bitrate("a", 1));
        state.push(bitrate("b", 2));
        state.push(bitrate("a", 3));
        let queued = queued(&mut state);
        assert_eq!(queued.len(), 2);
        assert!(
            queued[0].contains("\"b\"") && queued[1].contains("3"),
            "{queued:?}"
        );
    }
}
