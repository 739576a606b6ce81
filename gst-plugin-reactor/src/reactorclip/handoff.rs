// SPDX-License-Identifier: MIT

//! From the thread that gets the clip to the one that pushes it.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::element::lock;

/// How many pieces wait for a slow reader.
const MAX_WAITING: usize = 2;

#[derive(Debug, Default)]
pub struct Handoff {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    content: Content,
    /// The streaming thread is not to wait.
    flushing: bool,
    /// Nobody reads any more.
    shut: bool,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Nothing,
    Pieces {
        waiting: VecDeque<Bytes>,
        complete: bool,
    },
    Whole(Whole),
    Failed,
}

/// A file that is complete.
#[derive(Debug, Clone)]
pub struct Whole {
    pub file: Arc<File>,
    /// In bytes.
    pub size: u64,
    pub duration: gst::ClockTime,
}

#[derive(Debug)]
pub enum Taken {
    Bytes(Bytes),
    Whole(Whole),
    End,
    Flushing,
    Failed,
}

impl Handoff {
    /// What comes next; waits for it.
    pub fn take(&self) -> Taken {
        let mut state = lock(&self.state);
        loop {
            if state.flushing || state.shut {
                return Taken::Flushing;
            }
            match &mut state.content {
                Content::Failed => return Taken::Failed,
                Content::Whole(whole) => return Taken::Whole(whole.clone()),
                Content::Pieces { waiting, complete } => {
                    if let Some(bytes) = waiting.pop_front() {
                        self.changed.notify_all();
                        return Taken::Bytes(bytes);
                    }
                    if *complete {
                        return Taken::End;
                    }
                }
                Content::Nothing => {}
            }
            state = self.wait(state);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a piece over, and waits while enough are waiting; `false` when
    /// nobody reads any more.
    pub fn push(&self, bytes: Bytes) -> bool {
        let mut state = lock(&self.state);
        if !matches!(state.content, Content::Pieces { .. }) {
            state.content = Content::Pieces {
                waiting: VecDeque::new(),
                complete: false,
            };
        }
        loop {
            if state.shut {
                return false;
            }
            if let Content::Pieces { waiting, .. } = &mut state.content
                && waiting.len() < MAX_WAITING
            {
                waiting.push_back(bytes);
                self.changed.notify_all();
                return true;
            }
            state = self.wait(state);
        }
    }

    /// There are no more pieces.
    pub fn complete(&self) {
        if let Content::Pieces { complete, .. } = &mut lock(&self.state).content {
            *complete = true;
        }
        self.changed.notify_all();
    }

    pub fn set_whole(&self, whole: Whole) {
        lock(&self.state).content = Content::Whole(whole);
        self.changed.notify_all();
    }

    /// What was handed over is not read either: it would look complete.
    pub fn fail(&self) {
        lock(&self.state).content = Content::Failed;
        self.changed.notify_all();
    }

    pub fn set_flushing(&self, flushing: bool) {
        lock(&self.state).flushing = flushing;
        self.changed.notify_all();
    }

    pub fn shut(&self) {
        lock(&self.state).shut = true;
        self.changed.notify_all();
    }

    /// The file, if it is there.
    pub fn whole(&self) -> Option<Whole> {
        match &lock(&self.state).content {
            Content::Whole(whole) => Some(whole.clone()),
            _ => None,
        }
    }
}

impl Whole {
    /// Reads what there is of `length` bytes at `offset`.
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

    fn later(output: &Arc<Handoff>, run: impl FnOnce(&Handoff) + Send + 'static) {
        let output = output.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            run(&output);
        });
    }

    #[test]
    fn pieces_come_in_order_and_wait_for_the_reader() {
        let output = Arc::new(Handoff::default());
        let writer = output.clone();
        let thread = thread::spawn(move || {
            for number in 0..20_u8 {
                assert!(writer.push(Bytes::from(vec![number])));
                let state = lock(&writer.state);
                let Content::Pieces { waiting, .. } = &state.content else {
                    unreachable!()
                };
                assert!(waiting.len() <= MAX_WAITING);
            }
            writer.complete();
        });
        for number in 0..20_u8 {
            assert!(matches!(output.take(), Taken::Bytes(bytes) if bytes[..] == [number]));
        }
        assert!(matches!(output.take(), Taken::End));
        thread.join().unwrap();
    }

    #[test]
    fn a_reader_that_flushes_does_not_wait() {
        let output = Arc::new(Handoff::default());
        later(&output, |output| output.set_flushing(true));
        assert!(matches!(output.take(), Taken::Flushing));
        output.set_flushing(false);
        later(&output, Handoff::fail);
        assert!(matches!(output.take(), Taken::Failed));
    }

    #[test]
    fn a_writer_without_reader_does_not_wait() {
        let output = Arc::new(Handoff::default());
        assert!(output.push(Bytes::new()) && output.push(Bytes::new()));
        later(&output, Handoff::shut);
        assert!(!output.push(Bytes::new()));
        assert!(matches!(output.take(), Taken::Flushing));
    }

    #[test]
    fn after_a_failure_nothing_is_read() {
        let output = Handoff::default();
        output.push(Bytes::from_static(b"begun"));
        output.fail();
        assert!(matches!(output.take(), Taken::Failed));
    }
}
