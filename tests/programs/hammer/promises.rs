// SPDX-License-Identifier: MIT

//! Promises that must be answered, once each.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reactor_tests::watch;

static NEXT: AtomicU64 = AtomicU64::new(0);
static SUCCEEDED: AtomicU64 = AtomicU64::new(0);
static OPEN: Mutex<BTreeMap<u64, (String, Instant)>> = Mutex::new(BTreeMap::new());

/// A promise for this action; `then` runs in its callback.
pub fn new(action: &str, then: impl FnOnce() + Send + 'static) -> gst::Promise {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let entry = (action.to_owned(), Instant::now());
    OPEN.lock().expect("no panic").insert(id, entry);
    gst::Promise::with_change_func(move |reply| {
        let open = OPEN.lock().expect("no panic").remove(&id);
        // A late answer was complained of already.
        let action = open.map_or_else(String::new, |(action, _)| action);
        match reply {
            Ok(Some(reply)) if has_error(reply) && code(reply).is_none() => {
                watch::complain(format!("{action}: an error without a code: {reply}"));
            }
            Ok(Some(reply)) if has_error(reply) => {}
            Ok(Some(_)) => {
                SUCCEEDED.fetch_add(1, Ordering::Relaxed);
            }
            other => watch::complain(format!("{action}: {other:?} instead of an answer")),
        }
        then();
    })
}

fn has_error(reply: &gst::StructureRef) -> bool {
    reply.has_field("error")
}

fn code(reply: &gst::StructureRef) -> Option<String> {
    reply.get::<gst::Structure>("error").ok()?.get("code").ok()
}

/// Waits until every promise is answered.
pub fn wait_answered(limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let open = OPEN.lock().expect("no panic").clone();
        if open.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for (action, since) in open.values() {
                watch::complain(format!("{action}: no answer for {:.1?}", since.elapsed()));
            }
            OPEN.lock().expect("no panic").clear();
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The promises so far, and those that were answered without an error.
pub fn counts() -> (u64, u64) {
    let [all, succeeded] = [&NEXT, &SUCCEEDED].map(|count| count.load(Ordering::Relaxed));
    (all, succeeded)
}
