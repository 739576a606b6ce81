// SPDX-License-Identifier: MIT

//! Where the muxer's bytes go: its header is kept until it is complete and
//! rewritten, all else goes straight to the file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use mp4_atom::{Decode, Header};

use super::edits::{self, Plan};
use crate::platform::mp4_boxes::{Mp4Box, boxes};

/// Bytes written at once.
const BLOCK: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<File>,
    /// Everything before the media data, as far as it has come.
    head: Option<Vec<u8>>,
    plan: Option<Plan>,
    size: u64,
    /// The size that the header promises.
    promised: u64,
}

/// Why the output is not to be had.
#[derive(Debug)]
pub(super) enum Failure {
    Write(io::Error),
    Header(String),
    /// So many bytes of the media are missing.
    Short(u64),
}

impl Output {
    pub fn new(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(BLOCK, file),
            head: Some(Vec::new()),
            plan: None,
            size: 0,
            promised: 0,
        }
    }

    /// What the file is to show: known before the header comes.
    pub fn plan(&mut self, plan: Plan) {
        self.plan = Some(plan);
    }

    /// Takes what the muxer writes next. With faststart that is nothing until
    /// it has got all, and then the header first.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        let Some(head) = &mut self.head else {
            return self.pass(data);
        };
        head.extend_from_slice(data);
        let Some(media) = media_data_offset(head) else {
            return Ok(());
        };
        let head = std::mem::take(head);
        self.head = None;
        let early = || Failure::Header("it came before its time".into());
        let plan = self.plan.as_ref().ok_or_else(early)?;
        let (head, rest) = head.split_at(media);
        let head = edits::rewrite(head, plan).map_err(Failure::Header)?;
        let media = Header::decode(&mut &*rest).ok();
        // The muxer writes the long form where it needs it, and knows the size.
        let length = media.and_then(|media| media.size).unwrap_or(0) as u64;
        let long = rest.starts_with(&1u32.to_be_bytes());
        self.promised = head.len() as u64 + if long { 16 } else { 8 } + length;
        self.pass(&head)?;
        self.pass(rest)
    }

    fn pass(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.size += data.len() as u64;
        self.file.write_all(data).map_err(Failure::Write)
    }

    /// The file, complete.
    pub fn into_file(self) -> Result<(File, u64), Failure> {
        if self.head.is_some() {
            return Err(Failure::Header("it never came".into()));
        }
        // What the muxer cannot read back from its temporary file it leaves out.
        if self.size != self.promised {
            return Err(Failure::Short(self.promised.saturating_sub(self.size)));
        }
        let file = self.file.into_inner();
        let file = file.map_err(|error| Failure::Write(error.into_error()))?;
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
