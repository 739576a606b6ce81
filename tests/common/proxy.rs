// SPDX-License-Identifier: MIT

//! An HTTP proxy before the real runtime that misbehaves on demand.
