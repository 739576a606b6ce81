// SPDX-License-Identifier: MIT

//! The debug category of the code that the elements share. Each element has
//! a category of its own beside its `imp.rs`.

use std::sync::LazyLock;

use crate::gst_helpers::debug_category;

/// `GST_DEBUG=reactor:6` shows it.
pub static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactor", "Reactor elements"));
