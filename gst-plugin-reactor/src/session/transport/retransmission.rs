// SPDX-License-Identifier: MIT

//! Retransmission of lost video: NACK (RFC 4585) and RTX (RFC 4588). The
//! transceivers negotiate it; this module sets up webrtcbin's jitter buffers, on
//! the streaming threads that make them, and reads their statistics on the
//! transport thread. It never chooses their latency.

use std::{sync::Once, time::Duration};

use gst::{glib, prelude::*};

use super::{
    counters,
    handles::{CAT, TransportHandles},
    jitter_latency::JitterBufferStats,
    retransmission_timing::RetransmissionTiming,
    rtp_probes::{self, PACKETS},
};
use crate::platform::{lock, track::Kind};

/// The bandwidth of media that an RTP session assumes, in bits per second.
const SESSION_BANDWIDTH_BPS: f64 = 10_000_000.0;

/// The regular RTCP reports come at intervals of 0.5 to 1.5 times this (RFC 4585,
/// 3.5.3). Half of what libwebrtc uses. By itself, GStreamer lets 5 s pass while
/// feedback goes out, and until then the server knows neither the loss nor the round
/// trip, by which it decides about forward error correction.
const REPORT_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// The first packet of a stream is released at once, although the jitter buffer
/// waits `latency` for earlier ones otherwise. Only earlier packets that the
/// network reordered could come: a lost one is never requested, since nothing
/// tells that it was sent.
const FASTSTART_MIN_PACKETS: u32 = 1;

/// 0: a gap of 3000 packets or more, or back by more than 100 (RFC 3550, A.1), is a
/// stream that begins anew. By default it is a gap of 60 s, or 2 s back, by the rate of
/// packets, which rtpjitterbuffer 1.22 overestimates after each smaller gap. It then
/// waits for ever: for one packet of a gap far larger, which it dropped as too late
/// when it came, or for numbers that come again only after all others.
const MAX_SEQUENCE_GAP_TIME: u32 = 0;

/// The totals of all jitter buffers of a connection since its start.
pub(super) fn read_jitter_buffer_stats(handles: &TransportHandles) -> JitterBufferStats {
    let buffers = lock(&handles.jitter_buffers).clone();
    let (silence, lateness) = {
        let mut rtp_clock = lock(&handles.rtp_clock);
        (
            rtp_clock.take_longest_silence(),
            rtp_clock.take_longest_lateness(),
        )
    };
    let queued = lock(&handles.receive_bandwidth).take_late();
    let mut total = JitterBufferStats {
        queued,
        longest_silence: Duration::from_nanos(silence.cast_unsigned()),
        longest_lateness: Duration::from_nanos(lateness.cast_unsigned()),
        ..JitterBufferStats::default()
    };
    for buffer in buffers.iter().filter_map(|(_, buffer)| buffer.upgrade()) {
        let stats: gst::Structure = buffer.property("stats");
        let count = |name| stats.get::<u64>(name).unwrap_or(0);
        let time = |name| Duration::from_nanos(count(name));
        // Without retransmission a packet that is missing may still arrive
        // after ones that were sent later.
        let has_rtx: bool = buffer.property("do-retransmission");
        total.lost += count(if has_rtx { "num-lost" } else { "num-late" });
        total.pushed += count("num-pushed");
        total.late += count("num-late");
        total.rtx_requests += count("rtx-count");
        total.rtx_successes += count("rtx-success-count");
        total.rtx_round_trip = total.rtx_round_trip.max(time("rtx-rtt"));
        total.jitter = total.jitter.max(time("avg-jitter"));
    }
    total
}

/// Applies a timing to the jitter buffers that exist and to those that come.
pub(super) fn set_timing(handles: &TransportHandles, timing: RetransmissionTiming) {
    if std::mem::replace(&mut *lock(&handles.retransmission_timing), timing) == timing {
        return;
    }
    let buffers = lock(&handles.jitter_buffers).clone();
    for buffer in buffers.iter().filter_map(|(_, buffer)| buffer.upgrade()) {
        gst::debug!(CAT, obj = buffer, "{timing:?}");
        apply_timing(&buffer, timing);
    }
}

/// Only video has retransmission.
fn apply_timing(buffer: &gst::Element, timing: RetransmissionTiming) {
    let is_video: bool = buffer.property("do-retransmission");
    let latency = match is_video {
        true => timing.video_wait_ms,
        false => timing.audio_wait_ms,
    };
    buffer.set_property("latency", latency);
    let timeout = timing.min_retry_timeout_ms;
    let timeout = timeout.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
    buffer.set_property("rtx-min-retry-timeout", timeout);
}

