// SPDX-License-Identifier: MIT

//! The elements between a sink pad's queue and its appsink, and their bitrate.
//!
//! Owns the converter and the encoder; both are absent where upstream encodes.
//! Called on the element's event thread and in state changes. It never drops a
//! buffer: while the chain is inserted the gate is closed.

use gst::prelude::*;

use super::{
    encoder::{EncoderChoice, TargetBitrate},
    loss_based_controller::LossBasedController,
    settings::SinkSettings,
};
use crate::{
    gst_helpers::{internal, remove_elements, sync_states},
    platform::{Error, track::Kind},
    session::{codecs::Codec, frame_counters::CodecImplementation},
};

/// The linked elements of one pad, the encoder last.
pub struct EncodeChain {
    /// The codec in which the track is sent.
    pub codec: &'static Codec,
    elements: Vec<gst::Element>,
    controller: LossBasedController,
    /// What the encoder is set to, in bit/s; `None` without one, and for one that
    /// cannot be set.
    bitrate: Option<u32>,
}

impl EncodeChain {
    /// A chain for a stream that upstream has encoded.
    pub fn passthrough(codec: &'static Codec, settings: &SinkSettings) -> Self {
        Self {
            codec,
            elements: Vec::new(),
            controller: LossBasedController::new(settings.bitrate_limits(codec.kind)),
            bitrate: None,
        }
    }

    /// A chain that encodes as one of the `agreed` codecs. `setup` gets the
    /// encoder before it starts.
    /// Fails as [`EncoderChoice::new`], and when a converter is not installed.
    pub fn encoding(
        kind: Kind,
        agreed: &[&'static Codec],
        settings: &SinkSettings,
        setup: impl Fn(&gst::Element),
    ) -> Result<Self, Error> {
        let choice = EncoderChoice::new(kind, agreed, settings.encoder_name(kind))?;
        let mut chain = Self::passthrough(choice.codec, settings);
        let bitrate = chain.controller.bitrate();
        chain.elements = choice.make_elements(bitrate)?;
        if let Some(encoder) = chain.elements.last() {
            chain.bitrate = TargetBitrate::nearest(encoder, bitrate).map(|target| target.bitrate);
            setup(encoder);
        }
        Ok(chain)
    }

    /// Whether the chain accepts this media type and sends an `agreed` codec.
    pub fn accepts(&self, media_type: &str, agreed: &[&'static Codec]) -> bool {
        let is_raw = media_type.ends_with("/x-raw");
        agreed.contains(&self.codec)
            && is_raw != self.elements.is_empty()
            && (is_raw || self.codec.media_type == media_type)
    }

    /// Links the elements between `queue` and `sink`. Events wait in the queue
    /// meanwhile.
    /// Fails when elements cannot be linked or started.
    pub fn insert(
        &self,
        bin: &gst::Bin,
        queue: &gst::Element,
        sink: &gst_app::AppSink,
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (self.elements.first(), self.elements.last()) else {
            return Ok(());
        };
        bin.add_many(&self.elements).map_err(internal)?;
        gst::Element::link_many(&self.elements).map_err(internal)?;
        last.link(sink)
            .or_else(|_| {
                // The sink is still linked to the queue.
                queue.unlink(sink);
                last.link(sink)
            })
            .map_err(internal)?;
        sync_states(&self.elements)?;
        queue.link(first).map_err(internal)
    }

    /// Removes the elements. Returns whether there were any.
    pub fn remove(self, bin: &gst::Bin) -> bool {
        remove_elements(bin, &self.elements);
        !self.elements.is_empty()
    }

    /// Has `adapt` update the bitrate. Returns the encoder and what the caller is to set
    /// it to, without a lock. A stream that upstream encodes is not changed.
    pub fn adapt(
        &mut self,
        adapt: impl FnOnce(&mut LossBasedController) -> Option<u32>,
    ) -> Option<(gst::Element, TargetBitrate)> {
        let encoder = self.elements.last().filter(|_| self.is_adaptive())?;
        let target = TargetBitrate::nearest(encoder, adapt(&mut self.controller)?)?;
        self.bitrate = Some(target.bitrate);
        Some((encoder.clone(), target))
    }

    /// The encoder, if there is one.
    pub fn encoder(&self) -> Option<CodecImplementation> {
        let factory = self.elements.last()?.factory()?;
        Some(CodecImplementation::of(&factory))
    }

    /// Whether the bitrate follows the network: of video that is encoded here, by an
    /// encoder that can be set.
    fn is_adaptive(&self) -> bool {
        self.codec.kind == Kind::Video && self.bitrate.is_some()
    }

    /// Adds the codec and the bitrate to the pad's statistics.
    pub fn add_stats(&self, stats: gst::structure::Builder) -> gst::structure::Builder {
        let source = self.controller.source().as_str();
        stats
            .field_if_some("bitrate", self.bitrate)
            .field_if_some("target-bitrate", self.bitrate.map(f64::from))
            .field_if_some("bitrate-from", self.is_adaptive().then_some(source))
    }
}
