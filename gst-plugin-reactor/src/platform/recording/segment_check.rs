// SPDX-License-Identifier: MIT

//! Checks that bytes are a segment: complete boxes (ISO/IEC 14496-12, 4.2).
//! That finds a segment that was cut short, and an error page that was sent
//! as one. Called by the task of the segment; never looks into the boxes.

use super::segment::SegmentKind;
use crate::platform::mp4_boxes::boxes;

/// What is wrong with a segment, if anything.
pub(super) fn find_defect(kind: SegmentKind, bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("is empty");
    }
    let (mut moov, mut moof, mut mdat) = (false, false, false);
    for (n, found) in boxes(bytes).enumerate() {
        let Ok(found) = found else {
            return match n > 0 || begins_like_mp4(bytes) {
                true => Some("is cut short or damaged"),
                false => Some("is not MP4"),
            };
        };
        match found.kind.as_ref() {
            b"moov" => moov = true,
            b"moof" => moof = true,
            b"mdat" => mdat |= moof,
            // The other types that a segment may begin with.
            b"ftyp" | b"styp" | b"sidx" | b"emsg" | b"prft" | b"free" | b"skip" | b"uuid" => {}
            _ if n == 0 => return Some("is not MP4"),
            _ => {}
        }
    }
    match kind {
        SegmentKind::InitSection if !moov => Some("holds no moov box, so it is no header"),
        SegmentKind::Media if !(moof && mdat) => Some("holds no fragment (moof and mdat)"),
        _ => None,
    }
}

fn begins_like_mp4(bytes: &[u8]) -> bool {
    let kinds: [&[u8]; 7] = [
        b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"mdat",
    ];
    bytes.get(4..8).is_some_and(|kind| kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(8 + body.len()).unwrap_or_default();
        [&size.to_be_bytes()[..], kind, body].concat()
    }

    #[test]
    fn complete_segment_has_no_defect() {
        let init_section = [atom(b"ftyp", b"iso5"), atom(b"moov", b"x")].concat();
        let fragment = [atom(b"moof", b"x"), atom(b"mdat", b"yz")].concat();
        let segment = [atom(b"styp", b""), atom(b"sidx", b"1"), fragment.clone()].concat();
        assert_eq!(find_defect(SegmentKind::InitSection, &init_section), None);
        for segment in [&fragment, &segment, &segment.repeat(3)] {
            assert_eq!(find_defect(SegmentKind::Media, segment), None);
        }
        // The last box goes to the end; another has a large size.
        let open = [atom(b"moof", b"x"), b"\0\0\0\0mdat...".to_vec()].concat();
        assert_eq!(find_defect(SegmentKind::Media, &open), None);
        let large = [
            atom(b"moof", b"x"),
            b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12ab".to_vec(),
        ];
        assert_eq!(find_defect(SegmentKind::Media, &large.concat()), None);
    }

    #[test]
    fn incomplete_or_foreign_bytes_have_defect() {
        let fragment = [atom(b"moof", b"x"), atom(b"mdat", b"yz")].concat();
        let init_section = [atom(b"ftyp", b"iso5"), atom(b"moov", b"x")].concat();
        for end in 1..fragment.len() {
            assert!(
                find_defect(SegmentKind::Media, &fragment[..end]).is_some(),
                "{end}"
            );
        }
        for end in 1..init_section.len() {
            assert!(
                find_defect(SegmentKind::InitSection, &init_section[..end]).is_some(),
                "{end}"
            );
        }
        let cut = Some("is cut short or damaged");
        assert_eq!(find_defect(SegmentKind::Media, &fragment[..12]), cut);
        assert_eq!(find_defect(SegmentKind::Media, b"\0\0\0\x07moofmoof"), cut);
        assert_eq!(
            find_defect(SegmentKind::Media, b"\0\0\0\x01moof\0\0\0\0\0\0\0\x0f"),
            cut
        );
        assert_eq!(
            find_defect(SegmentKind::Media, &[0xff; 64]),
            Some("is not MP4")
        );
        let page = find_defect(SegmentKind::Media, b"<!DOCTYPE html><html>Sorry</html>");
        assert_eq!(page, Some("is not MP4"));
        assert_eq!(find_defect(SegmentKind::InitSection, b""), Some("is empty"));
        assert!(find_defect(SegmentKind::InitSection, &fragment).is_some());
        assert!(find_defect(SegmentKind::Media, &init_section).is_some());
        let turned = [atom(b"mdat", b"yz"), atom(b"moof", b"x")].concat();
        assert!(find_defect(SegmentKind::Media, &turned).is_some());
    }
}
