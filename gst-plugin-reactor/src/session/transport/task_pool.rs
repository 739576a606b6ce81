// SPDX-License-Identifier: MIT

//! The streaming threads of a connection: each ends with its task. GStreamer's own
//! pool keeps its threads for the next task until `gst_deinit`, when they end without
//! anybody who waits for them; one that used OpenSSL (DTLS, SRTP) frees its thread's
//! state then, which crashes while `exit` frees all of OpenSSL's ("free(): invalid
//! pointer" of gst-launch-1.0 1.22, seen once in some 50 ends on a busy machine).
//! Called by GStreamer where a task starts or is joined.

use std::thread::{Builder, JoinHandle};

use gst::{glib, prelude::*, subclass::prelude::*};

glib::wrapper! {
    /// The pool of one connection.
    pub(super) struct TaskPool(ObjectSubclass<Imp>) @extends gst::TaskPool, gst::Object;
}

impl TaskPool {
    pub(super) fn new() -> Self {
        glib::Object::new()
    }

    /// Has a task that a message announces run in this pool.
    pub(super) fn adopt(&self, message: &gst::message::StreamStatus) {
        let (kind, _) = message.get();
        if kind == gst::StreamStatusType::Create
            && let Some(task) = message.stream_status_object()
            && let Ok(task) = task.get::<gst::Task>()
        {
            task.set_pool(self);
        }
    }
}

#[derive(Default)]
pub(super) struct Imp;

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "ReactorTaskPool";
    type Type = TaskPool;
    type ParentType = gst::TaskPool;
}

impl ObjectImpl for Imp {}
impl GstObjectImpl for Imp {}

impl TaskPoolImpl for Imp {
    type Handle = TaskThread;

    fn push(
        &self,
        task: gst::subclass::TaskPoolFunction,
    ) -> Result<Option<TaskThread>, glib::Error> {
        // GStreamer names the thread after the pad.
        let thread = Builder::new().spawn(move || task.call());
        let thread =
            thread.map_err(|e| glib::Error::new(gst::CoreError::Failed, &e.to_string()))?;
        Ok(Some(TaskThread(thread)))
    }
}

pub(super) struct TaskThread(JoinHandle<()>);

impl TaskHandle for TaskThread {
    fn join(self) {
        // Fails if the thread panicked, which it said.
        let _ = self.0.join();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    static ENDED: AtomicBool = AtomicBool::new(false);

    struct UntilThreadEnds;

    impl Drop for UntilThreadEnds {
        fn drop(&mut self) {
            ENDED.store(true, Ordering::SeqCst);
        }
    }

    thread_local! {
        static THREAD: RefCell<Option<UntilThreadEnds>> = const { RefCell::new(None) };
    }

    #[test]
    fn streaming_thread_ends_with_its_task() {
        gst::init().unwrap();
        let pipeline = gst::Pipeline::new();
        let [source, sink] = ["fakesrc", "fakesink"].map(|name| {
            let element = gst::ElementFactory::make(name).build().unwrap();
            pipeline.add(&element).unwrap();
            element
        });
        source.link(&sink).unwrap();
        let pool = TaskPool::new();
        pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            if let gst::MessageView::StreamStatus(status) = message.view() {
                pool.adopt(status);
            }
            gst::BusSyncReply::Drop
        });
        let (sender, streams) = std::sync::mpsc::channel();
        let pad = sink.static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            THREAD.with_borrow_mut(|thread| *thread = Some(UntilThreadEnds));
            let _ = sender.send(());
            gst::PadProbeReturn::Remove
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        streams.recv().unwrap();
        assert!(!ENDED.load(Ordering::SeqCst));
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(ENDED.load(Ordering::SeqCst));
    }
}
