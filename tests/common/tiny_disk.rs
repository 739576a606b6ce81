// SPDX-License-Identifier: MIT

//! A disk that is soon full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{link_down::in_own_namespace, scratch};

/// A tmpfs, mounted until it is dropped.
#[derive(Debug)]
pub struct TinyDisk(PathBuf);

impl TinyDisk {
    /// `None` where mounting is not permitted. `ip netns exec`, which netns.sh runs, gives the
    /// tests a mount namespace of their own: nobody else sees the disk.
    pub fn mount(name: &str, kibibytes: u32) -> Option<Self> {
        if !in_own_namespace() {
            eprintln!("not root: nothing can be mounted");
            return None;
        }
        let directory = scratch::path(name);
        fs::create_dir_all(&directory).expect("a directory");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"])
            .arg(&directory));
        Some(Self(directory))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Names and sizes of its files.
    pub fn files(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(&self.0).expect("a directory");
        let entries = entries.map(|entry| entry.expect("a file"));
        let mut files: Vec<_> = entries
            .map(|entry| {
                let size = entry.metadata().map_or(0, |data| data.len());
                (entry.file_name().to_string_lossy().into_owned(), size)
            })
            .collect();
        files.sort();
        files
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // Lazily: a failed test may still have files open.
        run(Command::new("umount").arg("--lazy").arg(&self.0));
        let _ = fs::remove_dir(&self.0);
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    let succeeded = status.is_ok_and(|status| status.success());
    assert!(succeeded || std::thread::panicking(), "{command:?}");
}
