// SPDX-License-Identifier: MIT

//! Reads files that the pipeline's author names, with messages that say what to
//! do. Blocks for as long as the disk takes; what is no regular file is refused,
//! so nothing else can block it.

#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use super::http::sanitize;

/// Reads all of a file of at most `max_size` bytes (0 for no limit), which
/// `limit` names. `between` runs before the final check.
///
/// Fails if the file is missing, cannot be read, is not a regular file, is too
/// large, or changes while it is read. The message names the path.
pub(super) fn read(
    path: &Path,
    max_size: u64,
    limit: &str,
    between: impl FnOnce(),
) -> Result<Vec<u8>, String> {
    let shown = format!("\"{}\"", sanitize(&path.to_string_lossy()));
    let failed = |e: io::Error| describe_failure(&shown, &e);
    // Before it is opened: opening a device may have an effect.
    check_regular_file(&fs::metadata(path).map_err(failed)?, &shown)?;
    let mut options = File::options();
    options.read(true);
    // A FIFO that took the file's place meanwhile must not block.
    #[cfg(unix)]
    options.custom_flags(libc::O_NONBLOCK);
    let file = options.open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    check_regular_file(&before, &shown)?;
    let size = before.len();
    if max_size != 0 && size > max_size {
        return Err(format!(
            "{shown} has {size} bytes, more than the {max_size} of {limit}"
        ));
    }
    let mut bytes = Vec::new();
    let reserve = usize::try_from(size).unwrap_or_default();
    if bytes.try_reserve_exact(reserve).is_err() {
        return Err(format!(
            "there is no memory for the {reserve} bytes of {shown}"
        ));
    }
    // One more than expected tells a file that grows.
    (&file)
        .take(size + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    between();
    let after = file.metadata().map_err(failed)?;
    let unchanged = bytes.len() as u64 == size
        && after.len() == size
        && after.modified().ok() == before.modified().ok();
    match unchanged {
        true => Ok(bytes),
        false => Err(format!(
            "{shown} changed while it was read; wait until it is complete, and try again"
        )),
    }
}

fn check_regular_file(metadata: &fs::Metadata, shown: &str) -> Result<(), String> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(match metadata.is_dir() {
        true => format!("{shown} is a directory; give a file"),
        false => format!("{shown} is not a regular file; copy what it holds into one"),
    })
}

fn describe_failure(shown: &str, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no file {shown}; a relative path starts at the working directory")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{shown} may not be read by this user; change its permissions")
        }
        _ => format!("{shown} cannot be read: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_file_advises_user() {
        let denied = describe_failure("\"a\"", &io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("change its permissions"));
        let other = describe_failure("\"a\"", &io::Error::other("disk on fire"));
        assert!(other.contains("disk on fire"));
    }
}
