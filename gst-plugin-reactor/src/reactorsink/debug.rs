// SPDX-License-Identifier: MIT

//! The debug category of the element.

use std::sync::LazyLock;

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactorsink",
        gst::DebugColorFlags::empty(),
        Some("Reactor sink"),
    )
});
