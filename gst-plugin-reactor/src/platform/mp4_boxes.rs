// SPDX-License-Identifier: MIT

//! Finds the boxes of ISO base media files (ISO/IEC 14496-12, 4.2); mp4-atom
//! decodes what is in them. Called by any thread, on bytes in memory. Never
//! copies media, and never accepts a box that is not complete.

use std::ops::Range;

use mp4_atom::{Atom, DecodeMaybe, FourCC, Header};

/// A complete box of a file or segment.
#[derive(Debug, Clone)]
pub struct Mp4Box<'a> {
    pub kind: FourCC,
    /// Offsets in the file, in bytes, with the box's header.
    pub range: Range<usize>,
    /// Offsets in the file, in bytes, without the box's header.
    pub body: Range<usize>,
    file: &'a [u8],
}

impl<'a> Mp4Box<'a> {
    pub fn is(&self, kind: &[u8; 4]) -> bool {
        self.kind == FourCC::new(kind)
    }

    /// The bytes of the box, with its header.
    pub fn bytes(&self) -> &'a [u8] {
        self.file.get(self.range.clone()).unwrap_or_default()
    }

    /// Decodes the body as an atom of the box's type.
    pub fn decode<T: Atom>(&self) -> Result<T, String> {
        let mut body = self.file.get(self.body.clone()).unwrap_or_default();
        T::decode_body(&mut body).map_err(|error| format!("{}: {error}", self.kind))
    }

    /// The children of a container box. Fails if one of them is not complete.
    pub fn children(&self) -> Result<Vec<Self>, String> {
        self.children_after(0).collect()
    }

    /// The children that follow `fields` bytes of the box's own fields.
    pub fn children_after(&self, fields: usize) -> Boxes<'a> {
        Boxes {
            file: self.file,
            rest: self.body.start.saturating_add(fields)..self.body.end,
        }
    }

    /// The first descendant along a path of box types.
    pub fn descendant(&self, path: &[&[u8; 4]]) -> Option<Self> {
        let mut here = self.clone();
        for kind in path {
            let children = here.children().ok()?;
            here = children.into_iter().find(|child| child.is(kind))?;
        }
        Some(here)
    }

    fn parse(file: &'a [u8], within: Range<usize>) -> Result<Self, String> {
        let at = within.start;
        let rest = file.get(within.clone()).unwrap_or_default();
        let mut cursor = rest;
        let header = Header::decode_maybe(&mut cursor)
            .map_err(|error| format!("box at byte {at}: {error}"))?
            .ok_or_else(|| format!("it ends in the middle of a box header, at byte {at}"))?;
        let body = at + (rest.len() - cursor.len());
        // Without a size it extends to the end of the file.
        let size = header.size.unwrap_or(cursor.len());
        if size > cursor.len() {
            let (kind, missing) = (header.kind, size - cursor.len());
            return Err(format!(
                "its {kind} box at byte {at} lacks its last {missing} bytes"
            ));
        }
        Ok(Self {
            kind: header.kind,
            range: at..body + size,
            body: body..body + size,
            file,
        })
    }
}

/// The boxes of a file or segment, one after the other; see [`boxes`].
#[derive(Debug)]
pub struct Boxes<'a> {
    file: &'a [u8],
    rest: Range<usize>,
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<Mp4Box<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let found = Mp4Box::parse(self.file, self.rest.clone());
        self.rest.start = match &found {
            Ok(found) => found.range.end,
            Err(_) => self.rest.end,
        };
        Some(found)
    }
}

/// The boxes that a file or segment consists of. An incomplete box is an
/// error, and the last item.
pub fn boxes(file: &[u8]) -> Boxes<'_> {
    Boxes {
        file,
        rest: 0..file.len(),
    }
}

/// All boxes of a file or segment. Fails if one of them is not complete.
pub fn all_boxes(file: &[u8]) -> Result<Vec<Mp4Box<'_>>, String> {
    boxes(file).collect()
}
