// SPDX-License-Identifier: MIT

//! Bodies of fuzz targets: what signaling brings, and received RTP packets with
//! forward error correction.

use std::sync::OnceLock;

use super::{
    ice,
    redundancy::{Fate, RedundancyReceiver},
};
use crate::platform::{
    sdp::{
        OfferedSection, ReceiveBitrates, RedundancyFormat, offered_sections, parse_answer,
        prepare_offer, without_secrets,
    },
    signaling::parse_ice_servers,
};

/// Offers that have been sent: of VP8 and VP9 with FEC, and of H.264.
const OFFERS: [&str; 2] = [
    include_str!("../../platform/sdp/testdata/offer.sdp"),
    include_str!("../../platform/sdp/testdata/offer264.sdp"),
];

const FORMAT: RedundancyFormat = RedundancyFormat {
    red: 99,
    ulpfec: 100,
};
const MUTABLE_EXTENSION: u8 = 1;
/// The receiver's window, as stand-ins are limited by it.
const WINDOW: usize = 1024;

/// An answer with candidates, to each of the offers.
pub fn sdp_answer(data: &[u8]) {
    assert!(gst::init().is_ok(), "GStreamer starts");
    static OFFERED: OnceLock<Vec<Vec<OfferedSection>>> = OnceLock::new();
    let offered = OFFERED.get_or_init(|| {
        let offers = OFFERS.iter().map(|offer| offered_sections(offer));
        offers.filter_map(Result::ok).collect()
    });
    assert_eq!(offered.len(), OFFERS.len());
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = without_secrets(text);
    let none = ReceiveBitrates {
        start: None,
        max_video: None,
    };
    let _ = prepare_offer(text, &[], none);
    for sections in offered {
        let answer = match parse_answer(text, sections) {
            Ok(answer) => answer,
            Err(error) => {
                assert_eq!(error.operation, Some("sdp_params"), "{error}");
                assert!(error.message.len() < 2000, "{error}");
                assert!(!error.message.contains(char::is_control), "{error}");
                continue;
            }
        };
        assert!(answer.tracks.iter().all(|track| !track.codecs.is_empty()));
        assert_eq!(answer.tracks.len() + 1, sections.len());
        // What is written out anew means what was checked, and GStreamer reads it.
        assert_eq!(parse_answer(&answer.sdp, sections), Ok(answer.clone()));
        let parsed = gst_sdp::SDPMessage::parse_buffer(answer.sdp.as_bytes());
        let media = parsed.ok().map(|parsed| parsed.medias_len() as usize);
        assert_eq!(media, Some(sections.len()), "{}", answer.sdp);
    }
}

/// The list of ICE servers.
pub fn ice_servers(data: &[u8]) {
    let servers = serde_json::from_slice(data)
        .ok()
        .and_then(parse_ice_servers);
    for server in servers.iter().flatten() {
        let turn = server
            .uris
            .iter()
            .filter_map(|uri| ice::turn_uri(server, uri));
        for uri in turn.chain(ice::stun_uri(server)) {
            assert!(!uri.contains(|c: char| c.is_control() || c.is_whitespace()));
            let (scheme, rest) = uri.split_once("://").unwrap_or_default();
            assert!(matches!(scheme, "stun" | "turn"), "{scheme}");
            // Credentials are escaped: none of their letters separates anything.
            assert!(rest.matches('@').count() == usize::from(scheme == "turn"));
        }
    }
}

/// RTP packets, each after a byte with its length.
pub fn redundancy(data: &[u8]) {
    let codec = |payload_type| match payload_type {
        97 => Some("VP8"),
        98 => Some("VP9"),
        101 => Some("H264"),
        _ => None,
    };
    let mut receiver = RedundancyReceiver::default();
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (packet, after) = after.split_at(after.len().min(length.into()));
        rest = after;
        let outcome = receiver.receive(packet, FORMAT, MUTABLE_EXTENSION, codec);
        assert!(outcome.insert.len() <= WINDOW);
        let replaced = match &outcome.fate {
            Fate::Replace(packet) => Some(packet),
            Fate::Pass | Fate::Drop => None,
        };
        for made in outcome.insert.iter().chain(replaced) {
            assert!(made.len() >= 12 && made[0] >> 6 == 2, "no RTP packet");
        }
    }
}
