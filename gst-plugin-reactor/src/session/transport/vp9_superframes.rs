// SPDX-License-Identifier: MIT

//! Superframes of VP9: several frames, with an index of their sizes at the end (VP9
//! Bitstream Specification 0.6, annex B). vp9parse (GStreamer 1.22 and 1.26.2) believes
//! the sizes, and reads where they point to.

/// Whether a decoder that reads the index stays within the frames. What has no index does.
pub(super) fn has_valid_index(superframe: &[u8]) -> bool {
    let Some(&marker) = superframe.last() else {
        return false;
    };
    if marker & 0xe0 != 0xc0 {
        return true;
    }
    let frames = usize::from(marker & 7) + 1;
    let bytes_per_size = usize::from(marker >> 3 & 3) + 1;
    let index_length = 2 + frames * bytes_per_size;
    let Some(frames_length) = superframe.len().checked_sub(index_length) else {
        return false;
    };
    let (frames, index) = superframe.split_at(frames_length);
    let sizes = index[1..index_length - 1].chunks(bytes_per_size);
    let mut sizes = sizes.map(|size| {
        let bytes = size.iter().rev();
        bytes.fold(0, |size, byte| size << 8 | u64::from(*byte))
    });
    let left = sizes.try_fold(frames.len() as u64, |left, size| {
        left.checked_sub(size).filter(|_| size > 0)
    });
    index[0] == marker && left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [u8; 5] = [0x82, 1, 2, 3, 4];

    fn is_valid(index: &[u8]) -> bool {
        has_valid_index(&[&FRAMES[..], index].concat())
    }

    #[test]
    fn frames_are_within_the_superframe() {
        assert!(is_valid(&[]));
        assert!(is_valid(&[0xc0, 5, 0xc0]));
        assert!(is_valid(&[0xc1, 4, 1, 0xc1]));
        assert!(is_valid(&[0xc9, 4, 0, 1, 0, 0xc9]));
        // Bytes that belong to no frame.
        assert!(is_valid(&[0xc1, 2, 1, 0xc1]));
    }

    #[test]
    fn what_points_elsewhere_is_found() {
        assert!(!has_valid_index(&[]));
        // The index is longer than the whole.
        assert!(!has_valid_index(&[0xdf]));
        assert!(!is_valid(&[0xdf]));
        // It does not begin with the marker.
        assert!(!is_valid(&[0xc1, 0xc0]));
        assert!(!is_valid(&[0xc0, 6, 0xc0]));
        assert!(!is_valid(&[0xc1, 4, 2, 0xc1]));
        assert!(!is_valid(&[0xc1, 5, 0, 0xc1]));
        assert!(!is_valid(&[0xd8, 5, 0, 0, 1, 0xd8]));
        assert!(!is_valid(&[
            0xd9, 255, 255, 255, 255, 255, 255, 255, 255, 0xd9
        ]));
    }
}
