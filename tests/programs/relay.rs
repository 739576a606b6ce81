// SPDX-License-Identifier: MIT

//! The relay for people, and for clients that are not written in Rust: prints the URL that replaces
//! the runtime's, relays until its standard input ends, and then prints one line of JSON with the
//! packet counts. Each line of the input is a change: `down` drops all packets, `up` does not, and
//! `rate KBIT` sets another bandwidth (0: no limit).

use std::time::Duration;

use clap::Parser;
use reactor_tests::{
    proxy::Proxy,
    relay::{Direction, Jitter, LinkConditions, RateLimit, Relay},
};
use serde_json::{Value, json};

/// A bad network in front of a local runtime, equal in both directions.
#[derive(Debug, Parser)]
struct Options {
    /// The local runtime.
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Determines which packets are lost, and the delay of each.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The probability that a packet is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,

    /// The mean length of bursts of losses [default: losses are independent]
    #[arg(
        long,
        value_name = "PACKETS",
        default_value_t = 0.0,
        hide_default_value = true
    )]
    loss_burst: f64,

    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,

    /// The largest additional delay.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    jitter: u64,

    /// Bell-shaped instead of uniform jitter.
    #[arg(long)]
    bell: bool,

    /// No packet overtakes another.
    #[arg(long)]
    in_order: bool,

    /// The bandwidth [default: no limit]
    #[arg(long, value_name = "KBIT")]
    rate: Option<u32>,

    /// The size of the queue in front of the bottleneck.
    #[arg(long, value_name = "BYTES", default_value_t = 30_000)]
    queue: u32,
}

impl Options {
    fn conditions(&self) -> LinkConditions {
        LinkConditions {
            loss: self.loss,
            loss_burst: self.loss_burst,
            delay: Duration::from_millis(self.delay),
            jitter: Duration::from_millis(self.jitter),
            shape: if self.bell {
                Jitter::Bell
            } else {
                Jitter::Uniform
            },
            in_order: self.in_order,
            rate: self.rate.filter(|kbits| *kbits > 0).map(|kbits| RateLimit {
                bits_per_second: kbits.saturating_mul(1000),
                burst: 3_000,
                queue: self.queue,
            }),
        }
    }
}

fn main() {
    let mut options = Options::parse();
    let proxy = Proxy::before_url(&options.url);
    let relay = Relay::behind(&proxy, options.seed);
    relay.set_both(options.conditions());
    println!("{}", proxy.url());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        change(&relay, &mut options, &line);
    }
    println!(
        "{}",
        json!({
            "connections": relay.connections(),
            "client": counts(&relay, Direction::ToClient),
            "server": counts(&relay, Direction::ToServer),
        })
    );
}

/// Does what a line of the input says.
fn change(relay: &Relay, options: &mut Options, line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        ["down"] => relay.set_down(true),
        ["up"] => relay.set_down(false),
        ["rate", kbits] if kbits.parse::<u32>().is_ok() => {
            options.rate = kbits.parse().ok();
            relay.set_both(options.conditions());
        }
        _ => eprintln!("not down, up or rate KBIT: {line}"),
    }
}

fn counts(relay: &Relay, direction: Direction) -> Value {
    let counts = relay.counts(direction);
    json!({
        "passed": counts.passed,
        "lost": counts.lost,
        "overflowed": counts.overflowed,
        "reordered": counts.reordered,
        "payloads": relay.payloads(direction),
    })
}
