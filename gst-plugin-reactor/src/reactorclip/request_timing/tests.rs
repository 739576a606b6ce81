// SPDX-License-Identifier: MIT

use super::*;

const NOW: Duration = Duration::from_secs(100);

fn clip(recorded: f64) -> Clip {
    Clip {
        now_marker: recorded,
        end_marker: recorded,
        ..Clip::default()
    }
}

fn ask(seconds: f64) -> Decision {
    Decision::Ask(ClientMessage::RequestClip { seconds })
}

fn ready(when: When, seconds: f64) -> RequestTiming {
    let mut moment = RequestTiming::new(when, seconds);
    assert_eq!(moment.handle(NOW, Input::Tick), Decision::Wait(None));
    assert_eq!(moment.handle(NOW, Input::Ready(true)), ask(seconds));
    assert_eq!(moment.handle(NOW, Input::Tick), Decision::Wait(None));
    moment
}

fn refusal(code: &'static str) -> Input {
    Input::Answer(Err(Error::gpu(Code::Other(code.into()), "no")))
}

fn wait(milliseconds: u64) -> Decision {
    Decision::Wait(Some(NOW + Duration::from_millis(milliseconds)))
}

#[test]
fn a_clip_is_taken_when_it_is_full() {
    let mut moment = ready(When::Filled, 10.0);
    assert_eq!(moment.handle(NOW, Input::Answer(Ok(clip(3.0)))), wait(2000));
    assert!((moment.recorded() - 3.0).abs() < f64::EPSILON);
    let later = NOW + Duration::from_secs(2);
    assert_eq!(moment.handle(later, Input::Tick), ask(10.0));
    let almost = moment.handle(NOW, Input::Answer(Ok(clip(9.2))));
    assert_eq!(almost, wait(800));
    assert_eq!(moment.handle(later, Input::Tick), ask(10.0));
    let full = moment.handle(later, Input::Answer(Ok(clip(10.0))));
    assert_eq!(full, Decision::Take(clip(10.0)));
}

#[test]
fn now_is_as_soon_as_there_is_anything() {
    let mut moment = ready(When::Now, 10.0);
    assert_eq!(moment.handle(NOW, refusal(CLIP_FAILED)), wait(500));
    let later = NOW + RETRY_INTERVAL;
    assert_eq!(moment.handle(later, Input::Tick), ask(10.0));
    let taken = moment.handle(later, Input::Answer(Ok(clip(0.4))));
    assert_eq!(taken, Decision::Take(clip(0.4)));
}

#[test]
fn the_whole_recording_waits_for_the_end() {
    for when in [When::Filled, When::End] {
        let mut moment = RequestTiming::new(when, 0.0);
        let whole = Decision::Ask(ClientMessage::RequestRecording);
        assert_eq!(moment.handle(NOW, Input::Ready(true)), whole);
        assert_eq!(
            moment.handle(NOW, Input::Answer(Ok(clip(500.0)))),
            wait(2000)
        );
        assert_eq!(moment.handle(NOW, Input::End), whole);
        let taken = moment.handle(NOW, Input::Answer(Ok(clip(501.0))));
        assert_eq!(taken, Decision::Take(clip(501.0)));
    }
}

#[test]
fn at_the_end_it_is_asked_once_more() {
    // The question on its way was asked too early.
    let mut moment = ready(When::End, 10.0);
    assert_eq!(moment.handle(NOW, Input::End), Decision::Wait(None));
    assert_eq!(moment.handle(NOW, Input::Answer(Ok(clip(20.0)))), ask(10.0));
    let taken = moment.handle(NOW, Input::Answer(Ok(clip(20.1))));
    assert_eq!(taken, Decision::Take(clip(20.1)));
    // The end also ends the waiting for more.
    let mut moment = ready(When::Filled, 10.0);
    moment.handle(NOW, Input::Answer(Ok(clip(3.0))));
    assert_eq!(moment.handle(NOW, Input::End), ask(10.0));
    let taken = moment.handle(NOW, Input::Answer(Ok(clip(3.5))));
    assert_eq!(taken, Decision::Take(clip(3.5)));
}

#[test]
fn a_session_that_breaks_off_leaves_what_was_known() {
    for when in [When::Filled, When::End] {
        let mut moment = ready(when, 10.0);
        moment.handle(NOW, Input::Answer(Ok(clip(3.0))));
        let taken = moment.handle(NOW, Input::Over(None));
        assert_eq!(taken, Decision::Take(clip(3.0)));
    }
    let mut moment = ready(When::End, 10.0);
    let Decision::Fail(error) = moment.handle(NOW, Input::Over(None)) else {
        unreachable!("there was nothing")
    };
    assert_eq!(error.code, Code::Disconnected);
    let lost = Error::gpu(Code::ReconnectionFailed, "lost");
    let mut moment = ready(When::End, 10.0);
    let failed = moment.handle(NOW, Input::Over(Some(lost.clone())));
    assert_eq!(failed, Decision::Fail(lost));
}

#[test]
fn an_interruption_is_waited_for() {
    let mut moment = ready(When::Filled, 10.0);
    let lost = Error::gpu(Code::Disconnected, "lost");
    moment.handle(NOW, Input::Ready(false));
    let late = NOW + Duration::from_secs(5);
    assert_eq!(
        moment.handle(NOW, Input::Answer(Err(lost))),
        Decision::Wait(None)
    );
    assert_eq!(moment.handle(late, Input::Tick), Decision::Wait(None));
    assert_eq!(moment.handle(late, Input::Ready(true)), ask(10.0));
    // But nobody waits for it who ends now.
    moment.handle(late, Input::Answer(Ok(clip(4.0))));
    moment.handle(late, Input::Ready(false));
    assert_eq!(moment.handle(late, Input::End), Decision::Take(clip(4.0)));
}

#[test]
fn what_can_never_work_fails_at_once() {
    for code in ["RECORDER_DISABLED", "INVALID_DURATION"] {
        let mut moment = ready(When::Filled, 10.0);
        let failed = moment.handle(NOW, refusal(code));
        assert!(matches!(failed, Decision::Fail(e) if e.code == Code::Other(code.into())));
    }
    // Nothing recorded, and nothing will be.
    let mut moment = ready(When::End, 10.0);
    moment.handle(NOW, Input::End);
    assert!(matches!(
        moment.handle(NOW, refusal(CLIP_FAILED)),
        Decision::Fail(_)
    ));
    let mut moment = RequestTiming::new(When::End, 10.0);
    assert!(matches!(moment.handle(NOW, Input::End), Decision::Fail(_)));
}
