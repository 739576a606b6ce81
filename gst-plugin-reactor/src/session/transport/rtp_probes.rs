// SPDX-License-Identifier: MIT

//! Pad probes that show a connection's [`RtpClock`] all packets before the
//! jitter buffers, and give packets after them their presentation times. They
//! run on webrtcbin's streaming threads and hold the clock's lock for one
//! packet; they never block and never drop a packet.

use std::{ops::ControlFlow, sync::Mutex};

use gst::{glib, prelude::*};
use gst_rtp::RTPBuffer;

use super::{
    handles::{CAT, TransportHandles},
    receive_bandwidth::{Arrival, MediaTime},
    rtp_clock::{RtpClock, RtpHeader, SenderReport},
};
use crate::{platform::lock, session::machine::Input};

/// Probes of this type see all packets, alone or in lists.
pub(super) const PACKETS: gst::PadProbeType =
    gst::PadProbeType::BUFFER.union(gst::PadProbeType::BUFFER_LIST);

/// Calls `f` for each packet that a probe sees.
pub(super) fn for_each_packet(info: &gst::PadProbeInfo, mut f: impl FnMut(&gst::BufferRef)) {
    match &info.data {
        Some(gst::PadProbeData::Buffer(buffer)) => f(buffer),
        Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(f),
        _ => {}
    }
}

/// The rtpbin in a webrtcbin, whose sessions and jitter buffers it has.
pub(super) fn find_rtpbin(webrtcbin: &gst::Element) -> Option<gst::Element> {
    webrtcbin.downcast_ref::<gst::Bin>()?.by_name("rtpbin")
}

/// Keeps rtpbin from moving streams: it ignores offsets of less than this.
pub(super) fn disable_rtpbin_sync(rtpbin: &gst::Element) {
    rtpbin.set_property("min-ts-offset", u64::MAX);
}

/// The headers of UDP and IPv4.
const LOWER_HEADERS: usize = 28;
/// The content type of SCTP's packets (RFC 8446, B.1; RFC 7983, 7).
const DTLS_APPLICATION_DATA: u8 = 23;

/// Shows the estimator of the link a packet that arrives from it, as it is on the
/// wire: the headers of SRTP are not encrypted (RFC 3711, 3.1).
pub(super) fn observe_arrival(handles: &TransportHandles, packet: &gst::BufferRef) {
    let size = u32::try_from(packet.size() + LOWER_HEADERS).unwrap_or(u32::MAX);
    let mut header = [0; 12];
    let is_whole = packet.copy_to_slice(0, &mut header).is_ok();
    let arrival = Arrival {
        at: handles.last_received.now(),
        size,
        is_data: is_whole && header[0] == DTLS_APPLICATION_DATA,
        media: is_whole.then(|| media_time(&header, handles)).flatten(),
    };
    let link = lock(&handles.receive_bandwidth).observe(arrival);
    if let Some(link) = link {
        gst::trace!(CAT, "{link:?}");
        handles.reports.input(Input::LinkObserved(link));
    }
}

