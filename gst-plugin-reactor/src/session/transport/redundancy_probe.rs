// SPDX-License-Identifier: MIT

//! Forward error correction of received video, between webrtcbin's rtprtxreceive
//! and its rtpreddec. The transceivers offer RED and ULPFEC; libwebrtc sends FEC
//! where the network loses packets and the round trip is long. One probe shows each
//! packet to the receiver of its SSRC (`redundancy`), and chains what that recovers.
//! It runs on the thread that receives, and holds its lock for one packet.

use std::{collections::HashMap, sync::Mutex};

use gst::prelude::*;

use super::{
    handles::{CAT, NegotiatedTracks, TransportHandles},
    redundancy::{Fate, Header, Outcome, RedundancyReceiver},
    transport_cc,
};
use crate::platform::lock;

/// More than any server sends; each keeps a second of packets.
const MAX_STREAMS: usize = 16;

type Receivers = Mutex<HashMap<u32, RedundancyReceiver>>;

/// Watches the elements that webrtcbin makes.
pub(super) fn install(webrtcbin: &gst::Element, handles: &TransportHandles) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else {
        return;
    };
    let negotiated = handles.negotiated.clone();
    bin.connect_deep_element_added(move |_, _, element| {
        let factory = element.factory();
        match factory.as_ref().map(|factory| factory.name()).as_deref() {
            Some("rtpreddec") => probe(element, negotiated.clone()),
            Some("rtpulpfecdec") => bypass(element),
            _ => {}
        }
    });
}

/// GStreamer's decoder numbers packets anew, so that depayloaders would notice no
/// loss, and has nothing left to recover.
fn bypass(decoder: &gst::Element) {
    decoder.connect_notify(Some("passthrough"), |decoder, _| {
        if !decoder.property::<bool>("passthrough") {
            decoder.set_property("passthrough", true);
        }
    });
}

fn probe(reddec: &gst::Element, negotiated: NegotiatedTracks) {
    let Some(sink) = reddec.static_pad("sink") else {
        return;
    };
    let receivers = Receivers::default();
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else {
            return gst::PadProbeReturn::Ok;
        };
        let Some(outcome) = receive(&receivers, &negotiated, buffer) else {
            return gst::PadProbeReturn::Ok;
        };
        let template = buffer.clone();
        for packet in outcome.insert {
            gst::trace!(CAT, obj = pad, "inserting {} bytes", packet.len());
            // Goes through this probe, which finds nothing new in it.
            let _ = pad.chain(make_buffer(packet, &template));
        }
        match outcome.fate {
            Fate::Pass => gst::PadProbeReturn::Ok,
            Fate::Replace(packet) => {
                info.data = Some(gst::PadProbeData::Buffer(make_buffer(packet, &template)));
                gst::PadProbeReturn::Ok
            }
            Fate::Drop => gst::PadProbeReturn::Handled,
        }
    });
}

/// `None` for a packet of another kind.
fn receive(
    receivers: &Receivers,
    negotiated: &NegotiatedTracks,
    buffer: &gst::Buffer,
) -> Option<Outcome> {
    let packet = buffer.map_readable().ok()?;
    let header = Header::parse(&packet)?;
    let format = negotiated.redundancy(header.payload_type)?;
    let codec = |payload_type| {
        let mut codecs = negotiated.find_payload_type(payload_type);
        codecs.next().map(|(_, codec)| codec.name.as_str())
    };
    let mut receivers = lock(receivers);
    if receivers.len() == MAX_STREAMS && !receivers.contains_key(&header.ssrc) {
        return None;
    }
    let receiver = receivers.entry(header.ssrc).or_default();
    Some(receiver.receive(&packet, format, transport_cc::EXTENSION_ID, codec))
}

/// A packet that arrives together with another one.
fn make_buffer(packet: Vec<u8>, template: &gst::Buffer) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(packet);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(template.pts());
        buffer.set_dts(template.dts());
    }
    buffer
}
