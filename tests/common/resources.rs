// SPDX-License-Identifier: MIT

//! Threads, file descriptors and memory of this process.

use std::{collections::BTreeMap, fs};

#[derive(Debug, Clone, Copy)]
pub struct ProcessResources {
    pub threads: usize,
    pub descriptors: usize,
    /// Resident set size in KiB (`VmRSS`).
    pub rss_kib: u64,
    /// Memory that malloc has handed out, in KiB: unlike the resident size it does not depend on
    /// the fragmentation of the threads' heaps.
    pub heap_kib: usize,
}

impl ProcessResources {
    pub fn now() -> Self {
        Self {
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            rss_kib: rss_kib(),
            heap_kib: heap_kib(),
        }
    }
}

/// How many descriptors there are of each kind: `socket`, `anon_inode:[eventfd]`, a path.
pub fn descriptor_kinds() -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Ok(target) = fs::read_link(entry.path()) {
            let target = target.to_string_lossy();
            let kind = target.trim_end_matches(|c: char| c.is_ascii_digit() || "[]:".contains(c));
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    kinds
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn heap_kib() -> usize {
    // SAFETY: reads malloc's own counters.
    #[allow(unsafe_code)]
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) / 1024
}
