// SPDX-License-Identifier: MIT

//! Asks the server to hold no frame back. A libwebrtc receiver shows a picture
//! later than it can: it waits for what jitter it has seen, and 10 ms for a
//! display. A model wants the newest picture at once, so each packet of video says
//! that the delay is to be none, in the RTP header extension that libwebrtc has for
//! it. Made by the transport thread, called by the payloader's streaming thread.

use gst::{glib, prelude::*};
use gst_rtp::{prelude::*, subclass::prelude::*};

use super::handles::CAT;
use crate::platform::sdp::PLAYOUT_DELAY_URI;

/// Differs from that of transport-wide sequence numbers.
const EXTENSION_ID: u32 = 2;
/// The minimum and the maximum in units of 10 ms, of 12 bits each.
const NO_DELAY: [u8; 3] = [0; 3];

/// Offers the header extension, in the caps of a sending transceiver.
pub(super) fn offer(caps: &mut gst::CapsRef) {
    for structure in caps.iter_mut() {
        structure.set(format!("extmap-{EXTENSION_ID}"), PLAYOUT_DELAY_URI);
    }
}

/// Has a payloader add the extension to its packets. An extension that was not
/// negotiated must not be sent (RFC 8285, 5).
pub(super) fn add_extension(payloader: &gst::Element) {
    let extension = glib::Object::new::<PlayoutDelay>();
    extension.set_id(EXTENSION_ID);
    payloader.emit_by_name::<()>("add-extension", &[&extension]);
}

glib::wrapper! {
    /// The header extension, with limits of zero.
    pub struct PlayoutDelay(ObjectSubclass<imp::PlayoutDelay>)
        @extends gst_rtp::RTPHeaderExtension, gst::Element, gst::Object;
}

mod imp {
    use super::*;

    #[derive(Debug, Default)]
    pub struct PlayoutDelay;

    #[glib::object_subclass]
    impl ObjectSubclass for PlayoutDelay {
        const NAME: &'static str = "GstReactorPlayoutDelay";
        type Type = super::PlayoutDelay;
        type ParentType = gst_rtp::RTPHeaderExtension;
    }

    impl ObjectImpl for PlayoutDelay {}
    impl GstObjectImpl for PlayoutDelay {}
    impl ElementImpl for PlayoutDelay {}

    impl RTPHeaderExtensionImpl for PlayoutDelay {
        const URI: &'static str = PLAYOUT_DELAY_URI;

        fn supported_flags(&self) -> gst_rtp::RTPHeaderExtensionFlags {
            gst_rtp::RTPHeaderExtensionFlags::ONE_BYTE | gst_rtp::RTPHeaderExtensionFlags::TWO_BYTE
        }

        fn max_size(&self, _: &gst::BufferRef) -> usize {
            NO_DELAY.len()
        }

        fn write(
            &self,
            _: &gst::BufferRef,
            _: gst_rtp::RTPHeaderExtensionFlags,
            _: &gst::BufferRef,
            data: &mut [u8],
        ) -> Result<usize, gst::LoggableError> {
            let room = data.get_mut(..NO_DELAY.len());
            let room = room.ok_or_else(|| gst::loggable_error!(CAT, "no room"))?;
            room.copy_from_slice(&NO_DELAY);
            Ok(NO_DELAY.len())
        }

        fn set_caps_from_attributes(
            &self,
            caps: &mut gst::CapsRef,
        ) -> Result<(), gst::LoggableError> {
            offer(caps);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_say_that_no_delay_is_wanted() {
        gst::init().unwrap();
        let line = "videotestsrc num-buffers=1 ! video/x-raw,width=64,height=64 ! vp8enc \
                    ! rtpvp8pay name=p ! appsink name=a sync=false";
        let pipeline = gst::parse::launch(line).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        add_extension(&pipeline.by_name("p").unwrap());
        let sink = pipeline.by_name("a").unwrap();
        let sink = sink.downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let sample = sink.pull_sample().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        let caps = sample.caps().unwrap().structure(0).unwrap();
        assert_eq!(caps.get("extmap-2"), Ok(PLAYOUT_DELAY_URI));
        let packet = gst_rtp::RTPBuffer::from_buffer_readable(sample.buffer().unwrap()).unwrap();
        let data = packet.extension_onebyte_header(EXTENSION_ID as u8, 0);
        assert_eq!(data, Some(&NO_DELAY[..]));
    }
}
