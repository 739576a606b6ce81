// SPDX-License-Identifier: MIT

//! The cloud: the stand-in coordinator in front of the real local runtime.

mod coordinator;
mod elements;
mod https;
mod ice_relay;
mod trickle;
