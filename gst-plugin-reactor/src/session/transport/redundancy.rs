// SPDX-License-Identifier: MIT

//! What a stream of RED packets (RFC 2198) with ULPFEC (RFC 5109) yields before
//! the jitter buffer, which releases packets in their order and waits for each that
//! is missing: lost packets that are recovered, and stand-ins for those that carry
//! no media. The server never sends a packet of FEC again, so it must not be waited
//! for. Pure; `redundancy_probe` calls it on a streaming thread.
//!
//! libwebrtc sends media and FEC under one SSRC and one sequence of numbers, and the
//! FEC of a picture behind its last packet. GStreamer's own decoder (rtpulpfecdec)
//! stands behind the jitter buffer and begins when that has given a packet up.

use std::collections::VecDeque;

use super::{
    picture_boundaries::PictureInfo,
    ulpfec::{FecPacket, RTP_HEADER},
};
use crate::platform::sdp::RedundancyFormat;

/// The packets that are kept: more than FEC refers to, and less than the half of all
/// numbers.
const WINDOW: u16 = 1024;
/// FEC packets that are kept while more than one of their packets is missing.
const MAX_PENDING_FEC: usize = 64;
/// The longest gap between two pictures that is filled.
const MAX_GAP: u16 = 64;
const MARKER: u8 = 0x80;
/// In the header of a RED block: another block follows.
const FOLLOWED: u8 = 0x80;

/// What becomes of a packet that was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    /// This goes on in its place.
    Replace(Vec<u8>),
    /// It has been replaced already.
    Drop,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub fate: Fate,
    /// Packets to insert before it, without RED.
    pub insert: Vec<Vec<u8>>,
}

/// What one SSRC has received lately.
#[derive(Debug)]
pub(super) struct RedundancyReceiver {
    slots: Vec<Slot>,
    newest: Option<u16>,
    pending: VecDeque<FecPacket>,
    /// That of the last media packet.
    media_type: Option<u8>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    number: u16,
    content: Content,
}

#[derive(Debug, Clone, Default)]
enum Content {
    #[default]
    Missing,
    Media {
        /// As it was protected: without RED.
        packet: Vec<u8>,
        picture: PictureInfo,
    },
    /// FEC, or what stands in for it.
    NoMedia,
}

/// Of the fixed header and what follows it (RFC 3550, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub payload_type: u8,
    number: u16,
    timestamp: u32,
    pub ssrc: u32,
    /// Where the payload begins.
    length: usize,
    /// Where the header extension's elements are, if any.
    extension: usize,
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let [first, second, n0, n1, t0, t1, t2, t3, s0, s1, s2, s3] =
            *packet.first_chunk::<RTP_HEADER>()?;
        let mut length = RTP_HEADER + 4 * usize::from(first & 0x0f);
        let mut extension = length;
        if first & 0x10 != 0 {
            let [_, _, l0, l1] = *packet.get(length..)?.first_chunk()?;
            extension = length + 4;
            length = extension + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        }
        (first >> 6 == 2 && packet.len() >= length).then_some(Self {
            payload_type: second & !MARKER,
            number: u16::from_be_bytes([n0, n1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            length,
            extension,
        })
    }
}

impl Default for RedundancyReceiver {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); WINDOW.into()],
            newest: None,
            pending: VecDeque::new(),
            media_type: None,
        }
    }
}

