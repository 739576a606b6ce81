// SPDX-License-Identifier: MIT

//! GStreamer elements for Reactor's real-time generative video models.
//!
//! Registers the elements and the frame metadata, and has HTTP requests logged,
//! when GStreamer loads the plugin. It does nothing else.

mod element;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gst_helpers;
mod meta;
mod platform;
mod property;
mod reactorclip;
mod reactorfilter;
mod reactorsink;
mod reactorsrc;
#[cfg(test)]
mod reference;
mod session;

pub use meta::FrameMeta;

use gst::glib;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::register();
    session::log_http_exchanges();
    reactorsrc::register(plugin)?;
    reactorsink::register(plugin)?;
    reactorfilter::register(plugin)?;
    reactorclip::register(plugin)
}

gst::plugin_define!(
    reactor,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    // GStreamer's own spelling; it knows no SPDX expressions.
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "https://reactor.inc",
    env!("BUILD_REL_DATE")
);
