// SPDX-License-Identifier: MIT

//! Hands the clip from the job's thread to the streaming thread: segments as
//! they come, or one complete file. Each of the two waits for the other; never
//! holds more than two segments.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex},
};

use bytes::Bytes;

use crate::element::lock;

/// Segments that are queued for a slow reader.
const MAX_QUEUED: usize = 2;

#[derive(Debug, Default)]
pub struct Handoff {
    state: Mutex<HandoffState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct HandoffState {
    content: Content,
    /// The streaming thread must not wait.
    flushing: bool,
    /// The reader has gone.
    closed: bool,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Nothing,
    Segments {
        queue: VecDeque<Bytes>,
        complete: bool,
    },
    File(CompleteFile),
    Failed,
}

/// The complete file of a clip.
#[derive(Debug, Clone)]
pub struct CompleteFile {
    pub file: Arc<File>,
    /// In bytes.
    pub size: u64,
    pub duration: gst::ClockTime,
}

/// What the streaming thread is to do next.
#[derive(Debug)]
pub enum HandoffItem {
    Bytes(Bytes),
    File(CompleteFile),
    End,
    Flushing,
    Failed,
}

impl Handoff {
    /// Waits for the next item.
    pub fn wait_next(&self) -> HandoffItem {
        let mut state = lock(&self.state);
        loop {
            if state.flushing || state.closed {
                return HandoffItem::Flushing;
            }
            match &mut state.content {
                Content::Failed => return HandoffItem::Failed,
                Content::File(file) => return HandoffItem::File(file.clone()),
                Content::Segments { queue, complete } => {
                    if let Some(bytes) = queue.pop_front() {
                        self.changed.notify_all();
                        return HandoffItem::Bytes(bytes);
                    }
                    if *complete {
                        return HandoffItem::End;
                    }
                }
                Content::Nothing => {}
            }
            state = state.wait(&self.changed);
        }
    }

    /// Queues a segment; blocks while the queue is full. False when the reader
    /// has gone.
    pub fn push(&self, bytes: Bytes) -> bool {
        let mut state = lock(&self.state);
        if !matches!(state.content, Content::Segments { .. }) {
            state.content = Content::Segments {
                queue: VecDeque::new(),
                complete: false,
            };
        }
        loop {
            if state.closed {
                return false;
            }
            if let Content::Segments { queue, .. } = &mut state.content
                && queue.len() < MAX_QUEUED
            {
                queue.push_back(bytes);
                self.changed.notify_all();
                return true;
            }
            state = state.wait(&self.changed);
        }
    }

    /// Ends the segments.
    pub fn complete(&self) {
        if let Content::Segments { complete, .. } = &mut lock(&self.state).content {
            *complete = true;
        }
        self.changed.notify_all();
    }

    pub fn set_complete_file(&self, file: CompleteFile) {
        lock(&self.state).content = Content::File(file);
        self.changed.notify_all();
    }

    /// Drops queued segments as well: the clip would look complete.
    pub fn fail(&self) {
        lock(&self.state).content = Content::Failed;
        self.changed.notify_all();
    }

    pub fn set_flushing(&self, flushing: bool) {
        lock(&self.state).flushing = flushing;
        self.changed.notify_all();
    }

    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// The complete file, if there is one.
    pub fn complete_file(&self) -> Option<CompleteFile> {
        match &lock(&self.state).content {
            Content::File(file) => Some(file.clone()),
            _ => None,
        }
    }
}

impl CompleteFile {
    /// Reads `length` bytes at `offset`, or less at the end of the file.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn read(&self, offset: u64, length: u32) -> std::io::Result<Vec<u8>> {
        let left = self.size.saturating_sub(offset);
        let length = u64::from(length).min(left);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn later(handoff: &Arc<Handoff>, run: impl FnOnce(&Handoff) + Send + 'static) {
        let handoff = handoff.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            run(&handoff);
        });
    }

    #[test]
    fn segments_queued_come_in_order_and_wait_for_reader() {
        let handoff = Arc::new(Handoff::default());
        let writer = handoff.clone();
        let thread = thread::spawn(move || {
            for number in 0..20_u8 {
                assert!(writer.push(Bytes::from(vec![number])));
                let state = lock(&writer.state);
                let Content::Segments { queue, .. } = &state.content else {
                    unreachable!()
                };
                assert!(queue.len() <= MAX_QUEUED);
            }
            writer.complete();
        });
        for number in 0..20_u8 {
            assert!(
                matches!(handoff.wait_next(), HandoffItem::Bytes(bytes) if bytes[..] == [number])
            );
        }
        assert!(matches!(handoff.wait_next(), HandoffItem::End));
        thread.join().unwrap();
    }

    #[test]
    fn reader_flushing_does_not_wait() {
        let handoff = Arc::new(Handoff::default());
        later(&handoff, |handoff| handoff.set_flushing(true));
        assert!(matches!(handoff.wait_next(), HandoffItem::Flushing));
        handoff.set_flushing(false);
        later(&handoff, Handoff::fail);
        assert!(matches!(handoff.wait_next(), HandoffItem::Failed));
    }

    #[test]
    fn writer_without_reader_does_not_wait() {
        let handoff = Arc::new(Handoff::default());
        assert!(handoff.push(Bytes::new()) && handoff.push(Bytes::new()));
        later(&handoff, Handoff::close);
        assert!(!handoff.push(Bytes::new()));
        assert!(matches!(handoff.wait_next(), HandoffItem::Flushing));
    }

    #[test]
    fn handoff_failed_drops_queued_segments() {
        let handoff = Handoff::default();
        handoff.push(Bytes::from_static(b"begun"));
        handoff.fail();
        assert!(matches!(handoff.wait_next(), HandoffItem::Failed));
    }
}
