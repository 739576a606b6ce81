// SPDX-License-Identifier: MIT

//! A server that breaks every rule, over a real connection: on the data channels, in RTP and in
//! RTCP. Pictures, sound and the session survive; nothing hangs, and memory stays bounded.

use std::{
    collections::HashMap,
    sync::mpsc,
    thread::sleep,
    time::{Duration, Instant},
};

use reactor_tests::{
    peer::{Encoding, Peer, PeerConfig, Tamper},
    pipeline::{TestPipeline, count_buffers, status, wait_for_status, wait_until},
    process::in_own_process,
    random::SplitMix64,
    resources::ProcessResources,
};
use serde_json::json;

use crate::health;

/// The limit of a wait for something that takes no time on an idle machine.
const LIMIT: Duration = Duration::from_secs(40);
/// For how long packets are tampered with, at 30 pictures a second.
const TAMPERING: Duration = Duration::from_millis(600);
/// What a session may take, in KiB, whatever the peer sends.
const MEMORY: usize = 64 << 10;

/// A session with tracks of these encodings, all of which play.
struct Session {
    peer: Peer,
    running: TestPipeline,
    counters: Vec<(String, Box<dyn Fn() -> usize>)>,
}

impl Session {
    fn begin(config: PeerConfig) -> Self {
        Self::begin_with(config, "")
    }

    /// `filter` is put behind each pad.
    fn begin_with(config: PeerConfig, filter: &str) -> Self {
        health::watch();
        let tracks = config.tracks.clone();
        let peer = Peer::start(config);
        let mut line = format!("reactorsrc name=r local=true api-url={}", peer.url());
        for (name, encoding) in &tracks {
            let pad = format!("{}_{name}", encoding.kind());
            line += &format!(" r.{pad} {filter} ! identity name={name} ! fakesink sync=false");
        }
        let running = TestPipeline::parse(&line);
        let counters = tracks.into_iter().map(|(name, _)| {
            let count = count_buffers(&running.pad(&name, "src"));
            (name, Box::new(count) as Box<dyn Fn() -> usize>)
        });
        let counters = counters.collect();
        running.play();
        let this = Self {
            peer,
            running,
            counters,
        };
        this.check("the beginning");
        this
    }

    /// Panics unless every track goes on, and session and connection are as they were.
    fn check(&self, after: &str) {
        for (name, count) in &self.counters {
            let goal = count() + 10;
            wait_until(&format!("{name} after {after}"), LIMIT, || count() >= goal);
        }
        self.running.assert_no_error();
        assert_eq!(status(&self.running.by_name("r")), "ready", "{after}");
        assert_eq!(self.peer.offers(), 1, "another connection after {after}");
    }

    /// Changes the packets of all tracks for some time.
    fn tamper(&self, what: &str, mut tamper: Tamper) {
        let (changed, changes) = mpsc::channel();
        let counted = Box::new(move |packet: Vec<u8>| {
            let packets = tamper(packet.clone());
            if packets != [packet] {
                let _ = changed.send(());
            }
            packets
        });
        self.peer.tamper(Some(counted));
        sleep(TAMPERING);
        for _ in 0..20 {
            if changes.recv_timeout(LIMIT).is_err() {
                self.check(what);
                panic!("{what}: too few packets are changed");
            }
        }
        self.peer.tamper(None);
        self.check(what);
    }

    fn end(self) {
        let begin = Instant::now();
        self.running.stop();
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        health::assert_clean();
    }
}

/// Waits for the message of the model with this name; there may be others before it.
fn wait_for_message(session: &Session, name: &str) {
    session.peer.send_model_message(name, &json!({}));
    session.running.wait_message(LIMIT, |message| {
        let structure = message.structure()?;
        let is_it = structure.name() == "reactor-message"
            && structure
                .get::<&str>("type")
                .is_ok_and(|known| known == name);
        is_it.then_some(())
    });
}

