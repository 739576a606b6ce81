// SPDX-License-Identifier: MIT

//! The bridge of one track between the transport and an element.
//!
//! The transport lives in a pipeline of its own, so what crosses the bridge
//! carries its time as an absolute time of the system's monotonic clock; the
//! element turns that into its own running time.

use std::sync::Arc;

use super::codecs::Codec;
use crate::platform::track::Track;

/// One access unit (or RTP packet) of a track.
#[derive(Debug)]
pub struct Unit {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// When it arrived, by the monotonic system clock.
    pub time: Option<gst::ClockTime>,
}

/// What an element does with a track. Called on the transport's streaming
/// thread: it hands over and returns.
pub trait Consumer: Send + Sync {
    fn consume(&self, unit: Unit);
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
    pub consumer: Arc<dyn Consumer>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("track", &self.track.name)
            .field(
                "codecs",
                &self
                    .codecs
                    .iter()
                    .map(|c| c.encoding_name)
                    .collect::<Vec<_>>(),
            )
            .field("rtp", &self.rtp)
            .field("flowing", &self.flowing)
            .finish_non_exhaustive()
    }
}
