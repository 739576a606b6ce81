// SPDX-License-Identifier: MIT

//! Sound and pictures after the network was gone, or slow, for a moment: on the
//! same connection, and together as before. Against the real local runtime
//! behind a relay.

use std::time::Duration;

use reactor_tests::{
    link_down::exclusive_network,
    outages::DuplexPipeline,
    proxy::Proxy,
    relay::{Direction, LinkConditions, Relay},
    server::Server,
};

/// How much later than it came something may stand, in ms, besides what is
/// usual, and how far pictures and sound may be moved against each other.
const APART: f64 = 60.0;
/// What comes first after an outage has waited in a queue for so long.
const QUEUED: Duration = Duration::from_millis(400);
const ROUNDS: usize = 4;

/// By how much what was timed is ahead of when it came, in ms: the most.
fn most_ahead(times: impl Iterator<Item = (gst::ClockTime, u32)>) -> f64 {
    let ahead = times.map(|(pts, seen)| pts.nseconds() as f64 / 1e6 - f64::from(seen) / 1e3);
    ahead.fold(f64::NEG_INFINITY, f64::max)
}

/// The same of pictures and of sound.
fn both_ahead(duplex: &DuplexPipeline) -> [f64; 2] {
    let (frames, chunks) = (duplex.frames(), duplex.chunks());
    assert!(frames.len() > 10 && chunks.len() > 10);
    let pictures = frames.iter().filter_map(|f| Some((f.pts?, f.seen)));
    [
        most_ahead(pictures),
        most_ahead(chunks.iter().map(|p| (p.pts, p.seen))),
    ]
}

/// The first packets are late. What comes after them is not, and must not be
/// placed as if it were.
#[test]
fn audio_and_video_stay_in_sync_after_outages() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let relay = Relay::behind(&proxy, 1);
    let duplex = DuplexPipeline::open(&proxy.url(), "local=true");
    let usual = both_ahead(&duplex);
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
        let ahead = both_ahead(&duplex);
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
