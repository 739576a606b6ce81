// SPDX-License-Identifier: MIT

//! Finds the boxes of an MP4 file; what is in them is mp4-atom's to read.

use std::ops::Range;

use mp4_atom::{Atom, DecodeMaybe, FourCC, Header};

/// Where a box lies.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub kind: FourCC,
    /// With its header.
    pub whole: Range<usize>,
    pub body: Range<usize>,
}

impl Found {
    pub fn is(&self, kind: &[u8; 4]) -> bool {
        self.kind == FourCC::new(kind)
    }

    /// What the box says.
    pub fn decode<T: Atom>(&self, data: &[u8]) -> Result<T, String> {
        let mut body = data.get(self.body.clone()).unwrap_or_default();
        T::decode_body(&mut body).map_err(|error| format!("{}: {error}", self.kind))
    }
}

/// The boxes that `within` consists of, one after the other.
pub(super) fn boxes(data: &[u8], within: Range<usize>) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut at = within.start;
    while at < within.end {
        let next = one(data, at, within.end)?;
        at = next.whole.end;
        found.push(next);
    }
    Ok(found)
}

/// All boxes of a whole file or segment.
pub(super) fn all(data: &[u8]) -> Result<Vec<Found>, String> {
    boxes(data, 0..data.len())
}

/// The children of a box that is nothing but a container.
pub(super) fn children(data: &[u8], parent: &Found) -> Result<Vec<Found>, String> {
    boxes(data, parent.body.clone())
}

/// The one child of that kind, along a path of containers.
pub(super) fn child(data: &[u8], parent: &Found, path: &[&[u8; 4]]) -> Option<Found> {
    let mut here = parent.clone();
    for kind in path {
        let inside = children(data, &here).ok()?;
        here = inside.into_iter().find(|found| found.is(kind))?;
    }
    Some(here)
}

fn one(data: &[u8], at: usize, end: usize) -> Result<Found, String> {
    let rest = data.get(at..end).unwrap_or_default();
    let mut cursor = rest;
    let header = Header::decode_maybe(&mut cursor)
        .map_err(|error| format!("box at byte {at}: {error}"))?
        .ok_or_else(|| format!("it ends in the middle of a box header, at byte {at}"))?;
    let body = at + (rest.len() - cursor.len());
    let size = header.size.unwrap_or(end - body);
    if size > end - body {
        let (kind, missing) = (header.kind, size - (end - body));
        return Err(format!(
            "its {kind} box at byte {at} lacks its last {missing} bytes"
        ));
    }
    Ok(Found {
        kind: header.kind,
        whole: at..body + size,
        body: body..body + size,
    })
}
