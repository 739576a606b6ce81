// SPDX-License-Identifier: MIT

//! Where pictures begin and end, by the payload descriptors of VP8 (RFC 7741) and
//! VP9 (RFC 9628). What is missing between the last packet of a picture and the
//! first of the next is no part of either. Pure.

/// What the descriptor of a packet says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureInfo {
    /// It is the first packet of its picture.
    pub starts: bool,
    /// The picture's number and the number of its bits.
    pub id: Option<(u16, u32)>,
}

impl PictureInfo {
    /// Whether the picture follows that one immediately.
    pub(super) fn follows(self, before: Self) -> bool {
        let next = before.id.map(|(id, bits)| {
            let mask = (1u32 << bits) - 1;
            (((u32::from(id) + 1) & mask) as u16, bits)
        });
        next.is_some() && self.id == next
    }

    /// Of a packet's payload; a codec that is not known says nothing.
    pub(super) fn parse(codec: &str, payload: &[u8]) -> Self {
        let info = match codec {
            "VP8" => vp8(payload),
            "VP9" => vp9(payload),
            _ => None,
        };
        info.unwrap_or_default()
    }
}

/// RFC 7741, 4.2.
fn vp8(payload: &[u8]) -> Option<PictureInfo> {
    let (&first, rest) = payload.split_first()?;
    let has_extension = first & 0x80 != 0;
    let has_id = has_extension && rest.first()? & 0x80 != 0;
    Some(PictureInfo {
        // The start of the first partition.
        starts: first & 0x10 != 0 && first & 0x07 == 0,
        id: if has_id { picture_id(&rest[1..]) } else { None },
    })
}

/// RFC 9628, 4.2.
fn vp9(payload: &[u8]) -> Option<PictureInfo> {
    let (&first, rest) = payload.split_first()?;
    let id = if first & 0x80 != 0 {
        picture_id(rest)
    } else {
        None
    };
    let id_bytes = id.map_or(0, |(_, bits)| if bits == 15 { 2 } else { 1 });
    // A picture has a frame for each spatial layer.
    let layer = match first & 0x20 {
        0 => 0,
        _ => rest.get(id_bytes)? >> 1 & 0x07,
    };
    Some(PictureInfo {
        starts: first & 0x08 != 0 && layer == 0,
        id,
    })
}

/// 7 bits, or 15 with the first set.
fn picture_id(bytes: &[u8]) -> Option<(u16, u32)> {
    let first = *bytes.first()?;
    if first & 0x80 == 0 {
        return Some((first.into(), 7));
    }
    let second = *bytes.get(1)?;
    Some((u16::from_be_bytes([first & 0x7f, second]), 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_starts_and_numbers() {
        type Case<'a> = (&'a str, &'a [u8], bool, Option<(u16, u32)>);
        let cases: [Case; 9] = [
            ("VP9", &[0x88, 0x92, 0x34, 0], true, Some((0x1234, 15))),
            ("VP9", &[0x88, 0x12, 0], true, Some((0x12, 7))),
            ("VP9", &[0x84, 0x12, 0], false, Some((0x12, 7))),
            // Of the second spatial layer.
            ("VP9", &[0xa8, 0x12, 0x02, 0], false, Some((0x12, 7))),
            ("VP9", &[0x08, 0], true, None),
            ("VP8", &[0x90, 0x80, 0x92, 0x34], true, Some((0x1234, 15))),
            ("VP8", &[0x91, 0x80, 0x12], false, Some((0x12, 7))),
            ("VP8", &[0x10, 0], true, None),
            ("H264", &[0x88, 0x12], false, None),
        ];
        for (codec, payload, starts, id) in cases {
            let info = PictureInfo::parse(codec, payload);
            assert_eq!(info, PictureInfo { starts, id }, "{codec} {payload:?}");
            for length in 0..payload.len() {
                PictureInfo::parse(codec, &payload[..length]);
            }
        }
    }

    #[test]
    fn picture_follows_by_number_around_the_end() {
        let picture = |id, bits| PictureInfo {
            starts: true,
            id: Some((id, bits)),
        };
        assert!(picture(8, 15).follows(picture(7, 15)));
        assert!(picture(0, 15).follows(picture(0x7fff, 15)));
        assert!(picture(0, 7).follows(picture(127, 7)));
        assert!(!picture(9, 15).follows(picture(7, 15)));
        assert!(!picture(7, 15).follows(picture(7, 15)));
        assert!(!picture(8, 15).follows(picture(7, 7)));
        assert!(!PictureInfo::default().follows(PictureInfo::default()));
    }
}
