// SPDX-License-Identifier: MIT

//! What a server must not do: frames that are no messages, RTP and RTCP that is garbage.

use std::{
    net::UdpSocket,
    sync::{Arc, Mutex},
};

use gst::prelude::*;
use gst_webrtc::WebRTCDataChannel;

use super::{Peer, connection::Connection};

/// Changes RTP packets on their way into the connection: one packet becomes any number.
pub type Tamper = Box<dyn FnMut(Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// The place of the connection's [`Tamper`], if there is one.
#[derive(Default, Clone)]
pub(super) struct Tampering(Arc<Mutex<Option<Tamper>>>);

impl std::fmt::Debug for Tampering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tampering").finish_non_exhaustive()
    }
}

impl Tampering {
    /// Has packets that leave the pad changed.
    pub(super) fn install(&self, pad: &gst::Pad) {
        let this = self.clone();
        let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(what, move |pad, info| {
            let mut tamper = this.0.lock().unwrap();
            let (Some(tamper), Some(peer)) = (tamper.as_mut(), pad.peer()) else {
                return gst::PadProbeReturn::Ok;
            };
            let packets: Vec<gst::Buffer> = match info.data.take() {
                Some(gst::PadProbeData::Buffer(buffer)) => vec![buffer],
                Some(gst::PadProbeData::BufferList(list)) => list.iter_owned().collect(),
                _ => Vec::new(),
            };
            for packet in packets {
                let bytes = packet.map_readable().expect("bytes").to_vec();
                for changed in tamper(bytes) {
                    let mut buffer = gst::Buffer::from_mut_slice(changed);
                    let times = buffer.get_mut().expect("a buffer of its own");
                    times.set_pts(packet.pts());
                    times.set_dts(packet.dts());
                    // Not through the pad, whose probe this is.
                    let _ = peer.chain(buffer);
                }
            }
            gst::PadProbeReturn::Handled
        });
    }

    fn set(&self, tamper: Option<Tamper>) {
        *self.0.lock().unwrap() = tamper;
    }
}

impl Connection {
    /// Where packets leave rtpbin, which would stumble over them itself, to be encrypted.
    fn leaving(&self, pad: &str) -> gst::Pad {
        let bin = self.webrtcbin.downcast_ref::<gst::Bin>();
        let rtpbin = bin.and_then(|bin| bin.by_name("rtpbin"));
        let pad = rtpbin.and_then(|rtpbin| rtpbin.static_pad(pad));
        pad.expect("a pad of rtpbin")
    }

    fn tamper(&self, tamper: Option<Tamper>) {
        let tampering = self.tampering.get_or_init(|| {
            let tampering = Tampering::default();
            tampering.install(&self.leaving("send_rtp_src_0"));
            tampering
        });
        tampering.set(tamper);
    }
}

impl Peer {
    fn connected(&self) -> Arc<Connection> {
        self.shared.connection().expect("a connection")
    }

    fn channel(&self, label: &str) -> WebRTCDataChannel {
        self.connected().channel(label).expect("the channel")
    }

    /// Sends a binary message that is what it is: without encoding or framing.
    ///
    /// Panics if there is no such channel.
    pub fn send_bytes(&self, label: &str, bytes: &[u8]) {
        let bytes = gst::glib::Bytes::from_owned(bytes.to_vec());
        self.channel(label)
            .send_data_full(Some(&bytes))
            .expect("sent");
    }

    /// Sends this text as a message, whether it is valid or not.
    pub fn send_text(&self, label: &str, text: &str) {
        self.channel(label)
            .send_string_full(Some(text))
            .expect("sent");
    }

    /// The bytes of a channel that wait to be sent.
    pub fn buffered(&self, label: &str) -> u64 {
        self.channel(label).buffered_amount()
    }

    /// Changes the packets of all tracks from now on, or no more.
    pub fn tamper(&self, tamper: Option<Tamper>) {
        self.connected().tamper(tamper);
    }

    /// Sends an RTCP packet. The peer encrypts it, as it does its own RTCP packets.
    pub fn send_rtcp(&self, packet: &[u8]) {
        let peer = self.connected().leaving("send_rtcp_src_0").peer();
        let buffer = gst::Buffer::from_slice(packet.to_vec());
        let _ = peer.expect("a linked pad").chain(buffer);
    }

    /// Sends UDP packets, from a socket that is not the connection's, to every address of the
    /// client's that takes them. Returns how many were sent.
    pub fn send_stray_packets(&self, packets: &[Vec<u8>]) -> usize {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let offers = self.shared.offers.lock().unwrap();
        let lines = offers.iter().flat_map(|offer| offer.sdp.lines());
        let mut known: Vec<String> = lines.map(str::to_owned).collect();
        known.extend(self.shared.trickled.lock().unwrap().iter().cloned());
        let mut sent = 0;
        for line in known.iter().filter(|line| line.contains("candidate:")) {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, _, transport, _, address, port, ..] = fields.as_slice() else {
                continue;
            };
            if transport.eq_ignore_ascii_case("udp") {
                for packet in packets {
                    let to = format!("{address}:{port}");
                    sent += usize::from(socket.send_to(packet, to).is_ok());
                }
            }
        }
        sent
    }
}
