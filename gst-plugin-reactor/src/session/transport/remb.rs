// SPDX-License-Identifier: MIT

//! Receiver estimated maximum bitrate (REMB, draft-alvestrand-rmcat-remb-03): an
//! RTCP message that bounds what the server sends. libwebrtc honours it whether or
//! not it was offered. It is appended to RTCP that webrtcbin sends anyway, by a pad
//! probe on the RTP session's thread, which never blocks.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    handles::CAT,
    rtp_probes::{PACKETS, find_rtpbin},
};
use crate::platform::lock;

/// RTCP is sent without acknowledgement, so the message is repeated.
const REPEAT_INTERVAL: Duration = Duration::from_millis(500);
/// More than libwebrtc ever sends (its estimate is bounded by 10 Mbit/s in runtime
/// 3.10.0), in bits per second: libwebrtc keeps a bound until it gets another.
const UNBOUNDED: u32 = 1_000_000_000;
/// Payload-specific feedback, application layer (RFC 4585, 6.4).
const PACKET_TYPE: u8 = 206;
const FORMAT: u8 = 15;

/// The bound that is sent. Cloned into the probe; set by the transport thread.
#[derive(Default, Clone)]
pub(super) struct Remb {
    /// In bits per second; 0 while there is nothing to send.
    bitrate: Arc<AtomicU32>,
    sent: Arc<Mutex<Option<(u32, Instant)>>>,
}

impl Remb {
    /// Bounds what the server sends, in bits per second; `None` lifts the bound.
    pub(super) fn set(&self, bitrate: Option<u32>) {
        // A bound that was never sent needs no lifting.
        if bitrate.is_some() || self.bitrate.load(Ordering::Relaxed) != 0 {
            let bitrate = bitrate.unwrap_or(UNBOUNDED);
            self.bitrate.store(bitrate, Ordering::Relaxed);
        }
    }

    /// Appends the message to the RTCP packets of all sessions of an rtpbin.
    pub(super) fn install(&self, webrtcbin: &gst::Element) {
        let Some(rtpbin) = find_rtpbin(webrtcbin) else {
            return gst::warning!(CAT, "no rtpbin, so no REMB");
        };
        let remb = self.clone();
        rtpbin.connect_pad_added(move |_, pad| {
            if pad.name().starts_with("send_rtcp_src_") {
                let remb = remb.clone();
                pad.add_probe(PACKETS, move |_, info| {
                    if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                        remb.append(buffer);
                    }
                    gst::PadProbeReturn::Ok
                });
            }
        });
    }

    fn append(&self, packet: &mut gst::Buffer) {
        let Some(bitrate) = self.due(Instant::now()) else {
            return;
        };
        let Some(ssrc) = sender_ssrc(packet) else {
            return;
        };
        let message = gst::Memory::from_slice(encode(ssrc, bitrate));
        packet.make_mut().append_memory(message);
    }

    /// The bound, if it has to be sent now.
    fn due(&self, now: Instant) -> Option<u32> {
        let bitrate = self.bitrate.load(Ordering::Relaxed);
        let mut sent = lock(&self.sent);
        let repeats = sent.is_some_and(|(last, at)| {
            last == bitrate && now.saturating_duration_since(at) < REPEAT_INTERVAL
        });
        if bitrate == 0 || repeats {
            return None;
        }
        *sent = Some((bitrate, now));
        Some(bitrate)
    }
}

/// The SSRC of the sender of an RTCP packet (RFC 3550, 6.4; RFC 4585, 6.1).
fn sender_ssrc(packet: &gst::BufferRef) -> Option<[u8; 4]> {
    let mut ssrc = [0; 4];
    let map = packet.map_readable().ok()?;
    ssrc.copy_from_slice(map.get(4..8)?);
    Some(ssrc)
}

/// The message, for the whole transport: it names no media source.
fn encode(ssrc: [u8; 4], bitrate: u32) -> [u8; 20] {
    // The bitrate is an 18-bit mantissa and a 6-bit exponent of two.
    let exponent = (u32::BITS - bitrate.leading_zeros()).saturating_sub(18);
    let [_, high, middle, low] = (bitrate >> exponent).to_be_bytes();
    let [s0, s1, s2, s3] = ssrc;
    let scaled = (exponent as u8) << 2 | (high & 3);
    // The length counts 32-bit words after the first.
    [
        0x80 | FORMAT,
        PACKET_TYPE,
        0,
        4, //
        s0,
        s1,
        s2,
        s3, //
        0,
        0,
        0,
        0, //
        b'R',
        b'E',
        b'M',
        b'B', //
        0,
        scaled,
        middle,
        low,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes as the draft says.
    fn bitrate_of(message: &[u8; 20]) -> u64 {
        let mantissa =
            u64::from(message[17] & 3) << 16 | u64::from(message[18]) << 8 | u64::from(message[19]);
        mantissa << (message[17] >> 2)
    }

    #[test]
    fn message_has_the_layout_of_the_draft() {
        let message = encode([1, 2, 3, 4], 600_000);
        assert_eq!(&message[..4], [0x8f, 206, 0, 4]);
        assert_eq!(&message[4..12], [1, 2, 3, 4, 0, 0, 0, 0]);
        assert_eq!(&message[12..17], b"REMB\0");
        for bitrate in [1, 600_000, 262_143, 262_144, UNBOUNDED, u32::MAX] {
            let decoded = bitrate_of(&encode([0; 4], bitrate));
            let bitrate = u64::from(bitrate);
            assert!(decoded <= bitrate && bitrate - decoded <= bitrate >> 17);
        }
    }

    #[test]
    fn message_is_due_when_it_changes_and_from_time_to_time() {
        let remb = Remb::default();
        let start = Instant::now();
        remb.set(None);
        assert_eq!(remb.due(start), None);
        remb.set(Some(600_000));
        assert_eq!(remb.due(start), Some(600_000));
        assert_eq!(remb.due(start + REPEAT_INTERVAL / 2), None);
        assert_eq!(remb.due(start + REPEAT_INTERVAL), Some(600_000));
        remb.set(None);
        assert_eq!(remb.due(start + REPEAT_INTERVAL), Some(UNBOUNDED));
    }
}
