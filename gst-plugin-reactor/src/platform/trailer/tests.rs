// SPDX-License-Identifier: MIT

use super::*;

/// The end of a frame that runtime 3.10 sent.
const LIVE: &[u8] = b"\x08\x10\x10\x94\xe3\xc8\xb2\x0d\x1a\x0ahello-meta\x14\x00\x00\x00RXMT";

fn live() -> FrameMetadata {
    FrameMetadata {
        frame_id: 16,
        capture_time_us: 3_595_710_868,
        user_data: Bytes::from_static(b"hello-meta"),
    }
}

/// The same numbers in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

fn frame(payload: &[u8], trailer: &[u8]) -> Vec<u8> {
    [payload, trailer].concat()
}

#[test]
fn trailer_of_runtime_is_split() {
    assert_eq!(encode(&live()).unwrap(), LIVE);
    assert_eq!(split(&frame(b"payload", LIVE)), Some((7, live())));
    assert_eq!(split(LIVE), Some((0, live())));
}

#[test]
fn trailer_encoded_and_split_is_unchanged() {
    let mut random = Random(1);
    for size in [0, 1, 127, 128, 1000, MAX_USER_DATA] {
        for (frame_id, capture_time_us) in [(0, 0), (1, 0), (0, 1), (u64::MAX, u64::MAX)] {
            let metadata = FrameMetadata {
                frame_id,
                capture_time_us,
                user_data: random.bytes(size).into(),
            };
            let payload = random.bytes(300);
            let trailer = encode(&metadata).unwrap();
            assert_eq!(split(&frame(&payload, &trailer)), Some((300, metadata)));
        }
    }
}

#[test]
fn empty_trailer_is_split() {
    let empty = encode(&FrameMetadata::default()).unwrap();
    assert_eq!(empty, b"\0\0\0\0RXMT");
    let whole = frame(b"x", &empty);
    assert_eq!(split(&whole), Some((1, FrameMetadata::default())));
}

#[test]
fn oversized_user_data_is_refused() {
    let metadata = FrameMetadata {
        user_data: vec![0; MAX_USER_DATA + 1].into(),
        ..Default::default()
    };
    let error = encode(&metadata).unwrap_err();
    assert_eq!(error.code, Code::MessageTooLarge);
    assert!(error.message.contains("61440"), "{error}");
}

#[test]
fn unknown_trailer_fields_are_skipped() {
    let mut body = LIVE[..20].to_vec();
    body.extend(b"\x20\x05\x2a\x01z");
    let length = u32::try_from(body.len()).unwrap();
    body.extend(length.to_le_bytes());
    body.extend(MAGIC);
    assert_eq!(split(&frame(b"ab", &body)), Some((2, live())));
}

#[test]
fn frame_without_trailer_is_left_whole() {
    for bytes in [
        &b""[..],
        b"RXMT",
        b"XMT",
        b"payload",
        b"\x14\x00\x00RXMT",
        // Longer than what is there, by one and by a lot.
        b"\x01\x00\x00\x00RXMT",
        b"abcd\xff\xff\xff\xffRXMT",
        // The length is fine, but not what it covers.
        b"abcd\xff\xff\xff\x03\x00\x00\x00RXMT",
        b"abcd\x1a\x09xyz\x05\x00\x00\x00RXMT",
        b"\x08\x10\x02\x00\x00\x00RXMt",
    ] {
        assert_eq!(split(bytes), None, "{bytes:?}");
    }
}

#[test]
fn truncated_frame_never_panics() {
    let whole = frame(b"some payload", LIVE);
    for end in 0..whole.len() {
        assert_eq!(split(&whole[..end]), None);
    }
    for start in 0..whole.len() {
        if let Some((length, _)) = split(&whole[start..]) {
            assert!(start + length <= 12);
        }
    }
}

#[test]
fn random_frame_never_panics() {
    let mut random = Random(42);
    for n in 0..20_000_u32 {
        let size = usize::try_from(random.next() % 64).unwrap();
        let mut bytes = random.bytes(size);
        if n % 2 == 0 {
            let length = u32::try_from(random.next() % 80).unwrap();
            bytes.extend(length.to_le_bytes());
            bytes.extend(MAGIC);
        }
        if let Some((length, metadata)) = split(&bytes) {
            assert!(length + FOOTER <= bytes.len());
            assert!(metadata.user_data.len() <= bytes.len());
        }
    }
}

#[test]
fn altered_frame_never_panics() {
    let whole = frame(b"payload", LIVE);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            if let Some((length, _)) = split(&bytes) {
                assert!(length <= whole.len() - FOOTER);
            }
        }
    }
}
