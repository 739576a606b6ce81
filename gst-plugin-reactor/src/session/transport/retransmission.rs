// SPDX-License-Identifier: MIT

//! Video that was lost on the way is asked for again, and sent again under
//! another payload type (RFC 4585, RFC 4588). The transceivers negotiate that;
//! the rest is for webrtcbin's jitter buffers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::{glib, prelude::*};

use super::{CAT, TransportHandles, jitter_latency::Counts, rtp_probes};
use crate::platform::{lock, track::Kind};

/// Of media, in bits per second.
const BANDWIDTH: f64 = 10_000_000.0;

/// All jitter buffers of a connection. Held to look at them.
pub(super) type JitterBuffers = Arc<Mutex<Vec<glib::WeakRef<gst::Element>>>>;

/// What they have counted so far, together.
pub(super) fn counts(handles: &TransportHandles) -> Counts {
    let buffers = lock(&handles.jitter_buffers).clone();
    let silence = lock(&handles.rtp_clock).silence();
    let stats = buffers.iter().filter_map(glib::WeakRef::upgrade);
    let stats = stats.map(|buffer| {
        let repaired: bool = buffer.property("do-retransmission");
        (repaired, buffer.property::<gst::Structure>("stats"))
    });
    let none = Counts {
        silence: Duration::from_nanos(silence.cast_unsigned()),
        ..Counts::default()
    };
    stats.fold(none, |sum, (repaired, stats)| {
        let count = |name| stats.get::<u64>(name).unwrap_or(0);
        // What is not sent again may still come, after what overtook it.
        let lost = if repaired { "num-lost" } else { "num-late" };
        let time = |name| Duration::from_nanos(count(name));
        Counts {
            pushed: sum.pushed + count("num-pushed"),
            lost: sum.lost + count(lost),
            late: sum.late + count("num-late"),
            requested: sum.requested + count("rtx-count"),
            repaired: sum.repaired + count("rtx-success-count"),
            round_trip: sum.round_trip.max(time("rtx-rtt")),
            jitter: sum.jitter.max(time("avg-jitter")),
            ..sum
        }
    })
}

/// webrtcbin gives a jitter buffer the `do-nack` of each transceiver of the
/// bundle in turn, and the last wins, which is often that of a sound. What is in
/// one is only known when its first packet comes.
pub(super) fn install(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let rtpbin = webrtcbin.downcast_ref::<gst::Bin>().and_then(rtpbin);
    let Some(rtpbin) = rtpbin else {
        gst::warning!(CAT, obj = webrtcbin, "no rtpbin, so nothing is repaired");
        return;
    };
    rtp_probes::own(&rtpbin);
    let handles = handles.clone();
    // After webrtcbin's own handler.
    rtpbin.connect("new-jitterbuffer", false, move |values| {
        let session = session(values);
        if let Some(session) = &session {
            raise_rtcp_bandwidth(session);
        }
        let buffer = values.get(1)?.get::<gst::Element>().ok()?;
        if let Some(sink) = buffer.static_pad("sink") {
            repair_video(&sink, &handles);
            lock(&handles.jitter_buffers).push(buffer.downgrade());
            rtp_probes::watch(&sink, session.as_ref(), &handles);
        }
        None
    });
}

fn rtpbin(webrtcbin: &gst::Bin) -> Option<gst::Element> {
    let is_rtpbin = |child: &gst::Element| {
        let factory = child.factory();
        factory.is_some_and(|factory| factory.name() == "rtpbin")
    };
    webrtcbin
        .iterate_elements()
        .into_iter()
        .flatten()
        .find(is_rtpbin)
}

/// The session of a new jitter buffer.
fn session(new_jitterbuffer: &[glib::Value]) -> Option<glib::Object> {
    let rtpbin = new_jitterbuffer.first()?.get::<gst::Element>().ok()?;
    let session = new_jitterbuffer.get(2)?.get::<u32>().ok()?;
    rtpbin.emit_by_name("get-internal-session", &[&session])
}

/// Asks at once: RTCP may take a twentieth of what a session takes, which
/// GStreamer finds out too slowly. With less, a request waits for others for
/// longer than it is of use.
fn raise_rtcp_bandwidth(session: &glib::Object) {
    if session.has_property("bandwidth") {
        session.set_property("bandwidth", BANDWIDTH);
    }
}

/// Decides by the first packet.
fn repair_video(sink: &gst::Pad, handles: &TransportHandles) {
    let handles = handles.clone();
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    sink.add_probe(what, move |sink, info| {
        let first = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => payload(buffer),
            Some(gst::PadProbeData::BufferList(list)) => list.get(0).and_then(payload),
            _ => None,
        };
        let Some(payload) = first else {
            return gst::PadProbeReturn::Ok;
        };
        let repaired = is_video(&handles, payload);
        if let Some(buffer) = sink.parent_element() {
            buffer.set_property("do-retransmission", repaired);
            // Not for packets of which nothing is known yet: pictures come
            // unevenly, and what was asked for too early passed for lost
            // (some 30 of 480 at latency=10 without any loss).
            buffer.set_property("rtx-next-seqnum", false);
            gst::debug!(CAT, obj = buffer, "payload {payload}, repaired: {repaired}");
            if repaired {
                // The depayloaders notice by the numbers what is still missing.
                // When they are told, those for VP8 and VP9 in 1.22 go on to use
                // an event that is not there.
                buffer.set_property("do-lost", false);
            }
        }
        gst::PadProbeReturn::Remove
    });
}

fn payload(packet: &gst::BufferRef) -> Option<u8> {
    let mut header = [0; 2];
    packet.copy_to_slice(0, &mut header).ok()?;
    Some(header[1] & 0x7f)
}

fn is_video(handles: &TransportHandles, payload: u8) -> bool {
    let answered = handles.answered.get().map_or(&[][..], Vec::as_slice);
    let mut videos = answered.iter().filter(|track| track.kind == Kind::Video);
    videos.any(|track| track.codecs.iter().any(|codec| codec.payload == payload))
}
