// SPDX-License-Identifier: MIT

//! Has a connection's [`RtpClock`] see all packets before the jitter buffers,
//! and place what comes out of them.

use std::sync::{Arc, Mutex, atomic::Ordering};

use gst::{glib, prelude::*};

use super::{
    CAT, TransportHandles,
    rtp_clock::{RtpClock, RtpHeader, SenderReport},
};
use crate::platform::lock;

/// Held to look something up, by the threads that carry packets.
pub(super) type SharedRtpClock = Arc<Mutex<RtpClock>>;

/// rtpbin is not to move streams any more: changes of less than this it leaves
/// alone.
pub(super) fn own(rtpbin: &gst::Element) {
    rtpbin.set_property("min-ts-offset", u64::MAX);
}

/// What comes in at a jitter buffer, and the reports of its session.
pub(super) fn watch(sink: &gst::Pad, session: Option<&glib::Object>, handles: &TransportHandles) {
    let watched = handles.clone();
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    sink.add_probe(what, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => note(&watched, buffer),
            Some(gst::PadProbeData::BufferList(list)) => {
                list.iter().for_each(|buffer| note(&watched, buffer));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    // One session has several buffers.
    let Some(session) = session.filter(|_| !handles.reported.swap(true, Ordering::Relaxed)) else {
        return;
    };
    if glib::subclass::SignalId::lookup("on-receiving-rtcp", session.type_()).is_none() {
        gst::warning!(CAT, "no reports, so sound and pictures go by their arrival");
        return;
    }
    let rtp_clock = handles.rtp_clock.clone();
    session.connect("on-receiving-rtcp", false, move |values| {
        let packet = values.get(1)?.get::<gst::Buffer>().ok()?;
        for report in reports(&packet.map_readable().ok()?) {
            lock(&rtp_clock).reported(report);
        }
        None
    });
}

fn note(handles: &TransportHandles, buffer: &gst::BufferRef) {
    let Some((packet, payload)) = header(buffer) else {
        return;
    };
    let answered = handles.answered.get().map_or(&[][..], Vec::as_slice);
    let codecs = answered.iter().flat_map(|track| &track.codecs);
    let rate = codecs
        .filter(|codec| codec.payload == payload)
        .map(|codec| codec.clock_rate)
        .next();
    // The private pipeline's segments begin at 0.
    if let Some((rate, at)) = rate.zip(buffer.dts_or_pts()) {
        lock(&handles.rtp_clock).arrived(packet, rate, at.nseconds().cast_signed());
    }
}

/// Gives what comes out of this pad its times.
pub(super) fn place(pad: &gst::Pad, rtp_clock: SharedRtpClock) {
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(what, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => set_time(&rtp_clock, buffer.make_mut()),
            Some(gst::PadProbeData::BufferList(list)) => {
                list.make_mut().foreach_mut(|mut buffer, _| {
                    set_time(&rtp_clock, buffer.make_mut());
                    std::ops::ControlFlow::Continue(Some(buffer))
                });
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn set_time(rtp_clock: &SharedRtpClock, buffer: &mut gst::BufferRef) {
    let placed = header(buffer).and_then(|(packet, _)| lock(rtp_clock).place(packet));
    if let Some(placed) = placed {
        let placed = placed.max(0).cast_unsigned();
        buffer.set_pts(gst::ClockTime::from_nseconds(placed));
    }
}

/// And the payload type.
fn header(packet: &gst::BufferRef) -> Option<(RtpHeader, u8)> {
    let mut bytes = [0; 12];
    packet.copy_to_slice(0, &mut bytes).ok()?;
    let [_, payload, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3] = bytes;
    let header = RtpHeader {
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        number: u16::from_be_bytes([n0, n1]),
        time: u32::from_be_bytes([t0, t1, t2, t3]),
    };
    Some((header, payload & 0x7f))
}

/// The sender reports in a compound RTCP packet (RFC 3550, 6.4.1).
fn reports(mut packet: &[u8]) -> Vec<SenderReport> {
    const SENDER_REPORT: u8 = 200;
    let mut reports = Vec::new();
    while let [_, kind, l0, l1, ..] = *packet {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let (this, rest) = packet.split_at(length.min(packet.len()));
        packet = rest;
        if kind == SENDER_REPORT
            && let Some((ssrc, after)) = this[4..].split_first_chunk()
            && let Some((ntp, after)) = after.split_first_chunk()
            && let Some((time, _)) = after.split_first_chunk()
        {
            reports.push(SenderReport {
                ssrc: u32::from_be_bytes(*ssrc),
                ntp: u64::from_be_bytes(*ntp),
                time: u32::from_be_bytes(*time),
            });
        }
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_in_compound_packets() {
        let sdes = [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, b'x', 0];
        let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 9];
        report.extend([0, 0, 0, 5, 0x80, 0, 0, 0, 0, 0, 1, 0]);
        report.extend([0; 8]);
        let expected = SenderReport {
            ssrc: 9,
            ntp: 0x5_8000_0000,
            time: 256,
        };
        let packet = [&report[..], &sdes, &report].concat();
        assert_eq!(reports(&packet), [expected, expected]);
        // Cut short, in all places.
        for length in 0..packet.len() {
            assert!(reports(&packet[..length]).len() <= 1 + length / 60);
        }
        assert!(reports(&sdes).is_empty());
    }
}
