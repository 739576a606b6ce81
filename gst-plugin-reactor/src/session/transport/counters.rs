// SPDX-License-Identifier: MIT

//! What a connection counts beside webrtcbin: the packets on its ICE transport, and
//! the time that received packets spend in the jitter buffer. Probes on streaming
//! threads count with atomics, or a lock for one assignment; the statistics' reader
//! reads, and keeps what webrtcbin forgets. They never drop a packet.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{
    handles::{TransportHandles, bridge_clock},
    round_trip::{self, RoundTripMeter},
    rtp_probes::{self, PACKETS},
    source_totals::{SourceCounts, SourceTotals},
};
use crate::{platform::lock, session::statistics::Traffic};

#[derive(Debug, Default)]
pub(super) struct TransportCounters {
    pub sent: TrafficCounter,
    pub received: TrafficCounter,
    pub round_trip: Mutex<RoundTripMeter>,
    /// The SSRCs of the received tracks.
    receivers: Mutex<BTreeMap<String, Vec<u32>>>,
    /// By SSRC.
    delays: Mutex<BTreeMap<u32, Arc<Mutex<JitterBufferDelay>>>>,
    /// By SSRC, received or sent. Only the statistics' reader locks them.
    sources: Mutex<HashMap<u32, SourceTotals>>,
}

#[derive(Debug, Default)]
pub(super) struct TrafficCounter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl TrafficCounter {
    fn count(&self, packet: &gst::BufferRef) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(packet.size() as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            bitrate: None,
        }
    }
}

/// How long packets stay in one jitter buffer. Its streaming threads lock it for
/// one assignment.
#[derive(Debug)]
pub(super) struct JitterBufferDelay {
    /// The sequence numbers and arrivals of the last packets, by sequence number.
    arrivals: Vec<Option<(u16, Instant)>>,
    total: Duration,
    emitted_count: u64,
}

/// More packets than a jitter buffer holds: 2 s at 8 Mbit/s. A longer stay is not
/// counted.
const MAX_ARRIVALS: usize = 2048;

impl Default for JitterBufferDelay {
    fn default() -> Self {
        Self {
            arrivals: vec![None; MAX_ARRIVALS],
            total: Duration::ZERO,
            emitted_count: 0,
        }
    }
}

impl JitterBufferDelay {
    fn arrive(&mut self, sequence_number: u16, now: Instant) {
        let slot = usize::from(sequence_number) % MAX_ARRIVALS;
        // The first arrival counts, not that of a duplicate.
        if self.arrivals[slot].is_none_or(|(number, _)| number != sequence_number) {
            self.arrivals[slot] = Some((sequence_number, now));
        }
    }

    fn leave(&mut self, sequence_number: u16, now: Instant) {
        let slot = usize::from(sequence_number) % MAX_ARRIVALS;
        if let Some((_, arrival)) =
            self.arrivals[slot].take_if(|(number, _)| *number == sequence_number)
        {
            self.total += now.saturating_duration_since(arrival);
            self.emitted_count += 1;
        }
    }
}

/// What was counted of one received track.
#[derive(Debug, Default, Clone)]
pub(super) struct ReceiverCounts {
    /// Nearly always one; another one if the server begins the track anew.
    pub ssrcs: Vec<u32>,
    pub jitter_buffer_delay: Duration,
    pub jitter_buffer_emitted_count: u64,
}

impl TransportCounters {
    /// By track.
    pub(super) fn receivers(&self) -> BTreeMap<String, ReceiverCounts> {
        let receivers = lock(&self.receivers).clone();
        let delays = lock(&self.delays).clone();
        let counts = |ssrcs: Vec<u32>| {
            let mut counts = ReceiverCounts::default();
            for delay in ssrcs.iter().filter_map(|ssrc| delays.get(ssrc)) {
                let delay = lock(delay);
                counts.jitter_buffer_delay += delay.total;
                counts.jitter_buffer_emitted_count += delay.emitted_count;
            }
            ReceiverCounts { ssrcs, ..counts }
        };
        receivers
            .into_iter()
            .map(|(track, ssrcs)| (track, counts(ssrcs)))
            .collect()
    }

    /// What was counted of an SSRC. `current` is of its present RTPSource; `None` if it
    /// never had one.
    pub(super) fn source_total(
        &self,
        ssrc: u32,
        current: Option<SourceCounts>,
    ) -> Option<SourceCounts> {
        let mut sources = lock(&self.sources);
        let totals = match current {
            Some(_) => sources.entry(ssrc).or_default(),
            None => sources.get_mut(&ssrc)?,
        };
        Some(totals.update(current.unwrap_or_default()))
    }

    /// The packets that the server lost of a sent SSRC, of which this is the present
    /// report.
    pub(super) fn reported_lost(&self, ssrc: u32, report: Option<i32>) -> i64 {
        let mut sources = lock(&self.sources);
        sources.entry(ssrc).or_default().reported_lost(report)
    }

    /// Takes the SSRC of a received track from the first packet on its pad.
    pub(super) fn find_receiver(self: &Arc<Self>, track: &str, pad: &gst::Pad) {
        let (counters, track) = (self.clone(), track.to_owned());
        pad.add_probe(PACKETS, move |_, info| {
            rtp_probes::for_each_packet(info, |packet| {
                let header = rtp_probes::parse_rtp_header(packet);
                let mut receivers = lock(&counters.receivers);
                let ssrcs = receivers.entry(track.clone()).or_default();
                if let Some((header, _)) = header
                    && !ssrcs.contains(&header.ssrc)
                {
                    ssrcs.push(header.ssrc);
                }
            });
            gst::PadProbeReturn::Remove
        });
    }