#[test]
fn hostile_messages_leave_picture_and_session() {
    let mut config = PeerConfig::sending(&[Encoding::Vp8]);
    config.chunking = Some(1 << 20);
    let session = Session::begin(config);
    let peer = &session.peer;
    let before = ProcessResources::now();
    let mut random = SplitMix64::new(13);
    for label in ["control", "data"] {
        // No frame: text, nothing at all, flags of no meaning.
        peer.send_text(label, "{\"scope\":\"runtime\"}");
        peer.send_bytes(label, &[0]);
        peer.send_bytes(label, b"\xffsomething");
        // Frames, but no message: protobuf cut short and of no meaning, UTF-8 and JSON that is none.
        let malformed: [&[u8]; 8] = [
            b"\x00\x0a\x7f",
            b"\x00\x10\x03\x52\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x0b\x0b\x0b\x0b\x0b\x0b",
            b"\x00{\"scope\":",
            b"\x02\xff\xfe text",
            b"\x02[[[[[[[[",
            b"\x02{\"scope\":\"application\",\"data\":7}",
            b"\x02",
        ];
        malformed
            .iter()
            .for_each(|bytes| peer.send_bytes(label, bytes));
        for _ in 0..300 {
            let length = random.below(200);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            // Not the beginning of a message that would take in what follows.
            bytes.splice(..0, [0]);
            peer.send_bytes(label, &bytes);
        }
    }
    // What GLib's texts cannot hold.
    peer.send_model_message("zero\0byte", &json!({ "a\0b": "\0" }));
    session.check("malformed messages");
    wait_for_message(&session, "after_malformed");

    // A message without an end, beyond what either side has declared; it ends in an error at last.
    let endless = [&[1], vec![b'x'; 60_000].as_slice()].concat();
    for _ in 0..200 {
        peer.send_bytes("data", &endless);
    }
    session.check("a message without an end");
    peer.send_bytes("data", b"\x00end");
    wait_for_message(&session, "after_endless");

    // More messages than anybody reads.
    for n in 0..5000 {
        peer.send_model_message(&format!("flood{n}"), &json!({}));
    }
    wait_for_message(&session, "after_flood");
    session.check("a flood of messages");
    let grown = ProcessResources::now()
        .heap_kib
        .saturating_sub(before.heap_kib);
    assert!(grown < MEMORY, "{grown} KiB more");
    session.end();
}

