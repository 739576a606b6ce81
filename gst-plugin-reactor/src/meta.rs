// SPDX-License-Identifier: MIT

//! [`FrameMeta`]: metadata of a single video frame, on its buffer.
//!
//! A custom meta, which any language can read without a header. It has no tags,
//! so it survives conversion, encoding and decoding. Used on streaming threads;
//! it never copies the frame.

use std::sync::Once;

use gst::{buffer::BufferMetaForeachAction, glib, meta::CustomMeta};

const META_NAME: &str = "ReactorFrameMeta";
const FRAME_ID: &str = "frame-id";
const CAPTURE_TIME: &str = "capture-time-us";
const USER_DATA: &str = "user-data";
/// The caps of the reference timestamp that repeats the capture time, for
/// elements that do not know Reactor.
const CAPTURE_TIME_CAPS: &str = "timestamp/x-reactor-capture";

/// The metadata that the sender of a video frame attached to it.
///
/// On a buffer it is a [`CustomMeta`] with the name `ReactorFrameMeta` and the
/// fields `frame-id` and `capture-time-us` (`guint64`) and `user-data`
/// (`GBytes`), and, if the capture time is known, a
/// [`gst::ReferenceTimestampMeta`] with the caps `timestamp/x-reactor-capture`.
///
/// reactorsrc attaches it to the frames for which the model has metadata,
/// encoded or decoded; RTP packets keep it as a trailer of the frame.
/// reactorsink sends it to the model in VP8 and VP9. From a buffer that has
/// only the reference timestamp, it sends the capture time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameMeta {
    /// The number of the frame in its track, from 0.
    pub frame_id: u64,
    /// When the frame was made, in microseconds of the sender's clock: only
    /// differences have a meaning. 0 is unknown.
    pub capture_time_us: u64,
    /// Data of the application; at most 60 KiB can be sent.
    pub user_data: Vec<u8>,
}

impl FrameMeta {
    /// Reads the metadata of a buffer, if it has any.
    pub fn from_buffer(buffer: &gst::BufferRef) -> Option<Self> {
        let meta = CustomMeta::from_buffer(buffer, META_NAME).ok()?;
        let structure = meta.structure();
        let user_data = structure.get::<glib::Bytes>(USER_DATA);
        Some(Self {
            frame_id: structure.get(FRAME_ID).unwrap_or_default(),
            capture_time_us: structure.get(CAPTURE_TIME).unwrap_or_default(),
            user_data: user_data.map(|b| b.to_vec()).unwrap_or_default(),
        })
    }

    /// Attaches the metadata to a buffer, in place of any that it has.
    ///
    /// # Errors
    ///
    /// When a different meta is registered under this name in the process.
    pub fn attach(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        register();
        if CustomMeta::from_buffer(buffer, META_NAME).is_err() {
            CustomMeta::add(buffer, META_NAME)?;
        }
        let mut meta = CustomMeta::from_mut_buffer(buffer, META_NAME)?;
        let structure = meta.mut_structure();
        structure.set(FRAME_ID, self.frame_id);
        structure.set(CAPTURE_TIME, self.capture_time_us);
        structure.set(USER_DATA, glib::Bytes::from(self.user_data.as_slice()));
        self.attach_capture_time(buffer);
        Ok(())
    }

    fn attach_capture_time(&self, buffer: &mut gst::BufferRef) {
        buffer.foreach_meta_mut(|mut meta| {
            let old = meta.downcast_ref::<gst::ReferenceTimestampMeta>();
            std::ops::ControlFlow::Continue(match old {
                Some(old) if is_capture_time(old.reference()) => BufferMetaForeachAction::Remove,
                _ => BufferMetaForeachAction::Keep,
            })
        });
        if self.capture_time_us != 0 {
            let reference = gst::Caps::new_empty_simple(CAPTURE_TIME_CAPS);
            let time = self.capture_time_us.saturating_mul(1000).min(u64::MAX - 1);
            let time = gst::ClockTime::from_nseconds(time);
            gst::ReferenceTimestampMeta::add(buffer, &reference, time, gst::ClockTime::NONE);
        }
    }

    /// Reads the metadata to send with a buffer, which is frame `frame_id` of
    /// its track. A capture time can also come from the reference timestamp.
    pub(crate) fn to_send(buffer: &gst::BufferRef, frame_id: u64) -> Option<Self> {
        let mut meta = Self::from_buffer(buffer);
        if meta.as_ref().is_none_or(|meta| meta.capture_time_us == 0) {
            let mut times = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
            let time = times.find(|time| is_capture_time(time.reference()));
            let microseconds = time.map_or(0, |time| time.timestamp().useconds());
            if microseconds != 0 {
                meta.get_or_insert_with(|| Self {
                    frame_id,
                    ..Self::default()
                })
                .capture_time_us = microseconds;
            }
        }
        meta
    }
}

fn is_capture_time(reference: &gst::CapsRef) -> bool {
    reference
        .structure(0)
        .is_some_and(|s| s.name() == CAPTURE_TIME_CAPS)
}

/// Registers the meta. Of two copies of the plugin in one process, the second
/// uses the meta of the first.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !CustomMeta::is_registered(META_NAME) {
            CustomMeta::register(META_NAME, &[]);
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
    fn frame_meta_attached_twice_keeps_the_second() {
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
    fn frame_meta_to_send_reference_timestamp_is_enough() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::with_size(4).unwrap();
        let other = gst::Caps::new_empty_simple("timestamp/x-ntp");
        let ours = gst::Caps::new_empty_simple(CAPTURE_TIME_CAPS);
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
