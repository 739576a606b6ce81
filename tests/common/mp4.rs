// SPDX-License-Identifier: MIT

//! The boxes of MP4 files (ISO/IEC 14496-12).

use std::{collections::HashMap, ops::Range, path::Path};

/// One box and its position.
#[derive(Debug)]
pub struct Box {
    pub name: String,
    pub begin: usize,
    /// The range of its content, without the header.
    pub content: Range<usize>,
}

/// The names of a file's top-level boxes, in order.
pub fn boxes(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).expect("a file");
    split(&bytes).into_iter().map(|b| b.name).collect()
}

/// The boxes in these bytes, one level.
pub fn split(bytes: &[u8]) -> Vec<Box> {
    inside(bytes, 0..bytes.len())
}

fn inside(bytes: &[u8], range: Range<usize>) -> Vec<Box> {
    let mut boxes = Vec::new();
    let mut begin = range.start;
    while begin + 8 <= range.end {
        let (size, header) = match number(bytes, begin, 4) as usize {
            0 => (range.end - begin, 8),
            1 => (number(bytes, begin + 8, 8) as usize, 16),
            size => (size, 8),
        };
        let name = String::from_utf8_lossy(&bytes[begin + 4..begin + 8]).into_owned();
        boxes.push(Box {
            name,
            begin,
            content: begin + header..begin + size,
        });
        begin += size;
    }
    boxes
}

/// The content of the boxes at this path.
fn find(bytes: &[u8], path: &[&str]) -> Vec<Range<usize>> {
    let mut found: Vec<_> = std::iter::once(0..bytes.len()).collect();
    for name in path {
        let level = found.into_iter().flat_map(|range| inside(bytes, range));
        found = level
            .filter(|b| b.name == *name)
            .map(|b| b.content)
            .collect();
    }
    found
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes[at..at + size].iter();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The time scale of each track by its id, from the initialization segment.
pub fn timescales(header: &[u8]) -> HashMap<u32, u64> {
    let tracks = find(header, &["moov", "trak"]);
    let of = |track: Range<usize>, path: &[&str], short: usize, long: usize| {
        let track = &header[track];
        let place = find(track, path)[0].start;
        let at = place + if track[place] == 0 { short } else { long };
        number(track, at, 4)
    };
    let pairs = tracks.into_iter().map(|track| {
        let id = of(track.clone(), &["tkhd"], 12, 20);
        (id as u32, of(track, &["mdia", "mdhd"], 12, 20))
    });
    pairs.collect()
}

/// Moves the fragments `seconds` later.
pub fn delay(fragments: &mut [u8], seconds: u64, timescales: &HashMap<u32, u64>) {
    for track in find(fragments, &["moof", "traf"]) {
        let parts = inside(fragments, track);
        let place = |name| {
            let found = parts.iter().find(|b| b.name == name);
            found.expect("a part of each fragment").content.start
        };
        let id = number(fragments, place("tfhd") + 4, 4) as u32;
        let (at, size) = match fragments[place("tfdt")] {
            0 => (place("tfdt") + 4, 4),
            _ => (place("tfdt") + 4, 8),
        };
        let time = number(fragments, at, size) + seconds * timescales[&id];
        fragments[at..at + size].copy_from_slice(&time.to_be_bytes()[8 - size..]);
    }
    // An index with other times would be wrong.
    for index in split(fragments).iter().filter(|b| b.name == "sidx") {
        fragments[index.begin + 4..index.begin + 8].copy_from_slice(b"free");
    }
}
