// SPDX-License-Identifier: MIT

//! The bridge of one track between the transport's private pipeline and an
//! element's: what crosses it carries its time as an absolute time of the
//! monotonic system clock, and each side turns that into its own running time.
//! The driver's task sets taps and looks senders up; the transport's and the
//! elements' streaming threads push media. No lock is held while media is
//! handed over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{bitrate_allocator::BitrateLimits, codecs::Codec, frame_counters::FrameCounters};
use crate::platform::{lock, track::Track};

/// One access unit (or RTP packet) of a track.
#[derive(Debug)]
pub struct MediaUnit {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// Its presentation time without network jitter, on the monotonic system
    /// clock.
    pub time: Option<gst::ClockTime>,
    /// When it arrived, on that clock.
    pub arrived: gst::ClockTime,
}

/// An element's end of a received track. Called on the transport's streaming
/// thread: it queues the unit and returns.
pub trait MediaConsumer: Send + Sync {
    fn consume(&self, unit: MediaUnit);
}

/// A track an element receives, and how.
#[derive(Clone)]
pub struct Subscription {
    pub track: Track,
    /// The codecs to offer, best first.
    pub codecs: Vec<&'static Codec>,
    /// Take RTP packets instead of frames.
    pub rtp: bool,
    pub consumer: Arc<dyn MediaConsumer>,
    pub counters: Arc<FrameCounters>,
}

/// A track that an element sends to the model, and how.
#[derive(Debug, Clone)]
pub struct Publication {
    pub track: Track,
    /// The codecs to offer, best first.
    pub codecs: Vec<&'static Codec>,
    /// Of the encoded media, in bits per second.
    pub bitrate: BitrateLimits,
    pub counters: Arc<FrameCounters>,
}

/// The taps of a session, by track. Locked to find a slot, never per packet.
#[derive(Default, Clone)]
pub struct TrackTaps(Arc<Mutex<HashMap<String, TapSlot>>>);

/// Where a received track goes.
#[derive(Clone)]
pub struct TrackTap {
    pub consumer: Arc<dyn MediaConsumer>,
    /// It takes RTP packets instead of frames.
    pub rtp: bool,
}

/// One track's tap, which the driver sets and removes while the transport's
/// streaming threads read it.
#[derive(Default, Clone)]
pub struct TapSlot(Arc<Mutex<Option<TrackTap>>>);

impl TrackTaps {
    pub fn set(&self, track: &str, tap: TrackTap) {
        *lock(&self.slot(track).0) = Some(tap);
    }

    pub fn remove(&self, track: &str) {
        *lock(&self.slot(track).0) = None;
    }

    /// The track's slot, which stays while taps come and go.
    pub(super) fn slot(&self, track: &str) -> TapSlot {
        lock(&self.0).entry(track.to_owned()).or_default().clone()
    }
}

impl TapSlot {
    /// The consumer, if the tap takes RTP packets (`rtp`) or frames.
    pub(super) fn consumer(&self, rtp: bool) -> Option<Arc<dyn MediaConsumer>> {
        let tap = lock(&self.0);
        let tap = tap.as_ref().filter(|tap| tap.rtp == rtp)?;
        Some(tap.consumer.clone())
    }
}

/// Makes the trailer of a frame: of the buffer and its number, if metadata is
/// attached.
pub(super) type TrailerWriter = fn(&gst::BufferRef, u64) -> Option<gst::Memory>;

/// Pushes an element's frames of one track into the transport.
#[derive(Debug, Clone)]
pub struct TrackSender {
    appsrc: gst_app::AppSrc,
    /// Of the private pipeline.
    base_time: gst::ClockTime,
    /// Set if the server accepts trailers for this codec.
    trailer_writer: Option<TrailerWriter>,
    next_frame_number: Arc<AtomicU64>,
}

impl TrackSender {
    pub(super) fn new(
        appsrc: gst_app::AppSrc,
        base_time: gst::ClockTime,
        trailer_writer: Option<TrailerWriter>,
    ) -> Self {
        Self {
            appsrc,
            base_time,
            trailer_writer,
            next_frame_number: Arc::default(),
        }
    }

    /// Queues one unit, on the element's streaming thread; never blocks. Returns
    /// whether it was accepted.
    pub fn push(&self, mut unit: MediaUnit) -> bool {
        // A unit from before the private pipeline's base time is dropped.
        let Some(pts) = unit.time.and_then(|time| time.checked_sub(self.base_time)) else {
            return false;
        };
        let number = self.next_frame_number.fetch_add(1, Ordering::Relaxed);
        let trailer = self
            .trailer_writer
            .and_then(|write| write(&unit.buffer, number));
        let buffer = unit.buffer.make_mut();
        if let Some(trailer) = trailer {
            buffer.append_memory(trailer);
        }
        buffer.set_pts(pts);
        buffer.set_dts(gst::ClockTime::NONE);
        let sample = gst::Sample::builder().buffer(&unit.buffer).caps(&unit.caps);
        self.appsrc.push_sample(&sample.build()).is_ok()
    }
}

/// The senders that are open, by track.
#[derive(Debug, Default, Clone)]
pub struct TrackSenders(Arc<Mutex<HashMap<String, TrackSender>>>);

impl TrackSenders {
    pub(super) fn set(&self, track: &str, track_sender: TrackSender) {
        lock(&self.0).insert(track.to_owned(), track_sender);
    }

    pub(super) fn remove(&self, track: &str) {
        lock(&self.0).remove(track);
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    pub(super) fn get(&self, track: &str) -> Option<TrackSender> {
        lock(&self.0).get(track).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Discard;

    impl MediaConsumer for Discard {
        fn consume(&self, _: MediaUnit) {}
    }

    #[test]
    fn slot_held_while_tap_changes_follows_it() {
        let taps = TrackTaps::default();
        let slot = taps.slot("video");
        let wants = || [false, true].map(|rtp| slot.consumer(rtp).is_some());
        assert_eq!(wants(), [false, false]);
        for rtp in [false, true] {
            let consumer = Arc::new(Discard);
            taps.set("video", TrackTap { consumer, rtp });
            assert_eq!(wants(), [!rtp, rtp]);
        }
        taps.set(
            "audio",
            TrackTap {
                consumer: Arc::new(Discard),
                rtp: false,
            },
        );
        assert_eq!(wants(), [false, true]);
        taps.remove("video");
        assert_eq!(wants(), [false, false]);
    }
}
