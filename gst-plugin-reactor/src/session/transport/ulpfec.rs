// SPDX-License-Identifier: MIT

//! One packet of generic forward error correction (ULPFEC, RFC 5109) as libwebrtc
//! makes them: a single level that protects up to 48 packets whole. It has the XOR of
//! them, so that one of them can be computed from the others. Pure; `redundancy`
//! keeps the packets.

/// The fixed part of an RTP header, which the FEC header protects in its own way.
pub(super) const RTP_HEADER: usize = 12;
const FEC_HEADER: usize = 10;
/// The level's header: the protection length, and a mask of 16 or 48 bits.
const SHORT_LEVEL_HEADER: usize = 4;
const LONG_LEVEL_HEADER: usize = 8;
/// In the first byte of the FEC header.
const LONG_MASK: u8 = 0x40;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FecPacket {
    /// The sequence numbers that it protects, in their order.
    pub protected: Vec<u16>,
    header: [u8; FEC_HEADER],
    /// The XOR of what follows the fixed headers.
    payload: Vec<u8>,
}

impl FecPacket {
    /// `None` for a packet that protects nothing, or is malformed.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let (header, level) = payload.split_first_chunk::<FEC_HEADER>()?;
        let base = u16::from_be_bytes([header[2], header[3]]);
        let level_header = match header[0] & LONG_MASK {
            0 => SHORT_LEVEL_HEADER,
            _ => LONG_LEVEL_HEADER,
        };
        let (level_header, payload) = level.split_at_checked(level_header)?;
        let length = usize::from(u16::from_be_bytes([level_header[0], level_header[1]]));
        let mask = &level_header[2..];
        let protected: Vec<u16> = (0..mask.len() * 8)
            .filter(|bit| mask[bit / 8] & (0x80 >> (bit % 8)) != 0)
            .map(|bit| base.wrapping_add(bit as u16))
            .collect();
        if protected.is_empty() {
            return None;
        }
        Some(Self {
            protected,
            header: *header,
            payload: payload.get(..length)?.to_vec(),
        })
    }

    /// The protected packet with this sequence number, from all others.
    pub(super) fn recover<'a>(
        &self,
        missing: u16,
        ssrc: u32,
        others: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Vec<u8>> {
        let [flags, marker_and_type, _, _, t0, t1, t2, t3, l0, l1] = self.header;
        let mut fixed = [flags, marker_and_type, t0, t1, t2, t3, l0, l1];
        let mut rest = self.payload.clone();
        for packet in others {
            let (header, payload) = packet.split_first_chunk::<RTP_HEADER>()?;
            let [l0, l1] = u16::try_from(payload.len()).ok()?.to_be_bytes();
            let [first, second, _, _, t0, t1, t2, t3, ..] = *header;
            xor(&mut fixed, &[first, second, t0, t1, t2, t3, l0, l1]);
            xor(&mut rest, payload);
        }
        let [first, second, t0, t1, t2, t3, l0, l1] = fixed;
        let [n0, n1] = missing.to_be_bytes();
        // The version is not protected.
        let mut packet = vec![0x80 | first & 0x3f, second, n0, n1, t0, t1, t2, t3];
        packet.extend(ssrc.to_be_bytes());
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        packet.extend(rest.get(..length)?);
        Some(packet)
    }
}

fn xor(into: &mut [u8], bytes: &[u8]) {
    into.iter_mut().zip(bytes).for_each(|(a, b)| *a ^= b);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The FEC payload that protects these RTP packets, of up to 16 numbers.
    pub(in super::super) fn protect(packets: &[&[u8]]) -> Vec<u8> {
        let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
        let base = number(packets[0]);
        let longest = packets.iter().map(|p| p.len() - RTP_HEADER).max().unwrap();
        let (mut fixed, mut rest, mut mask) = ([0; 8], vec![0; longest], 0u16);
        for packet in packets {
            mask |= 0x8000 >> number(packet).wrapping_sub(base);
            let [l0, l1] = ((packet.len() - RTP_HEADER) as u16).to_be_bytes();
            let h = &packet[..RTP_HEADER];
            xor(&mut fixed, &[h[0], h[1], h[4], h[5], h[6], h[7], l0, l1]);
            xor(&mut rest, &packet[RTP_HEADER..]);
        }
        let [b0, b1] = base.to_be_bytes();
        let mut fec = vec![fixed[0] & 0x3f, fixed[1], b0, b1];
        fec.extend(&fixed[2..]);
        fec.extend((longest as u16).to_be_bytes());
        fec.extend(mask.to_be_bytes());
        fec.extend(rest);
        fec
    }

    fn packet(number: u16, marker: bool, payload: &[u8]) -> Vec<u8> {
        let [n0, n1] = number.to_be_bytes();
        let second = 98 | u8::from(marker) << 7;
        let mut packet = vec![0x80, second, n0, n1, 0, 0, 1, number as u8, 0, 0, 0, 7];
        packet.extend(payload);
        packet
    }

    #[test]
    fn any_one_packet_is_recovered_from_the_others() {
        let packets = [
            packet(65_534, false, b"first"),
            packet(65_535, false, b"the second one"),
            packet(1, true, b"third"),
        ];
        let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let fec = FecPacket::parse(&protect(&slices)).unwrap();
        assert_eq!(fec.protected, [65_534, 65_535, 1]);
        for (n, missing) in packets.iter().enumerate() {
            let others = packets.iter().enumerate().filter(|(m, _)| *m != n);
            let others = others.map(|(_, packet)| packet.as_slice());
            let recovered = fec.recover(fec.protected[n], 7, others).unwrap();
            assert_eq!(recovered, *missing);
        }
    }

    #[test]
    fn malformed_packets_yield_nothing_and_never_panic() {
        let media = packet(1, true, b"payload");
        let fec = protect(&[&media]);
        for length in 0..fec.len() {
            assert_eq!(FecPacket::parse(&fec[..length]), None, "{length}");
        }
        let mut long_mask = fec.clone();
        long_mask[0] |= LONG_MASK;
        FecPacket::parse(&long_mask);
        let mut empty_mask = fec.clone();
        empty_mask[12..14].fill(0);
        assert_eq!(FecPacket::parse(&empty_mask), None);
        // A length that is longer than what is protected.
        let fec = FecPacket::parse(&fec).unwrap();
        let wrong = packet(2, true, &[0; 60_000]);
        assert_eq!(fec.recover(1, 7, [wrong.as_slice()].into_iter()), None);
        assert_eq!(fec.recover(1, 7, [&[0x80u8; 3][..]].into_iter()), None);
    }

    #[test]
    fn long_mask_has_48_bits() {
        let mut fec = vec![LONG_MASK, 0, 0, 10, 0, 0, 0, 0, 0, 0];
        fec.extend([0, 0, 0x80, 0, 0, 0, 0, 1]);
        let fec = FecPacket::parse(&fec).unwrap();
        assert_eq!(fec.protected, [10, 57]);
    }
}
