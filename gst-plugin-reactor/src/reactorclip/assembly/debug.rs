// SPDX-License-Identifier: MIT

//! The debug category of the assembly.

use std::sync::LazyLock;

use crate::gst_helpers::debug_category;

pub(super) static CAT: LazyLock<gst::DebugCategory> =
    LazyLock::new(|| debug_category("reactor-assembly", "Clips put together"));
