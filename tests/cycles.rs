// SPDX-License-Identifier: MIT

//! Start and stop, again and again, in one process: nothing stays behind.
//!
//! REACTOR_CYCLES sets how often (20).

use std::process::{Command, Stdio};

use reactor_tests::{leaks, server::Server};
use serde::Deserialize;

/// The first cycles of a process fill caches and pools.
const WARM: usize = 10;
/// What a cycle may cost for good, in KiB. GLib keeps the name of every
/// element it ever saw (some 10 KiB a cycle); a session that is not freed
/// costs hundreds.
const HEAP_PER_CYCLE: f64 = 40.0;

#[derive(Debug, Deserialize)]
struct Cycle {
    threads: usize,
    descriptors: usize,
    heap_kib: f64,
    rss_kib: f64,
}

fn run(server: &Server, count: usize, environment: &[(&str, &str)]) -> (Vec<Cycle>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_reactor-cycle"))
        .args([server.url(), count.to_string()])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", output.status);
    let lines = String::from_utf8(output.stdout).expect("text");
    let cycles: Vec<Cycle> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of figures"))
        .collect();
    assert_eq!(cycles.len(), count);
    (cycles, errors)
}

#[test]
fn no_thread_descriptor_or_memory_is_left_behind() {
    let server = Server::playground();
    let count = std::env::var("REACTOR_CYCLES").map_or(20, |n| n.parse().expect("a number"));
    assert!(count > WARM, "REACTOR_CYCLES must be over {WARM}");
    let (cycles, _) = run(&server, count, &[]);
    let (warm, last) = (&cycles[WARM - 1], &cycles[count - 1]);
    println!("after {WARM}: {warm:?}\nafter {count}: {last:?}");

    // A thread of a pool may come or go, but there is no trend.
    let slack = 3;
    assert!(
        last.threads <= warm.threads + slack,
        "threads: {warm:?} {last:?}"
    );
    assert!(
        last.descriptors <= warm.descriptors + slack,
        "descriptors: {warm:?} {last:?}"
    );
    let growth = (last.heap_kib - warm.heap_kib) / (count - WARM) as f64;
    println!(
        "heap: {growth:.1} KiB per cycle, resident: {} KiB",
        last.rss_kib
    );
    assert!(growth < HEAP_PER_CYCLE, "{growth} KiB per cycle");
}

#[test]
fn no_object_is_left_behind() {
    let server = Server::playground();
    let (_, log) = run(&server, 3, &leaks::ENVIRONMENT);
    leaks::assert_none(&log);
}
