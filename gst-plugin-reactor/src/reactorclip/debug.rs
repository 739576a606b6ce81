// SPDX-License-Identifier: MIT

//! The debug category of the element.

use std::sync::LazyLock;

use crate::gst_helpers::debug_category;

pub(super) static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactorclip", "Reactor clips"));
