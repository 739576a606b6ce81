// SPDX-License-Identifier: MIT

//! Does random things to the elements: state changes of pipelines and elements, pads, properties,
//! actions, events, removal while PLAYING, NULL in callbacks.
//!
//!     tests/netns.sh target/debug/reactor-hammer [--steps N] [--seconds S] [--seed S]
//!
//! Nothing may take longer than 5 s, cause a critical or a panic, leave a promise without an
//! answer, or a session on the server, and threads and descriptors may not accumulate. Serves the
//! playground on the real runtime; odd seeds have the stand-in coordinator in front of it. Equal
//! seeds have equal steps; what comes of them also depends on time.

mod promises;
mod steps;
mod world;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use reactor_tests::{
    random::{SplitMix64, new_seed},
    resources::{ProcessResources, descriptor_kinds},
    watch,
};
use world::World;

/// The steps between two moments at which nothing may be left of what was done.
const ROUND: usize = 120;
/// The rounds at the end that are compared with the first half, which fills caches and pools.
const LAST: usize = 3;
/// With fewer rounds there is no trend: idle HTTP connections stay open for reuse, and some 15 of
/// them came in the last rounds of a run of 45 s.
const MIN_ROUNDS: usize = 30;
/// A thread or a descriptor of a pool may come or go, but there is no trend.
const SLACK: usize = 8;

#[derive(Debug, Parser)]
struct Options {
    /// The number of steps.
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// Ends after this time in seconds, even if steps are left.
    #[arg(long)]
    seconds: Option<u64>,
    /// Drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints each step.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(new_seed);
    println!("seed {seed}, {} steps", options.steps);
    reactor_tests::init();
    watch::start();
    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut world = World::new(seed % 2 == 0);
    let mut random = SplitMix64::new(seed);
    let mut counts = BTreeMap::<_, usize>::new();
    let mut rounds = Vec::new();
    for step in 0..options.steps {
        let (name, what) = *steps::draw(&mut random);
        if options.verbose {
            println!("{step}: {name}");
        }
        *counts.entry(name).or_default() += 1;
        watch::timed(name, || what(&mut world, &mut random));
        world.drain_buses();
        let is_over = step + 1 == options.steps || end.is_some_and(|end| Instant::now() > end);
        if is_over || (step + 1) % ROUND == 0 {
            world.clear();
            rounds.push(ProcessResources::now());
            if options.verbose {
                println!("descriptors: {:?}", descriptor_kinds());
            }
        }
        if is_over {
            break;
        }
    }
    println!("{counts:?}");
    let (promises, succeeded) = promises::counts();
    println!("promises: {promises}, {succeeded} answered without an error");
    println!("pipelines: {}", world.started());
    check_growth(&rounds);
    match watch::complaints() {
        0 => ExitCode::SUCCESS,
        count => {
            println!("seed {seed}: {count} complaints");
            ExitCode::FAILURE
        }
    }
}

/// Compares the last rounds with the first half.
fn check_growth(rounds: &[ProcessResources]) {
    let (early, late) = rounds.split_at(rounds.len() / 2);
    if rounds.len() < MIN_ROUNDS {
        return;
    }
    for (name, of) in [
        ("threads", (|r| r.threads) as fn(&ProcessResources) -> usize),
        ("descriptors", |r| r.descriptors),
    ] {
        let before = early.iter().map(of).max().unwrap_or_default();
        // Whatever accumulates is there in each of the last rounds.
        let last = &late[late.len() - LAST..];
        let now = last.iter().map(of).min().unwrap_or(before);
        let each: Vec<_> = rounds.iter().map(of).collect();
        println!("{name} after each round: {each:?}");
        if now > before + SLACK {
            let kinds = descriptor_kinds();
            watch::complain(format!("{name} grew from {before} to {now}: {kinds:?}"));
        }
    }
}
