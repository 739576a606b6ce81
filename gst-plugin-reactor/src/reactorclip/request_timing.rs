// SPDX-License-Identifier: MIT

//! When to ask for the clip, and which answer to take. Knows no clock, no
//! session and no thread.

use std::time::Duration;

use crate::{
    platform::{
        Code, Error,
        wire::{ClientMessage, Clip},
    },
    session::CLIP_FAILED,
};

/// How often the recording is looked at while it grows. What was told last is
/// what can still be had when a session breaks off.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How soon to ask again when nothing was recorded yet, or the question was
/// lost.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Markers are whole milliseconds.
const MARKER_PRECISION: f64 = 0.001;

/// When to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As soon as there is as much as was asked for.
    Filled,
    /// As soon as there is anything.
    Now,
    /// When the live elements end.
    End,
}

#[derive(Debug)]
pub enum Input {
    /// Whether the session can be asked.
    Ready(bool),
    Answer(Result<Clip, Error>),
    /// The live elements end, or have left.
    End,
    /// The session is over.
    Over(Option<Error>),
    Tick,
}

#[derive(Debug, PartialEq)]
pub enum Decision {
    Ask(ClientMessage),
    /// Until something happens, or until then.
    Wait(Option<Duration>),
    Take(Clip),
    Fail(Error),
}

#[derive(Debug)]
pub struct RequestTiming {
    when: When,
    /// Nothing for the whole recording.
    seconds: Option<f64>,
    ready: bool,
    asked: bool,
    ending: bool,
    /// What there was when it was last asked.
    last: Option<Clip>,
    next: Option<Duration>,
}

impl RequestTiming {
    /// `seconds` of 0 stand for the whole recording, which is not complete
    /// before the end.
    pub fn new(when: When, seconds: f64) -> Self {
        let whole = seconds <= 0.0;
        Self {
            when: if whole && when == When::Filled {
                When::End
            } else {
                when
            },
            seconds: (!whole).then_some(seconds),
            ready: false,
            asked: false,
            ending: false,
            last: None,
            next: None,
        }
    }

    /// How much of what was asked for is recorded, in seconds.
    pub fn recorded(&self) -> f64 {
        self.last.as_ref().map_or(0.0, |clip| clip.now_marker)
    }

    pub fn handle(&mut self, now: Duration, input: Input) -> Decision {
        match input {
            Input::Ready(ready) => self.ready = ready,
            Input::End => {
                self.ending = true;
                self.next = None;
            }
            Input::Over(error) => return self.give_up(error),
            Input::Answer(answer) => {
                if let Some(decision) = self.answered(now, answer) {
                    return decision;
                }
            }
            Input::Tick => {}
        }
        self.decide(now)
    }

    fn answered(&mut self, now: Duration, answer: Result<Clip, Error>) -> Option<Decision> {
        self.asked = false;
        match answer {
            Ok(clip) if self.suffices(&clip) => return Some(Decision::Take(clip)),
            Ok(clip) => {
                let missing = self.seconds.unwrap_or(f64::INFINITY) - clip.now_marker;
                let wait = Duration::try_from_secs_f64(missing).unwrap_or(LOOK_INTERVAL);
                self.next = Some(now + wait.clamp(RETRY_INTERVAL, LOOK_INTERVAL));
                self.last = Some(clip);
            }
            Err(error) => {
                let not_yet = matches!(&error.code, Code::Other(code) if code == CLIP_FAILED);
                if !not_yet && !error.recoverable() && error.code != Code::InvalidState {
                    return Some(Decision::Fail(error));
                }
                if self.ending {
                    return Some(self.give_up(Some(error)));
                }
                self.next = Some(now + RETRY_INTERVAL);
            }
        }
        // It was asked before the end was near: what there is now is more.
        self.next = self.next.filter(|_| !self.ending);
        None
    }

    fn suffices(&self, clip: &Clip) -> bool {
        match self.when {
            When::Now => true,
            When::Filled => self
                .seconds
                .is_some_and(|seconds| clip.now_marker + MARKER_PRECISION >= seconds),
            When::End => false,
        }
    }

    fn decide(&mut self, now: Duration) -> Decision {
        if self.asked {
            return Decision::Wait(None);
        }
        if !self.ready {
            return match self.ending {
                true => self.give_up(None),
                false => Decision::Wait(None),
            };
        }
        if let Some(next) = self.next
            && now < next
        {
            return Decision::Wait(Some(next));
        }
        if self.ending {
            self.when = When::Now;
        }
        self.asked = true;
        self.next = None;
        Decision::Ask(match self.seconds {
            Some(seconds) => ClientMessage::RequestClip { seconds },
            None => ClientMessage::RequestRecording,
        })
    }

    /// Nothing more will come: what there was is better than nothing.
    fn give_up(&mut self, error: Option<Error>) -> Decision {
        if let Some(clip) = self.last.take() {
            return Decision::Take(clip);
        }
        Decision::Fail(error.unwrap_or_else(|| {
            let text = "the session ended before anything was recorded";
            Error::gpu(Code::Disconnected, text)
        }))
    }
}

#[cfg(test)]
mod tests;