/// Each packet is replaced by what `change` makes of it.
fn each(mut change: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Tamper {
    Box::new(move |mut packet| {
        change(&mut packet);
        vec![packet]
    })
}

/// Where the payload begins, after the header and its extension.
fn payload_of(packet: &[u8]) -> usize {
    let fixed = 12 + 4 * usize::from(packet[0] & 0x0f);
    match packet.get(fixed + 2..fixed + 4) {
        Some(words) if packet[0] & 0x10 != 0 => {
            let words = usize::from(u16::from_be_bytes([words[0], words[1]]));
            packet.len().min(fixed + 4 + 4 * words)
        }
        _ => packet.len().min(fixed),
    }
}

fn replace_payload(packet: &mut Vec<u8>, payload: &[u8]) {
    packet.truncate(payload_of(packet));
    packet.extend(payload);
}

/// Payloads cut short at any length, down to nothing.
fn truncated() -> Tamper {
    let mut random = SplitMix64::new(7);
    each(move |packet| {
        let begin = payload_of(packet);
        let left = packet.len() - begin;
        packet.truncate(begin + random.below(left + 1));
    })
}

/// Bytes of the payload changed, in two of three packets those of its beginning, where the
/// codecs' headers are.
fn corrupt() -> Tamper {
    let mut random = SplitMix64::new(11);
    each(move |packet| {
        let begin = payload_of(packet);
        let range = match random.below(3) {
            0 => packet.len() - begin,
            _ => 24.min(packet.len() - begin),
        };
        for _ in 0..4.min(range) {
            let at = begin + random.below(range);
            packet[at] = random.below(256) as u8;
        }
    })
}

/// Payloads of random bytes.
fn noise(seed: u64) -> Tamper {
    let mut random = SplitMix64::new(seed);
    each(move |packet| {
        let begin = payload_of(packet);
        packet[begin..].fill_with(|| random.below(256) as u8);
    })
}

/// Every packet goes on, and once more as it must not be.
fn doubled(mut change: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Tamper {
    Box::new(move |packet| {
        let mut wrong = packet.clone();
        change(&mut wrong);
        vec![packet, wrong]
    })
}

fn hostile_media(session: &Session) {
    let mut payload = 0;
    let other_payload = doubled(move |packet| {
        payload = (payload + 37) & 0x7f;
        packet[1] = packet[1] & 0x80 | payload;
    });
    session.tamper("other payload types", other_payload);
    let mut ssrc = 1u32;
    let other_ssrc = doubled(move |packet| {
        ssrc = ssrc % 20 + 1;
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    });
    session.tamper("other SSRCs", other_ssrc);
    let mut random = SplitMix64::new(5);
    let other_time = each(move |packet| {
        let time = random.below(1 << 32) as u32;
        packet[4..8].copy_from_slice(&time.to_be_bytes());
    });
    session.tamper("jumps of time", other_time);
    let mut random = SplitMix64::new(9);
    let padding = each(move |packet| {
        packet[0] |= 0x20;
        *packet.last_mut().expect("a payload") = random.below(256) as u8;
    });
    session.tamper("padding of any length", padding);
    session.tamper("truncated payloads", truncated());
    session.tamper("corrupt payloads", corrupt());
    session.tamper("random payloads", noise(17));
    session
        .peer
        .tamper(Some(jumping(&[1, 70, 900, 3100, 20_000, 32_000], 10)));
    sleep(TAMPERING);
    session.check("jumps of sequence numbers");
    // The last is beyond half of all numbers from what has come out of the jitter buffer.
    session
        .peer
        .tamper(Some(jumping(&[900, 14_000, 32_000], 3)));
    sleep(TAMPERING);
    session.check("jumps in quick succession");
}

/// The numbers of packets jump, after each `interval` packets of a stream, and go on from there:
/// less than half of all numbers at a time, which is as far as the peer's own encryption follows.
fn jumping(jumps: &'static [u16], interval: usize) -> Tamper {
    // The packets and the offset of each SSRC.
    let mut streams: HashMap<[u8; 4], (usize, u16)> = HashMap::new();
    each(move |packet| {
        let ssrc = [packet[8], packet[9], packet[10], packet[11]];
        let (packets, offset) = streams.entry(ssrc).or_default();
        *packets += 1;
        if *packets % interval == 0
            && let Some(jump) = jumps.get(*packets / interval - 1)
        {
            *offset = offset.wrapping_add(*jump);
        }
        let number = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(*offset);
        packet[2..4].copy_from_slice(&number.to_be_bytes());
    })
}

#[test]
fn hostile_rtp_leaves_pictures_and_sound() {
    let encodings = [Encoding::Vp8, Encoding::Vp9, Encoding::H264, Encoding::Opus];
    let session = Session::begin(PeerConfig::sending(&encodings));
    let before = ProcessResources::now();
    hostile_media(&session);
    let grown = ProcessResources::now()
        .heap_kib
        .saturating_sub(before.heap_kib);
    assert!(grown < MEMORY, "{grown} KiB more");
    session.end();
}

/// As of a server that starts its encoders anew: the streams go on under other SSRCs, and webrtcbin
/// takes them for tracks that nobody has asked for.
#[test]
fn streams_that_change_their_ssrc_come_on_another_connection() {
    let session = Session::begin(PeerConfig::sending(&[Encoding::Vp8, Encoding::Opus]));
    let moved = each(|packet| packet[8] ^= 0x55);
    session.peer.tamper(Some(moved));
    wait_until("another connection", LIMIT, || session.peer.offers() == 2);
    wait_for_status(&session.running.by_name("r"), "ready", LIMIT);
    for (name, count) in &session.counters {
        let goal = count() + 60;
        wait_until(&format!("{name} goes on"), LIMIT, || count() >= goal);
    }
    assert_eq!(session.peer.offers(), 2);
    session.running.assert_no_error();
    session.end();
}

/// Every other packet is a sequence parameter set (ITU-T H.264, 7.3.2.1.1) of a picture 16
/// pixels wide, of which 24 are cropped. h264parse 1.22 puts -8 into its caps.
fn impossible_size() -> Tamper {
    const SEQUENCE_PARAMETER_SET: [u8; 8] = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x7e, 0x37, 0x40];
    let mut is_changed = false;
    each(move |packet| {
        is_changed = !is_changed;
        if is_changed {
            replace_payload(packet, &SEQUENCE_PARAMETER_SET);
        }
    })
}

/// The last NAL unit of each access unit is this one.
fn last_of_unit(nal_unit: &'static [u8]) -> Tamper {
    each(move |packet| {
        let is_last = packet[1] & 0x80 != 0;
        if is_last {
            replace_payload(packet, nal_unit);
        }
    })
}

/// An end of sequence, and more. h264parse 1.26.2 crashes.
const LONG_END_OF_SEQUENCE: &[u8] = &[0x0a, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55];
/// A subset sequence parameter set for two views, without these (ITU-T H.264, G.7.3.2.1.4). h264parse
/// 1.22.0 and 1.26.2 crash.
const SHORT_SUBSET: &[u8] = &[0x6f, 0x76, 0x00, 0x1e, 0xac, 0xf7, 0x14];

/// Frames that end with the index of two frames of 4 GiB (VP9 Bitstream Specification, annex B).
fn impossible_index() -> Tamper {
    const INDEX: [u8; 10] = [0xd9, 255, 255, 255, 255, 255, 255, 255, 255, 0xd9];
    each(move |packet| {
        let is_last_of_frame = packet[1] & 0x80 != 0;
        if is_last_of_frame {
            packet.extend(INDEX);
        }
    })
}

/// vp9parse reads where the index points to.
#[test]
fn hostile_vp9_index_leaves_frames() {
    let config = PeerConfig::sending(&[Encoding::Vp9]);
    let session = Session::begin_with(config, "! video/x-vp9,alignment=frame");
    session.tamper("an impossible index", impossible_index());
    session.end();
}

/// Among random payloads are parameter sets, which elements keep.
#[test]
fn hostile_h264_leaves_picture() {
    let session = Session::begin(PeerConfig::sending(&[Encoding::H264]));
    session.tamper("an impossible size", impossible_size());
    session.tamper("a long end of sequence", last_of_unit(LONG_END_OF_SEQUENCE));
    session.tamper("a short parameter set", last_of_unit(SHORT_SUBSET));
    for seed in 1..=5 {
        session.tamper(&format!("random payloads {seed}"), noise(seed));
    }
    session.end();
}

/// GStreamer 1.22 has no elements for AV1 over RTP; those of gst-plugins-rs are for this process
/// only, since they change what every source offers.
#[test]
fn hostile_av1_leaves_picture() {
    if !in_own_process("hostile_peer::hostile_av1_leaves_picture") {
        return;
    }
    reactor_tests::init();
    gstrsrtp::plugin_register_static().expect("gst-plugin-rtp registers");
    let session = Session::begin(PeerConfig::sending(&[Encoding::Av1]));
    session.tamper("truncated payloads", truncated());
    session.tamper("corrupt payloads", corrupt());
    session.tamper("random payloads", noise(17));
    session.end();
}

/// An RTCP packet of this type and count, with a body of random words.
fn rtcp(random: &mut SplitMix64, kind: u8, count: u8, ssrc: u32) -> Vec<u8> {
    let words = random.below(12) as u16;
    let mut packet = vec![0x80 | count & 0x1f, kind];
    packet.extend((words + 1).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..words * 4).map(|_| random.below(256) as u8));
    packet
}

