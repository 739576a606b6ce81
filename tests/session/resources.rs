// SPDX-License-Identifier: MIT

//! Starts and stops elements many times in one process: threads, descriptors, memory and objects do
//! not accumulate.
//!
//! REACTOR_CYCLES sets the number of cycles (20).

use std::process::{Command, Stdio};

use reactor_tests::{
    TIMEOUT, leaks,
    process::Process,
    server::{Server, repository},
    trend::median,
};
use serde::Deserialize;

/// The first cycles of a process fill caches and pools.
const WARM: usize = 10;
/// The permanent cost of a cycle in KiB. GLib keeps the name of every element that ever existed
/// (some 10 KiB per cycle); a session that is not freed costs hundreds.
const HEAP_PER_CYCLE: f64 = 40.0;
/// GStreamer 1.28 leaks up to this much more in each cycle that reads statistics, in KiB: see
/// [`leaks::statistics_leak`]. On a busy machine the heap grew by 88 to 106 KiB per cycle in all.
const STATISTICS_LEAK: f64 = 100.0;
/// The heap's size is the median of this many cycles: what happens to be in a queue at the end of
/// a single one is up to 400 KiB (measured).
const SAMPLES: usize = 5;
/// malloc counts what its threads keep for reuse as handed out, some 200 KiB per thread, and each
/// cycle has other threads. So without those caches, and with one arena.
const EXACT_MALLOC: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1",
);

#[derive(Debug, Deserialize)]
struct Cycle {
    threads: usize,
    descriptors: usize,
    heap_kib: f64,
    rss_kib: f64,
    /// Those left after READY -> NULL, where that was asked for.
    connections: Option<usize>,
}

/// Runs `reactor-cycle` with these further arguments; returns its figures and its log.
fn run(count: usize, arguments: &[&str], environment: &[(&str, &str)]) -> (Vec<Cycle>, String) {
    let server = Server::recording();
    let output = Command::new(env!("CARGO_BIN_EXE_reactor-cycle"))
        .args([server.url(), count.to_string()])
        .args(arguments)
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

/// In KiB, after this number of cycles.
fn heap_before(cycles: &[Cycle], end: usize) -> f64 {
    let mut sizes: Vec<f64> = cycles[end - SAMPLES..end]
        .iter()
        .map(|cycle| cycle.heap_kib)
        .collect();
    median(&mut sizes).expect("samples")
}

#[test]
fn source_cycles_leave_no_thread_descriptor_or_memory() {
    let count = std::env::var("REACTOR_CYCLES").map_or(20, |n| n.parse().expect("a number"));
    assert!(count > WARM, "REACTOR_CYCLES must be over {WARM}");
    let (cycles, _) = run(count, &[], &[EXACT_MALLOC]);
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
    let growth = (heap_before(&cycles, count) - heap_before(&cycles, WARM)) / (count - WARM) as f64;
    println!(
        "heap: {growth:.1} KiB per cycle, resident: {} KiB",
        last.rss_kib
    );
    let limit = match leaks::statistics_leak() {
        true => HEAP_PER_CYCLE + STATISTICS_LEAK,
        false => HEAP_PER_CYCLE,
    };
    assert!(growth < limit, "{growth} KiB per cycle");
}

/// Of one connection that receives video and decodes it, with those of the process (the program's
/// own, two of I/O, GStreamer's clock and usrsctp's two), and of a further connection: 13 are
/// webrtcbin's. A GLib that is newer than Debian 12's has another one that makes those of pools
/// (`pool-spawner`, seen with 2.84), and one that is newer than Debian 13's its worker (`gmain`, seen
/// with 2.90). One of GLib's pools (`pool-4` beside `pool-3`) comes and goes on a busy machine.
#[test]
fn connections_cost_few_threads() {
    let (cycles, _) = run(3, &["together"], &[]);
    println!("{cycles:#?}");
    let first = cycles[0].threads;
    let glib_has = |minor| usize::from(gst::glib::check_version(2, minor, 0).is_none());
    let of_pool = 1;
    let limit = 22 + glib_has(75) + glib_has(85) + of_pool;
    assert!(first <= limit, "{first} threads for one connection");
    let further = (cycles[2].threads - first).div_ceil(2);
    assert!(
        further <= 15 + of_pool,
        "{further} threads for each further one"
    );
}

/// A process may exit once READY -> NULL has returned: OpenSSL does not outlive exit handlers that
/// run beside it.
#[test]
fn connection_has_ended_when_pipeline_has_stopped() {
    let (cycles, _) = run(2, &["early"], &[]);
    let left: Vec<_> = cycles.iter().map(|cycle| cycle.connections).collect();
    assert_eq!(left, [Some(0); 2], "connections after READY -> NULL");
}

/// Nor is it still making the key of the first connection, which begins in READY, however short the
/// time for the server is.
#[test]
fn key_is_made_when_pipeline_has_stopped() {
    let program = repository().join("tests/programs/error.py");
    for _ in 0..5 {
        let mut command = Command::new(&program);
        // It has no server, so it fails at once.
        command.arg("reactorsrc close-timeout=0 ! fakesink");
        Process::start("early-exit", command).assert_succeeds(TIMEOUT);
    }
}

#[test]
fn source_cycles_leave_no_object() {
    let (_, log) = run(3, &[], &leaks::ENVIRONMENT);
    leaks::assert_none(&log);
}

#[test]
fn source_and_sink_cycles_leave_no_thread_or_descriptor() {
    let (cycles, _) = run(10, &["camera"], &[]);
    println!("{cycles:#?}");
    // A thread of a pool may come or go, but there is no trend.
    let [warm, last] = [&cycles[4], &cycles[9]];
    for (name, warm, last) in [
        ("threads", warm.threads, last.threads),
        ("descriptors", warm.descriptors, last.descriptors),
    ] {
        assert!(last <= warm + 3, "{name}: {warm}, then {last}");
    }
}

#[test]
fn source_and_sink_cycles_leave_no_object() {
    let (_, log) = run(3, &["camera"], &leaks::ENVIRONMENT);
    leaks::assert_none(&log);
}

#[test]
fn filter_and_clip_cycles_leave_no_object() {
    let (_, log) = run(1, &["filter"], &leaks::ENVIRONMENT);
    leaks::assert_none(&log);
}