/// The time of a packet of a negotiated codec (RFC 3550, 5.1; RFC 7983, 7), if it
/// is one.
fn media_time(header: &[u8; 12], handles: &TransportHandles) -> Option<MediaTime> {
    const RTP_VERSION: u8 = 2;
    let [first, second, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3] = *header;
    // RTCP has types that no payload type of ours is.
    let payload_type = second & 0x7f;
    let is_rtp = first >> 6 == RTP_VERSION;
    let clock_rate = is_rtp.then(|| handles.negotiated.clock_rate(payload_type))??;
    Some(MediaTime {
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        sequence_number: u16::from_be_bytes([n0, n1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        clock_rate,
    })
}

/// Shows the clock the packets that arrive at a jitter buffer.
pub(super) fn observe_packets(sink: &gst::Pad, handles: &TransportHandles) {
    let handles = handles.clone();
    sink.add_probe(PACKETS, move |_, info| {
        for_each_packet(info, |packet| observe_packet(&handles, packet));
        gst::PadProbeReturn::Ok
    });
}

/// Shows the clock the sender reports that arrive at an RTP session.
pub(super) fn observe_sender_reports(session: &glib::Object, handles: &TransportHandles) {
    if glib::subclass::SignalId::lookup("on-receiving-rtcp", session.type_()).is_none() {
        gst::warning!(CAT, "no sender reports: streams are aligned by arrival");
        return;
    }
    let rtp_clock = handles.rtp_clock.clone();
    session.connect("on-receiving-rtcp", false, move |values| {
        let packet = values.get(1)?.get::<gst::Buffer>().ok()?;
        for report in parse_sender_reports(&packet.map_readable().ok()?) {
            lock(&rtp_clock).observe_sender_report(report);
        }
        None
    });
}

fn observe_packet(handles: &TransportHandles, packet: &gst::BufferRef) {
    let Some((header, payload_type)) = parse_rtp_header(packet) else {
        return;
    };
    let mut codecs = handles.negotiated.find_payload_type(payload_type);
    // The private pipeline's segments begin at 0, so this is a running time.
    if let Some(((_, codec), arrival)) = codecs.next().zip(packet.dts_or_pts()) {
        let arrival = arrival.nseconds().cast_signed();
        lock(&handles.rtp_clock).observe_packet(header, codec.clock_rate, arrival);
    }
}

/// Sets the presentation time of each packet that a probe sees.
pub(super) fn retime_packets(rtp_clock: &Mutex<RtpClock>, info: &mut gst::PadProbeInfo) {
    match &mut info.data {
        Some(gst::PadProbeData::Buffer(buffer)) => retime(rtp_clock, buffer.make_mut()),
        Some(gst::PadProbeData::BufferList(list)) => {
            list.make_mut().foreach_mut(|mut buffer, _| {
                retime(rtp_clock, buffer.make_mut());
                ControlFlow::Continue(Some(buffer))
            });
        }
        _ => {}
    }
}

fn retime(rtp_clock: &Mutex<RtpClock>, packet: &mut gst::BufferRef) {
    let header = parse_rtp_header(packet);
    if let Some(time) = header.and_then(|(header, _)| lock(rtp_clock).presentation_time(header)) {
        let time = time.max(0).cast_unsigned();
        packet.set_pts(gst::ClockTime::from_nseconds(time));
    }
}

/// The header (RFC 3550, 5.1) and its payload type.
pub(super) fn parse_rtp_header(packet: &gst::BufferRef) -> Option<(RtpHeader, u8)> {
    let packet = RTPBuffer::from_buffer_readable(packet).ok()?;
    let header = RtpHeader {
        ssrc: packet.ssrc(),
        sequence_number: packet.seq(),
        timestamp: packet.timestamp(),
    };
    Some((header, packet.payload_type()))
}

/// The sender reports in a compound RTCP packet (RFC 3550, 6.4.1).
fn parse_sender_reports(mut packet: &[u8]) -> Vec<SenderReport> {
    const SENDER_REPORT: u8 = 200;
    let mut reports = Vec::new();
    while let [_, packet_type, l0, l1, ..] = *packet {
        // The length field counts 32-bit words after the first.
        let length = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let (this, rest) = packet.split_at(length.min(packet.len()));
        packet = rest;
        if packet_type == SENDER_REPORT
            && let Some((ssrc, after)) = this[4..].split_first_chunk()
            && let Some((ntp, after)) = after.split_first_chunk()
            && let Some((rtp, _)) = after.split_first_chunk()
        {
            reports.push(SenderReport {
                ssrc: u32::from_be_bytes(*ssrc),
                ntp_timestamp: u64::from_be_bytes(*ntp),
                rtp_timestamp: u32::from_be_bytes(*rtp),
            });
        }
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compound_rtcp_packet_yields_its_sender_reports() {
        let sdes = [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, b'x', 0];
        let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 9];
        report.extend([0, 0, 0, 5, 0x80, 0, 0, 0, 0, 0, 1, 0]);
        report.extend([0; 8]);
        let expected = SenderReport {
            ssrc: 9,
            ntp_timestamp: 0x5_8000_0000,
            rtp_timestamp: 256,
        };
        let packet = [&report[..], &sdes, &report].concat();
        assert_eq!(parse_sender_reports(&packet), [expected, expected]);
        // Truncated at every length.
        for length in 0..packet.len() {
            assert!(parse_sender_reports(&packet[..length]).len() <= 1 + length / 60);
        }
        assert!(parse_sender_reports(&sdes).is_empty());
    }
}
