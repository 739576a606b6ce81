// SPDX-License-Identifier: MIT

//! Keeps damaged media from ending the pipeline. Most decoders log a picture that they
//! cannot decode and go on. But h264parse posts an error where it finds no NAL unit,
//! avdec_h264 does not negotiate what a broken parameter set says, and av1dec
//! (GStreamer 1.22 at least) posts an error, and its flow return is undefined. It is an
//! error all the same if a stream goes on failing. Called on the streaming thread of
//! the pad.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::debug::CAT;
use crate::gst_helpers::{error_source, keyframe_request};

/// For how long every frame may fail. A keyframe is asked for meanwhile.
const LIMIT: Duration = Duration::from_secs(10);
/// The limit for what is not negotiated: it may be downstream that refuses a new size.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(2);

/// A keyframe is asked for when as many frames in a row have passed into the elements and
/// none has come out. avdec_h264 and vpxdec log what they cannot decode, and no more; a
/// decoder of hardware may hold some frames back.
const SWALLOWED: u64 = 10;

/// What av1dec says of a picture. The code alone is that of a failed set-up, too.
const AV1DEC_DAMAGED: &str = "Failed to decode frame";

thread_local! {
    /// What the frame that this thread is pushing may do.
    static PUSHED: Cell<Pushed> = const { Cell::new(Pushed::Nothing) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pushed {
    /// No frame is being pushed, or it must not fail.
    Nothing,
    MayFail,
    /// An element has said that it failed at the frame.
    Failed,
}

/// Since when the frames of a stream fail.
struct Failures {
    begin: Instant,
    /// In µs after `begin`, of the first failure since the last frame that came out.
    since: AtomicU64,
    /// The frames that came out.
    count: AtomicU64,
    /// The frames that went in since the last one came out.
    swallowed: AtomicU64,
    /// How many frames were not negotiated.
    refused: AtomicU64,
}

impl Failures {
    const NONE: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            begin: Instant::now(),
            since: Self::NONE.into(),
            count: 0.into(),
            swallowed: 0.into(),
            refused: 0.into(),
        }
    }

    /// In µs after `begin`.
    fn micros(&self, now: Instant) -> u64 {
        now.duration_since(self.begin).as_micros() as u64
    }

    /// For how long frames have failed, at this time.
    fn lasted(&self, now: Instant) -> Duration {
        let now = self.micros(now);
        let since = self.since.load(Ordering::Relaxed).min(now);
        Duration::from_micros(now - since)
    }

    fn frame_came_out(&self) {
        self.since.store(Self::NONE, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.swallowed.store(0, Ordering::Relaxed);
    }

    /// Whether a frame is to be followed by a request for a keyframe.
    fn frame_goes_in(&self) -> bool {
        let swallowed = self.swallowed.fetch_add(1, Ordering::Relaxed) + 1;
        swallowed.is_multiple_of(SWALLOWED)
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn frame_failed(&self, now: Instant) {
        self.since.fetch_min(self.micros(now), Ordering::Relaxed);
    }

    /// Whether a failure of this kind is to be overlooked. Where no frame has come out
    /// yet, downstream most likely does not take what the stream is.
    fn is_tolerable(&self, error: gst::FlowError, now: Instant) -> bool {
        let lasted = self.lasted(now);
        match error {
            gst::FlowError::Error => lasted < LIMIT,
            gst::FlowError::NotNegotiated => self.count() > 0 && lasted < NEGOTIATION_LIMIT,
            _ => false,
        }
    }
}

/// Lets frames pass `input` that what is behind it fails at; what comes out does so at
/// `output`. To be called after all other probes of the pads: no later one sees a frame.
/// `decoder` is the sink pad of the decoder between them, if there is one.
pub fn watch(input: &gst::Pad, output: &gst::Pad, decoder: Option<&gst::Pad>) {
    let failures = Arc::new(Failures::new());
    if let Some(decoder) = decoder {
        mark_caps_after_refusal(decoder, failures.clone());
    }
    let succeeded = failures.clone();
    output.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        succeeded.frame_came_out();
        gst::PadProbeReturn::Ok
    });
    let output = output.downgrade();
    input.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(first) = pad.peer() else {
            return gst::PadProbeReturn::Ok;
        };
        let Some(gst::PadProbeData::Buffer(buffer)) = info.data.take() else {
            return gst::PadProbeReturn::Ok;
        };
        let before = failures.count();
        let mut needs_keyframe = failures.frame_goes_in();
        let may_fail = failures.is_tolerable(gst::FlowError::Error, Instant::now());
        PUSHED.set(if may_fail {
            Pushed::MayFail
        } else {
            Pushed::Nothing
        });
        let flow = first.chain(buffer);
        let failed = PUSHED.replace(Pushed::Nothing) == Pushed::Failed;
        // One frame may come out and the next one fail: h264parse 1.26 finishes two at once.
        let is_of_downstream = failures.count() > before
            && output
                .upgrade()
                .is_none_or(|output| output.last_flow_result().is_err());
        let is_tolerable = flow
            .is_err_and(|error| !is_of_downstream && failures.is_tolerable(error, Instant::now()));
        info.flow_res = flow;
        if failed || is_tolerable {
            gst::warning!(CAT, obj = pad, "a frame is damaged: {flow:?}");
            info.flow_res = Ok(gst::FlowSuccess::Ok);
            failures.frame_failed(Instant::now());
            if flow == Err(gst::FlowError::NotNegotiated) {
                failures.refused.fetch_add(1, Ordering::Relaxed);
            }
            needs_keyframe = true;
        }
        if needs_keyframe {
            pad.send_event(keyframe_request());
        }
        gst::PadProbeReturn::Handled
    });
}

