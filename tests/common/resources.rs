// SPDX-License-Identifier: MIT

//! Threads, file descriptors and memory of this process.

use std::{collections::BTreeMap, fs, time::Duration};

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

/// The number of this process's threads of this name (at most 15 characters).
pub fn threads_named(name: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    // One that has ended meanwhile has no name.
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
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

/// The processor time of a process and of all that it has started, as far as they live.
pub fn cpu_time(pid: u32) -> Duration {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let processes: Vec<_> = pids.filter_map(times_of).collect();
    let mut members = vec![pid];
    let mut ticks = 0;
    while let Some(member) = members.pop() {
        let own = processes.iter().filter(|process| process.pid == member);
        ticks += own.map(|process| process.ticks).sum::<u64>();
        let started = processes.iter().filter(|process| process.parent == member);
        members.extend(started.map(|process| process.pid));
    }
    // USER_HZ is 100 on all of Linux' platforms that GStreamer is packaged for.
    Duration::from_millis(ticks * 10)
}

struct ProcessTimes {
    pid: u32,
    parent: u32,
    /// In user and in kernel mode.
    ticks: u64,
}

fn times_of(pid: u32) -> Option<ProcessTimes> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What follows the name, which may have anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some(ProcessTimes {
        pid,
        parent: number(1)?.try_into().ok()?,
        ticks: number(11)? + number(12)?,
    })
}
