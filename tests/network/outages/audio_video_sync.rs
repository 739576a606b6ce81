// SPDX-License-Identifier: MIT

//! Audio and video after the network was down, or slow, for a moment: on one connection, and in
//! sync as before. The real local runtime is behind a relay.

use std::time::Duration;

use reactor_tests::{
    TIMEOUT,
    link_down::exclusive_network,
    outages::DuplexPipeline,
    pipeline::wait_until,
    proxy::Proxy,
    relay::{Direction, LinkConditions, Relay},
    server::Server,
};

/// How far a timestamp may be moved against its arrival, in ms. Mostly it is 10 ms at most; in 3 of 40
/// rounds pictures came 57 to 60 ms later than usual until the next outage. If late packets set the
/// time base, it is 273 ms and more.
const MOVED: f64 = 120.0;
/// How long the first packets after an outage have waited in a queue.
const QUEUED: Duration = Duration::from_millis(400);
const ROUNDS: usize = 5;
/// The pictures and the chunks of audio that are compared at least: after several outages the
/// server sends few pictures.
const COMPARED: usize = 10;

/// The most that a timestamp is ahead of its arrival, in µs modulo 2^32, as the arrival is.
fn max_lead(times: impl Iterator<Item = (gst::ClockTime, u32)>) -> u32 {
    let ahead = times.map(|(pts, seen)| (pts.useconds() as u32).wrapping_sub(seen));
    let later = |a: u32, b: u32| if ms_after(a, b) > 0.0 { a } else { b };
    ahead.reduce(later).expect("packets")
}

/// How far `a` is after `b`, in ms; both are in µs modulo 2^32.
fn ms_after(a: u32, b: u32) -> f64 {
    f64::from(a.wrapping_sub(b).cast_signed()) / 1e3
}

/// This for video and for audio. Unlike the distance of a sound from its picture, it does not
/// depend on when the server sends either.
fn measure_leads(duplex: &DuplexPipeline) -> [u32; 2] {
    wait_until("pictures and sound", TIMEOUT, || {
        duplex.frames().len() > COMPARED && duplex.chunks().len() > COMPARED
    });
    let (frames, chunks) = (duplex.frames(), duplex.chunks());
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
    let server = Server::playground_640x360();
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
        let leads = measure_leads(&duplex);
        for (what, (now, usual)) in ["pictures", "sound"].iter().zip(leads.iter().zip(usual)) {
            let moved = ms_after(*now, usual);
            assert!(
                moved.abs() < MOVED,
                "round {round}: {what} are {moved:.0} ms ahead"
            );
        }
    }
    assert_eq!(relay.connections(), 1);
    duplex.running.stop();
}