impl RedundancyReceiver {
    /// Takes in an RTP packet. `codec` tells what codec a payload type is, and
    /// `mutable_extension` is the id of a header extension that is written after the
    /// packet was protected.
    pub(super) fn receive<'a>(
        &mut self,
        packet: &[u8],
        format: RedundancyFormat,
        mutable_extension: u8,
        codec: impl Fn(u8) -> Option<&'a str>,
    ) -> Outcome {
        let mut outcome = Outcome {
            fate: Fate::Pass,
            insert: Vec::new(),
        };
        let Some((header, block)) = read_block(packet, format.red) else {
            return outcome;
        };
        self.follow(header.number);
        if block.payload_type == format.ulpfec {
            outcome.fate = self.receive_fec(header, block.payload);
        } else if let Some(codec) = codec(block.payload_type) {
            let media = unwrap(packet, header, &block, mutable_extension);
            self.keep(header.number, media, codec);
            self.fill_around(header.number, &mut outcome.insert);
        }
        self.recover(header.ssrc, &codec, &mut outcome.insert);
        outcome
    }

    /// Forgets everything if the numbers jump.
    fn follow(&mut self, number: u16) {
        let Some(newest) = self.newest else {
            self.newest = Some(number);
            return;
        };
        let ahead = number.wrapping_sub(newest) as i16;
        if ahead.unsigned_abs() > WINDOW / 2 {
            *self = Self::default();
            self.newest = Some(number);
        } else if ahead > 0 {
            self.newest = Some(number);
        }
    }

    fn receive_fec(&mut self, header: Header, payload: &[u8]) -> Fate {
        if let Some(fec) = FecPacket::parse(payload) {
            if self.pending.len() == MAX_PENDING_FEC {
                self.pending.pop_front();
            }
            self.pending.push_back(fec);
        }
        let Some(media_type) = self.media_type else {
            return Fate::Drop;
        };
        if !matches!(self.content(header.number), Content::Missing) {
            return Fate::Drop;
        }
        self.set(header.number, Content::NoMedia);
        Fate::Replace(stand_in(header, media_type))
    }

    fn keep(&mut self, number: u16, packet: Vec<u8>, codec: &str) {
        let Some(header) = Header::parse(&packet) else {
            return;
        };
        self.media_type = Some(header.payload_type);
        let picture = PictureInfo::parse(codec, &packet[header.length..]);
        self.set(number, Content::Media { packet, picture });
    }

    /// Recovers what can be recovered, and inserts it.
    fn recover<'a>(
        &mut self,
        ssrc: u32,
        codec: &impl Fn(u8) -> Option<&'a str>,
        insert: &mut Vec<Vec<u8>>,
    ) {
        let oldest = self.newest.unwrap_or_default().wrapping_sub(WINDOW / 2);
        let mut n = 0;
        while let Some(fec) = self.pending.get(n) {
            let is_missing = |number: &&u16| self.media(**number).is_none();
            let mut missing = fec.protected.iter().filter(is_missing).copied();
            let (first, second) = (missing.next(), missing.next());
            let is_old = fec.protected.iter().any(|number| {
                // Its packets are about to leave the window.
                (number.wrapping_sub(oldest) as i16) < 0
            });
            let packet = match (first, second) {
                _ if is_old => None,
                (Some(_), Some(_)) => {
                    n += 1;
                    continue;
                }
                (Some(number), None) => {
                    let others = fec.protected.iter().filter_map(|other| self.media(*other));
                    fec.recover(number, ssrc, others.map(|(packet, _)| packet))
                }
                (None, _) => None,
            };
            self.pending.remove(n);
            let payload_type = |packet: &[u8]| Some(Header::parse(packet)?.payload_type);
            let codec = |packet: &[u8]| codec(payload_type(packet)?);
            if let Some((number, packet)) = first.zip(packet)
                && let Some(codec) = codec(&packet)
            {
                insert.push(packet.clone());
                self.keep(number, packet, codec);
                self.fill_around(number, insert);
                // It may be what other packets of FEC wait for.
                n = 0;
            }
        }
    }

    /// Inserts stand-ins for what is missing next to a packet, but between two
    /// pictures.
    fn fill_around(&mut self, number: u16, insert: &mut Vec<Vec<u8>>) {
        let media = |distance: &u16| self.media(number.wrapping_sub(*distance)).is_some();
        let before = (1..=MAX_GAP).find(media);
        let media = |distance: &u16| self.media(number.wrapping_add(*distance)).is_some();
        let after = (1..=MAX_GAP).find(media);
        if let Some(distance) = before {
            self.fill(number.wrapping_sub(distance), number, insert);
        }
        if let Some(distance) = after {
            self.fill(number, number.wrapping_add(distance), insert);
        }
    }

    fn fill(&mut self, last: u16, first: u16, insert: &mut Vec<Vec<u8>>) {
        let Some(((end, before), (_, after))) = self.media(last).zip(self.media(first)) else {
            return;
        };
        let ends = end[1] & MARKER != 0;
        let Some(header) = Header::parse(end).filter(|_| ends && after.starts) else {
            return;
        };
        if !after.follows(before) {
            return;
        }
        for distance in 1..first.wrapping_sub(last) {
            let number = last.wrapping_add(distance);
            if matches!(self.content(number), Content::Missing) {
                self.set(number, Content::NoMedia);
                insert.push(stand_in(Header { number, ..header }, header.payload_type));
            }
        }
    }

    fn content(&self, number: u16) -> &Content {
        match &self.slots[usize::from(number % WINDOW)] {
            slot if slot.number == number => &slot.content,
            _ => &Content::Missing,
        }
    }

    fn media(&self, number: u16) -> Option<(&[u8], PictureInfo)> {
        match self.content(number) {
            Content::Media { packet, picture } => Some((packet, *picture)),
            _ => None,
        }
    }

    fn set(&mut self, number: u16, content: Content) {
        self.slots[usize::from(number % WINDOW)] = Slot { number, content };
    }
}

/// What a packet carries.
struct Block<'a> {
    payload_type: u8,
    payload: &'a [u8],
}

/// The one block of a RED packet. libwebrtc makes no packets of several blocks for
/// video.
fn read_block(packet: &[u8], red: u8) -> Option<(Header, Block<'_>)> {
    let header = Header::parse(packet).filter(|header| header.payload_type == red)?;
    let (&payload_type, payload) = packet[header.length..].split_first()?;
    let block = Block {
        payload_type,
        payload,
    };
    let is_last = payload_type & FOLLOWED == 0;
    (is_last && !payload.is_empty()).then_some((header, block))
}

/// The packet as it was protected: without RED, and before the header extension was
/// written.
fn unwrap(packet: &[u8], header: Header, block: &Block, mutable_extension: u8) -> Vec<u8> {
    let mut media = packet[..header.length].to_vec();
    media[1] = media[1] & MARKER | block.payload_type;
    clear_extension(&mut media[header.extension..], mutable_extension);
    media.extend(block.payload);
    media
}

/// Sets the data of an element of one-byte form to zero (RFC 8285, 4.2).
fn clear_extension(mut elements: &mut [u8], id: u8) {
    while let Some((&mut header, rest)) = elements.split_first_mut() {
        let length = match header {
            0 => 0,
            _ => usize::from(header & 0x0f) + 1,
        };
        let Some((data, rest)) = rest.split_at_mut_checked(length) else {
            return;
        };
        if header >> 4 == id {
            data.fill(0);
        }
        elements = rest;
    }
}

/// A packet without any payload, in the place of one that has no media.
fn stand_in(header: Header, media_type: u8) -> Vec<u8> {
    let mut packet = vec![0x80, media_type];
    packet.extend(header.number.to_be_bytes());
    packet.extend(header.timestamp.to_be_bytes());
    packet.extend(header.ssrc.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests;
