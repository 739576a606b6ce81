// SPDX-License-Identifier: MIT

//! The progress of a clip, for the property `stats` and for messages. Written
//! by the job's thread, read by the application's.

use gst::glib;

use crate::element::gobject;

/// What the property `stats` has, and what was posted last.
#[derive(Debug, Default)]
pub struct Progress {
    /// Segments.
    pub fetched: u64,
    /// Segments known.
    pub total: u64,
    /// Fetched.
    pub bytes: u64,
    /// Seconds.
    pub recorded: f64,
    /// The text of the last progress message.
    pub text: String,
    pub started: bool,
    pub complete: bool,
}

impl Progress {
    /// The counts as a structure of this name.
    pub fn to_structure(&self, name: &str) -> gst::Structure {
        gst::Structure::builder(name)
            .field("fetched", self.fetched)
            .field("total", self.total)
            .field("bytes", self.bytes)
            .build()
    }
}

/// The read-only properties.
pub fn specs() -> Vec<glib::ParamSpec> {
    vec![
        gobject::last_error(),
        gobject::structure(
            "stats",
            "Statistics",
            "How many of the clip's parts have been fetched, of how many, and their bytes",
        ),
    ]
}
