// SPDX-License-Identifier: MIT

//! Feeds the pads that take commands, reads the pad that has messages, and plays video both ways,
//! all in one pipeline and for long: nothing may stall, and nothing may accumulate.
//!
//!     tests/netns.sh target/debug/reactor-pads [--seconds S]
//!
//! Serves the playground on the real runtime. Each second: prompts as text, JSON commands, a picture
//! of the camera as reference image; now and then a command that takes 5 s, which delays those
//! behind it and no frame.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    command_pads::{CommandPads, PROMPTS},
    frames::longest_gap,
    pipeline::{count_buffers, wait_until},
    resources::ProcessResources,
    server::Server,
};

/// The part of the time in which caches and pools are filled.
const WARM: f64 = 0.2;
/// The longest time without a frame, in seconds; a busy server misses some.
const STALL: f64 = 3.0;
/// The same while a command of 5 s is at work.
const SLOW_STALL: f64 = 1.0;
/// How much more there may be at the end than after the warm part: a pool's thread or descriptor,
/// and what a queue happens to have.
const MORE_THREADS: usize = 3;
const MORE_DESCRIPTORS: usize = 3;
const MORE_HEAP_KIB: usize = 4096;

#[derive(Debug, Parser)]
struct Options {
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// Counts what the model says of its prompts.
fn count_prompts(element: &gst::Element) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    element.connect("message", false, move |values| {
        if values[1].get() == Ok("prompt_changed") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    count
}

fn main() -> ExitCode {
    let options = Options::parse();
    let server = Server::playground();
    let pads = CommandPads::parse(&format!("local=true api-url={}", server.url()));
    let (running, frames) = (&pads.running, &pads.frames);
    let messages = count_buffers(&running.pad("m", "sink"));
    let prompts = count_prompts(&running.by_name("s"));
    running.play();
    frames.wait_for(30, TIMEOUT);
    let bus = running.pipeline.bus().expect("a bus");
    let (mut seconds, mut gap, mut slow_gap) = (0, 0.0_f64, 0.0_f64);
    let mut last_frame = None;
    let mut warm = None;
    let begun = Instant::now();
    while seconds < options.seconds {
        pads.push_second(seconds);
        seconds += 1;
        std::thread::sleep((begun + Duration::from_secs(seconds)).duration_since(Instant::now()));
        // What nobody reads would accumulate.
        while bus.pop().is_some() {}
        let mut new = frames.frames();
        frames.clear();
        new.splice(..0, last_frame);
        last_frame = new.last().copied();
        gap = gap.max(longest_gap(&new));
        if CommandPads::is_slow(seconds - 1) {
            slow_gap = slow_gap.max(longest_gap(&new));
        }
        if warm.is_none() && seconds as f64 >= options.seconds as f64 * WARM {
            warm = Some(ProcessResources::now());
        }
        if seconds % 60 == 0 {
            println!("{seconds} s: {:?}", ProcessResources::now());
        }
    }
    let pushed = seconds * PROMPTS;
    wait_until("an answer to each prompt", TIMEOUT, || {
        prompts.load(Ordering::Relaxed) == pushed
    });
    let (before, now) = (warm.expect("a warm part"), ProcessResources::now());
    let dropped: u64 = running.pad_stats("r", "messages").get("dropped").unwrap();
    println!(
        "{seconds} s: {pushed} prompts, {} messages ({dropped} dropped), longest gap {gap:.2} s, \
         beside slow commands {slow_gap:.2} s, threads {} -> {}, descriptors {} -> {}, heap {} -> {} KiB",
        messages(),
        before.threads,
        now.threads,
        before.descriptors,
        now.descriptors,
        before.heap_kib,
        now.heap_kib
    );
    running.stop();
    let is_good = gap < STALL
        && slow_gap < SLOW_STALL
        && dropped == 0
        && now.threads <= before.threads + MORE_THREADS
        && now.descriptors <= before.descriptors + MORE_DESCRIPTORS
        && now.heap_kib <= before.heap_kib + MORE_HEAP_KIB;
    if is_good {
        ExitCode::SUCCESS
    } else {
        println!("that is too much");
        ExitCode::FAILURE
    }
}
