// SPDX-License-Identifier: MIT

use super::{super::ulpfec::tests::protect, *};

const FORMAT: RedundancyFormat = RedundancyFormat {
    red: 99,
    ulpfec: 100,
};
const VP9: u8 = 98;
const EXTENSION: u8 = 1;

/// A sender of pictures, each of some packets with FEC behind them.
#[derive(Default)]
struct Sender {
    number: u16,
    picture: u8,
    receiver: RedundancyReceiver,
}

/// A packet with the transport-wide number 77 in its header extension.
fn packet(number: u16, payload_type: u8, marker: bool, picture: u8, payload: &[u8]) -> Vec<u8> {
    let [n0, n1] = number.to_be_bytes();
    let second = payload_type | u8::from(marker) << 7;
    let mut packet = vec![0x90, second, n0, n1, 0, 0, 0, picture, 0, 0, 0, 5];
    packet.extend([0xbe, 0xde, 0, 1, EXTENSION << 4 | 1, 0, 77, 0]);
    packet.extend(payload);
    packet
}

impl Sender {
    fn new(number: u16) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// The packets of a picture as they are protected, and as they are sent: in RED,
    /// with `fec` packets behind them.
    fn picture(&mut self, packets: u16, fec: u16) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let picture = self.picture & 0x7f;
        self.picture = self.picture.wrapping_add(1);
        let (mut plain, mut sent) = (Vec::new(), Vec::new());
        for n in 0..packets {
            let is_last = n + 1 == packets;
            let descriptor = 0x80 | if n == 0 { 0x08 } else { 0 };
            let size = 5 + usize::from(n) * 3;
            let payload = [vec![descriptor, picture], vec![n as u8; size]].concat();
            let mut media = packet(self.number, VP9, is_last, picture, &payload);
            media[16..20].copy_from_slice(&[EXTENSION << 4 | 1, 0, 0, 0]);
            plain.push(media);
            let red = [vec![VP9], payload].concat();
            sent.push(packet(self.number, FORMAT.red, is_last, picture, &red));
            self.number = self.number.wrapping_add(1);
        }
        for _ in 0..fec {
            let slices: Vec<&[u8]> = plain.iter().map(Vec::as_slice).collect();
            let red = [vec![FORMAT.ulpfec], protect(&slices)].concat();
            sent.push(packet(self.number, FORMAT.red, false, picture, &red));
            self.number = self.number.wrapping_add(1);
        }
        (plain, sent)
    }

    fn receive(&mut self, packet: &[u8]) -> Outcome {
        let codec = |payload_type| (payload_type == VP9).then_some("VP9");
        self.receiver.receive(packet, FORMAT, EXTENSION, codec)
    }
}

fn number(packet: &[u8]) -> u16 {
    Header::parse(packet).unwrap().number
}

#[test]
fn fec_is_replaced_and_media_passes() {
    let mut sender = Sender::new(65_533);
    for _ in 0..300 {
        let (_, sent) = sender.picture(3, 1);
        for media in &sent[..3] {
            let outcome = sender.receive(media);
            assert_eq!((outcome.fate, outcome.insert.len()), (Fate::Pass, 0));
        }
        let Outcome { fate, insert } = sender.receive(&sent[3]);
        assert!(insert.is_empty());
        let Fate::Replace(stand_in) = fate else {
            panic!("{fate:?}");
        };
        assert_eq!(stand_in.len(), RTP_HEADER);
        let header = Header::parse(&stand_in).unwrap();
        assert_eq!(header.payload_type, VP9);
        assert_eq!(header.timestamp, Header::parse(&sent[0]).unwrap().timestamp);
        assert_eq!((header.number, header.ssrc), (number(&sent[3]), 5));
    }
}

#[test]
fn any_lost_packet_is_recovered_as_it_was_protected() {
    let mut sender = Sender::new(65_530);
    for lost in (0..4).cycle().take(200) {
        let (plain, sent) = sender.picture(4, 1);
        let mut inserted = Vec::new();
        for (n, media) in sent.iter().enumerate() {
            if n != lost {
                inserted.extend(sender.receive(media).insert);
            }
        }
        assert_eq!(inserted, [plain[lost].clone()], "{lost}");
    }
}

