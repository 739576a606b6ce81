// SPDX-License-Identifier: MIT

//! Critical warnings of libraries in this process. Each fails the tests whose pipelines were there
//! then: which of them is the cause is not known, since most threads of a pipeline are not the
//! plugin's.

use std::sync::{Mutex, Once, OnceLock};

use gst::glib;

use crate::watch::is_known;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Who else is told of each one.
static LISTENER: OnceLock<fn(String)> = OnceLock::new();

/// Has `listener` told of each critical of this process, too: the first one that is given.
pub fn listen(listener: fn(String)) {
    LISTENER.get_or_init(|| listener);
    watch();
}

/// Installs the log handler, once per process, and returns how many there were.
pub fn watch() -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        glib::log_set_default_handler(|domain, level, text| {
            let is_bad = matches!(level, glib::LogLevel::Error | glib::LogLevel::Critical);
            if is_bad && !is_known(text) {
                let text = format!("{}: {text}", domain.unwrap_or_default());
                SEEN.lock().unwrap().push(text.clone());
                if let Some(listener) = LISTENER.get() {
                    listener(text);
                }
            }
            glib::log_default_handler(domain, level, Some(text));
        });
    });
    SEEN.lock().unwrap().len()
}

/// Those after the first `count`.
pub fn since(count: usize) -> Vec<String> {
    SEEN.lock().unwrap()[count..].to_vec()
}
