// SPDX-License-Identifier: MIT

//! A bandwidth limit in the namespace of `tests/netns.sh`: there, everything between the machine's
//! own addresses goes over `lo`.

use std::path::Path;

use crate::traffic_control::tc;

/// Limits the bandwidth of `lo` until it is dropped.
#[derive(Debug)]
pub struct BandwidthLimit(());

impl BandwidthLimit {
    /// Limits to `kbits` kbit/s, with a queue of about 400 ms (at 600 kbit/s) in front of the
    /// bottleneck. `None` outside of the namespace, where the network is not ours, and where the
    /// kernel lacks the queueing disciplines.
    pub fn new(kbits: u32) -> Option<Self> {
        if !Path::new("/sys/class/net/reactor0").exists() {
            eprintln!("skipped: this is not the network of tests/netns.sh");
            return None;
        }
        let rate = format!("{kbits}kbit");
        let limit = Self(());
        let done = tc("qdisc add dev lo root handle 1: htb default 1")
            && tc(&format!(
                "class add dev lo parent 1: classid 1:1 htb rate {rate} burst 3000 quantum 3000"
            ))
            && tc("qdisc add dev lo parent 1:1 handle 10: bfifo limit 30000");
        if !done {
            eprintln!("skipped: tc cannot limit the bandwidth here");
        }
        done.then_some(limit)
    }

    /// Changes the limit; the queue stays.
    pub fn set(&self, kbits: u32) {
        let class = "class change dev lo parent 1: classid 1:1";
        let done = tc(&format!(
            "{class} htb rate {kbits}kbit burst 3000 quantum 3000"
        ));
        assert!(done, "tc changes the limit");
    }
}

impl Drop for BandwidthLimit {
    fn drop(&mut self) {
        tc("qdisc del dev lo root");
    }
}
