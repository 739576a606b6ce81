// SPDX-License-Identifier: MIT

//! What is attached to a single frame, on its buffer.
//!
//! A custom meta, so that it can be read in any language without a header,
//! and without tags, so that it survives conversion, encoding and decoding.

use std::sync::Once;

use gst::{glib, meta::CustomMeta};

const NAME: &str = "ReactorFrameMeta";
const FRAME_ID: &str = "frame-id";
const CAPTURE_TIME: &str = "capture-time-us";
const USER_DATA: &str = "user-data";
/// Of the reference timestamp that says the capture time once more, for what
/// knows nothing of Reactor.
const REFERENCE: &str = "timestamp/x-reactor-capture";

/// What the sender of a video frame attached to it.
///
/// On a buffer it is a [`CustomMeta`] of the name `ReactorFrameMeta` with the
/// fields `frame-id` and `capture-time-us` (`guint64`) and `user-data`
/// (`GBytes`), and, if the capture time is known, a
/// [`gst::ReferenceTimestampMeta`] with the caps `timestamp/x-reactor-capture`.
///
/// reactorsrc attaches it to the frames for which the model has metadata,
/// encoded or decoded; RTP packets keep it within, at the end of the frame.
/// reactorsink sends it to the model in VP8 and VP9. Of a buffer that has the
/// reference timestamp alone, it sends that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameMeta {
    /// Counts the frames of a track from 0.
    pub frame_id: u64,
    /// When the frame was made, in microseconds of a clock of the sender's:
    /// only differences mean something. 0 is unknown.
    pub capture_time_us: u64,
    /// Whatever the sender attached; at most 60 KiB can be sent.
    pub user_data: Vec<u8>,
}

impl FrameMeta {
    /// What is attached to a buffer, if anything is.
    pub fn from_buffer(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = CustomMeta::from_buffer(buffer, NAME).ok()?;
        let structure = meta.structure();
        let user_data = structure.get::<glib::Bytes>(USER_DATA);
        Some(Self {
            frame_id: structure.get(FRAME_ID).unwrap_or_default(),
            capture_time_us: structure.get(CAPTURE_TIME).unwrap_or_default(),
            user_data: user_data.map(|b| b.to_vec()).unwrap_or_default(),
        })
    }

    /// Attaches this to a buffer, in place of what was there.
    ///
    /// # Errors
    ///
    /// When another meta of the same name is registered in this process.
    pub fn attach(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        register();
        if CustomMeta::from_buffer(buffer, NAME).is_err() {
            CustomMeta::add(buffer, NAME)?;
        }
        let mut meta = CustomMeta::from_mut_buffer(buffer, NAME)?;
        let structure = meta.mut_structure();
        structure.set(FRAME_ID, self.frame_id);
        structure.set(CAPTURE_TIME, self.capture_time_us);
        structure.set(USER_DATA, glib::Bytes::from(self.user_data.as_slice()));
        self.attach_reference(buffer);
        Ok(())
    }

    fn attach_reference(&self, buffer: &mut gst::BufferRef) {
        buffer.foreach_meta_mut(|mut meta| {
            let old = meta.downcast_ref::<gst::ReferenceTimestampMeta>();
            if old.is_some_and(|old| is_ours(old.reference())) {
                std::ops::ControlFlow::Continue(gst::buffer::BufferMetaForeachAction::Remove)
            } else {
                std::ops::ControlFlow::Continue(gst::buffer::BufferMetaForeachAction::Keep)
            }
        });
        if self.capture_time_us != 0 {
            let reference = gst::Caps::new_empty_simple(REFERENCE);
            let time = self.capture_time_us.saturating_mul(1000).min(u64::MAX - 1);
            let time = gst::ClockTime::from_nseconds(time);
            gst::ReferenceTimestampMeta::add(buffer, &reference, time, gst::ClockTime::NONE);
        }
    }

    /// What is to be sent with a buffer, the frame of this number: also the
    /// reference timestamp without the rest.
    pub(crate) fn to_send(buffer: &gst::BufferRef, number: u64) -> Option<Self> {
        let reference = || {
            let mut all = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
            let ours = all.find(|meta| is_ours(meta.reference()))?;
            Some(ours.timestamp().useconds()).filter(|time| *time != 0)
        };
        match Self::from_buffer(buffer) {
            Some(meta) if meta.capture_time_us != 0 => Some(meta),
            Some(meta) => Some(Self {
                capture_time_us: reference().unwrap_or_default(),
                ..meta
            }),
            None => reference().map(|capture_time_us| Self {
                frame_id: number,
                capture_time_us,
                user_data: Vec::new(),
            }),
        }
    }
}

fn is_ours(reference: &gst::CapsRef) -> bool {
    reference
        .structure(0)
        .is_some_and(|s| s.name() == REFERENCE)
}

/// Makes the meta known. Of two copies of the plugin in one process, the
/// second uses what the first has registered.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !CustomMeta::is_registered(NAME) {
            CustomMeta::register(NAME, &[]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(frame_id: u64, capture_time_us: u64, user_data: &[u8]) -> FrameMeta {
        FrameMeta {
            frame_id,
            capture_time_us,
            user_data: user_data.to_vec(),
        }
    }

    fn references(buffer: &gst::BufferRef) -> Vec<u64> {
        let all = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
        all.map(|meta| meta.timestamp().useconds()).collect()
    }

    #[test]
    fn comes_back_as_it_was_attached() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::with_size(4).unwrap();
        assert_eq!(FrameMeta::from_buffer(&buffer), None);
        let first = meta(3, 77, b"hello\0");
        first.attach(buffer.make_mut()).unwrap();
        assert_eq!(FrameMeta::from_buffer(&buffer), Some(first.clone()));
        assert_eq!(references(&buffer), [77]);
        assert_eq!(FrameMeta::from_buffer(&buffer.copy()), Some(first));
        let second = meta(4, 0, b"");
        second.attach(buffer.make_mut()).unwrap();
        assert_eq!(FrameMeta::from_buffer(&buffer), Some(second));
        assert!(references(&buffer).is_empty());
    }

    #[test]
    fn a_reference_timestamp_is_enough_to_send() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::with_size(4).unwrap();
        let other = gst::Caps::new_empty_simple("timestamp/x-ntp");
        let ours = gst::Caps::new_empty_simple(REFERENCE);
        let add = |buffer: &mut gst::Buffer, caps: &gst::Caps| {
            let time = gst::ClockTime::from_useconds(5);
            gst::ReferenceTimestampMeta::add(buffer.make_mut(), caps, time, None);
        };
        add(&mut buffer, &other);
        assert_eq!(FrameMeta::to_send(&buffer, 9), None);
        add(&mut buffer, &ours);
        assert_eq!(FrameMeta::to_send(&buffer, 9), Some(meta(9, 5, b"")));
    }
}
