// SPDX-License-Identifier: MIT

//! Writes the muxer's output: the header is kept until it is complete, and
//! rewritten; all other bytes are written to the file at once. Called by the
//! muxer's streaming thread. Never keeps media data in memory.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use mp4_atom::Decode;

use super::edit_list::{self, Presentation};
use crate::platform::mp4_boxes::{Mp4Box, boxes};

/// Bytes that are written at once.
const BLOCK_SIZE: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct MovieWriter {
    file: BufWriter<File>,
    /// The bytes before the media data, until they are complete.
    head: Option<Vec<u8>>,
    presentation: Option<Presentation>,
    /// In bytes.
    size: u64,
    /// By the header.
    expected_size: u64,
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum WriteError {
    Io(io::Error),
    InvalidHeader(String),
    /// This number of bytes of the media is missing.
    Truncated(u64),
}

impl MovieWriter {
    pub fn new(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(BLOCK_SIZE, file),
            head: Some(Vec::new()),
            presentation: None,
            size: 0,
            expected_size: 0,
        }
    }

    /// Sets what the file is to present, before the muxer writes the header.
    pub fn set_presentation(&mut self, presentation: Presentation) {
        self.presentation = Some(presentation);
    }

    /// Writes the muxer's next bytes. With faststart it writes nothing until
    /// all samples have been pushed, and then the header first.
    pub fn write(&mut self, data: &[u8]) -> Result<(), WriteError> {
        let Some(head) = &mut self.head else {
            return self.write_to_file(data);
        };
        head.extend_from_slice(data);
        let Some(media) = media_data_offset(head) else {
            return Ok(());
        };
        let head = std::mem::take(head);
        self.head = None;
        let early = || WriteError::InvalidHeader("it came before its time".into());
        let presentation = self.presentation.as_ref().ok_or_else(early)?;
        let (head, rest) = head.split_at(media);
        let head = edit_list::rewrite(head, presentation).map_err(WriteError::InvalidHeader)?;
        let media = mp4_atom::Header::decode(&mut &*rest).ok();
        // The muxer writes a size of 64 bits where it needs that, and never 0.
        let length = media.and_then(|media| media.size).unwrap_or(0) as u64;
        let long = rest.starts_with(&1u32.to_be_bytes());
        self.expected_size = head.len() as u64 + if long { 16 } else { 8 } + length;
        self.write_to_file(&head)?;
        self.write_to_file(rest)
    }

    fn write_to_file(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.size += data.len() as u64;
        self.file.write_all(data).map_err(WriteError::Io)
    }

    /// The complete file, and its size in bytes.
    pub fn into_file(self) -> Result<(File, u64), WriteError> {
        if self.head.is_some() {
            return Err(WriteError::InvalidHeader("it never came".into()));
        }
        // The muxer leaves out what it cannot read back from its temporary file.
        if self.size != self.expected_size {
            let missing = self.expected_size.saturating_sub(self.size);
            return Err(WriteError::Truncated(missing));
        }
        let file = self.file.into_inner();
        let file = file.map_err(|error| WriteError::Io(error.into_error()))?;
        Ok((file, self.size))
    }
}

/// The offset of the mdat box, once all of its header has come.
fn media_data_offset(head: &[u8]) -> Option<usize> {
    let is_before = |found: &Result<Mp4Box<'_>, String>| match found {
        Ok(found) => !found.is(b"mdat"),
        Err(_) => false,
    };
    let before = boxes(head).take_while(is_before).flatten().last();
    let offset = before.map_or(0, |found| found.range.end);
    // The header may have the long form, with a size of 64 bits.
    let header = head.get(offset..offset + 16)?;
    header.get(4..8)?.eq(b"mdat").then_some(offset)
}
