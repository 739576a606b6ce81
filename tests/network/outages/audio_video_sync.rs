// SPDX-License-Identifier: MIT

//! Audio and video after the network was down, or slow, for a moment: on one connection, and in
//! sync as before. The real local runtime is behind a relay.

use std::time::Duration;

use reactor_tests::{
    link_down::exclusive_network,
    outages::DuplexPipeline,
    proxy::Proxy,
    relay::{Direction, LinkConditions, Relay},
    server::Server,
};

/// How much more a timestamp may be ahead of its arrival than before the outage, in ms, and how far
/// audio and video may be moved against each other. On a busy machine 195 ms were seen; if late
/// packets set the time base, it is 273 ms and more.
const APART: f64 = 220.0;
/// How long the first packets after an outage have waited in a queue.
const QUEUED: Duration = Duration::from_millis(400);
/// If late packets set the time base, they do in each round. In one of them the machine may be too
/// busy to send anything.
const ROUNDS: usize = 5;
const BUSY_ROUNDS: usize = 1;

/// The most that a timestamp is ahead of its arrival, in ms.
fn max_lead(times: impl Iterator<Item = (gst::ClockTime, u32)>) -> f64 {
    let ahead = times.map(|(pts, seen)| pts.nseconds() as f64 / 1e6 - f64::from(seen) / 1e3);
    ahead.fold(f64::NEG_INFINITY, f64::max)
}

/// This for video and for audio; `None` if too little came.
fn measure_leads(duplex: &DuplexPipeline) -> Option<[f64; 2]> {
    let (frames, chunks) = (duplex.frames(), duplex.chunks());
    if frames.len() <= 10 || chunks.len() <= 10 {
        return None;
    }
    let pictures = frames.iter().filter_map(|f| Some((f.pts?, f.seen)));
    Some([
        max_lead(pictures),
        max_lead(chunks.iter().map(|p| (p.pts, p.seen))),
    ])
}

/// Whether the timestamps are those of before, and if not, why.
fn check_sync(duplex: &DuplexPipeline, usual: [f64; 2]) -> Result<(), String> {
    let ahead = measure_leads(duplex).ok_or("too little came")?;
    for (what, (now, usual)) in ["pictures", "sound"].iter().zip(ahead.iter().zip(usual)) {
        let more = now - usual;
        if more >= APART {
            return Err(format!("{what} are {more:.0} ms ahead"));
        }
    }
    let lag = duplex.lag().ok_or("no mark of sound has its picture")?;
    if lag.added().abs() >= APART {
        return Err(format!("{lag:?}"));
    }
    Ok(())
}

/// The first packets are late. The later ones are not, and must not be timestamped as if they were.
#[test]
fn audio_and_video_stay_in_sync_after_outages() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let relay = Relay::behind(&proxy, 1);
    let duplex = DuplexPipeline::open(&proxy.url(), "local=true");
    let usual = measure_leads(&duplex).unwrap();
    let mut wrong = Vec::new();
    for round in 1..=ROUNDS {
        relay.set_down(true);
        std::thread::sleep(Duration::from_secs(2));
        duplex.clear();
        let queued = LinkConditions {
            delay: QUEUED,
            ..LinkConditions::default()
        };
        relay.set(Direction::ToClient, queued);
        relay.set_down(false);
        std::thread::sleep(Duration::from_millis(300));
        relay.set(Direction::ToClient, LinkConditions::default());
        std::thread::sleep(Duration::from_millis(2500));
        if let Err(what) = check_sync(&duplex, usual) {
            wrong.push(format!("round {round}: {what}"));
        }
    }
    assert!(wrong.len() <= BUSY_ROUNDS, "{wrong:?}");
    assert_eq!(relay.connections(), 1);
    duplex.running.stop();
}
