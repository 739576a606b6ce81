// SPDX-License-Identifier: MIT

//! What a command pad knows of its stream, and when its queue has to wait. Pure.

use super::{content::ContentKind, framing::Framer, outlet::Outlet, whole_file::WholeFile};
use crate::platform::command_content::CommandContent;

/// The refusals of a live stream that wait at most to be reported: it cannot be held
/// up. More are only counted.
const MAX_UNREPORTED: usize = 100;

#[derive(Default)]
pub struct StreamState {
    pub outlet: Outlet<CommandContent>,
    pub framer: Framer,
    pub file: WholeFile,
    /// Of the last buffer.
    pub kind: Option<ContentKind>,
    /// Upstream is live: it cannot wait.
    pub is_live: bool,
    /// It has timestamps, and no bytes alone.
    pub is_timed: bool,
    /// What the queue's thread waits with.
    pub blocked: Option<Blocked>,
    /// A thread sends the commands that are due.
    pub is_pumping: bool,
    pub has_timer: bool,
    /// The application ends the stream.
    pub ends: bool,
    /// A buffer was refused that must not be.
    pub has_failed: bool,
    /// Refused, and on the way to the event thread.
    unreported: usize,
    /// Counts the starts: replies of an earlier one are void.
    pub generation: u64,
    /// By how much the running time of a stream that is not live is moved, in ns.
    pub delay: i64,
    /// Since when the pad is not open.
    pub closed_since: gst::ClockTime,
    pub received: u64,
    pub sent: u64,
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    Buffer,
    Eos,
}

impl StreamState {
    /// Whether the queue's thread has to wait with what comes next.
    pub fn waits(&self, next: Blocked, keeps_newest: bool) -> bool {
        match next {
            _ if self.ends => false,
            Blocked::Buffer if self.is_live => false,
            Blocked::Buffer => {
                let is_full = !keeps_newest && self.outlet.has_pending();
                !self.outlet.is_open() || is_full || self.unreported > 0
            }
            Blocked::Eos => self.outlet.is_busy() || self.unreported > 0,
        }
    }

    /// Forgets what is not sent yet.
    pub fn flush(&mut self) {
        self.framer.reset();
        self.file.reset();
        self.outlet.drop_pending();
    }

    /// The offset of the queue's pad, in ns. That of bytes stays 0: with another one the
    /// segment would come again, in the midst of a file.
    pub fn offset(&self) -> i64 {
        match self.is_timed && !self.is_live {
            true => self.delay,
            false => 0,
        }
    }

    /// Restores the first state, for a new session.
    pub fn reset(&mut self) {
        *self = Self {
            generation: self.generation + 1,
            is_pumping: self.is_pumping,
            has_timer: self.has_timer,
            ..Self::default()
        };
    }

    /// Counts a refusal that is to be reported; `false` if there are too many.
    pub fn begin_report(&mut self) -> bool {
        let has_room = !self.is_live || self.unreported < MAX_UNREPORTED;
        match has_room {
            true => self.unreported += 1,
            false => self.refused += 1,
        }
        has_room
    }

    /// A command has its reply, or a refusal was reported, which `had_file` of `None`
    /// says.
    pub fn answered(&mut self, had_file: Option<bool>) {
        match had_file {
            Some(had_file) => self.outlet.answered(had_file),
            None => self.unreported = self.unreported.saturating_sub(1),
        }
    }
}
