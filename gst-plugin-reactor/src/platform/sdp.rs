// SPDX-License-Identifier: MIT

//! Session descriptions (SDP, RFC 8866): the offer that is sent, and a strict
//! check of the answer before any media engine reads it. Pure functions, called
//! by the session's state machine; no socket and no GStreamer type.

mod answer;
mod answer_transport;
mod bandwidth;
mod errors;
mod fingerprint;
mod header_extensions;
mod media;
mod offer;
mod redaction;
#[cfg(test)]
mod tests;
mod transport_cc;

pub use answer::{NegotiatedAnswer, NegotiatedTrack, parse_answer};
pub use bandwidth::ReceiveBitrates;
pub use fingerprint::Fingerprint;
pub use header_extensions::PLAYOUT_DELAY_URI;
pub use media::{Codec, RedundancyFormat};
pub use offer::{OfferedSection, offered_sections, prepare_offer};
pub use redaction::without_secrets;
pub use transport_cc::TRANSPORT_CC_URI;
