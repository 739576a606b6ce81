// SPDX-License-Identifier: MIT

//! What is wrong whatever the step: an operation that takes too long, a critical, a panic.

use std::{
    backtrace::Backtrace,
    collections::BTreeMap,
    fs::File,
    panic,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{criticals, scratch};
use gst::{glib, prelude::*};

/// The longest that an operation may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What rtpsession of GStreamer before 1.23.1 says when a source joins while it makes its
/// first report of what is sent: it gives its lock away then, to ask for the clock rate (mended by
/// its commit 6675ed9a). Seen twice in 200,000 steps; the report is made a little later.
const KNOWN: &str = "g_hash_table_foreach: assertion 'version == hash_table->version' failed";

static OPERATIONS: Mutex<BTreeMap<u64, (Instant, String)>> = Mutex::new(BTreeMap::new());
static WATCHED: Mutex<Vec<glib::WeakRef<gst::Element>>> = Mutex::new(Vec::new());
static COMPLAINTS: AtomicUsize = AtomicUsize::new(0);

/// Starts to watch this process.
pub fn start() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        complain("a panic".into());
        previous(info);
    }));
    // No pipeline is to replace this handler.
    criticals::watch();
    glib::log_set_default_handler(|domain, level, text| {
        // Not as GLib prints it, which the tests look for.
        if is_known(text) {
            return println!("known: {text}");
        }
        if matches!(level, glib::LogLevel::Error | glib::LogLevel::Critical) {
            let domain = domain.unwrap_or_default();
            let at = Backtrace::force_capture();
            complain(format!("{domain}: {text}\n{at}"));
        }
        glib::log_default_handler(domain, level, Some(text));
    });
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(LIMIT / 20);
            end_if_stuck();
        }
    });
}

/// Whether a critical is a known one of this version of GStreamer's.
pub fn is_known(text: &str) -> bool {
    text == KNOWN && gst::version() < (1, 23, 1, 0)
}

/// Nothing can be done about an operation that hangs: says where, and ends the process.
fn end_if_stuck() {
    let operations = OPERATIONS.lock().expect("no panic").clone();
    let stuck = operations
        .values()
        .find(|(begin, _)| begin.elapsed() > LIMIT);
    let Some((_, name)) = stuck else {
        return;
    };
    complain(format!("{name} takes longer than {LIMIT:?}"));
    for (begin, name) in operations.values() {
        println!("for {:.1?}: {name}", begin.elapsed());
    }
    for pipeline in WATCHED.lock().expect("no panic").iter() {
        if let Some(pipeline) = pipeline.upgrade() {
            print_states(pipeline.upcast_ref(), 0);
        }
    }
    // Into a file: this process stands still meanwhile, and could not read a pipe.
    let path = scratch::path("threads.txt");
    let file = File::create(&path).expect("a file");
    let gdb = Command::new("gdb")
        .args(["-p", &std::process::id().to_string(), "-batch"])
        .args(["-ex", "thread apply all bt 40"])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .status();
    if gdb.is_ok() {
        println!("the threads are in {}", path.display());
    }
    std::process::exit(1);
}

/// Prints the state of an element and of what is in it, without any lock that an operation may
/// hold for long.
pub fn print_states(element: &gst::Element, depth: usize) {
    let (current, pending) = (element.current_state(), element.pending_state());
    let locked = if element.is_locked_state() {
        ", locked"
    } else {
        ""
    };
    // GstBin returns it again for a child that is in the wanted state already.
    let failed = match element.state(gst::ClockTime::ZERO).0 {
        Ok(_) => "",
        Err(_) => ", failed",
    };
    let name = element.name();
    println!(
        "{:depth$}{name}: {current:?}, pending {pending:?}{locked}{failed}",
        ""
    );
    if let Some(bin) = element.downcast_ref::<gst::Bin>() {
        for child in bin.children() {
            print_states(&child, depth + 2);
        }
    }
}

/// Says the states of this pipeline, or of an element without one, when something hangs.
pub fn watch(element: &gst::Element) {
    let mut watched = WATCHED.lock().expect("no panic");
    watched.retain(|element| element.upgrade().is_some());
    watched.push(element.downgrade());
}

/// Runs an operation that must not take long, on any thread.
pub fn timed<T>(name: impl Into<String>, operation: impl FnOnce() -> T) -> T {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let entry = (Instant::now(), name.into());
    OPERATIONS.lock().expect("no panic").insert(id, entry);
    let result = operation();
    OPERATIONS.lock().expect("no panic").remove(&id);
    result
}

pub fn complain(text: String) {
    COMPLAINTS.fetch_add(1, Ordering::Relaxed);
    println!("COMPLAINT: {text}");
}

pub fn complaints() -> usize {
    COMPLAINTS.load(Ordering::Relaxed)
}
