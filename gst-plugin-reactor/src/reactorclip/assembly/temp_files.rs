// SPDX-License-Identifier: MIT

//! Temporary files, which are gone when they are closed, even after a crash.
//! Called by the thread of the clip's job and the muxer's bus handler.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::platform::{Code, Error};

/// Where temporary files are made, and the errors for when that fails.
#[derive(Debug, Clone)]
pub(super) struct TempDirectory(PathBuf);

impl TempDirectory {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes a file without a name.
    pub fn create_file(&self) -> Result<File, Error> {
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
        let text = format!(
            "{what} in {directory} ({error}); it takes about twice the clip's size. \
             Set TMPDIR, or temp-directory, to another directory"
        );
        Error::api(code, text)
    }
}

/// The `faststart-file` of mp4mux, which opens it by a path.
#[derive(Debug)]
pub(super) enum FaststartFile {
    /// Without a name: the path is that of its descriptor in /proc.
    Nameless(File, PathBuf),
    /// Where there is no /proc. Removed when it is dropped.
    Named(NamedTempFile),
}

impl FaststartFile {
    pub fn new(directory: &TempDirectory) -> Result<Self, Error> {
        let file = directory.create_file()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if path.exists() {
            return Ok(Self::Nameless(file, path));
        }
        let named = NamedTempFile::new_in(&directory.0).map(Self::Named);
        named.map_err(|error| directory.error(&error))
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Nameless(_, path) => path,
            Self::Named(file) => file.path(),
        }
    }

    /// Tries to write to it, and returns the error: an element that writes by
    /// the path reports only that it failed.
    pub fn find_write_error(&self) -> Option<io::Error> {
        let file = match self {
            Self::Nameless(file, _) => file,
            Self::Named(file) => file.as_file(),
        };
        let mut file = file;
        let end = io::Seek::seek(&mut file, io::SeekFrom::End(0));
        end.and_then(|_| file.write_all(&[0; 1 << 16])).err()
    }
}
