// SPDX-License-Identifier: MIT

//! Saves what a session has recorded.

// Until the element uses it.
#[allow(dead_code)]
mod assembly;
