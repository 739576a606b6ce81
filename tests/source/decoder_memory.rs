// SPDX-License-Identifier: MIT

//! What a decoder of the graphics processor makes stays where it is: a decoder of the highest rank
//! whose pictures are in a memory that nothing else knows.

use std::sync::{Arc, Mutex};

use gst::{glib, prelude::*, subclass::prelude::*};
use reactor_tests::{TIMEOUT, pipeline::TestPipeline, process, server::Server};

const CAPS: &str = "video/x-raw(memory:ReactorTest), format=I420, width=640, height=360, \
                    framerate=30/1, pixel-aspect-ratio=1/1, interlace-mode=progressive";
/// In bytes; no picture of a software decoder is so small.
const SIZE: usize = 16;

mod imp {
    use std::sync::LazyLock;

    use super::*;

    #[derive(Debug)]
    pub struct Decoder {
        src: gst::Pad,
        sink: gst::Pad,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Decoder {
        const NAME: &'static str = "ReactorTestDecoder";
        type Type = super::Decoder;
        type ParentType = gst::Element;

        fn with_class(class: &Self::Class) -> Self {
            let template = |name| class.pad_template(name).unwrap();
            let sink = gst::Pad::builder_from_template(&template("sink"))
                .chain_function(|_, parent, buffer| {
                    let element = parent.and_then(|parent| parent.downcast_ref()).unwrap();
                    Self::from_obj(element).decode(&buffer)
                })
                .event_function(|pad, parent, event| match event.view() {
                    gst::EventView::Caps(_) => {
                        let element = parent.and_then(|parent| parent.downcast_ref()).unwrap();
                        let caps: gst::Caps = CAPS.parse().unwrap();
                        let src = &Self::from_obj(element).src;
                        src.push_event(gst::event::Caps::new(&caps))
                    }
                    _ => gst::Pad::event_default(pad, parent, event),
                })
                .build();
            let src = gst::Pad::from_template(&template("src"));
            Self { src, sink }
        }
    }

    impl ObjectImpl for Decoder {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().add_pad(&self.sink).unwrap();
            self.obj().add_pad(&self.src).unwrap();
        }
    }

    impl GstObjectImpl for Decoder {}

    impl ElementImpl for Decoder {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Test decoder",
                    "Codec/Decoder/Video/Hardware",
                    "Makes pictures in a memory that nothing else knows",
                    "the gst-plugin-reactor authors",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<[gst::PadTemplate; 2]> = LazyLock::new(|| {
                let always = |name, direction, caps: &str| {
                    let caps: gst::Caps = caps.parse().unwrap();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                [
                    always("sink", gst::PadDirection::Sink, "video/x-vp9"),
                    always("src", gst::PadDirection::Src, CAPS),
                ]
            });
            TEMPLATES.as_ref()
        }
    }

    impl Decoder {
        fn decode(&self, encoded: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
            let mut picture = gst::Buffer::from_slice([0; SIZE]);
            let new = picture.get_mut().unwrap();
            new.set_pts(encoded.pts());
            new.set_duration(encoded.duration());
            self.src.push(picture)
        }
    }
}

glib::wrapper! {
    pub struct Decoder(ObjectSubclass<imp::Decoder>) @extends gst::Element, gst::Object;
}

#[test]
fn pictures_stay_in_the_memory_of_their_decoder() {
    // Every pipeline of the process would get this decoder.
    let test = "decoder_memory::pictures_stay_in_the_memory_of_their_decoder";
    if !process::in_own_process(test) {
        return;
    }
    reactor_tests::init();
    let rank = gst::Rank::PRIMARY + 1000;
    gst::Element::register(None, "reactortestdec", rank, Decoder::static_type()).unwrap();
    let server = Server::playground_640x360();
    for taken in ["", "! video/x-raw(memory:ReactorTest)"] {
        let running = TestPipeline::parse(&format!(
            "reactorsrc local=true api-url={} {taken} ! identity name=i ! fakesink",
            server.url()
        ));
        let pad = running.pad("i", "src");
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            seen.lock().unwrap().push(info.buffer().unwrap().size());
            gst::PadProbeReturn::Ok
        });
        running.play();
        reactor_tests::pipeline::wait_until("pictures", TIMEOUT, || {
            sizes.lock().unwrap().len() > 10
        });
        let caps = pad.current_caps().unwrap();
        assert!(
            caps.features(0).unwrap().contains("memory:ReactorTest"),
            "{caps}"
        );
        assert!(sizes.lock().unwrap().iter().all(|size| *size == SIZE));
        running.assert_no_error();
        running.stop();
    }
}
