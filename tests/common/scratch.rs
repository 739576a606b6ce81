// SPDX-License-Identifier: MIT

//! Files that the tests write, below `target/tmp`.

use std::path::PathBuf;

/// cargo's target directory: test binaries are in `target/PROFILE/deps`, programs in
/// `target/PROFILE`.
pub(crate) fn target_directory() -> PathBuf {
    let binary = std::env::current_exe().expect("a path");
    let mut directory = binary.parent().expect("a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("a profile");
    }
    directory.parent().expect("a target directory").to_owned()
}

/// What cargo calls `CARGO_TARGET_TMPDIR`.
pub fn directory() -> PathBuf {
    let directory = target_directory().join("tmp");
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// A path of this process's own.
pub fn path(name: &str) -> PathBuf {
    directory().join(format!("{}-{name}", std::process::id()))
}

/// A file that is removed when the test has passed.
#[derive(Debug)]
pub struct TempFile(pub PathBuf);

impl TempFile {
    /// Only the name: the file is not created. `name` is unique in the test binary.
    pub fn new(name: &str) -> Self {
        Self(path(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
