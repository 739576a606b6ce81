// SPDX-License-Identifier: MIT

//! Networks with too little bandwidth. Every test of this binary runs alone: it limits the
//! bandwidth of the whole namespace, and adds an element to the registry or removes it.

mod receiving;
mod sending;

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(90);

/// The tests share the network and the registry, so they run one at a time.
fn lock_network_and_registry(with_estimator: bool) -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static FACTORY: OnceLock<gst::ElementFactory> = OnceLock::new();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let factory = FACTORY.get_or_init(|| {
        reactor_tests::init();
        gstrsrtp::plugin_register_static().expect("gst-plugin-rtp registers");
        gst::ElementFactory::find("rtpgccbwe").expect("rtpgccbwe")
    });
    let registry = gst::Registry::get();
    if !with_estimator {
        registry.remove_feature(factory);
    } else if gst::ElementFactory::find("rtpgccbwe").is_none() {
        registry.add_feature(factory).expect("rtpgccbwe again");
    }
    guard
}
