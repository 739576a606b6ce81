// SPDX-License-Identifier: MIT

//! Takes the network of a camera, a microphone, a screen and a loudspeaker down many times, and
//! reports the recovery from each outage.
//!
//!     tests/netns.sh target/debug/reactor-outages [--count N] [--seed S]
//!
//! Serves the playground on the real runtime, behind the stand-in coordinator. Equal seeds have
//! equal outages.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use reactor_coordinator::Coordinator;
use reactor_tests::{
    cloud::KEY,
    outages::{self, DuplexPipeline, Outage, Recovery},
    resources::ProcessResources,
};

/// The first outages fill caches and pools.
const WARM: usize = 10;

#[derive(Debug, Parser)]
struct Options {
    /// The number of outages.
    #[arg(long, default_value_t = 100)]
    count: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of outages to skip at the beginning.
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// The shortest outage, in seconds.
    #[arg(long, default_value_t = 1.0)]
    min: f64,
    /// The longest outage, in seconds.
    #[arg(long, default_value_t = 25.0)]
    max: f64,
    /// Further properties of both elements.
    #[arg(long, default_value = "")]
    properties: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let drawn = outages::random_outages(options.seed, options.count, options.min, options.max);
    let server = outages::server();
    let coordinator = outages::coordinator(&server);
    let properties = format!("model=playground api-key={KEY} {}", options.properties);
    let open = || {
        let duplex = DuplexPipeline::open(&coordinator.url(), &properties);
        println!("at first {:.0?}", duplex.lag_at_first);
        duplex
    };

    let mut duplex = open();
    let (mut done, mut lost, mut survived, mut resources) = (0, 0, Vec::new(), Vec::new());
    let drawn = drawn.get(options.skip..).unwrap_or_default();
    for group in drawn.chunk_by(|outage, _| outage.next.is_some()) {
        done += group.len();
        let result = duplex.run_outages(&server, group);
        show(done, group, &result);
        match result {
            Ok(recovery) => survived.push(recovery),
            Err(_) => {
                lost += group.len();
                duplex.running.stop();
                duplex = open();
            }
        }
        resources.push((done, ProcessResources::now()));
    }
    duplex.running.stop();
    println!("{} of {done} outages survived", done - lost);
    show_times(&survived);
    show_growth(&resources);
    let left = show_ledger(&coordinator);
    match lost == 0 && left == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn show(done: usize, group: &[Outage], result: &Result<Recovery, String>) {
    let lengths: Vec<_> = group
        .iter()
        .map(|outage| format!("{:.1}", outage.length.as_secs_f64()))
        .collect();
    print!("{done}: {} s", lengths.join("+"));
    match result {
        Ok(recovery) => {
            let how = match recovery.reconnected {
                true => "another connection",
                false => "the same connection",
            };
            let answered = recovery.replies.iter().filter(|r| r.error.is_none());
            println!(
                ", first picture {:.2} s after the end, on {how}, sound {:+.0} ms \
                 ({:+.0} of it added here), \
                 commands answered {} of {}",
                recovery.first_frame.as_secs_f64(),
                recovery.lag.shown,
                recovery.lag.added(),
                answered.count(),
                recovery.replies.len()
            );
        }
        Err(why) => println!(", NOT SURVIVED: {why}"),
    }
}

fn show_times(survived: &[Recovery]) {
    let quantiles = |what: &str, mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        let at = |q: f64| list[((list.len() - 1) as f64 * q).round() as usize];
        if !list.is_empty() {
            let (n, least, most) = (list.len(), list[0], list[list.len() - 1]);
            let (median, p95) = (at(0.5), at(0.95));
            println!("{what}: n {n}, median {median:.2}, p95 {p95:.2}, {least:.2} to {most:.2}");
        }
    };
    let times = |reconnected: bool| {
        let those = survived.iter().filter(|r| r.reconnected == reconnected);
        those.map(|r| r.first_frame.as_secs_f64()).collect()
    };
    quantiles("first picture, another connection, s", times(true));
    quantiles("first picture, the same connection, s", times(false));
    quantiles(
        "sound behind its picture, ms",
        survived.iter().map(|r| r.lag.shown).collect(),
    );
    quantiles(
        "of it added by the element, ms",
        survived.iter().map(|r| r.lag.added()).collect(),
    );
    let near = survived.iter().filter(|r| r.lag.added() < 60.0);
    println!(
        "less than 60 ms added: {} of {}",
        near.count(),
        survived.len()
    );
    let replies: Vec<_> = survived.iter().flat_map(|r| &r.replies).collect();
    let lost = replies.iter().filter(|r| r.error.is_some()).count();
    println!(
        "commands: {} sent, {lost} told that they were interrupted",
        replies.len()
    );
}

fn show_growth(resources: &[(usize, ProcessResources)]) {
    let warm = resources.iter().find(|(done, _)| *done >= WARM);
    for (done, resources) in warm.into_iter().chain(resources.last()) {
        println!("after {done}: {resources:?}");
    }
}

/// The number of sessions that are still open.
fn show_ledger(coordinator: &Coordinator) -> usize {
    // Stopping waits for the session's end; a failed session ends after the window.
    let limit = std::time::Instant::now() + outages::WINDOW + Duration::from_secs(10);
    while !coordinator.open_sessions().is_empty() && std::time::Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = coordinator.open_sessions().len();
    let all = coordinator.ledger().len();
    println!("sessions: {all}, still open {left}");
    left
}
