// SPDX-License-Identifier: MIT

//! Temporary files that nothing is left of, whatever happens.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::platform::{Code, Error};

/// Where temporary files go, and what to say when they cannot.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

impl Directory {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// A file without a name.
    pub fn file(&self) -> Result<File, Error> {
        tempfile::tempfile_in(&self.0).map_err(|error| self.error(&error))
    }

    pub fn error(&self, error: &io::Error) -> Error {
        let directory = self.0.display();
        let full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        );
        let (code, what) = if full {
            (Code::NoSpace, "there is no space left")
        } else {
            (Code::InvalidSettings, "no temporary file can be written")
        };
        Error::api(
            code,
            format!(
                "{what} in {directory} ({error}); it takes about twice the clip's size. \
                 Set TMPDIR, or temp-directory, to another directory"
            ),
        )
    }
}

/// A file that another part of the process opens by a path.
#[derive(Debug)]
pub(super) enum Spill {
    /// It has no name: the path is that of its descriptor.
    Nameless(File, PathBuf),
    /// Where there are no such paths. Removed when it is dropped.
    Named(NamedTempFile),
}

impl Spill {
    pub fn new(directory: &Directory) -> Result<Self, Error> {
        let file = directory.file()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if path.exists() {
            return Ok(Self::Nameless(file, path));
        }
        let named = NamedTempFile::new_in(&directory.0);
        named
            .map(Self::Named)
            .map_err(|error| directory.error(&error))
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Nameless(_, path) => path,
            Self::Named(file) => file.path(),
        }
    }

    /// Why nothing more can be written to it: those who use it by its path
    /// say only that it was so.
    pub fn complaint(&self) -> Option<io::Error> {
        let file = match self {
            Self::Nameless(file, _) => file,
            Self::Named(file) => file.as_file(),
        };
        let mut file = file;
        let end = io::Seek::seek(&mut file, io::SeekFrom::End(0));
        end.and_then(|_| file.write_all(&[0; 1 << 16])).err()
    }
}