    /// Measures how long packets stay in the jitter buffer of an SSRC.
    pub(super) fn measure_jitter_buffer(&self, ssrc: u32, buffer: &gst::Element) {
        let delay = lock(&self.delays).entry(ssrc).or_default().clone();
        for (name, leaves) in [("sink", false), ("src", true)] {
            let Some(pad) = buffer.static_pad(name) else {
                continue;
            };
            let delay = delay.clone();
            pad.add_probe(PACKETS, move |_, info| {
                let now = Instant::now();
                rtp_probes::for_each_packet(info, |packet| {
                    let Some((header, _)) = rtp_probes::parse_rtp_header(packet) else {
                        return;
                    };
                    let mut delay = lock(&delay);
                    match leaves {
                        true => delay.leave(header.sequence_number, now),
                        false => delay.arrive(header.sequence_number, now),
                    }
                });
                gst::PadProbeReturn::Ok
            });
        }
    }
}

/// Counts what the ICE transport sends and receives: all that is between the
/// hosts, but for STUN. The DTLS handshake gives a first round trip.
pub(super) fn count_transport(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else {
        return;
    };
    let handles = handles.clone();
    bin.connect_deep_element_added(move |_, _, element| {
        let factory = element.factory();
        let (pad, sends) = match factory.as_ref().map(|factory| factory.name()).as_deref() {
            Some("nicesink") => ("sink", true),
            Some("nicesrc") => ("src", false),
            _ => return,
        };
        if let Some(pad) = element.static_pad(pad) {
            observe_packets(&pad, handles.clone(), sends);
        }
    });
}

fn observe_packets(pad: &gst::Pad, handles: TransportHandles, sends: bool) {
    pad.add_probe(PACKETS, move |_, info| {
        let counters = &handles.counters;
        let counter = match sends {
            true => &counters.sent,
            false => &counters.received,
        };
        rtp_probes::for_each_packet(info, |packet| {
            counter.count(packet);
            if !sends {
                rtp_probes::observe_arrival(&handles, packet);
            }
            let packet = packet.map_readable();
            if packet.is_ok_and(|packet| round_trip::is_handshake(&packet)) {
                let now = bridge_clock().time().into();
                lock(&counters.round_trip).observe_handshake(sends, now);
            }
        });
        gst::PadProbeReturn::Ok
    });
}

/// Measures the round trip by the RTCP of the session.
pub(super) fn measure_round_trip(rtpbin: &gst::Element, counters: &Arc<TransportCounters>) {
    let counters = counters.clone();
    rtpbin.connect_pad_added(move |_, pad| {
        if !pad.name().starts_with("send_rtcp_src") {
            return;
        }
        let counters = counters.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                add_reference_time(buffer, &counters);
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// Appends a receiver reference time report, when one is due.
fn add_reference_time(buffer: &mut gst::Buffer, counters: &TransportCounters) {
    let report = buffer.map_readable().ok().and_then(|packet| {
        let mut round_trip = lock(&counters.round_trip);
        round_trip.reference_time_report(&packet, bridge_clock().time().into())
    });
    if let Some(report) = report {
        let memory = gst::Memory::from_slice(report);
        buffer.make_mut().append_memory(memory);
    }
}

/// Shows the meter each RTCP packet of the server.
pub(super) fn observe_rtcp(session: &glib::Object, counters: &Arc<TransportCounters>) {
    if glib::subclass::SignalId::lookup("on-receiving-rtcp", session.type_()).is_none() {
        return;
    }
    let counters = counters.clone();
    session.connect("on-receiving-rtcp", false, move |values| {
        let packet = values.get(1)?.get::<gst::Buffer>().ok()?;
        let now = bridge_clock().time().into();
        lock(&counters.round_trip).observe(&packet.map_readable().ok()?, now);
        None
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_that_is_gone_is_still_counted() {
        let counters = TransportCounters::default();
        assert_eq!(counters.source_total(7, None), None);
        let counts = |packets| SourceCounts {
            packets,
            ..SourceCounts::default()
        };
        for (current, expected) in [(Some(90), 90), (None, 90), (None, 90), (Some(10), 100)] {
            let total = counters.source_total(7, current.map(counts));
            assert_eq!(total, Some(counts(expected)));
        }
        assert_eq!(counters.source_total(8, None), None);
    }

    #[test]
    fn delay_is_that_of_first_arrival_and_lost_packets_have_none() {
        let mut delay = JitterBufferDelay::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (number, ms) in [(65535, 0), (0, 10), (0, 25), (2, 20)] {
            delay.arrive(number, at(ms));
        }
        delay.leave(65535, at(60));
        delay.leave(0, at(60));
        // 1 never arrived; 2 + MAX_ARRIVALS takes the place of 2.
        delay.leave(1, at(60));
        delay.arrive(2 + MAX_ARRIVALS as u16, at(70));
        delay.leave(2, at(80));
        assert_eq!(delay.emitted_count, 2);
        assert_eq!(delay.total, Duration::from_millis(110));
    }
}
