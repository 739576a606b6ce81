// SPDX-License-Identifier: MIT

//! Threads, file descriptors and memory of this process.

use std::fs;

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
