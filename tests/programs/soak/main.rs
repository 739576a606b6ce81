// SPDX-License-Identifier: MIT

//! Plays several sessions for hours while their network and their servers fail, and judges whether
//! memory, threads, descriptors or latency grow. `tests/soak.sh` runs it.
//!
//!     tests/netns.sh target/debug/reactor-soak --seconds S --csv FILE
//!
//! Three sessions at once, each with a playground of its own on the real runtime; `sessions.rs` says
//! what happens to each of them, in rounds of two minutes. A sample every 10 s becomes a line of the CSV.

mod player;
mod samples;
mod sessions;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use reactor_tests::{random::new_seed, watch};

use player::Tally;
use samples::{Sample, judge};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(10);
/// How long after the end sessions may take to end: the longest wait of any of them, and a stop.
const END: Duration = Duration::from_secs(150);

#[derive(Debug, Parser)]
struct Options {
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Gets the samples.
    #[arg(long)]
    csv: PathBuf,
    /// Decides which packets a bad network loses. Drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(new_seed);
    println!("seed {seed}, {} s", options.seconds);
    reactor_tests::init();
    watch::start();
    let tally = Arc::new(Tally::default());
    let sessions = sessions::start(&tally, seed);
    let samples = take_samples(&options, &tally, &sessions);
    tally.stop();
    let deadline = Instant::now() + END;
    while !sessions.iter().all(|session| session.is_finished()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    for session in sessions {
        if !session.is_finished() {
            watch::complain("a session does not end".into());
        } else if session.join().is_err() {
            watch::complain("a session has panicked".into());
        }
    }
    println!("{tally}");
    for growth in judge(&samples) {
        watch::complain(growth);
    }
    match watch::complaints() {
        0 => {
            println!("verdict: nothing grows");
            ExitCode::SUCCESS
        }
        count => {
            println!("verdict: FAILED, {count} complaints");
            ExitCode::FAILURE
        }
    }
}

/// Until the time is over, or a session has ended before.
fn take_samples(
    options: &Options,
    tally: &Tally,
    sessions: &[std::thread::JoinHandle<()>],
) -> Vec<Sample> {
    let mut csv = BufWriter::new(File::create(&options.csv).expect("a file"));
    writeln!(csv, "{}", Sample::HEADER).expect("it can be written");
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < Duration::from_secs(options.seconds)
        && !sessions.iter().any(|session| session.is_finished())
    {
        std::thread::sleep(EVERY);
        let sample = Sample::now(begun.elapsed(), tally);
        writeln!(csv, "{sample}").expect("it can be written");
        csv.flush().expect("it can be written");
        samples.push(sample);
    }
    samples
}
