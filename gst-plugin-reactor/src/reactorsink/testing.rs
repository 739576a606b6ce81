// SPDX-License-Identifier: MIT

//! An encoder for the unit tests. Its properties take less than others do, it has no rank, and
//! like one of a graphics processor that is busy it does not start.

use std::sync::{
    LazyLock, Once,
    atomic::{AtomicU32, Ordering},
};

use gst::{glib, prelude::*, subclass::prelude::*};

/// The name of its factory.
pub const NAME: &str = "reactortestenc";
/// What `key-int-max` takes at most.
pub const MAX_KEY_INTERVAL: u32 = 1024;
/// What `bitrate` takes at most.
pub const MAX_KBITS: u32 = 500;

/// Initializes GStreamer and registers the encoder, once per process.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        let (rank, encoder) = (gst::Rank::NONE, TestEncoder::static_type());
        gst::Element::register(None, NAME, rank, encoder).unwrap();
    });
}

glib::wrapper! {
    pub struct TestEncoder(ObjectSubclass<imp::TestEncoder>) @extends gst::Element, gst::Object;
}

mod imp {
    use super::*;

    #[derive(Debug, Default)]
    pub struct TestEncoder {
        key_interval: AtomicU32,
        bitrate: AtomicU32,
    }

    impl TestEncoder {
        fn value(&self, pspec: &glib::ParamSpec) -> &AtomicU32 {
            match pspec.name() {
                "bitrate" => &self.bitrate,
                _ => &self.key_interval,
            }
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for TestEncoder {
        const NAME: &'static str = "ReactorTestEncoder";
        type Type = super::TestEncoder;
        type ParentType = gst::Element;
    }

    impl ObjectImpl for TestEncoder {
        fn constructed(&self) {
            self.parent_constructed();
            for template in Self::pad_templates() {
                let pad = gst::Pad::from_template(template);
                self.obj().add_pad(&pad).unwrap();
            }
        }

        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                let up_to = |name: &str, maximum: u32| {
                    let spec = glib::ParamSpecUInt::builder(name);
                    spec.maximum(maximum).build()
                };
                vec![
                    up_to("key-int-max", MAX_KEY_INTERVAL),
                    up_to("bitrate", MAX_KBITS),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
            let value = value.get::<u32>().unwrap();
            self.value(pspec).store(value, Ordering::Relaxed);
        }

        fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
            self.value(pspec).load(Ordering::Relaxed).to_value()
        }
    }

    impl GstObjectImpl for TestEncoder {}

    impl ElementImpl for TestEncoder {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Test encoder",
                    "Codec/Encoder/Video",
                    "Does not start",
                    "the gst-plugin-reactor authors",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let always = |name: &str, direction, media_type: &str| {
                    let caps = gst::Caps::new_empty_simple(media_type);
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                vec![
                    always("sink", gst::PadDirection::Sink, "video/x-raw"),
                    always("src", gst::PadDirection::Src, "video/x-vp8"),
                ]
            });
            &TEMPLATES
        }

        fn change_state(
            &self,
            transition: gst::StateChange,
        ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            match transition {
                gst::StateChange::NullToReady => Err(gst::StateChangeError),
                _ => self.parent_change_state(transition),
            }
        }
    }
}
