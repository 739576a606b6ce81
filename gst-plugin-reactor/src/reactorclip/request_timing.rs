// SPDX-License-Identifier: MIT

//! Decides when to request the clip, and which answer to accept. Pure; called by
//! the job's thread. Knows no clock, no session and no thread.

use std::time::Duration;

use super::settings::ClipRequest;
use crate::{
    platform::{
        Code, Error,
        wire::{ClientMessage, Clip},
    },
    session::CLIP_FAILED,
};

/// The longest interval of requests while the recording grows. The last answer
/// is the clip that is left when a session breaks off.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// The interval of requests when nothing was recorded yet, or a request was
/// lost.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Seconds: markers are integral milliseconds.
const MARKER_PRECISION: f64 = 0.001;

#[derive(Debug)]
pub enum TimingInput {
    /// Whether the session takes requests.
    Ready(bool),
    Answer(Result<Clip, Error>),
    /// The live elements end, or have left.
    LiveEnded,
    SessionOver(Option<Error>),
    Timeout,
}

#[derive(Debug, PartialEq)]
pub enum TimingDecision {
    Request(ClientMessage),
    /// For an input, or until that time.
    Wait(Option<Duration>),
    Accept(Clip),
    Fail(Error),
}

#[derive(Debug)]
pub struct RequestTiming {
    request: ClipRequest,
    /// None for the whole recording.
    seconds: Option<f64>,
    ready: bool,
    requested: bool,
    /// The live elements have ended.
    ending: bool,
    /// The last answer.
    last: Option<Clip>,
    /// When to make the next request.
    next: Option<Duration>,
}

impl RequestTiming {
    /// `seconds` of 0 mean the whole recording, which is not complete before
    /// the end.
    pub fn new(request: ClipRequest, seconds: f64) -> Self {
        let whole = seconds <= 0.0;
        Self {
            request: match request {
                ClipRequest::Filled if whole => ClipRequest::Eos,
                request => request,
            },
            seconds: (!whole).then_some(seconds),
            ready: false,
            requested: false,
            ending: false,
            last: None,
            next: None,
        }
    }

    /// The recorded time, in seconds, by the last answer.
    pub fn recorded(&self) -> f64 {
        self.last.as_ref().map_or(0.0, |clip| clip.now_marker)
    }

    pub fn handle(&mut self, now: Duration, input: TimingInput) -> TimingDecision {
        match input {
            TimingInput::Ready(ready) => self.ready = ready,
            TimingInput::LiveEnded => {
                self.ending = true;
                self.next = None;
            }
            TimingInput::SessionOver(error) => return self.give_up(error),
            TimingInput::Answer(answer) => {
                if let Some(decision) = self.handle_answer(now, answer) {
                    return decision;
                }
            }
            TimingInput::Timeout => {}
        }
        self.decide(now)
    }

    fn handle_answer(
        &mut self,
        now: Duration,
        answer: Result<Clip, Error>,
    ) -> Option<TimingDecision> {
        self.requested = false;
        match answer {
            Ok(clip) if self.is_sufficient(&clip) => return Some(TimingDecision::Accept(clip)),
            Ok(clip) => {
                let missing = self.seconds.unwrap_or(f64::INFINITY) - clip.now_marker;
                let wait = Duration::try_from_secs_f64(missing).unwrap_or(MAX_INTERVAL);
                self.next = Some(now + wait.clamp(RETRY_INTERVAL, MAX_INTERVAL));
                self.last = Some(clip);
            }
            Err(error) => {
                let not_yet = matches!(&error.code, Code::Other(code) if code == CLIP_FAILED);
                if !not_yet && !error.recoverable() && error.code != Code::InvalidState {
                    return Some(TimingDecision::Fail(error));
                }
                if self.ending {
                    return Some(self.give_up(Some(error)));
                }
                self.next = Some(now + RETRY_INTERVAL);
            }
        }
        // That request was made before the end: another one brings more.
        self.next = self.next.filter(|_| !self.ending);
        None
    }

    fn is_sufficient(&self, clip: &Clip) -> bool {
        match self.request {
            ClipRequest::Now => true,
            ClipRequest::Filled => self
                .seconds
                .is_some_and(|seconds| clip.now_marker + MARKER_PRECISION >= seconds),
            ClipRequest::Eos => false,
        }
    }

    fn decide(&mut self, now: Duration) -> TimingDecision {
        if self.requested {
            return TimingDecision::Wait(None);
        }
        if !self.ready {
            return match self.ending {
                true => self.give_up(None),
                false => TimingDecision::Wait(None),
            };
        }
        if let Some(next) = self.next
            && now < next
        {
            return TimingDecision::Wait(Some(next));
        }
        if self.ending {
            self.request = ClipRequest::Now;
        }
        self.requested = true;
        self.next = None;
        TimingDecision::Request(match self.seconds {
            Some(seconds) => ClientMessage::RequestClip { seconds },
            None => ClientMessage::RequestRecording,
        })
    }

    /// No further answer will come: the last one is better than none.
    fn give_up(&mut self, error: Option<Error>) -> TimingDecision {
        if let Some(clip) = self.last.take() {
            return TimingDecision::Accept(clip);
        }
        TimingDecision::Fail(error.unwrap_or_else(|| {
            let text = "the session ended before anything was recorded";
            Error::gpu(Code::Disconnected, text)
        }))
    }
}

#[cfg(test)]
mod tests;