#[test]
fn rtcp_garbage_and_stray_packets_change_nothing() {
    let session = Session::begin(PeerConfig::sending(&[Encoding::Vp8, Encoding::Opus]));
    let peer = &session.peer;
    let (seen, ssrcs) = mpsc::channel();
    let watch = each(move |packet| {
        let _ = seen.send([packet[8], packet[9], packet[10], packet[11]]);
    });
    peer.tamper(Some(watch));
    let ssrc = u32::from_be_bytes(ssrcs.recv_timeout(LIMIT).expect("a packet"));
    peer.tamper(None);
    let mut random = SplitMix64::new(19);
    for n in 0..600u32 {
        // SR, RR, SDES, BYE, APP, transport and payload feedback, XR: in front of it an empty RR,
        // as every compound has it, or nothing.
        let kind = 200 + (n % 8) as u8;
        let count = random.below(32) as u8;
        let of = if n % 3 == 0 {
            ssrc
        } else {
            random.below(1 << 32) as u32
        };
        let mut packet = match n % 2 {
            0 => Vec::new(),
            _ => [&[0x80, 201, 0, 1], of.to_be_bytes().as_slice()].concat(),
        };
        packet.extend(rtcp(&mut random, kind, count, of));
        if n % 5 == 0 {
            let length = packet.len() - random.below(4);
            packet.truncate(length);
        }
        peer.send_rtcp(&packet);
    }
    session.check("RTCP garbage");
    // What anybody on the network can send: no authentication stands before it.
    let stray = (0..500).map(|n| {
        let length = random.below(1200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        // STUN, DTLS, RTP and RTCP begin with these.
        let begin: &[u8] = match n % 4 {
            0 => b"\x00\x01\x00\x08\x21\x12\xa4\x42",
            1 => b"\x16\xfe\xfd\x00\x00",
            2 => b"\x80\x60\x00\x01",
            _ => b"\x80\xc8\x00\x06",
        };
        bytes.splice(..0, begin.iter().copied());
        bytes
    });
    assert!(peer.send_stray_packets(&stray.collect::<Vec<_>>()) > 0);
    session.check("stray packets");
    session.end();
}
