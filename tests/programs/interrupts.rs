// SPDX-License-Identifier: MIT

//! Interrupts gst-launch-1.0 (SIGINT) at random moments. Each process must end within
//! [`LIMIT`], and none may leave a session on its server.
//!
//!     tests/netns.sh target/debug/reactor-interrupts [--count N] [--seed S] [--only LINE]
//!
//! Serves the playground on several real runtimes, one for each process that runs at once. Equal
//! seeds have equal lines and moments.

use std::{
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use reactor_tests::{
    process::Process,
    random::{SplitMix64, new_seed},
    server::Server,
};

/// How long a user may wait after Ctrl-C: `close-timeout` (2 s) and what the connection may
/// take to be taken down (6 s), where others want the processors, and the time to exit.
const LIMIT: Duration = Duration::from_secs(10);

/// $ stands for the properties of the server.
const LINES: [&str; 11] = [
    "reactorsrc $ ! fakesink",
    "videotestsrc is-live=true ! reactorfilter $ ! fakesink",
    "reactorsrc $ name=r r. ! queue ! videoconvert ! x264enc ! h264parse ! mux. \
     r. ! queue ! audioconvert ! avenc_aac ! mux. mp4mux name=mux ! filesink location=/dev/null",
    "reactorsrc $ name=r r.video_nope ! fakesink",
    "videotestsrc is-live=true ! reactorfilter $ track-out=nope ! fakesink",
    "videotestsrc is-live=true ! reactorsink $",
    "videotestsrc num-buffers=40 ! reactorfilter $ ! queue ! matroskamux ! \
     filesink location=/dev/null",
    "videotestsrc is-live=true ! reactorsink $ reactorsrc $ ! queue ! videoconvert ! fakesink",
    "reactorsrc $ name=r r.video_main_video ! fakesink r.video_nope ! fakesink",
    // Not live: a file that waits for the session, and then goes on.
    "videotestsrc ! reactorsink $",
    "reactorsrc $ name=r r.messages ! fakesink async=false r.video_main_video ! queue ! fakesink",
];

#[derive(Debug, Parser)]
struct Options {
    /// The number of processes to interrupt.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of processes that run at once.
    #[arg(long, default_value_t = 3)]
    parallel: usize,
    /// Interrupts this launch line only, counted from 0.
    #[arg(long)]
    only: Option<usize>,
    /// The latest moment, in seconds after the start of a process.
    #[arg(long, default_value_t = 3.0)]
    latest: f64,
    /// Prints the threads of a process that hangs, by gdb.
    #[arg(long)]
    backtrace: bool,
}

/// One process to interrupt.
#[derive(Debug, Clone, Copy)]
struct Interrupt {
    line: usize,
    /// gst-launch-1.0 -e
    eos: bool,
    /// Since the start of the process.
    after: Duration,
}

impl std::fmt::Display for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let option = if self.eos { " -e" } else { "" };
        let ms = self.after.as_millis();
        write!(f, "line {}{option}, SIGINT after {ms} ms", self.line)
    }
}

fn draw(seed: u64, options: &Options) -> Vec<Interrupt> {
    let mut random = SplitMix64::new(seed);
    let interrupts = (0..options.count).map(|n| {
        // Every line in turn: a short series has all of them.
        let after = Duration::from_secs_f64(options.latest * random.next_f64());
        Interrupt {
            line: options.only.unwrap_or(n % LINES.len()),
            eos: !random.one_in(4),
            after,
        }
    });
    interrupts.collect()
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(new_seed);
    println!("seed {seed}, {} processes", options.count);
    let interrupts = draw(seed, &options);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(0);
    let slowest = Mutex::new(Duration::ZERO);
    std::thread::scope(|scope| {
        for _ in 0..options.parallel.max(1) {
            scope.spawn(|| {
                let mut server = Server::playground();
                while let Some(interrupt) = interrupts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(&server, *interrupt, options.backtrace) {
                        Ok(time) => {
                            let mut slowest = slowest.lock().expect("no panic");
                            *slowest = time.max(*slowest);
                        }
                        Err(problem) => {
                            println!("{interrupt}: {problem}");
                            *failures.lock().expect("no panic") += 1;
                            // The next process would join the session that is left.
                            server = Server::playground();
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    let slowest = slowest.into_inner().expect("no panic");
    println!("{failures} failures; the slowest end took {slowest:.1?}");
    match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Returns how long the process took to end.
fn run(server: &Server, interrupt: Interrupt, backtrace: bool) -> Result<Duration, String> {
    let properties = format!("local=true api-url={}", server.url());
    let line = LINES[interrupt.line].replace('$', &properties);
    let options: &[&str] = if interrupt.eos { &["-e"] } else { &[] };
    let mut launch = Process::gst_launch("interrupted", options, &line, &[]);
    std::thread::sleep(interrupt.after);
    let begin = Instant::now();
    if !launch.has_ended() {
        launch.interrupt_group();
    }
    let ended = launch.ends_within(LIMIT);
    let output = launch.output();
    if !ended {
        let threads = if backtrace {
            threads(launch.pid())
        } else {
            String::new()
        };
        return Err(format!("still runs after {LIMIT:?}\n{output}\n{threads}"));
    }
    let took = begin.elapsed();
    if ["CRITICAL", "panicked"]
        .iter()
        .any(|word| output.contains(word))
    {
        return Err(output);
    }
    let closed = Instant::now() + LIMIT;
    while server.session_state() != "ready" {
        if Instant::now() > closed {
            let state = server.session_state();
            return Err(format!("left a session that is {state}\n{output}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(took)
}

/// The backtraces of a process's threads.
fn threads(pid: u32) -> String {
    let output = Command::new("gdb")
        .args([
            "-p",
            &pid.to_string(),
            "-batch",
            "-ex",
            "thread apply all bt 30",
        ])
        .output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
