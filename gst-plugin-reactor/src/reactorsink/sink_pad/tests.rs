// SPDX-License-Identifier: MIT

use std::sync::mpsc;

use super::*;
use crate::reactorsink::{pad_templates, testing};

/// A pad that is fed raw video, in a pipeline in READY.
struct Fed {
    pipeline: gst::Pipeline,
    sink_pad: Arc<SinkPad>,
}

impl Fed {
    fn new() -> Self {
        testing::register();
        let pipeline = gst::Pipeline::new();
        pipeline.set_state(gst::State::Ready).unwrap();
        let mut templates = pad_templates().iter();
        let template = templates.find(|template| template.name_template() == "video_%s");
        let (bin, template) = (pipeline.upcast_ref::<gst::Bin>(), template.unwrap());
        let sink_pad = SinkPad::new(bin, template, "video_0", Kind::Video, |_| ()).unwrap();
        sink_pad.set_caps(gst::Caps::new_empty_simple("video/x-raw"));
        Self { pipeline, sink_pad }
    }

    /// Makes the chain with this encoder, as when the server takes VP8.
    fn prepare(
        &self,
        encoder: &str,
        setup: impl Fn(&gst::Element),
    ) -> Result<Option<&'static Codec>, Error> {
        let settings = SinkSettings {
            video_encoder: Some(encoder.to_owned()),
            ..SinkSettings::default()
        };
        let vp8 = Codec::by_encoding_name("VP8").unwrap();
        self.sink_pad.set_agreed(vec![vp8]);
        let bin = self.pipeline.upcast_ref::<gst::Bin>();
        self.sink_pad.prepare(bin, &settings, setup)
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
fn encoder_that_does_not_start_leaves_nothing_behind() {
    let fed = Fed::new();
    let error = fed.prepare(testing::NAME, |_| ()).unwrap_err();
    assert_eq!(error.code, Code::Internal, "{error}");
    // The element goes to READY, and starts again.
    fed.sink_pad.reset(fed.pipeline.upcast_ref());
    let codec = fed.prepare("vp8enc", |_| ()).unwrap();
    assert_eq!(codec.map(|codec| codec.encoding_name), Some("VP8"));
    // Queue, converter, encoder and appsink.
    assert_eq!(fed.pipeline.children().len(), 4);
}

#[test]
fn handler_of_bitrate_may_read_statistics() {
    let fed = Fed::new();
    let weak = Arc::downgrade(&fed.sink_pad);
    let (sender, seen) = mpsc::channel();
    let setup = |encoder: &gst::Element| {
        let (weak, sender) = (weak.clone(), sender.clone());
        encoder.connect_notify(Some("target-bitrate"), move |_, _| {
            if let Some(sink_pad) = weak.upgrade() {
                let stats = sink_pad.stats(None);
                let _ = sender.send(stats.get::<u32>("bitrate").ok());
            }
        });
    };
    fed.prepare("vp8enc", setup).unwrap();
    let adapt = |controller: &mut LossBasedController| controller.apply_estimate(300_000);
    fed.sink_pad.adapt(adapt);
    assert_eq!(seen.try_recv(), Ok(Some(300_000)));
}

#[test]
fn bitrate_of_upstream_is_not_claimed() {
    let fed = Fed::new();
    fed.sink_pad
        .set_caps(gst::Caps::new_empty_simple("video/x-vp8"));
    fed.prepare("vp8enc", |_| ()).unwrap();
    let stats = fed.sink_pad.stats(None);
    assert_eq!(stats.get::<&str>("codec"), Ok("VP8"));
    assert!(!stats.has_field("bitrate") && !stats.has_field("target-bitrate"));
}
