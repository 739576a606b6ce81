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
/// audio and video may be moved against each other. On a busy machine 65 ms were seen; if late
/// packets set the time base, it is 273 ms and more.
const APART: f64 = 150.0;
/// How long the first packets after an outage have waited in a queue.
const QUEUED: Duration = Duration::from_millis(400);
const ROUNDS: usize = 4;

/// The most that a timestamp is ahead of its arrival, in ms.
fn max_lead(times: impl Iterator<Item = (gst::ClockTime, u32)>) -> f64 {
    let ahead = times.map(|(pts, seen)| pts.nseconds() as f64 / 1e6 - f64::from(seen) / 1e3);
    ahead.fold(f64::NEG_INFINITY, f64::max)
}

/// This for video and for audio.
fn measure_leads(duplex: &DuplexPipeline) -> [f64; 2] {
    let (frames, chunks) = (duplex.frames(), duplex.chunks());
    assert!(frames.len() > 10 && chunks.len() > 10);
    let pictures = frames.iter().filter_map(|f| Some((f.pts?, f.seen)));
    [
        max_lead(pictures),
        max_lead(chunks.iter().map(|p| (p.pts, p.seen))),
    ]
}

/// The first packets are late. The later ones are not, and must not be timestamped as if they were.
#[test]
fn audio_and_video_stay_in_sync_after_outages() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let relay = Relay::behind(&proxy, 1);
    let duplex = DuplexPipeline::open(&proxy.url(), "local=true");
    let usual = measure_leads(&duplex);
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
        let ahead = measure_leads(&duplex);
        for (what, (now, usual)) in ["pictures", "sound"].iter().zip(ahead.iter().zip(usual)) {
            let more = now - usual;
            assert!(more < APART, "round {round}: {what} are {more:.0} ms ahead");
        }
        let lag = duplex.lag().expect("sound and pictures");
        assert!(lag.added().abs() < APART, "round {round}: {lag:?}");
    }
    assert_eq!(relay.connections(), 1);
    duplex.running.stop();
}
