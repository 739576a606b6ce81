// SPDX-License-Identifier: MIT

//! Request timing, input by input, without a clock.

use super::*;

const NOW: Duration = Duration::from_secs(100);

fn clip(recorded: f64) -> Clip {
    Clip {
        now_marker: recorded,
        end_marker: recorded,
        ..Clip::default()
    }
}

fn ask(seconds: f64) -> TimingDecision {
    TimingDecision::Request(ClientMessage::RequestClip { seconds })
}

fn ready(request: ClipRequest, seconds: f64) -> RequestTiming {
    let mut timing = RequestTiming::new(request, seconds);
    assert_eq!(
        timing.handle(NOW, TimingInput::Timeout),
        TimingDecision::Wait(None)
    );
    assert_eq!(timing.handle(NOW, TimingInput::Ready(true)), ask(seconds));
    assert_eq!(
        timing.handle(NOW, TimingInput::Timeout),
        TimingDecision::Wait(None)
    );
    timing
}

fn refusal(code: &'static str) -> TimingInput {
    TimingInput::Answer(Err(Error::gpu(Code::Other(code.into()), "no")))
}

fn wait(milliseconds: u64) -> TimingDecision {
    TimingDecision::Wait(Some(NOW + Duration::from_millis(milliseconds)))
}

#[test]
fn clip_filled_is_accepted() {
    let mut timing = ready(ClipRequest::Filled, 10.0);
    assert_eq!(
        timing.handle(NOW, TimingInput::Answer(Ok(clip(3.0)))),
        wait(2000)
    );
    assert!((timing.recorded() - 3.0).abs() < f64::EPSILON);
    let later = NOW + Duration::from_secs(2);
    assert_eq!(timing.handle(later, TimingInput::Timeout), ask(10.0));
    let almost = timing.handle(NOW, TimingInput::Answer(Ok(clip(9.2))));
    assert_eq!(almost, wait(800));
    assert_eq!(timing.handle(later, TimingInput::Timeout), ask(10.0));
    let full = timing.handle(later, TimingInput::Answer(Ok(clip(10.0))));
    assert_eq!(full, TimingDecision::Accept(clip(10.0)));
}

#[test]
fn request_now_accepts_first_clip() {
    let mut timing = ready(ClipRequest::Now, 10.0);
    assert_eq!(timing.handle(NOW, refusal(CLIP_FAILED)), wait(500));
    let later = NOW + RETRY_INTERVAL;
    assert_eq!(timing.handle(later, TimingInput::Timeout), ask(10.0));
    let taken = timing.handle(later, TimingInput::Answer(Ok(clip(0.4))));
    assert_eq!(taken, TimingDecision::Accept(clip(0.4)));
}

#[test]
fn request_for_whole_recording_waits_for_end() {
    for request in [ClipRequest::Filled, ClipRequest::Eos] {
        let mut timing = RequestTiming::new(request, 0.0);
        let whole = TimingDecision::Request(ClientMessage::RequestRecording);
        assert_eq!(timing.handle(NOW, TimingInput::Ready(true)), whole);
        assert_eq!(
            timing.handle(NOW, TimingInput::Answer(Ok(clip(500.0)))),
            wait(2000)
        );
        assert_eq!(timing.handle(NOW, TimingInput::LiveEnded), whole);
        let taken = timing.handle(NOW, TimingInput::Answer(Ok(clip(501.0))));
        assert_eq!(taken, TimingDecision::Accept(clip(501.0)));
    }
}

#[test]
fn live_end_makes_one_more_request() {
    // The pending request was made too early.
    let mut timing = ready(ClipRequest::Eos, 10.0);
    assert_eq!(
        timing.handle(NOW, TimingInput::LiveEnded),
        TimingDecision::Wait(None)
    );
    assert_eq!(
        timing.handle(NOW, TimingInput::Answer(Ok(clip(20.0)))),
        ask(10.0)
    );
    let taken = timing.handle(NOW, TimingInput::Answer(Ok(clip(20.1))));
    assert_eq!(taken, TimingDecision::Accept(clip(20.1)));
    // The end also ends the wait for a longer clip.
    let mut timing = ready(ClipRequest::Filled, 10.0);
    timing.handle(NOW, TimingInput::Answer(Ok(clip(3.0))));
    assert_eq!(timing.handle(NOW, TimingInput::LiveEnded), ask(10.0));
    let taken = timing.handle(NOW, TimingInput::Answer(Ok(clip(3.5))));
    assert_eq!(taken, TimingDecision::Accept(clip(3.5)));
}

#[test]
fn session_over_accepts_last_answer() {
    for request in [ClipRequest::Filled, ClipRequest::Eos] {
        let mut timing = ready(request, 10.0);
        timing.handle(NOW, TimingInput::Answer(Ok(clip(3.0))));
        let taken = timing.handle(NOW, TimingInput::SessionOver(None));
        assert_eq!(taken, TimingDecision::Accept(clip(3.0)));
    }
    let mut timing = ready(ClipRequest::Eos, 10.0);
    let TimingDecision::Fail(error) = timing.handle(NOW, TimingInput::SessionOver(None)) else {
        unreachable!("there was nothing")
    };
    assert_eq!(error.code, Code::Disconnected);
    let lost = Error::gpu(Code::ReconnectionFailed, "lost");
    let mut timing = ready(ClipRequest::Eos, 10.0);
    let failed = timing.handle(NOW, TimingInput::SessionOver(Some(lost.clone())));
    assert_eq!(failed, TimingDecision::Fail(lost));
}

#[test]
fn session_interrupted_is_waited_for() {
    let mut timing = ready(ClipRequest::Filled, 10.0);
    let lost = Error::gpu(Code::Disconnected, "lost");
    timing.handle(NOW, TimingInput::Ready(false));
    let late = NOW + Duration::from_secs(5);
    assert_eq!(
        timing.handle(NOW, TimingInput::Answer(Err(lost))),
        TimingDecision::Wait(None)
    );
    assert_eq!(
        timing.handle(late, TimingInput::Timeout),
        TimingDecision::Wait(None)
    );
    assert_eq!(timing.handle(late, TimingInput::Ready(true)), ask(10.0));
    // Elements that end now do not wait for it.
    timing.handle(late, TimingInput::Answer(Ok(clip(4.0))));
    timing.handle(late, TimingInput::Ready(false));
    assert_eq!(
        timing.handle(late, TimingInput::LiveEnded),
        TimingDecision::Accept(clip(4.0))
    );
}

#[test]
fn answer_with_permanent_error_fails_at_once() {
    for code in ["RECORDER_DISABLED", "INVALID_DURATION"] {
        let mut timing = ready(ClipRequest::Filled, 10.0);
        let failed = timing.handle(NOW, refusal(code));
        assert!(matches!(failed, TimingDecision::Fail(e) if e.code == Code::Other(code.into())));
    }
    // Nothing was recorded, and nothing will be.
    let mut timing = ready(ClipRequest::Eos, 10.0);
    timing.handle(NOW, TimingInput::LiveEnded);
    assert!(matches!(
        timing.handle(NOW, refusal(CLIP_FAILED)),
        TimingDecision::Fail(_)
    ));
    let mut timing = RequestTiming::new(ClipRequest::Eos, 10.0);
    assert!(matches!(
        timing.handle(NOW, TimingInput::LiveEnded),
        TimingDecision::Fail(_)
    ));
}
