// SPDX-License-Identifier: MIT

//! CPU time, memory and threads of this process; percentiles.

use std::time::{Duration, Instant};

/// The CPU seconds of this process over a time, and the exact length of that time.
pub fn cpu_over(window: Duration) -> (f64, Duration) {
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    std::thread::sleep(window);
    (cpu_seconds() - cpu, begin.elapsed())
}

/// A time by [`reactor_tests::frames::monotonic_us`] since an earlier one.
pub fn ms_since(later: u32, earlier: u32) -> f64 {
    f64::from(later.wrapping_sub(earlier)) / 1000.0
}

/// The value that this fraction of the values does not exceed.
pub fn percentile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .map(round)
}

pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The resident set size.
pub fn rss_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

pub fn peak_rss_kib() -> i64 {
    usage().ru_maxrss
}

fn cpu_seconds() -> f64 {
    let usage = usage();
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn usage() -> libc::rusage {
    // SAFETY: getrusage fills the structure it is given; zeroes are a valid one.
    #[allow(unsafe_code)]
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    }
}