/// GstVideoDecoder (1.22) remembers the caps before those that its subclass refused. When
/// they come again, it ignores them, and the subclass stays closed. So they get another
/// field then.
fn mark_caps_after_refusal(decoder: &gst::Pad, failures: Arc<Failures>) {
    decoder.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let refused = failures.refused.load(Ordering::Relaxed);
        if refused > 0
            && let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Caps(view) = event.view()
        {
            let mut caps = view.caps_owned();
            caps.make_mut().set("refused-before", refused);
            *event = gst::event::Caps::builder(&caps)
                .seqnum(event.seqnum())
                .build();
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a message is about a damaged frame, and so nobody's.
pub fn tolerate(message: &gst::Message) -> bool {
    let gst::MessageView::Error(error) = message.view() else {
        return false;
    };
    let is_ours = error_source(error).is_some_and(|(_, factory)| {
        factory.has_type(gst::ElementFactoryType::DECODER | gst::ElementFactoryType::PARSER)
    });
    let error = error.error();
    let is_av1dec = error.matches(gst::LibraryError::Init) && error.message() == AV1DEC_DAMAGED;
    let is_about_media = error.kind::<gst::StreamError>().is_some() || is_av1dec;
    if !is_ours || !is_about_media || PUSHED.get() == Pushed::Nothing {
        return false;
    }
    PUSHED.set(Pushed::Failed);
    true
}

#[cfg(test)]
mod tests {
    use gst::FlowError;

    use super::*;

    #[test]
    fn failures_are_tolerated_for_a_time_since_the_last_frame() {
        let failures = Failures::new();
        let at = |ms: u64| failures.begin + Duration::from_millis(ms);
        assert!(failures.is_tolerable(FlowError::Error, at(0)));
        assert!(!failures.is_tolerable(FlowError::NotNegotiated, at(0)));
        failures.frame_came_out();
        failures.frame_failed(at(1000));
        assert!(failures.is_tolerable(FlowError::NotNegotiated, at(2900)));
        assert!(!failures.is_tolerable(FlowError::NotNegotiated, at(3000)));
        failures.frame_failed(at(10_000));
        assert!(failures.is_tolerable(FlowError::Error, at(10_900)));
        assert!(!failures.is_tolerable(FlowError::Error, at(11_000)));
        failures.frame_came_out();
        failures.frame_failed(at(20_000));
        assert!(failures.is_tolerable(FlowError::Error, at(29_000)));
        assert_eq!((0..30).filter(|_| failures.frame_goes_in()).count(), 3);
        for error in [FlowError::Eos, FlowError::Flushing, FlowError::NotLinked] {
            assert!(!failures.is_tolerable(error, at(0)));
        }
    }
}