/// Sets up each jitter buffer that webrtcbin makes. webrtcbin sets a buffer's
/// retransmission to the `do-nack` of each transceiver of the bundle in turn, so
/// the last wins, which is often an audio transceiver. Which kind of media a
/// buffer carries is known with its first packet.
pub(super) fn watch_jitter_buffers(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let Some(rtpbin) = rtp_probes::find_rtpbin(webrtcbin) else {
        gst::warning!(CAT, "no rtpbin, so no retransmission");
        return;
    };
    rtp_probes::disable_rtpbin_sync(&rtpbin);
    counters::measure_round_trip(&rtpbin, &handles.counters);
    let handles = handles.clone();
    // One session has several jitter buffers.
    let first = Once::new();
    // Runs after webrtcbin's own handler.
    rtpbin.connect("new-jitterbuffer", false, move |values| {
        if let Some(session) = rtp_session(values) {
            hasten_rtcp(&session);
            first.call_once(|| {
                rtp_probes::observe_sender_reports(&session, &handles);
                counters::observe_rtcp(&session, &handles.counters);
            });
        }
        let buffer = values.get(1)?.get::<gst::Element>().ok()?;
        buffer.set_property("faststart-min-packets", FASTSTART_MIN_PACKETS);
        buffer.set_property("max-dropout-time", MAX_SEQUENCE_GAP_TIME);
        buffer.set_property("max-misorder-time", MAX_SEQUENCE_GAP_TIME);
        if let Some(sink) = buffer.static_pad("sink") {
            enable_video_retransmission(&sink, &handles);
            let ssrc = values.get(3)?.get::<u32>().ok()?;
            lock(&handles.jitter_buffers).push((ssrc, buffer.downgrade()));
            handles.counters.measure_jitter_buffer(ssrc, &buffer);
            rtp_probes::observe_packets(&sink, &handles);
        }
        None
    });
}

/// The `RTPSession` of a new jitter buffer, from the signal's arguments.
fn rtp_session(new_jitterbuffer: &[glib::Value]) -> Option<glib::Object> {
    let rtpbin = new_jitterbuffer.first()?.get::<gst::Element>().ok()?;
    let session = new_jitterbuffer.get(2)?.get::<u32>().ok()?;
    rtpbin.emit_by_name("get-internal-session", &[&session])
}

/// Lets NACKs go out at once: RTCP may take a twentieth of the session's
/// bandwidth, which GStreamer estimates too slowly. With less, a NACK waits for
/// other RTCP until it is too late to be of use. And lets the server know soon how
/// its packets arrive.
fn hasten_rtcp(session: &glib::Object) {
    if session.has_property("bandwidth") {
        session.set_property("bandwidth", SESSION_BANDWIDTH_BPS);
    }
    if session.has_property("rtcp-min-interval") {
        session.set_property("rtcp-min-interval", REPORT_INTERVAL.nseconds());
    }
}

/// Turns retransmission on for video and off for audio, by the payload type of
/// the first packet.
fn enable_video_retransmission(sink: &gst::Pad, handles: &TransportHandles) {
    let handles = handles.clone();
    sink.add_probe(PACKETS, move |sink, info| {
        let mut header = None;
        rtp_probes::for_each_packet(info, |packet| {
            header = header.or_else(|| rtp_probes::parse_rtp_header(packet));
        });
        let Some((_, payload_type)) = header else {
            return gst::PadProbeReturn::Ok;
        };
        let mut tracks = handles.negotiated.find_payload_type(payload_type);
        let is_video = tracks.any(|(track, _)| track.kind == Kind::Video);
        if let Some(buffer) = sink.parent_element() {
            buffer.set_property("do-retransmission", is_video);
            // Not for the packet expected next: video arrives unevenly, and packets
            // requested too early counted as lost (about 30 of 480 at latency=10,
            // without any loss).
            buffer.set_property("rtx-next-seqnum", false);
            apply_timing(&buffer, *lock(&handles.retransmission_timing));
            gst::debug!(
                CAT,
                obj = buffer,
                "payload type {payload_type}, RTX: {is_video}"
            );
            if is_video {
                // The depayloaders detect gaps by sequence numbers. On a lost
                // event, those for VP8 and VP9 in 1.22 go on to use an event
                // that is not there.
                buffer.set_property("do-lost", false);
            }
        }
        gst::PadProbeReturn::Remove
    });
}
