// SPDX-License-Identifier: MIT

//! Detects problems that a test does not notice by itself: panics on the plugin's threads, critical
//! warnings of libraries.

use std::{
    panic,
    sync::{Mutex, Once},
};

use gst::glib;

static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Prefixes of the names of the plugin's own threads.
const THREADS: [&str; 1] = ["reactor"];

/// Installs the panic hook and the log handler, once per process.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let place = info.location().map_or("", |location| location.file());
            let ours = THREADS.iter().any(|begin| name.starts_with(begin))
                || place.contains("gst-plugin-reactor");
            if ours {
                complain(format!("panic on {name}: {info}"));
            }
            previous(info);
        }));
        glib::log_set_default_handler(|domain, level, text| {
            if matches!(level, glib::LogLevel::Error | glib::LogLevel::Critical) {
                complain(format!("{}: {text}", domain.unwrap_or_default()));
            }
            glib::log_default_handler(domain, level, Some(text));
        });
    });
}

fn complain(text: String) {
    COMPLAINTS.lock().unwrap().push(text);
}

/// Panics if there was any problem in this process, in another test as well.
pub fn assert_clean() {
    let complaints = COMPLAINTS.lock().unwrap().clone();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
