// SPDX-License-Identifier: MIT

//! The bridge of one track between the transport and an element.
//!
//! The transport lives in a pipeline of its own, so what crosses the bridge
//! carries its time as an absolute time of the system's monotonic clock;
//! each side turns that into its own running time.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{bitrate_allocator::BitrateLimits, codecs::Codec, transport::metadata};
use crate::platform::track::Track;

/// One access unit (or RTP packet) of a track.
#[derive(Debug)]
pub struct MediaUnit {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// When it was due, by the monotonic system clock: evened out by the
    /// jitter buffer.
    pub time: Option<gst::ClockTime>,
    /// When it really came.
    pub arrived: gst::ClockTime,
}

/// What an element does with a track. Called on the transport's streaming
/// thread: it hands over and returns.
pub trait MediaConsumer: Send + Sync {
    fn consume(&self, unit: MediaUnit);
}

/// A track an element receives, and how.
#[derive(Clone)]
pub struct Subscription {
    pub track: Track,
    /// What may be offered for it, best first.
    pub codecs: Vec<&'static Codec>,
    /// Hand over RTP packets as they are.
    pub rtp: bool,
    /// Whether the model should send it from the start.
    pub flowing: bool,
    pub consumer: Arc<dyn MediaConsumer>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codecs: Vec<_> = self.codecs.iter().map(|c| c.encoding_name).collect();
        f.debug_struct("Subscription")
            .field("track", &self.track.name)
            .field("codecs", &codecs)
            .field("rtp", &self.rtp)
            .field("flowing", &self.flowing)
            .finish_non_exhaustive()
    }
}

/// What an element feeds a track of the model's with.
#[derive(Debug, Clone)]
pub struct Publication {
    pub track: Track,
    /// What may be offered for it, best first.
    pub codecs: Vec<&'static Codec>,
    /// How fast it may be sent.
    pub bitrate: BitrateLimits,
}

/// Who takes what arrives, by track: the one thing that the transport's
/// streaming threads and the driver both touch. It is locked to look up or to
/// change an entry, never while anything is done with it.
#[derive(Default, Clone)]
pub struct TrackTaps(Arc<RwLock<HashMap<String, TrackTap>>>);

/// A consumer, and whether it takes the packets themselves.
#[derive(Clone)]
pub struct TrackTap {
    pub consumer: Arc<dyn MediaConsumer>,
    pub rtp: bool,
}

impl TrackTaps {
    pub fn set(&self, track: &str, tap: TrackTap) {
        let mut taps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        taps.insert(track.to_owned(), tap);
    }

    pub fn remove(&self, track: &str) {
        let mut taps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        taps.remove(track);
    }

    pub fn get(&self, track: &str) -> Option<TrackTap> {
        let taps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        taps.get(track).cloned()
    }
}

/// The way into the transport for one track that is fed.
#[derive(Debug, Clone)]
pub struct TrackSender {
    appsrc: gst_app::AppSrc,
    /// The transport's base time.
    base: gst::ClockTime,
    /// The server takes what is attached to a frame.
    trailers: bool,
    /// Counts frames.
    next: Arc<AtomicU64>,
}

impl TrackSender {
    pub(super) fn new(appsrc: gst_app::AppSrc, base: gst::ClockTime, trailers: bool) -> Self {
        Self {
            appsrc,
            base,
            trailers,
            next: Arc::default(),
        }
    }

    /// Hands one unit over; never blocks. Returns whether it was taken.
    pub fn push(&self, unit: MediaUnit) -> bool {
        let MediaUnit {
            mut buffer,
            caps,
            time,
            ..
        } = unit;
        // Something from before the transport's time.
        let Some(pts) = time.and_then(|time| time.checked_sub(self.base)) else {
            return false;
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let trailer = self
            .trailers
            .then(|| metadata::trailer(&buffer, number))
            .flatten();
        {
            let buffer = buffer.make_mut();
            if let Some(trailer) = trailer {
                buffer.append_memory(trailer);
            }
            buffer.set_pts(pts);
            buffer.set_dts(gst::ClockTime::NONE);
        }
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        self.appsrc.push_sample(&sample).is_ok()
    }
}

/// The track_senders that are open, by track.
#[derive(Debug, Default, Clone)]
pub struct TrackSenders(Arc<RwLock<HashMap<String, TrackSender>>>);

impl TrackSenders {
    pub(super) fn set(&self, track: &str, track_sender: TrackSender) {
        let mut track_senders = self.0.write().unwrap_or_else(PoisonError::into_inner);
        track_senders.insert(track.to_owned(), track_sender);
    }

    pub(super) fn remove(&self, track: &str) {
        let mut track_senders = self.0.write().unwrap_or_else(PoisonError::into_inner);
        track_senders.remove(track);
    }

    pub(super) fn clear(&self) {
        let mut track_senders = self.0.write().unwrap_or_else(PoisonError::into_inner);
        track_senders.clear();
    }

    pub(super) fn get(&self, track: &str) -> Option<TrackSender> {
        let track_senders = self.0.read().unwrap_or_else(PoisonError::into_inner);
        track_senders.get(track).cloned()
    }
}
