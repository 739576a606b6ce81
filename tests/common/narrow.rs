// SPDX-License-Identifier: MIT

//! A network that is too small, in the namespace of `tests/netns.sh`: there,
//! everything between the machine's own addresses goes over `lo`.

use std::{path::Path, process::Command};

/// As long as it lives.
#[derive(Debug)]
pub struct Narrow(());

impl Narrow {
    /// Lets so much through, with a queue of about 400 ms at 600 kbit/s in front
    /// of it. `None` outside of the namespace, where the network is not ours,
    /// and where the kernel cannot do it.
    pub fn new(kbits: u32) -> Option<Self> {
        if !Path::new("/sys/class/net/reactor0").exists() {
            eprintln!("left out: this is not the network of tests/netns.sh");
            return None;
        }
        let rate = format!("{kbits}kbit");
        let narrow = Self(());
        let done = tc("qdisc add dev lo root handle 1: htb default 1")
            && tc(&format!(
                "class add dev lo parent 1: classid 1:1 htb rate {rate} burst 3000 quantum 3000"
            ))
            && tc("qdisc add dev lo parent 1:1 handle 10: bfifo limit 30000");
        if !done {
            eprintln!("left out: no network can be made narrow here");
        }
        done.then_some(narrow)
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        tc("qdisc del dev lo root");
    }
}

fn tc(arguments: &str) -> bool {
    let status = Command::new("tc").args(arguments.split(' ')).status();
    status.is_ok_and(|status| status.success())
}