#[test]
fn lost_fec_is_filled_when_next_picture_begins() {
    let mut sender = Sender::new(65_530);
    let (_, first) = sender.picture(2, 2);
    let (_, second) = sender.picture(2, 0);
    for media in &first[..2] {
        sender.receive(media);
    }
    let outcome = sender.receive(&second[0]);
    let numbers: Vec<u16> = outcome.insert.iter().map(|p| number(p)).collect();
    assert_eq!(outcome.fate, Fate::Pass);
    assert_eq!(numbers, [number(&first[2]), number(&first[3])]);
    // It was only late.
    let outcome = sender.receive(&first[2]);
    assert_eq!((outcome.fate, outcome.insert.len()), (Fate::Drop, 0));
    assert!(sender.receive(&second[1]).insert.is_empty());
}

#[test]
fn gap_that_may_hold_media_is_not_filled() {
    let mut sender = Sender::new(0);
    let (_, first) = sender.picture(2, 0);
    let (_, _missed) = sender.picture(1, 0);
    let (_, third) = sender.picture(2, 0);
    for media in &first {
        assert!(sender.receive(media).insert.is_empty());
    }
    assert!(sender.receive(&third[0]).insert.is_empty());
    // Within a picture, at its end, at the start of the next.
    let (_, fourth) = sender.picture(3, 1);
    let (_, fifth) = sender.picture(3, 0);
    for media in [&third[1], &fourth[0], &fifth[1]] {
        assert!(sender.receive(media).insert.is_empty());
    }
    assert!(sender.receive(&fourth[2]).insert.is_empty());
    // The retransmission of the start tells that the FEC is missing.
    let outcome = sender.receive(&fifth[0]);
    assert_eq!(outcome.insert.len(), 1);
    assert_eq!(number(&outcome.insert[0]), number(&fourth[3]));
}

#[test]
fn retransmission_completes_what_fec_needs() {
    let mut sender = Sender::new(100);
    let (plain, sent) = sender.picture(4, 1);
    // Two are lost: one packet of FEC is not enough.
    for n in [0, 3, 4] {
        assert!(sender.receive(&sent[n]).insert.is_empty());
    }
    let outcome = sender.receive(&sent[2]);
    assert_eq!(outcome.fate, Fate::Pass);
    assert_eq!(outcome.insert, [plain[1].clone()]);
    assert!(sender.receiver.pending.is_empty());
}

#[test]
fn jump_of_numbers_starts_again() {
    let mut sender = Sender::new(0);
    for number in [0, 20_000, 19_000] {
        sender.number = number;
        let (plain, sent) = sender.picture(3, 1);
        sender.receive(&sent[0]);
        sender.receive(&sent[2]);
        assert_eq!(sender.receive(&sent[3]).insert, [plain[1].clone()]);
    }
    assert!(sender.receiver.pending.is_empty());
}

#[test]
fn fec_that_helps_no_more_is_forgotten() {
    let mut sender = Sender::new(0);
    for _ in 0..1000 {
        let (_, sent) = sender.picture(3, 1);
        sender.receive(&sent[0]);
        sender.receive(&sent[3]);
    }
    assert!(sender.receiver.pending.len() <= MAX_PENDING_FEC);
}

#[test]
fn other_and_malformed_packets_pass() {
    let mut sender = Sender::new(0);
    let (_, sent) = sender.picture(2, 1);
    for packet in &sent {
        for length in 0..packet.len() {
            let mut short = Sender::new(0);
            short.receive(&packet[..length]);
        }
    }
    let two_blocks = packet(9, FORMAT.red, false, 0, &[VP9 | FOLLOWED, 0, 0, 0, VP9, 1]);
    let unknown = packet(10, 120, false, 0, &[1, 2, 3]);
    let padding = packet(11, FORMAT.red, false, 0, &[]);
    for packet in [two_blocks, unknown, padding] {
        let outcome = sender.receive(&packet);
        assert_eq!((outcome.fate, outcome.insert.len()), (Fate::Pass, 0));
    }
}
