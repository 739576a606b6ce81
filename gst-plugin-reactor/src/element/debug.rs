// SPDX-License-Identifier: MIT

//! The debug category of the code that the elements share. Each element has
//! a category of its own beside its `imp.rs`.

use std::sync::LazyLock;

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactor",
        gst::DebugColorFlags::empty(),
        Some("Reactor elements"),
    )
});
