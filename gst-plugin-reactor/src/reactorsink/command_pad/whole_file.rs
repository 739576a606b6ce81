// SPDX-License-Identifier: MIT

//! A file that comes in parts, as of `filesrc`: they are put together up to the
//! stream's end. Pure.

use crate::platform::{Code, Error};

#[derive(Debug, Default)]
pub struct WholeFile {
    bytes: Vec<u8>,
    /// Where the next part goes.
    position: usize,
    /// The rest of what was refused is skipped.
    is_refused: bool,
}

impl WholeFile {
    /// The next part goes to this place: wavenc writes its header again at the end.
    pub fn seek(&mut self, position: u64) {
        self.position = usize::try_from(position).unwrap_or(usize::MAX);
    }

    /// Takes a part; the file has at most `max_size` bytes, 0 for no limit.
    ///
    /// Fails once when the file becomes larger, or has a hole.
    pub fn push(&mut self, part: &[u8], max_size: u64) -> Result<(), Error> {
        if self.is_refused {
            return Ok(());
        }
        if self.position > self.bytes.len() {
            let (size, position) = (self.bytes.len(), self.position);
            let text = format!("the stream skips the file's bytes from {size} to {position}");
            return self.refuse(text);
        }
        // Does not overflow: both are in memory.
        let end = self.position + part.len();
        if max_size > 0 && end as u64 > max_size {
            let text = format!("the file has more bytes than the {max_size} of max-upload-size");
            return self.refuse(text);
        }
        let overwritten = part.len().min(self.bytes.len() - self.position);
        let (over, behind) = part.split_at(overwritten);
        self.bytes[self.position..self.position + overwritten].copy_from_slice(over);
        self.bytes.extend_from_slice(behind);
        self.position = end;
        Ok(())
    }

    /// The stream ends: what has come is the file. `None` if nothing has, or if it was
    /// refused.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let file = std::mem::take(self);
        Some(file.bytes).filter(|bytes| !bytes.is_empty())
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn refuse(&mut self, text: String) -> Result<(), Error> {
        (self.bytes, self.is_refused) = (Vec::new(), true);
        Err(Error::api(Code::BadRequest, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_together_and_begin_anew() {
        let mut file = WholeFile::default();
        assert_eq!(file.finish(), None);
        for part in ["RIFF", "size", "sound"] {
            file.push(part.as_bytes(), 13).unwrap();
        }
        // The header is written again, and the stream goes on behind it.
        file.seek(4);
        file.push(b"SIZE", 13).unwrap();
        assert_eq!(file.finish().unwrap(), b"RIFFSIZEsound");
        file.push(b"next", 0).unwrap();
        file.seek(2);
        file.push(b"ar by", 0).unwrap();
        assert_eq!(file.finish().unwrap(), b"near by");
    }

    #[test]
    fn too_large_file_is_refused_once() {
        let mut file = WholeFile::default();
        file.push(b"12345", 8).unwrap();
        let error = file.push(b"6789", 8).unwrap_err();
        assert!(error.message.contains("8 of max-upload-size"), "{error}");
        file.push(b"6789", 8).unwrap();
        assert_eq!(file.finish(), None);
        file.push(b"another", 8).unwrap();
        assert_eq!(file.finish().unwrap(), b"another");
    }

    #[test]
    fn file_with_a_hole_is_refused() {
        let mut file = WholeFile::default();
        for position in [1, u64::MAX] {
            file.seek(position);
            assert!(file.push(b"x", 0).is_err());
            assert_eq!(file.finish(), None);
        }
    }
}
