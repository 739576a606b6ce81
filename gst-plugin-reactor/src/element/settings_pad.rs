// SPDX-License-Identifier: MIT

//! [`settings_pad!`]: a ghost pad whose properties are the settings of a
//! [`settings!`](crate::property::settings) table. Called by the application's threads;
//! whoever serves the pad reads the settings when it needs them.

/// Declares the GObject of a ghost pad: `struct Name(module, "GTypeName", Settings);`.
macro_rules! settings_pad {
    ($(#[$doc:meta])* pub struct $name:ident($module:ident, $gtype:literal, $settings:ty);) => {
        mod $module {
            use std::sync::{Arc, LazyLock, Mutex};

            use gst::{glib, subclass::prelude::*};

            use super::*;
            use crate::{element::lock, property};

            #[derive(Debug, Default)]
            pub struct $name {
                pub settings: Arc<Mutex<$settings>>,
            }

            #[glib::object_subclass]
            impl ObjectSubclass for $name {
                const NAME: &'static str = $gtype;
                type Type = super::$name;
                type ParentType = gst::GhostPad;
            }

            impl ObjectImpl for $name {
                fn properties() -> &'static [glib::ParamSpec] {
                    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> =
                        LazyLock::new(|| property::specs(<$settings>::PROPERTIES));
                    &PROPERTIES
                }

                fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
                    if let Some(row) = property::find(<$settings>::PROPERTIES, spec.name()) {
                        (row.set)(&mut lock(&self.settings), value);
                    }
                }

                fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
                    match property::find(<$settings>::PROPERTIES, spec.name()) {
                        Some(row) => (row.value)(&lock(&self.settings), &row.info),
                        None => spec.default_value().clone(),
                    }
                }
            }

            impl GstObjectImpl for $name {}
            impl PadImpl for $name {}
            impl ProxyPadImpl for $name {}
            impl GhostPadImpl for $name {}
        }

        gst::glib::wrapper! {
            $(#[$doc])*
            pub struct $name(ObjectSubclass<$module::$name>)
                @extends gst::GhostPad, gst::ProxyPad, gst::Pad, gst::Object;
        }

        impl $name {
            /// The present settings.
            pub fn settings(&self) -> $settings {
                use gst::subclass::prelude::ObjectSubclassIsExt;
                $crate::element::lock(&self.imp().settings).clone()
            }
        }
    };
}
pub(crate) use settings_pad;
