// SPDX-License-Identifier: MIT

//! The elements' side of the benchmarks: measures one thing against a local runtime and prints one
//! line of JSON. `compare.py` runs it.
//!
//!     bench receive|lossy|scale|roundtrip|command|raw|encoded
//!         URL SECONDS LATENCY_MS [PICTURES WIDTH HEIGHT]
//!     bench narrow URL SECONDS LATENCY_MS PROPERTIES
//!     bench cloud URL none|silent             with these ICE servers, until the input ends
//!     bench ice CLOUD_URL
//!     bench record URL FILE                   a clip, to be repeated
//!     bench serve FILE SEGMENTS LATENCY_MS    until the input ends
//!     bench clip URL FORMAT FILE

use std::{path::PathBuf, str::FromStr, time::Duration};

mod camera;
mod clip;
mod command;
mod encoding;
mod ice;
mod lossy;
mod measure;
mod narrow;
mod receive;
mod roundtrip;
mod scale;

const USAGE: &str = "bench receive|lossy|scale|roundtrip|command|raw|encoded \
                     URL SECONDS LATENCY_MS [PICTURES WIDTH HEIGHT] | \
                     narrow URL SECONDS LATENCY_MS PROPERTIES | \
                     cloud URL none|silent | ice CLOUD_URL | \
                     record URL FILE | serve FILE SEGMENTS LATENCY_MS | clip URL FORMAT FILE";

/// The arguments of all measurements.
struct Options {
    url: String,
    window: Duration,
    latency: u32,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what: String = next(&mut arguments);
    let mut text = || next::<String>(&mut arguments);
    match what.as_str() {
        "cloud" => return ice::serve(text(), text() == "silent"),
        "ice" => return println!("{}", ice::run(&text())),
        "record" => return println!("{}", clip::record(&text(), &text())),
        "serve" => {
            let (file, segments) = (text(), next(&mut arguments));
            return clip::serve(&file, segments, next(&mut arguments));
        }
        "clip" => return println!("{}", clip::fetch(&text(), &text(), &text())),
        _ => {}
    }
    let options = Options {
        url: next(&mut arguments),
        window: Duration::from_secs_f64(next(&mut arguments)),
        latency: next(&mut arguments),
    };
    if what == "narrow" {
        let properties: String = next(&mut arguments);
        return println!("{}", narrow::run(&options, &properties));
    }
    let mut scene = || {
        let pictures: PathBuf = next(&mut arguments);
        camera::Scene::load(&pictures, next(&mut arguments), next(&mut arguments))
    };
    let report = match what.as_str() {
        "receive" => receive::run(&options),
        "lossy" => lossy::run(&options),
        "scale" => scale::run(&options),
        "roundtrip" => roundtrip::run(&options, scene()),
        "command" => command::run(&options),
        "raw" => encoding::run(&options, &scene(), encoding::RAW),
        "encoded" => encoding::run(&options, &scene(), encoding::ENCODED),
        _ => panic!("{USAGE}"),
    };
    println!("{report}");
}

fn next<T: FromStr>(arguments: &mut impl Iterator<Item = String>) -> T {
    let parsed = arguments.next().and_then(|text| text.parse().ok());
    parsed.expect(USAGE)
}
