// SPDX-License-Identifier: MIT

//! The relay by hand, and for clients that are not written in Rust: prints the
//! URL that stands for the runtime's, relays until its standard input ends, and
//! then prints a line of JSON with what became of the packets.

use std::{io::Read, time::Duration};

use clap::Parser;
use reactor_tests::{
    proxy::Proxy,
    relay::{Direction, Jitter, LinkConditions, RateLimit, Relay},
};
use serde_json::{Value, json};

/// A bad network before a local runtime, the same in both directions.
#[derive(Debug, Parser)]
struct Options {
    /// The local runtime.
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Decides which packets are lost, and by how much each is late.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How likely a packet is to be lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,

    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,

    /// At most, on top of the delay.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    jitter: u64,

    /// Jitter that is mostly about its mean.
    #[arg(long)]
    bell: bool,

    /// No packet overtakes another.
    #[arg(long)]
    in_order: bool,

    /// What gets through in a second [default: no limit]
    #[arg(long, value_name = "KBIT")]
    rate: Option<u32>,

    /// What may wait in front of that.
    #[arg(long, value_name = "BYTES", default_value_t = 30_000)]
    queue: u32,
}

impl Options {
    fn conditions(&self) -> LinkConditions {
        LinkConditions {
            loss: self.loss,
            delay: Duration::from_millis(self.delay),
            jitter: Duration::from_millis(self.jitter),
            shape: if self.bell {
                Jitter::Bell
            } else {
                Jitter::Uniform
            },
            in_order: self.in_order,
            rate: self.rate.map(|kbits| RateLimit {
                bits_per_second: kbits * 1000,
                burst: 3_000,
                queue: self.queue,
            }),
        }
    }
}

fn main() {
    let options = Options::parse();
    let proxy = Proxy::before_url(&options.url);
    let relay = Relay::behind(&proxy, options.seed);
    relay.set_both(options.conditions());
    println!("{}", proxy.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!(
        "{}",
        json!({
            "connections": relay.connections(),
            "client": counts(&relay, Direction::ToClient),
            "server": counts(&relay, Direction::ToServer),
        })
    );
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
